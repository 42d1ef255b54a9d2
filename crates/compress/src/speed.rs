//! Which layers are faster in int8 on this machine.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use engine::Program;

/// The layers that take longer in int8 than in floats, the one that loses most first.
pub(crate) fn slower(floats: &Program, int8: &Program, layers: &[String]) -> Vec<String> {
    let times = |program: &Program| -> BTreeMap<String, f64> {
        let steps = program.profile(program.block_rows(), 15);
        steps
            .into_iter()
            .flat_map(|step| step.layers.into_iter().map(move |layer| (layer, step.time.as_secs_f64())))
            .collect()
    };
    let (floats, int8) = (times(floats), times(int8));
    let lost = |layer: &String| Some((int8.get(layer)? - floats.get(layer)?, layer.clone()));
    let mut lost: Vec<(f64, String)> =
        layers.iter().filter_map(lost).filter(|(lost, _)| *lost > 0.0).collect();
    lost.sort_by(|a, b| b.0.total_cmp(&a.0));
    lost.into_iter().map(|(_, layer)| layer).collect()
}

/// How long `other` takes as a share of what `program` takes: the mean of the shares at one sample and at a block.
pub(crate) fn relative(program: &Program, other: &Program) -> f64 {
    let shares = [1, program.block_rows()].map(|rows| share(program, other, rows));
    (shares[0] + shares[1]) / 2.0
}

/// How long `other` takes for so many rows as a share of what `program` takes: the best times of each, measured in
/// turns, so that a machine that gets slower is slower for both.
pub(crate) fn share(program: &Program, other: &Program, rows: usize) -> f64 {
    let mut best = [f64::INFINITY; 2];
    for _ in 0..5 {
        for (best, program) in best.iter_mut().zip([program, other]) {
            *best = best.min(time(program, rows));
        }
    }
    best[1] / best[0].max(f64::MIN_POSITIVE)
}

/// The best time of some runs over zeros, on this thread, in seconds.
fn time(program: &Program, rows: usize) -> f64 {
    let inputs: Vec<Vec<f32>> = program.inputs().iter().map(|port| vec![0.5; rows * port.values]).collect();
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let mut outputs: Vec<Vec<f32>> =
        program.outputs().iter().map(|port| vec![0.0; rows * port.values]).collect();
    let mut scratch = program.scratch();
    let mut best = f64::INFINITY;
    let until = Instant::now() + Duration::from_millis(4);
    while best.is_infinite() || Instant::now() < until {
        let mut slices: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        let start = Instant::now();
        if program.run_all(None, &mut scratch, &inputs, rows, &mut slices).is_err() {
            return f64::INFINITY;
        }
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}
