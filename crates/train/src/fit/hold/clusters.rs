//! Weights that share a few values: a codebook for each parameter, whose entries are trained.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};
use network::Weights;

use super::{OnDevice, lock};
use crate::fit::FitError;
use crate::fit::guidance::Constraint;

/// Groups of weights that stay equal while they are trained (Han, Mao and Dally 2016, section 3).
///
/// Assignments stand still. The gradient of a centroid is the sum of the gradients of its members (section 3.3);
/// it is given to each member, so that every rule that treats weights one by one (all that there are) moves the
/// members of a group alike, its moments included. After the step each group takes the value of its first member,
/// in case that rounding moved one of them by a bit. A group whose centroid is 0 stays 0. With `clip_norm` a
/// centroid counts once for every member.
#[derive(Debug)]
pub struct Clusters {
    groups: BTreeMap<String, Groups>,
    on_device: OnDevice<OfParameter>,
    checked: Mutex<bool>,
}

/// The groups of one parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Groups {
    assignments: Vec<u32>,
    /// The place of the first member of each group.
    firsts: Vec<u32>,
    /// The group that stays 0.
    zero: Option<u32>,
}

/// The same on a device.
#[derive(Clone, Debug)]
struct OfParameter {
    assignments: Tensor<1, Int>,
    firsts: Tensor<1, Int>,
    /// 0 for the group of zeros, 1 for the others.
    moves: Tensor<1>,
}

/// Values that cannot be grouped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum ClustersError {
    #[error("`{key}` is not in the weights, or holds no 32-bit floats")]
    Missing { key: String },
    #[error("`{key}` has {found} distinct values, more than the {limit} that are groups")]
    TooMany { key: String, found: usize, limit: usize },
}

impl Clusters {
    /// The groups that weights form already: of every parameter in `keys`, equal values are one group.
    ///
    /// # Errors
    /// When a parameter is missing or has more than `limit` distinct values.
    pub fn of(weights: &Weights, keys: &BTreeSet<String>, limit: usize) -> Result<Self, ClustersError> {
        let mut groups = BTreeMap::new();
        for key in keys {
            let values = weights.get(key).and_then(network::Tensor::as_f32);
            let values = values.ok_or_else(|| ClustersError::Missing { key: key.clone() })?;
            // Both zeros are one value.
            let bits = |value: &f32| (value + 0.0).to_bits();
            let mut known: Vec<u32> = values.iter().map(bits).collect();
            known.sort_unstable();
            known.dedup();
            if known.len() > limit {
                let (key, found) = (key.clone(), known.len());
                return Err(ClustersError::TooMany { key, found, limit });
            }
            let place = |value: &f32| known.binary_search(&bits(value)).unwrap_or_default() as u32;
            let assignments: Vec<u32> = values.iter().map(place).collect();
            let mut firsts = vec![0; known.len()];
            for (place, &group) in assignments.iter().enumerate().rev() {
                firsts[group as usize] = place as u32;
            }
            let zero = known.binary_search(&0).ok().map(|group| group as u32);
            groups.insert(key.clone(), Groups { assignments, firsts, zero });
        }
        Ok(Self { groups, on_device: OnDevice::default(), checked: Mutex::new(false) })
    }

    /// Burn's CPU backend is ten times slower at this than a loop; elsewhere nothing leaves the device.
    fn on_host(&self, key: &str, values: &Tensor<1>, change: fn(&Groups, &mut [f32])) -> Option<Tensor<1>> {
        let device = values.device();
        if device != Device::flex() {
            return None;
        }
        let groups = self.groups.get(key)?;
        let mut numbers = values.clone().try_into_vec_as::<f32>().ok()?;
        change(groups, &mut numbers);
        let count = numbers.len();
        Some(Tensor::from_data(TensorData::new(numbers, [count]), &device))
    }

    fn on_device(&self, key: &str, values: &Tensor<1>) -> Option<OfParameter> {
        let groups = self.groups.get(key)?;
        let device = values.device();
        Some(self.on_device.get(key, &device, |device| {
            let integers = |values: &[u32]| {
                let values: Vec<i32> = values.iter().map(|&value| value as i32).collect();
                let count = values.len();
                Tensor::from_data(TensorData::new(values, [count]), device)
            };
            let moves = |group: usize| if groups.zero == Some(group as u32) { 0.0f32 } else { 1.0 };
            let moves: Vec<f32> = (0..groups.firsts.len()).map(moves).collect();
            OfParameter {
                assignments: integers(&groups.assignments),
                firsts: integers(&groups.firsts),
                moves: Tensor::from_data(TensorData::new(moves, [groups.firsts.len()]), device),
            }
        }))
    }
}

