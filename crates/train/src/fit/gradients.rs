//! Clipping by the norm of all gradients together (Pascanu et al. 2013). Burn's own clips each tensor alone,
//! which turns the direction of the step.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use super::FitError;

/// Scales all gradients down so that their common norm is at most `limit`.
pub(super) fn clip(
    gradients: &mut GradientsParams,
    module: &impl Module,
    limit: f64,
) -> Result<(), FitError> {
    let mut norm = Norm { gradients, squares: 0.0, error: None };
    module.visit(&mut norm);
    if let Some(error) = norm.error {
        return Err(FitError::Device(error));
    }
    let norm = norm.squares.sqrt();
    if norm > limit {
        module.visit(&mut Scale { gradients, factor: limit / norm });
    }
    Ok(())
}

struct Norm<'a> {
    gradients: &'a GradientsParams,
    squares: f64,
    error: Option<String>,
}

impl ModuleVisitor for Norm<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            match (gradient.clone() * gradient).sum().try_into_scalar::<f32>() {
                Ok(squares) => self.squares += f64::from(squares),
                Err(error) => self.error = Some(error.to_string()),
            }
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
