//! Fake quantization: training in floats that are rounded wherever int8 will round them (Jacob et al. 2018,
//! section 3).
//!
//! Weights are rounded as [`network::quantization::quantize_weights`] does, a scale for each output; the values that
//! the engine keeps as bytes are rounded as it rounds them, at the place where it does. Backward the rounding is
//! passed over (the straight-through estimator, Bengio et al. 2013), and what was cut off at the end of a range gets
//! no gradient. Biases stay floats: the engine's steps for them are those of the products, some thousand times finer.
//!
//! A range is two numbers on the host, so the simulation waits for nothing: the least and the greatest of a batch are
//! read together with its loss, and change the ranges of the next one.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use artifact::record::parameter_id;
use burn::module::{Param, ParamId};
use burn::tensor::{Device, Tensor, TensorData};
use model::{Hook, Net, TensorMap, Value};
use network::{Affine, Network, Weights};

use super::FitError;
use super::step::read_all;

/// Trains a network as it will be rounded to int8.
#[derive(Clone, Debug, PartialEq)]
pub struct FakeQuantization {
    /// The layers that will compute in int8.
    pub layers: BTreeSet<String>,
    /// The values that will be bytes, by the name of the input or of the layer that gives them, and the ranges that
    /// training begins with.
    pub activations: BTreeMap<String, Affine>,
    /// How ranges follow the values.
    pub ranges: RangeRule,
    /// After this share of the steps, in [0, 1], ranges stand still: the rest is trained with what will be packed.
    pub freeze_after: f64,
}

/// How the ranges of values follow training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RangeRule {
    /// Towards the least and the greatest of each batch: `range = momentum · range + (1 − momentum) · batch` (Jacob
    /// et al. 2018, section 3.1).
    MovingAverage {
        /// In [0, 1).
        momentum: f64,
    },
    /// By gradients: the step between two bytes is a parameter (LSQ, Esser et al. 2020, section 2), of which the
    /// logarithm is trained so that any optimizer's learning rate suits it (Jain et al. 2020, section 3.3). The byte
    /// that stands for zero stays as it is.
    Learned,
}

/// A value that is learned along with the network and dropped afterwards: the logarithms of steps.
pub(super) type Steps = Vec<Param<Tensor<1>>>;

/// The state of a simulation.
#[derive(Debug)]
pub(super) struct Simulation {
    layers: BTreeSet<String>,
    places: BTreeMap<String, usize>,
    rule: RangeRule,
    state: Mutex<State>,
}

#[derive(Clone, Debug)]
struct State {
    /// The least and the greatest of each value.
    ranges: Vec<(f64, f64)>,
    affines: Vec<Affine>,
    frozen: bool,
}

/// One run through the network.
pub(super) struct Rounding<'a> {
    simulation: &'a Simulation,
    affines: Vec<Affine>,
    /// The steps where they are learned now.
    learned: Option<&'a Steps>,
    /// The least and the greatest of what was seen, where ranges follow that.
    seen: Option<RefCell<Vec<Seen>>>,
}

/// The least and the greatest of one value in one batch, still on the device: `[2]`.
pub(super) struct Seen {
    place: usize,
    ends: Tensor<1>,
}

impl Simulation {
    pub(super) fn new(plan: &FakeQuantization) -> Self {
        let places = plan.activations.keys().cloned().enumerate().map(|(place, name)| (name, place));
        let affines: Vec<Affine> = plan.activations.values().copied().collect();
        let ranges = affines.iter().map(ends).collect();
        let state = Mutex::new(State { ranges, affines, frozen: false });
        Self { layers: plan.layers.clone(), places: places.collect(), rule: plan.ranges, state }
    }

    /// The parameters of learned ranges; none otherwise.
    pub(super) fn steps(&self, device: &Device) -> Steps {
        if self.rule != RangeRule::Learned {
            return Steps::new();
        }
        let affines = self.state().affines.clone();
        let step = |(name, &place): (&String, &usize)| {
            let value = vec![affines[place].scale.ln()];
            let tensor = Tensor::from_data(TensorData::new(value, [1]), device).require_grad();
            Param::initialized(ParamId::from(parameter_id(&format!("{name}.step"))), tensor)
        };
        // In the order of the places, which is that of the names.
        self.places.iter().map(step).collect()
    }

