//! Executors for tests: models with several inputs, with strings, and of every datatype, which no network of ours is.
//! Nothing of them is in the server.

use std::sync::Arc;

use network::{DType, Dim, Elements, NamedTensor, Signature, Tensor, TensorSpec};
use serve::executor::{ExecuteError, Executor};

/// Every datatype of the protocol.
pub(crate) const DTYPES: [DType; 14] = [
    DType::Bool,
    DType::U8,
    DType::U16,
    DType::U32,
    DType::U64,
    DType::I8,
    DType::I16,
    DType::I32,
    DType::I64,
    DType::F16,
    DType::Bf16,
    DType::F32,
    DType::F64,
    DType::Bytes,
];

type Run = fn(&[NamedTensor]) -> Result<Vec<NamedTensor>, ExecuteError>;

/// A function with a signature.
pub(crate) struct Toy {
    signature: Signature,
    max_rows: usize,
    run: Run,
}

impl std::fmt::Debug for Toy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Toy")
    }
}

impl Executor for Toy {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn platform(&self) -> &str {
        "toy"
    }

    fn max_rows(&self) -> usize {
        self.max_rows
    }

    fn run(&self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, ExecuteError> {
        (self.run)(inputs)
    }
}

fn spec(name: &str, dtype: DType, dims: &[Option<usize>]) -> TensorSpec {
    let dim = |(index, size): (usize, &Option<usize>)| {
        size.map_or_else(
            || Dim::Named(if index == 0 { "batch".to_owned() } else { format!("d{index}") }),
            Dim::Fixed,
        )
    };
    TensorSpec { name: name.to_owned(), dtype, dims: dims.iter().enumerate().map(dim).collect() }
}

/// `INPUT0` of any width comes back as `OUTPUT0`.
pub(crate) fn identity(dtype: DType) -> Arc<dyn Executor> {
    let dims = [None, None];
    Arc::new(Toy {
        signature: Signature {
            inputs: vec![spec("INPUT0", dtype, &dims)],
            outputs: vec![spec("OUTPUT0", dtype, &dims)],
        },
        max_rows: 8,
        run: |inputs| Ok(vec![NamedTensor { name: "OUTPUT0".to_owned(), tensor: inputs[0].tensor.clone() }]),
    })
}

/// Triton's `simple`: sum and difference of two vectors of 16 integers.
pub(crate) fn simple() -> Arc<dyn Executor> {
    add_sub(DType::I32, |inputs| {
        let [a, b] = pair(inputs)?;
        let (Elements::I32(x), Elements::I32(y)) = (a.elements(), b.elements()) else { return Err(unfit()) };
        let with = |f: fn(i32, i32) -> i32| Elements::I32(x.iter().zip(y).map(|(x, y)| f(*x, *y)).collect());
        outputs(a, with(i32::wrapping_add), with(i32::wrapping_sub))
    })
}

/// Triton's `simple_string`: the same of integers that are written out.
pub(crate) fn simple_string() -> Arc<dyn Executor> {
    add_sub(DType::Bytes, |inputs| {
        let [a, b] = pair(inputs)?;
        let (x, y) = (numbers(a)?, numbers(b)?);
        let with = |f: fn(i64, i64) -> i64| {
            Elements::Bytes(x.iter().zip(&y).map(|(x, y)| f(*x, *y).to_string().into_bytes()).collect())
        };
        outputs(a, with(i64::wrapping_add), with(i64::wrapping_sub))
    })
}

/// Two inputs without a batch dimension, of lengths that have nothing to do with each other: one behind the other.
pub(crate) fn concatenate() -> Arc<dyn Executor> {
    let spec = |name: &str| TensorSpec {
        name: name.to_owned(),
        dtype: DType::F32,
        dims: vec![Dim::Named(format!("length of {name}"))],
    };
    Arc::new(Toy {
        signature: Signature { inputs: vec![spec("INPUT0"), spec("INPUT1")], outputs: vec![spec("OUTPUT0")] },
        max_rows: 0,
        run: |inputs| {
            let [a, b] = pair(inputs)?;
            let all = [a.as_f32().unwrap_or_default(), b.as_f32().unwrap_or_default()].concat();
            let tensor = Tensor::from_f32(vec![all.len()], all).map_err(|_| unfit())?;
            Ok(vec![NamedTensor { name: "OUTPUT0".to_owned(), tensor }])
        },
    })
}

fn add_sub(dtype: DType, run: Run) -> Arc<dyn Executor> {
    let dims = [None, Some(16)];
    Arc::new(Toy {
        signature: Signature {
            inputs: vec![spec("INPUT0", dtype, &dims), spec("INPUT1", dtype, &dims)],
            outputs: vec![spec("OUTPUT0", dtype, &dims), spec("OUTPUT1", dtype, &dims)],
        },
        max_rows: 8,
        run,
    })
}

fn unfit() -> ExecuteError {
    ExecuteError::Failed("the inputs are not those of the signature".to_owned())
}

fn pair(inputs: &[NamedTensor]) -> Result<[&Tensor; 2], ExecuteError> {
    let named = |name: &str| inputs.iter().find(|input| input.name == name).map(|input| &input.tensor);
    named("INPUT0").zip(named("INPUT1")).map(|(a, b)| [a, b]).ok_or_else(unfit)
}

fn numbers(tensor: &Tensor) -> Result<Vec<i64>, ExecuteError> {
    let Elements::Bytes(texts) = tensor.elements() else { return Err(unfit()) };
    let width = tensor.shape().last().copied().unwrap_or(1).max(1);
    let read = |(index, text): (usize, &Vec<u8>)| {
        let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        number.ok_or_else(|| ExecuteError::Row {
            row: index / width,
            reason: "a string that is no number".to_owned(),
        })
    };
    texts.iter().enumerate().map(read).collect()
}

fn outputs(like: &Tensor, sum: Elements, difference: Elements) -> Result<Vec<NamedTensor>, ExecuteError> {
    let named = |name: &str, elements| {
        let tensor = Tensor::new(like.shape().to_vec(), elements).map_err(|_| unfit());
        tensor.map(|tensor| NamedTensor { name: name.to_owned(), tensor })
    };
    Ok(vec![named("OUTPUT0", sum)?, named("OUTPUT1", difference)?])
}
