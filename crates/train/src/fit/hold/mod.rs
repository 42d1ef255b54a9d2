//! Weights held in a form: the two constraints, and how they meet parameters and gradients.

mod clusters;
mod mask;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use model::Net;

pub use self::clusters::{Clusters, ClustersError};
pub use self::mask::{Mask, PruningSchedule, Ranking, Sparsify};
use super::FitError;
use super::guidance::Constraint;

/// A constraint with the parameters of the network that it holds.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) constraint: Arc<dyn Constraint>,
    keys: HashMap<ParamId, String>,
}

impl Held {
    pub(super) fn new(constraint: Arc<dyn Constraint>, net: &Net) -> Self {
        let parameters = net.parameters().into_iter();
        let held = parameters.filter(|parameter| constraint.holds(&parameter.key));
        Self { keys: held.map(|parameter| (parameter.id, parameter.key)).collect(), constraint }
    }

    /// Tells the constraint how many steps are done; whether the parameters must be given their form anew.
    pub(super) fn advance(&self, step: u64, net: &Net) -> Result<bool, FitError> {
        let weights = || net.weights().map_err(FitError::from);
        Ok(self.constraint.advance(step, &weights)? || step == 0)
    }

    /// Gives the parameters their form.
    pub(super) fn hold(&self, net: Net) -> Net {
        net.map(&mut Holder(self))
    }

    /// Shows the optimizer what the constraint says of the gradients.
    pub(super) fn gradients(&self, gradients: &mut GradientsParams, net: &Net) {
        net.visit(&mut Changer { held: self, gradients });
    }
}

struct Holder<'a>(&'a Held);

impl ModuleMapper for Holder<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(key) = self.0.keys.get(&param.id) else { return param };
        let (id, tensor, mapper) = param.consume();
        let (trains, autodiff, shape) = (tensor.is_require_grad(), tensor.is_autodiff(), tensor.shape());
        let flat = tensor.inner().reshape([shape.num_elements()]);
        let mut tensor: Tensor<D> = self.0.constraint.hold(key, flat).reshape(shape);
        if autodiff {
            tensor = Tensor::from_inner(tensor).set_require_grad(trains);
        }
        Param::from_mapped_value(id, tensor, mapper)
    }
}

struct Changer<'a> {
    held: &'a Held,
    gradients: &'a mut GradientsParams,
}

impl ModuleVisitor for Changer<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(key) = self.held.keys.get(&param.id) else { return };
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            let shape = gradient.shape();
            let flat = gradient.reshape([shape.num_elements()]);
            let changed: Tensor<D> = self.held.constraint.gradient(key, flat).reshape(shape);
            self.gradients.register(param.id, changed);
        }
    }
}

/// Tensors that are made once for a device and kept there.
#[derive(Debug)]
struct OnDevice<T>(Mutex<Option<(Device, HashMap<String, T>)>>);

impl<T> Default for OnDevice<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> OnDevice<T> {
    /// The tensors of `key`, made by `make` where they are not there yet.
    fn get(&self, key: &str, device: &Device, make: impl FnOnce(&Device) -> T) -> T {
        let mut kept = lock(&self.0);
        let same = kept.as_ref().is_some_and(|(known, _)| known == device);
        if !same {
            *kept = None;
        }
        let (_, tensors) = kept.get_or_insert_with(|| (device.clone(), HashMap::new()));
        tensors.entry(key.to_owned()).or_insert_with(|| make(device)).clone()
    }

    /// Forgets all, because the form has changed.
    fn clear(&self) {
        *lock(&self.0) = None;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half-changed by a thread that panicked: every change is one assignment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