    /// For a step of training.
    pub(super) fn train<'a>(&'a self, steps: &'a Steps) -> Rounding<'a> {
        let state = self.state();
        let learned = (self.rule == RangeRule::Learned && !state.frozen).then_some(steps);
        let follows = matches!(self.rule, RangeRule::MovingAverage { .. }) && !state.frozen;
        let seen = follows.then(RefCell::default);
        Rounding { simulation: self, affines: state.affines.clone(), learned, seen }
    }

    /// For looking: with the ranges as they are.
    pub(super) fn look(&self) -> Rounding<'_> {
        Rounding { simulation: self, affines: self.state().affines.clone(), learned: None, seen: None }
    }

    /// Moves the ranges towards what was seen in a batch.
    pub(super) fn follow(&self, seen: &[(usize, [f32; 2])]) {
        let RangeRule::MovingAverage { momentum } = self.rule else { return };
        let mut state = self.state();
        for &(place, [least, most]) in seen {
            if !(least.is_finite() && most.is_finite()) {
                continue;
            }
            let (low, high) = &mut state.ranges[place];
            *low = momentum * *low + (1.0 - momentum) * f64::from(least);
            *high = momentum * *high + (1.0 - momentum) * f64::from(most);
            let affine = Affine::covering(*low as f32, *high as f32);
            state.affines[place] = affine;
        }
    }

    /// Takes learned steps over, so that [`Simulation::look`] has them.
    pub(super) fn take(&self, steps: &Steps) -> Result<(), FitError> {
        if self.rule != RangeRule::Learned || self.state().frozen {
            return Ok(());
        }
        let values = read_all(steps.iter().map(|step| step.val().inner().exp()))?;
        let mut state = self.state();
        for (affine, value) in state.affines.iter_mut().zip(values) {
            if let Some(&scale) = value.first().filter(|scale| scale.is_normal()) {
                affine.scale = scale;
            }
        }
        Ok(())
    }

    /// From now on ranges stand still.
    pub(super) fn freeze(&self, steps: &Steps) -> Result<(), FitError> {
        self.take(steps)?;
        self.state().frozen = true;
        Ok(())
    }

    /// The ranges as they are.
    pub(super) fn activations(&self) -> BTreeMap<String, Affine> {
        let state = self.state();
        self.places.iter().map(|(name, &place)| (name.clone(), state.affines[place])).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is left half-changed: every change is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first output of a network for a prepared batch, `shape` in row-major order, with the weights and values
/// rounded as training rounds them: what training saw.
///
/// # Errors
/// When the weights do not fit the network or the batch its input.
pub fn simulate(
    network: &Network,
    weights: &Weights,
    plan: &FakeQuantization,
    shape: &[usize],
    values: &[f32],
) -> Result<Vec<f32>, FitError> {
    let device = model::DeviceSpec::Flex.open().map_err(|error| FitError::Device(error.to_string()))?;
    let net = Net::from_weights(network, weights, &device)?;
    let input = network.spec().inputs.first().map(|input| input.name.as_str()).unwrap_or_default();
    let batch = Value::from_vec(values.to_vec(), shape, &device)
        .filter(|_| shape.get(1..) == Some(network.input_shape()))
        .ok_or_else(|| {
            FitError::Device(format!("a batch {shape:?} of {} values is no input", values.len()))
        })?;
    let simulation = Simulation::new(plan);
    let rounding = simulation.look();
    let batch = rounding.value(input, batch);
    let output = net.run_hooked(vec![batch], None, &rounding).into_iter().next();
    output.map_or_else(|| Ok(Vec::new()), Value::into_vec).map_err(FitError::Device)
}

/// The least and the greatest that bytes stand for.
fn ends(affine: &Affine) -> (f64, f64) {
    let (scale, zero) = (f64::from(affine.scale), f64::from(affine.zero_point));
    (-zero * scale, (255.0 - zero) * scale)
}

impl Rounding<'_> {
    /// What was seen on the way; nothing where ranges do not follow it.
    pub(super) fn seen(self) -> Vec<Seen> {
        self.seen.map(RefCell::into_inner).unwrap_or_default()
    }
}

impl Seen {
    /// Splits into what the host keeps and what the device has.
    pub(super) fn parts(self) -> (usize, Tensor<1>) {
        (self.place, self.ends)
    }
}

