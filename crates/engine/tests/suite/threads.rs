//! However a batch is cut and on however many threads, the answers are the same to the last bit.

use engine::{Options, Plan, Pool, Program};
use network::{Network, preset};

use crate::int8::plan;
use crate::{busy_weights, numbers, run};

#[test]
fn threads_and_blocks_change_nothing() {
    let cases = [
        ("lenet5", vec![1, 28, 28]),
        ("resnet20", vec![3, 32, 32]),
        ("keras-cnn", vec![3, 32, 32]),
        ("mlp", vec![5]),
        ("lenet-300-100", vec![28 * 28]),
    ];
    for (name, input) in cases {
        let network = Network::new(preset(name, &input, 10).unwrap()).unwrap();
        let weights = busy_weights(&network);
        let size: usize = input.iter().product();
        let rows = 21;
        let batch = numbers(7, rows * size);
        let program = Program::compile(&network, &weights, Options::default()).unwrap();
        let expected = run(&program, &batch, rows);
        for block in [1, 3, 40] {
            let options = Options::default().with_block_rows(block);
            let program = Program::compile(&network, &weights, options).unwrap();
            for threads in [1, 2, 4] {
                let pool = Pool::new(threads);
                let mut scratch = program.scratch_for(threads);
                for rows in [1, 2, 5, 21] {
                    let mut found = vec![0.0; rows * 10];
                    let inputs = &[&batch[..rows * size]];
                    let outputs = &mut [found.as_mut_slice()];
                    program.run_all(Some(&pool), &mut scratch, inputs, rows, outputs).unwrap();
                    let what = format!("{name}, block {block}, {threads} threads, {rows} rows");
                    assert_eq!(found, expected[..rows * 10], "{what}");
                }
            }
        }
    }
}

/// In bf16 and in int8, where some tiers take rows together that a cut tears apart.
#[test]
fn threads_and_blocks_change_nothing_in_other_precisions() {
    for (name, input) in [("keras-cnn", vec![3, 32, 32]), ("lenet-300-100", vec![28 * 28])] {
        let network = Network::new(preset(name, &input, 10).unwrap()).unwrap();
        let weights = busy_weights(&network);
        let size: usize = input.iter().product();
        let batch = numbers(11, 21 * size);
        let int8 = plan(&network, &weights, &batch[..2 * size], 2);
        for (bf16, plan) in [(true, Plan::default()), (false, int8)] {
            let options = Options::default().with_bf16(bf16);
            let compile = |options| Program::compile_int8(&network, &weights, &plan, options).unwrap();
            let expected = run(&compile(options), &batch, 21);
            for block in [1, 5, 17] {
                let program = compile(options.with_block_rows(block));
                let pool = Pool::new(3);
                let mut scratch = program.scratch_for(3);
                for rows in [1, 2, 10, 21] {
                    let mut found = vec![0.0; rows * 10];
                    let inputs = &[&batch[..rows * size]];
                    let outputs = &mut [found.as_mut_slice()];
                    program.run_all(Some(&pool), &mut scratch, inputs, rows, outputs).unwrap();
                    let what = format!("{name}, bf16 {bf16}, block {block}, {rows} rows");
                    assert_eq!(found, expected[..rows * 10], "{what}");
                }
            }
        }
    }
}

#[test]
fn many_callers_share_a_program_and_a_pool() {
    let network = Network::new(preset("resnet20", &[3, 32, 32], 10).unwrap()).unwrap();
    let program = Program::compile(&network, &busy_weights(&network), Options::default()).unwrap();
    let pool = Pool::new(3);
    let batch = numbers(1, 3 * 32 * 32);
    let expected = run(&program, &batch, 1);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut scratch = program.scratch_for(3);
                for _ in 0..50 {
                    let mut found = vec![0.0; 10];
                    let outputs = &mut [found.as_mut_slice()];
                    program.run_all(Some(&pool), &mut scratch, &[&batch], 1, outputs).unwrap();
                    let close = found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4);
                    assert!(close, "{found:?} {expected:?}");
                }
            });
        }
    });
}
