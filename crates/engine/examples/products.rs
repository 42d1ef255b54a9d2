//! The engine's products beside those of maintained crates: `gemm`, `matrixmultiply` and `rten-gemm`, one thread.
//!
//! `cargo run --release -p engine --example products`. Ours is a step of a compiled preset with everything that is
//! fused into it (bias, activation, addition, pooling; in int8 the way back to bytes), and a convolution reads the
//! image; theirs is the product alone, of a matrix that has been laid out for it beforehand (im2col), with weights
//! packed beforehand where the crate can. Times are the least of many, for one sample alone and for one of 64: ours
//! in blocks of as many as it takes at once, theirs all together in a dense layer, image by image in a convolution.
#![allow(clippy::print_stdout, reason = "a benchmark prints its table")]
#![allow(unsafe_code, reason = "two of the crates take pointers")]

mod subject;

use std::time::Instant;

use engine::{Options, Plan, Program};
use network::{Network, preset};
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions};
use rten_tensor::NdTensorView;

use crate::subject::{numbers, plan, weights};

/// A step that is a product: where it is, and for one sample its positions, inputs and outputs.
struct Case {
    network: &'static str,
    layer: &'static str,
    size: [usize; 3],
}

const CASES: [Case; 10] = [
    Case { network: "lenet-300-100", layer: "fc1", size: [1, 784, 300] },
    Case { network: "lenet-300-100", layer: "fc2", size: [1, 300, 100] },
    Case { network: "lenet-300-100", layer: "fc3", size: [1, 100, 10] },
    Case { network: "keras-cnn", layer: "conv1", size: [900, 27, 32] },
    Case { network: "keras-cnn", layer: "conv2", size: [169, 288, 64] },
    Case { network: "keras-cnn", layer: "fc1", size: [1, 1024, 64] },
    Case { network: "resnet20", layer: "conv1", size: [1024, 27, 16] },
    Case { network: "resnet20", layer: "stage1.block1.conv1", size: [1024, 144, 16] },
    Case { network: "resnet20", layer: "stage2.block2.conv1", size: [256, 288, 32] },
    Case { network: "resnet20", layer: "stage3.block2.conv1", size: [64, 576, 64] },
];

/// The least time of a call, in microseconds.
fn least(mut call: impl FnMut()) -> f64 {
    let began = Instant::now();
    let mut least = f64::INFINITY;
    let mut calls = 0;
    while calls < 20 || began.elapsed().as_secs_f64() < 0.4 {
        let start = Instant::now();
        call();
        least = least.min(start.elapsed().as_secs_f64());
        calls += 1;
    }
    1e6 * least
}

fn with_gemm([m, k, n]: [usize; 3]) -> f64 {
    let (a, b, mut c) = (numbers(1, m * k), numbers(2, k * n), vec![0.0f32; m * n]);
    let (k_step, n_step) = (k as isize, n as isize);
    least(|| {
        let (a, b, c) = (a.as_ptr(), std::hint::black_box(b.as_ptr()), c.as_mut_ptr());
        // SAFETY: row-major matrices of these sizes.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                c,
                1,
                n_step,
                false,
                a,
                1,
                k_step,
                b,
                1,
                n_step,
                0.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
    })
}

fn with_matrixmultiply([m, k, n]: [usize; 3]) -> f64 {
    let (a, b, mut c) = (numbers(1, m * k), numbers(2, k * n), vec![0.0f32; m * n]);
    let (k_step, n_step) = (k as isize, n as isize);
    least(|| {
        let (a, b, c) = (a.as_ptr(), std::hint::black_box(b.as_ptr()), c.as_mut_ptr());
        // SAFETY: row-major matrices of these sizes.
        unsafe { matrixmultiply::sgemm(m, k, n, 1.0, a, k_step, 1, b, n_step, 1, 0.0, c, n_step, 1) };
    })
}