impl Hook for Rounding<'_> {
    fn dense_weight(&self, layer: &str, weight: Tensor<2>) -> Tensor<2> {
        if !self.simulation.layers.contains(layer) {
            return weight;
        }
        let plain = weight.clone().inner();
        let greatest = plain.clone().max_abs_dim(0);
        rounded(weight, plain, greatest)
    }

    fn conv_weight(&self, layer: &str, weight: Tensor<4>) -> Tensor<4> {
        if !self.simulation.layers.contains(layer) {
            return weight;
        }
        let plain = weight.clone().inner();
        let outputs = plain.dims()[0];
        let greatest = plain.clone().flatten::<2>(1, 3).max_abs_dim(1).reshape([outputs, 1, 1, 1]);
        rounded(weight, plain, greatest)
    }

    fn value(&self, layer: &str, value: Value) -> Value {
        let Some(&place) = self.simulation.places.get(layer) else { return value };
        if let Some(step) = self.learned.and_then(|steps| steps.get(place)) {
            let zero = self.affines[place].zero_point;
            return value.map(Learned { step: step.val(), zero });
        }
        if let Some(seen) = &self.seen {
            let ends = Ends::default();
            let value = value.map(&ends);
            seen.borrow_mut().extend(ends.0.into_inner().map(|ends| Seen { place, ends }));
            return value.map(Fixed(self.affines[place]));
        }
        value.map(Fixed(self.affines[place]))
    }
}

/// A weight rounded to 127 steps either way of each output's greatest; the gradient passes.
fn rounded<const D: usize>(weight: Tensor<D>, plain: Tensor<D>, greatest: Tensor<D>) -> Tensor<D> {
    // An output without weights has no scale; nothing divided by anything is nothing.
    let scale = (greatest / 127.0).clamp_min(f32::MIN_POSITIVE);
    let on_grid = whole(plain.clone() / scale.clone()) * scale;
    // A weight and its rounded value are within a factor of two, so the difference is exact, and so is the sum.
    weight + (on_grid - plain)
}

/// To the nearest whole number, ties to even, for numbers up to 2²² either way.
fn whole<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    // A number this large has no room for fractions, so that adding it rounds. Burn's CPU backend adds in vectors and
    // rounds one by one; a GPU's compiler may take the sum apart.
    const NO_FRACTIONS: f32 = 12_582_912.0;
    if tensor.device() == Device::flex() {
        return (tensor + NO_FRACTIONS) - NO_FRACTIONS;
    }
    tensor.round()
}

/// Looks at the least and the greatest.
#[derive(Default)]
struct Ends(RefCell<Option<Tensor<1>>>);

impl TensorMap for &Ends {
    fn apply<const D: usize>(self, tensor: Tensor<D>) -> Tensor<D> {
        let plain = tensor.clone().inner();
        *self.0.borrow_mut() = Some(Tensor::cat(vec![plain.clone().min(), plain.max()], 0));
        tensor
    }
}

/// Rounds to bytes with a range that is known.
struct Fixed(Affine);

impl TensorMap for Fixed {
    fn apply<const D: usize>(self, tensor: Tensor<D>) -> Tensor<D> {
        let Affine { scale, zero_point } = self.0;
        let zero = f32::from(zero_point);
        let cut = tensor.clamp(-zero * scale, (255.0 - zero) * scale);
        let plain = cut.clone().inner();
        // As the engine does: times one over the scale, to the nearest, ties to even.
        let on_grid = whole(plain.clone() * (1.0 / scale)) * scale;
        if cut.is_autodiff() { cut + (on_grid - plain) } else { on_grid }
    }
}

/// Rounds to bytes with a step that is learned.
struct Learned {
    /// The logarithm of the step: `[1]`.
    step: Tensor<1>,
    zero: u8,
}

impl TensorMap for Learned {
    fn apply<const D: usize>(self, tensor: Tensor<D>) -> Tensor<D> {
        let zero = f32::from(self.zero);
        let per_sample = tensor.dims().iter().skip(1).product::<usize>().max(1);
        // The gradient of a step is the sum over all values: it is scaled as in section 2.2 of LSQ.
        let share = 1.0 / (per_sample as f32 * 255.0).sqrt();
        let step = self.step;
        let step = step.clone() * share + step.detach() * (1.0 - share);
        let step: Tensor<D> = step.exp().reshape([1; D]);
        let steps = (tensor / step.clone()).clamp(-zero, 255.0 - zero);
        let plain = steps.clone().inner();
        (steps + (whole(plain.clone()) - plain)) * step
    }
}

#[cfg(test)]
#[path = "simulate_tests.rs"]
mod tests;
