//! JSON and the tensors after it: the first two bytes say where the JSON ends, as the header does.

#![no_main]

use libfuzzer_sys::fuzz_target;
use network::{DType, Dim, Signature, TensorSpec};
use serve::oip::request::{Form, decode};

fuzz_target!(|data: &[u8]| {
    let Some((length, body)) = data.split_first_chunk::<2>() else { return };
    let dims = vec![Dim::Named("batch".to_owned()), Dim::Named("width".to_owned())];
    let spec = TensorSpec { name: "x".to_owned(), dtype: DType::F32, dims };
    let signature = Signature { inputs: vec![spec], outputs: vec![] };
    let form = match usize::from(u16::from_le_bytes(*length)) {
        0 => Form::Raw,
        json => Form::Binary { json },
    };
    if let Ok(request) = decode(body, form, &signature) {
        let elements: usize = request.inputs.iter().map(|input| input.tensor.elements().len()).sum();
        // Nothing that is read is larger than what was sent.
        assert!(elements <= body.len());
    }
});