/// With packed weights.
macro_rules! with_rten {
    ($name:ident, $a:ty, $b:ty, $c:ty) => {
        fn $name([m, k, n]: [usize; 3]) -> f64 {
            let a: Vec<$a> = numbers(1, m * k).into_iter().map(|x| (100.0 * x.abs()) as $a).collect();
            let b: Vec<$b> = numbers(2, k * n).into_iter().map(|x| (100.0 * x) as $b).collect();
            let mut c = vec![<$c>::default(); m * n];
            let executor = GemmExecutor::<$a, $b, $c>::default();
            let packed = executor.prepack_b(NdTensorView::from_data([k, n], b.as_slice()));
            let a = NdTensorView::from_data([m, k], a.as_slice());
            let mut sound = true;
            let time = least(|| {
                let (a, b) = (GemmInputA::Unpacked(a), GemmInputB::Packed(std::hint::black_box(&packed)));
                sound &= executor.gemm(&mut c, a, b, GemmOptions::default()).is_ok();
            });
            if sound { time } else { f64::NAN }
        }
    };
}
with_rten!(with_rten_f32, f32, f32, f32);
with_rten!(with_rten_int8, u8, i8, i32);

/// The programs of a network in floats and in int8, tap by tap.
fn programs(network: &Network) -> Result<[Program; 2], Box<dyn std::error::Error>> {
    let weights = weights(network);
    let batch = numbers(5, 8 * network.input_shape().iter().product::<usize>());
    let options = Options::default().with_direct(true);
    let floats = Program::compile(network, &weights, options)?;
    let plan: Plan = plan(network, &floats, &batch, 8)?;
    let bytes = Program::compile_int8(network, &weights, &plan, options)?;
    Ok([floats, bytes])
}

/// The time of a layer's step for one row, in microseconds.
fn ours(program: &Program, layer: &str, batch: usize) -> f64 {
    let rows = program.block_rows().min(batch);
    let steps = program.profile(rows, 3000);
    let step = steps.iter().find(|step| step.layers.iter().any(|name| name == layer));
    step.map_or(f64::NAN, |step| step.time.as_secs_f64() * 1e6 / rows as f64)
}

/// A dense layer alone, so that its weights stay in the cache as those of the others do.
fn dense([_, k, n]: [usize; 3]) -> Result<Network, Box<dyn std::error::Error>> {
    let json = format!(
        r#"{{"inputs": [{{"name": "x", "shape": [{k}]}}], "layers": [
            {{"name": "dense", "type": "dense", "units": {n}}}]}}"#
    );
    Ok(Network::new(serde_json::from_str(&json)?)?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("µs for a sample on one thread; f32 tap by tap, without Winograd's algorithm");
    println!(
        "network        layer                  rows  product          f32     gemm  mat.mul     rten     int8     rten"
    );
    // Both crates that could use several threads are kept from it.
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    for case in CASES {
        let [positions, k, n] = case.size;
        let (network, layer) = if positions == 1 {
            (dense(case.size)?, "dense")
        } else {
            (Network::new(preset(case.network, &[3, 32, 32], 10)?)?, case.layer)
        };
        let programs = programs(&network)?;
        for batch in [1, 64] {
            // Rows of a dense layer are positions; images come one after the other.
            let together = if positions == 1 { batch } else { 1 };
            let size = [positions * together, k, n];
            let [gemm, multiply, rten, rten8]: [f64; 4] = one.install(|| {
                [with_gemm, with_matrixmultiply, with_rten_f32, with_rten_int8]
                    .map(|time| time(size) / together as f64)
            });
            let [f32, int8] = [0, 1].map(|program| ours(&programs[program], layer, batch));
            let product = format!("{}×{k}×{n}", size[0]);
            println!(
                "{:14} {:20} {batch:6}  {product:12} {f32:8.2} {gemm:8.2} {multiply:8.2} {rten:8.2} {int8:8.2} {rten8:8.2}",
                case.network, case.layer
            );
        }
    }
    Ok(())
}
