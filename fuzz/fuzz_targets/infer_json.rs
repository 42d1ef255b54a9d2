//! The JSON of inference requests, and of the simple routes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use network::{Preprocess, Signature};
use serve::oip::request::{Form, decode};
use serve::payload::classify;

fuzz_target!(|data: &[u8]| {
    let _ = decode(data, Form::Json, &Signature { inputs: vec![], outputs: vec![] });
    if let Ok(payload) = classify("application/json", data.to_vec().into()) {
        let _ = payload.inputs(&Preprocess::Numbers { shape: vec![3] }, 64);
    }
});
