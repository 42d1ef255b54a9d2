//! How few bytes the codec makes of pruned and clustered networks.
//!
//! ```sh
//! cargo run -p artifact --example codec                      # made-up weights of two classic networks
//! cargo run -p artifact --example codec artifacts/models/digits/2 …   # packages, or plain records
//! ```
//!
//! The made-up weights have what pruned networks have: pixels at the border that nobody uses, units of very
//! different appetite, neighbours in a picture that are used together, and eight values in each layer. Beside the
//! size stands the bound for weights that are drawn independently: the logarithm of the number of places, and
//! the entropy of the values (of 32-bit floats and 8-bit integers), with their frequencies for free.

#![allow(clippy::print_stdout, reason = "a program that prints")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

use artifact::{Limits, Package, codec, record};
use network::{Elements, Tensor, Weights};

fn main() -> Result<(), Box<dyn Error>> {
    println!(
        "{:<28} {:>9} {:>9} {:>9} {:>7} {:>9} {:>9}",
        "weights", "record", "coded", "bound", "ratio", "encode", "decode"
    );
    let paths: Vec<String> = std::env::args().skip(1).collect();
    if paths.is_empty() {
        for density in [0.03, 0.02, 0.015] {
            measure(&format!("lenet-300-100 at {:.1} %", density * 100.0), &lenet_300_100(density))?;
        }
        for density in [0.01, 0.005, 0.0036] {
            measure(&format!("lenet5 at {:.2} %", density * 100.0), &lenet5(density))?;
        }
    }
    for path in paths {
        let path = Path::new(&path);
        let weights = if path.is_dir() {
            Package::open(path)?.weights()?
        } else {
            record::decode(&std::fs::read(path)?, &Limits::default())?
        };
        measure(&path.to_string_lossy(), &weights)?;
    }
    Ok(())
}

fn measure(name: &str, weights: &Weights) -> Result<(), Box<dyn Error>> {
    let record = record::encode(weights)?;
    let start = Instant::now();
    let coded = codec::encode(weights)?;
    let (encode, start) = (start.elapsed(), Instant::now());
    let back = codec::decode(&coded, &Limits::default())?;
    let decode = start.elapsed();
    if record::encode(&back)? != record {
        return Err("the record did not come back".into());
    }
    let bound: f64 = weights.values().map(bound).sum::<f64>() / 8.0;
    let (before, after) = (record.len(), coded.len());
    let ratio = before as f64 / after as f64;
    println!("{name:<28} {before:>9} {after:>9} {bound:>9.0} {ratio:>6.0}× {encode:>9.0?} {decode:>9.0?}");
    Ok(())
}

/// The bits of a tensor whose elements are independent, were their frequencies known.
fn bound(tensor: &Tensor) -> f64 {
    let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
    match tensor.elements() {
        Elements::F32(values) => {
            values.iter().for_each(|value| *counts.entry(value.to_bits()).or_default() += 1)
        }
        Elements::I8(values) => {
            values
                .iter()
                .for_each(|&value| *counts.entry(u32::from(value.cast_unsigned())).or_default() += 1);
        }
        _ => {}
    }
    let logarithm = |count: u64| (1..=count).map(|factor| (factor as f64).log2()).sum::<f64>();
    let total: u64 = counts.values().sum();
    let (zeros, others) = counts.iter().partition::<Vec<_>, _>(|(bits, _)| **bits == 0);
    let present: u64 = others.iter().map(|(_, count)| **count).sum();
    let places =
        logarithm(total) - logarithm(present) - logarithm(zeros.iter().map(|(_, count)| **count).sum());
    places
        + others
            .iter()
            .map(|(_, count)| **count as f64 * (present as f64 / **count as f64).log2())
            .sum::<f64>()
}

/// A number from 0 to 1 that depends on nothing but these.
fn unit(seed: u64, index: u64) -> f64 {
    let mut state = (seed << 40 ^ index).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    state = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ state >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((state ^ state >> 31) >> 11) as f64 / (1u64 << 53) as f64
}

/// How likely a weight of an input and a unit is kept, before it is scaled to the density.
type Appetite = Box<dyn Fn(usize, usize) -> f64>;

struct Layer {
    name: &'static str,
    shape: Vec<usize>,
    /// Against the density of the whole network.
    density: f64,
    appetite: Appetite,
}

