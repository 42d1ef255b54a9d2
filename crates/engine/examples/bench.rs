//! How fast compiled networks run: microseconds, images per second, and the share of the processor's f32 ceiling.
//!
//! `cargo run --release -p engine --example bench [-- NETWORK…]`. Every figure is the median of many runs, with
//! the best beside it; threads and batches alternate, so that a disturbance hits all of them.
#![allow(clippy::print_stdout, reason = "a benchmark prints its table")]

mod subject;

use std::time::{Duration, Instant};

use engine::{Isa, Options, Plan, Pool, Program};
use network::{Network, preset};

use crate::subject::{numbers, plan, weights};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let isa = Isa::from_environment()?;
    let ceiling = engine::f32_ceiling(isa);
    let (ceiling16, ceiling8) = (engine::bf16_ceiling(isa), engine::int8_ceiling(isa));
    println!(
        "{isa}: {ceiling:.1} GMAC/s per thread at most in f32, {ceiling16:.1} in bf16, {ceiling8:.1} in int8"
    );
    for (name, bytes) in [("1 MiB", 1 << 20), ("16 MiB", 16 << 20), ("512 MiB", 512 << 20)] {
        println!("{:.1} GB/s per thread from {name}", engine::bandwidth_ceiling(isa, bytes));
    }
    println!("network       type  batch threads   median µs     best µs    images/s    GMAC/s  of ceiling");
    let networks: [(&str, &[usize]); 4] = [
        ("lenet-300-100", &[1, 28, 28]),
        ("lenet5", &[1, 28, 28]),
        ("keras-cnn", &[3, 32, 32]),
        ("resnet20", &[3, 32, 32]),
    ];
    for (name, input) in networks {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| wanted == name) {
            continue;
        }
        let network = Network::new(preset(name, input, 10)?)?;
        let mut options = Options::default();
        if let Ok(rows) = std::env::var("ROWS") {
            options = options.with_block_rows(rows.parse()?);
        }
        options = options.with_direct(std::env::var("DIRECT").is_ok());
        let weights = weights(&network);
        let size: usize = input.iter().product();
        let batch = numbers(5, 64 * size);
        let floats = Program::compile(&network, &weights, options)?;
        let plan = plan(&network, &floats, &batch, 64)?;
        let kinds = [
            ("f32", Plan::default(), options, ceiling),
            ("bf16", Plan::default(), options.with_bf16(true), ceiling16),
            ("int8", plan, options, ceiling8),
        ];
        for (kind, plan, options, ceiling) in kinds {
            if std::env::var("KIND").is_ok_and(|wanted| wanted != kind) {
                continue;
            }
            let start = Instant::now();
            let program = Program::compile_int8(&network, &weights, &plan, options)?;
            let compiled = start.elapsed();
            let pools = [Pool::new(1), Pool::new(2)];
            let mut samples: Vec<Vec<f64>> = vec![Vec::new(); 4];
            let mut scratch = program.scratch_for(2);
            let mut output = vec![0.0; 64 * 10];
            let cases = [(1, 0), (1, 1), (64, 0), (64, 1)];
            for _ in 0..30 {
                for (case, &(rows, pool)) in cases.iter().enumerate() {
                    let start = Instant::now();
                    let mut runs = 0;
                    while runs < 3 || start.elapsed() < Duration::from_millis(20) {
                        let before = Instant::now();
                        let input = std::hint::black_box(&batch[..rows * size]);
                        let outputs = &mut [&mut output[..rows * 10]];
                        program.run_all(Some(&pools[pool]), &mut scratch, &[input], rows, outputs)?;
                        samples[case].push(before.elapsed().as_secs_f64());
                        runs += 1;
                    }
                }
            }
            for (case, &(rows, pool)) in cases.iter().enumerate() {
                let times = &mut samples[case];
                times.sort_by(f64::total_cmp);
                let (median, best) = (times[times.len() / 2], times[0]);
                let threads = pool + 1;
                let rate = network.macs() as f64 * rows as f64 / median / 1e9;
                println!(
                    "{name:13} {kind:4} {rows:6} {threads:7} {:11.1} {:11.1} {:11.0} {rate:9.1} {:10.0}%",
                    median * 1e6,
                    best * 1e6,
                    rows as f64 / median,
                    100.0 * rate / ceiling / threads as f64
                );
            }
            println!(
                "{name:13} {kind:4} compiled in {:.1} ms; weights {} KiB, scratch {} KiB per thread, blocks of {}",
                compiled.as_secs_f64() * 1e3,
                program.weight_bytes() / 1024,
                program.scratch_bytes() / 1024,
                program.block_rows()
            );
            if std::env::var("STEPS").is_ok() {
                for rows in [1, program.block_rows()] {
                    for step in program.profile(rows, 300) {
                        let micros = step.time.as_secs_f64() * 1e6 / rows as f64;
                        let rate = step.macs as f64 / micros / 1e3;
                        let (method, layers) = (&step.method, step.layers.join(" + "));
                        println!(
                            "    {rows:3} rows {micros:9.2} µs each {rate:8.1} GMAC/s  {method:14} {layers}"
                        );
                    }
                }
            }
        }
    }
    Ok(())
}