impl OfParameter {
    /// Gives every member the value of the first one.
    fn hold(&self, values: Tensor<1>) -> Tensor<1> {
        let centroids = values.select(0, self.firsts.clone()) * self.moves.clone();
        centroids.select(0, self.assignments.clone())
    }

    /// Gives every member the sum of all.
    fn sum(&self, values: Tensor<1>) -> Tensor<1> {
        let zeros = Tensor::zeros(self.moves.dims(), &values.device());
        let sums = zeros.select_assign(0, self.assignments.clone(), values, IndexingUpdateOp::Add);
        (sums * self.moves.clone()).select(0, self.assignments.clone())
    }
}

impl Groups {
    /// Gives every member the value of the first one.
    fn hold(&self, values: &mut [f32]) {
        let centroids: Vec<f32> = (0..self.firsts.len()).map(|group| self.of(group, values)).collect();
        for (value, &group) in values.iter_mut().zip(&self.assignments) {
            *value = centroids[group as usize];
        }
    }

    fn of(&self, group: usize, values: &[f32]) -> f32 {
        if self.zero == Some(group as u32) { 0.0 } else { values[self.firsts[group] as usize] }
    }

    /// Gives every member the sum of all.
    fn sum(&self, values: &mut [f32]) {
        let mut sums = vec![0.0f64; self.firsts.len()];
        for (&value, &group) in values.iter().zip(&self.assignments) {
            sums[group as usize] += f64::from(value);
        }
        if let Some(zero) = self.zero {
            sums[zero as usize] = 0.0;
        }
        for (value, &group) in values.iter_mut().zip(&self.assignments) {
            *value = sums[group as usize] as f32;
        }
    }
}

impl Constraint for Clusters {
    fn advance(&self, step: u64, weights: &dyn Fn() -> Result<Weights, FitError>) -> Result<bool, FitError> {
        if step > 0 || *lock(&self.checked) {
            return Ok(false);
        }
        let weights = weights()?;
        for (key, groups) in &self.groups {
            let found = weights.get(key).map_or(0, |tensor| tensor.elements().len());
            if found != groups.assignments.len() {
                let expected = groups.assignments.len();
                return Err(FitError::Constraint(format!(
                    "`{key}` has {found} weights and {expected} places in groups"
                )));
            }
        }
        *lock(&self.checked) = true;
        Ok(false)
    }

    fn holds(&self, key: &str) -> bool {
        self.groups.contains_key(key)
    }

    fn hold(&self, key: &str, values: Tensor<1>) -> Tensor<1> {
        if let Some(held) = self.on_host(key, &values, Groups::hold) {
            return held;
        }
        let Some(groups) = self.on_device(key, &values) else { return values };
        groups.hold(values)
    }

    fn gradient(&self, key: &str, gradient: Tensor<1>) -> Tensor<1> {
        if let Some(changed) = self.on_host(key, &gradient, Groups::sum) {
            return changed;
        }
        let Some(groups) = self.on_device(key, &gradient) else { return gradient };
        groups.sum(gradient)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> BTreeSet<String> {
        ["w".to_owned()].into()
    }

    fn weights(values: &[f32]) -> Weights {
        let tensor = network::Tensor::from_f32(vec![values.len()], values.to_vec()).unwrap();
        [("w".to_owned(), tensor)].into()
    }

    #[test]
    fn a_centroid_moves_by_the_sum_of_its_members_gradients() {
        let clusters = Clusters::of(&weights(&[0.5, 0.0, -1.0, 0.5, -0.0]), &keys(), 3).unwrap();
        // On the host, and as every other device does it.
        for device in [Device::flex(), Device::flex().autodiff()] {
            let tensor = |values: [f32; 5]| Tensor::<1>::from_floats(values, &device);
            let groups = clusters.on_device("w", &tensor([0.0; 5])).unwrap();
            let read = |tensor: Tensor<1>| tensor.try_into_vec_as::<f32>().unwrap();
            let gradient = tensor([1.0, 7.0, 4.0, 2.0, 9.0]);
            let expected = [3.0, 0.0, 4.0, 3.0, 0.0];
            assert_eq!(read(clusters.gradient("w", gradient.clone())), expected);
            assert_eq!(read(groups.sum(gradient)), expected);
            let values = tensor([0.25, 0.1, -1.5, 0.2500001, -0.3]);
            let expected = [0.25, 0.0, -1.5, 0.25, 0.0];
            assert_eq!(read(clusters.hold("w", values.clone())), expected);
            assert_eq!(read(groups.hold(values)), expected);
        }
    }

    #[test]
    fn too_many_values_are_no_groups() {
        let error = Clusters::of(&weights(&[1.0, 2.0, 3.0]), &keys(), 2).unwrap_err();
        assert_eq!(error.to_string(), "`w` has 3 distinct values, more than the 2 that are groups");
        assert!(Clusters::of(&Weights::new(), &keys(), 2).is_err());
    }
}