fn weights(layers: Vec<Layer>, density: f64) -> Weights {
    let mut weights = Weights::new();
    for (seed, layer) in (1u64..).zip(layers) {
        let Layer { name, shape, density: factor, appetite } = layer;
        let dense = shape.len() == 2;
        let units = if dense { shape[1] } else { shape[0] };
        let count: usize = shape.iter().product();
        let inputs = count / units;
        let place = |index: usize| {
            if dense { (index / units, index % units) } else { (index % inputs, index / inputs) }
        };
        let wanted: Vec<f64> = (0..count).map(place).map(|(input, unit)| appetite(input, unit)).collect();
        let scale = (density * factor).min(0.6) * count as f64 / wanted.iter().sum::<f64>();
        let values = wanted.iter().zip(0u64..).map(|(wanted, index)| {
            let kept = unit(seed, index) < wanted * scale;
            // Eight clusters, the smaller ones more frequent.
            let which = (unit(seed + 50, index).powf(1.4) * 4.0).floor();
            let sign = if unit(seed + 90, index) < 0.5 { -1.0 } else { 1.0 };
            if kept {
                (sign * (0.11 + 0.07 * which + 0.01 * unit(seed, 1 << 39 | which as u64))) as f32
            } else {
                0.0
            }
        });
        let values: Vec<f32> = values.collect();
        // As many biases as there are units, in eight clusters too.
        let bias =
            (0..units as u64).map(|index| 0.031 * (unit(seed + 130, index) * 8.0).floor() as f32).collect();
        weights.extend(Tensor::from_f32(vec![units], bias).map(|bias| (format!("{name}.bias"), bias)));
        weights.extend(Tensor::from_f32(shape, values).map(|weight| (format!("{name}.weight"), weight)));
    }
    weights
}

/// Units differ in what they use: a few use much.
fn greedy(seed: u64) -> impl Fn(usize) -> f64 {
    move |unit_index| unit(seed, unit_index as u64).powi(3) + 0.02
}

/// Pixels in a ring around the middle, and for each unit a spot that it looks at.
fn spots(seed: u64, side: usize, greed: impl Fn(usize) -> f64) -> impl Fn(usize, usize) -> f64 {
    move |input, unit_index| {
        let (y, x) = ((input / side % side) as f64, (input % side) as f64);
        let middle = side as f64 / 2.0;
        let far = ((y - middle).powi(2) + (x - middle).powi(2)).sqrt() / middle;
        let at = |offset: u64| side as f64 * unit(seed + 7, unit_index as u64 * 2 + offset);
        let near = (-((y - at(0)).powi(2) + (x - at(1)).powi(2)) / (2.0 * middle)).exp();
        (1.0 - far).max(0.0) * (0.15 + near) * greed(unit_index)
    }
}

fn lenet_300_100(density: f64) -> Weights {
    let (first, second) = (greedy(1), greedy(2));
    let (into_second, into_third) = (greedy(1), greedy(2));
    let layers = vec![
        Layer { name: "fc1", shape: vec![784, 300], density: 0.7, appetite: Box::new(spots(3, 28, first)) },
        Layer {
            name: "fc2",
            shape: vec![300, 100],
            density: 3.0,
            appetite: Box::new(move |input, unit| into_second(input) * second(unit)),
        },
        Layer {
            name: "fc3",
            shape: vec![100, 10],
            density: 20.0,
            appetite: Box::new(move |input, _| into_third(input)),
        },
    ];
    weights(layers, density)
}

fn lenet5(density: f64) -> Weights {
    let (third, into_fourth) = (greedy(5), greedy(5));
    let layers = vec![
        Layer {
            name: "conv1",
            shape: vec![20, 1, 5, 5],
            density: 60.0,
            appetite: Box::new(spots(3, 5, |_| 1.0)),
        },
        Layer {
            name: "conv2",
            shape: vec![50, 20, 5, 5],
            density: 6.0,
            appetite: Box::new(spots(4, 5, greedy(4))),
        },
        Layer { name: "fc1", shape: vec![800, 500], density: 0.6, appetite: Box::new(spots(5, 4, third)) },
        Layer {
            name: "fc2",
            shape: vec![500, 10],
            density: 8.0,
            appetite: Box::new(move |input, _| into_fourth(input)),
        },
    ];
    weights(layers, density)
}
