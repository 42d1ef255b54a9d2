//! Clipping by the norm of all gradients together (Pascanu et al. 2013). Burn's own clips each tensor alone,
//! which turns the direction of the step.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use super::FitError;
use super::step::read_all;

/// Scales all gradients down so that their common norm is at most `limit`.
pub(super) fn clip(
    gradients: &mut GradientsParams,
    module: &impl Module,
    limit: f64,
) -> Result<(), FitError> {
    let mut squares = Squares { gradients, sums: Vec::new() };
    module.visit(&mut squares);
    // One wait for all of them; the sum over the tensors is a 64-bit one.
    let squares = read_all(squares.sums)?;
    let norm = squares.iter().flatten().map(|&square| f64::from(square)).sum::<f64>().sqrt();
    if norm > limit {
        module.visit(&mut Scale { gradients, factor: limit / norm });
    }
    Ok(())
}

/// The sum of squares of each gradient, still on the device.
struct Squares<'a> {
    gradients: &'a GradientsParams,
    sums: Vec<Tensor<1>>,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            self.sums.push((gradient.clone() * gradient).sum());
        }
    }
}

struct Scale<'a> {
    gradients: &'a mut GradientsParams,
    factor: f64,
}

impl ModuleVisitor for Scale<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            self.gradients.register(param.id, gradient * self.factor);
        }
    }
}
