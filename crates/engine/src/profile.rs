//! What runs how, and how fast: a program measured step by step, to be printed and kept in a package.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::isa::Isa;
use crate::kernel::ceiling::{bf16_ceiling, f32_ceiling, int8_ceiling};
use crate::program::{Program, StepInfo};

/// What products are computed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Precision {
    /// Floats of 32 bits.
    F32,
    /// Weights and inputs rounded to bf16, sums in f32.
    Bf16,
    /// Products of bytes, sums in 32 bits.
    Int8,
}

impl Precision {
    /// Its name, as in a package.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }
}

/// The most multiply–accumulates per second of one thread, in thousands of millions, by precision.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ceilings {
    /// In f32.
    pub f32_gmacs: f64,
    /// In bf16, where the tier has instructions for it; otherwise bf16 is multiplied as f32.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bf16_gmacs: Option<f64>,
    /// In int8.
    pub int8_gmacs: f64,
}

impl Ceilings {
    /// Measures them on this thread, which takes some tens of milliseconds.
    ///
    /// # Panics
    /// When the processor lacks the tier.
    #[must_use]
    pub fn measure(isa: Isa) -> Self {
        let bf16_gmacs = (isa >= Isa::Amx).then(|| rounded(bf16_ceiling(isa), 2));
        let [f32_gmacs, int8_gmacs] = [f32_ceiling(isa), int8_ceiling(isa)].map(|gmacs| rounded(gmacs, 2));
        Self { f32_gmacs, bf16_gmacs, int8_gmacs }
    }

    /// That of a precision.
    #[must_use]
    pub fn of(&self, precision: Precision) -> f64 {
        match precision {
            Precision::F32 => self.f32_gmacs,
            Precision::Bf16 => self.bf16_gmacs.unwrap_or(self.f32_gmacs),
            Precision::Int8 => self.int8_gmacs,
        }
    }
}

/// A program with what it needs and how long its steps take on one thread of this machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// The tier of instructions, by the name that `BRAZIER_ISA` has for it.
    pub isa: String,
    /// The processor, as it calls itself.
    pub processor: String,
    /// Samples that run through the whole program at once.
    pub block_rows: usize,
    /// How long compiling took, in milliseconds.
    pub compile_ms: f64,
    /// Bytes of packed weights, once for all threads.
    pub weight_bytes: usize,
    /// Bytes of scratch for each thread that computes.
    pub scratch_bytes: usize,
    /// What the processor could do at most.
    pub ceilings: Ceilings,
    /// The steps in the order in which they run.
    pub steps: Vec<StepProfile>,
}

/// One step of a program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepProfile {
    /// The layers that it computes; none where a value is only moved.
    pub layers: Vec<String>,
    /// How: `direct`, `dense int8`, `direct tiles bf16`, `winograd 4x4`, `pool`, ….
    pub method: String,
    /// What its products are computed in; nothing where it has none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub precision: Option<Precision>,
    /// Multiply–accumulates of those layers for one sample, as the network counts them.
    pub macs: u64,
    /// Bytes of packed weights.
    pub weight_bytes: usize,
    /// The best time for one sample alone, in microseconds.
    pub single_us: f64,
    /// The best time for a sample in a full block, in microseconds.
    pub block_us: f64,
    /// Thousands of millions of multiply–accumulates per second in a full block.
    pub gmacs: f64,
    /// That as a share of the ceiling. Winograd's algorithm does the work of more products than it computes, so
    /// that its share may exceed 1.
    pub of_ceiling: f64,
}

impl Profile {
    /// Measures a program on this thread: `repeats` runs of one sample and of one block, of which the best time
    /// of each step counts. `compile` is what compiling it took, which only the caller can know.
    #[must_use]
    pub fn measure(program: &Program, compile: Duration, repeats: usize) -> Self {
        let isa = program.isa();
        let ceilings = Ceilings::measure(isa);
        let rows = program.block_rows();
        let (single, block) = (program.profile(1, repeats), program.profile(rows, repeats));
        let steps = single.into_iter().zip(block).map(|(single, block)| {
            let precision = precision(&block);
            let single_us = single.time.as_secs_f64() * 1e6;
            let block_us = block.time.as_secs_f64() * 1e6 / rows as f64;
            // A clock may not have moved during a step that does next to nothing.
            let gmacs = if block_us > 0.0 { block.macs as f64 / block_us / 1e3 } else { 0.0 };
            let of_ceiling = precision.map_or(0.0, |precision| gmacs / ceilings.of(precision));
            let StepInfo { layers, method, macs, weight_bytes, .. } = block;
            StepProfile {
                layers,
                method,
                precision,
                macs,
                weight_bytes,
                single_us: rounded(single_us, 3),
                block_us: rounded(block_us, 4),
                gmacs: rounded(gmacs, 2),
                of_ceiling: rounded(of_ceiling, 4),
            }
        });
        Self {
            isa: isa.to_string(),
            processor: processor(),
            block_rows: rows,
            compile_ms: rounded(compile.as_secs_f64() * 1e3, 3),
            weight_bytes: program.weight_bytes(),
            scratch_bytes: program.scratch_bytes(),
            ceilings,
            steps: steps.collect(),
        }
    }

    /// Multiply–accumulates for one sample.
    #[must_use]
    pub fn macs(&self) -> u64 {
        self.steps.iter().map(|step| step.macs).sum()
    }

    /// The steps for one sample alone, in microseconds.
    #[must_use]
    pub fn single_us(&self) -> f64 {
        self.steps.iter().map(|step| step.single_us).sum()
    }

    /// The steps for a sample in a full block, in microseconds.
    #[must_use]
    pub fn block_us(&self) -> f64 {
        self.steps.iter().map(|step| step.block_us).sum()
    }
}

/// What the products of a step are computed in.
fn precision(step: &StepInfo) -> Option<Precision> {
    if step.macs == 0 {
        return None;
    }
    Some(match step.method.rsplit_once(' ') {
        Some((_, "int8")) => Precision::Int8,
        Some((_, "bf16")) => Precision::Bf16,
        _ => Precision::F32,
    })
}

/// A figure without the digits that no measurement has, so that a file of them is readable.
fn rounded(value: f64, digits: i32) -> f64 {
    let steps = 10f64.powi(digits);
    (value * steps).round() / steps
}

/// What the processor calls itself; where the system does not tell, its architecture.
#[must_use]
pub fn processor() -> String {
    let told = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = told.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim())
    });
    name.filter(|name| !name.is_empty()).unwrap_or(std::env::consts::ARCH).to_owned()
}
