//! A model whose stages are other models: the mean of several, or one after the other.
//!
//! It computes in the thread that is given to it, member by member, and asks their executors themselves: waiting for
//! their queues from inside a compute worker could leave no worker to empty them. It has a queue of its own instead.

use std::collections::BTreeMap;
use std::sync::Arc;

use artifact::ModelRef;
use network::{Dim, NamedTensor, Prediction, Signature, Tensor, TensorSpec};
use serde::{Deserialize, Serialize};

use crate::executor::{ExecuteError, Executor};
use crate::served::Served;

/// `[model.NAME.ensemble]`: what the model `NAME` is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnsembleConfig {
    /// How the members come to one answer.
    pub kind: Kind,
    /// The members: `NAME`, `NAME@VERSION` or `NAME@ALIAS`, in the order in which a sequence runs them.
    pub members: Vec<String>,
    /// For a mean: how much each member counts; empty: all the same.
    #[serde(default)]
    pub weights: Vec<f32>,
}

/// How members come to one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The weighted mean of their outputs.
    Mean,
    /// The weighted mean of their probabilities, as the output `probabilities`.
    MeanProbabilities,
    /// Each takes what the one before it gives.
    Sequence,
}

/// Several models as one.
#[derive(Debug)]
pub struct Ensemble {
    kind: Kind,
    weights: Vec<f32>,
    signature: Signature,
    max_rows: usize,
    members: Vec<Arc<Served>>,
}

/// The name of the output of [`Kind::MeanProbabilities`].
const PROBABILITIES: &str = "probabilities";

impl EnsembleConfig {
    /// The members as references.
    ///
    /// # Errors
    /// What is wrong with the settings, by themselves.
    pub fn references(&self) -> Result<Vec<ModelRef>, String> {
        if self.members.is_empty() || self.members.len() > 64 {
            return Err("`members` must name from 1 to 64 models".to_owned());
        }
        if self.kind == Kind::Sequence && !self.weights.is_empty() {
            return Err("`weights` are for means; a sequence has none".to_owned());
        }
        let fits = self.weights.is_empty() || self.weights.len() == self.members.len();
        let positive = self.weights.iter().all(|weight| weight.is_finite() && *weight >= 0.0);
        let sum: f32 = self.weights.iter().sum();
        let sums_up = self.weights.is_empty() || (sum > 0.0 && sum.is_finite());
        if !fits || !positive || !sums_up {
            return Err(
                "`weights` must have one number from 0 on for each member; their sum must be above 0 and a \
                        number as well"
                    .to_owned(),
            );
        }
        self.members
            .iter()
            .map(|member| member.parse().map_err(|error| format!("`members`: {error}")))
            .collect()
    }
}

/// The first thing that is wrong with the ensembles as they are set: whose, and what.
#[must_use]
pub fn fault(ensembles: &BTreeMap<String, EnsembleConfig>) -> Option<(String, String)> {
    let mut members: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, config) in ensembles {
        if let Err(error) = artifact::check_name(name) {
            return Some((name.clone(), error.to_string()));
        }
        match config.references() {
            Ok(references) => {
                members.insert(name, references.into_iter().map(|reference| reference.name).collect())
            }
            Err(error) => return Some((name.clone(), error)),
        };
    }
    // Whatever has no ensemble that is left among its members goes; what stays goes in a circle.
    loop {
        let free: Vec<&str> = members
            .iter()
            .filter(|(_, inside)| inside.iter().all(|member| !members.contains_key(member.as_str())))
            .map(|(name, _)| *name)
            .collect();
        if free.is_empty() {
            let (name, inside) = members.iter().next()?;
            let others: Vec<&str> =
                inside.iter().map(String::as_str).filter(|member| members.contains_key(member)).collect();
            return Some((
                (*name).to_owned(),
                format!("`members` go in a circle by way of {}", others.join(", ")),
            ));
        }
        for name in free {
            members.remove(name);
        }
    }
}

impl Ensemble {
    /// Several versions as one model.
    ///
    /// # Errors
    /// Which of them do not fit each other, and why.
    pub fn new(config: &EnsembleConfig, members: Vec<Arc<Served>>) -> Result<Self, String> {
        config.references()?;
        let [first, rest @ ..] = members.as_slice() else {
            return Err("it has no members".to_owned());
        };
        let last = rest.last().unwrap_or(first);
        let name = |served: &Served| format!("`{}@{}`", served.name(), served.version());
        let differ =
            |what: &str, other: &Served| format!("{} has other {what} than {}", name(other), name(first));
        let signature = match config.kind {
            Kind::Mean | Kind::MeanProbabilities => {
                if let Some(other) =
                    rest.iter().find(|other| other.signature().inputs != first.signature().inputs)
                {
                    return Err(differ("inputs", other));
                }
                if config.kind == Kind::Mean {
                    if let Some(other) =
                        rest.iter().find(|other| other.signature().outputs != first.signature().outputs)
                    {
                        return Err(differ("outputs", other));
                    }
                    if first.signature().outputs.iter().any(|spec| spec.dtype != network::DType::F32) {
                        return Err(format!(
                            "{} has an output that is not FP32, of which there is no mean",
                            name(first)
                        ));
                    }
                    first.signature().clone()
                } else {
                    let labels = |served: &Arc<Served>| {
                        let predictor = served
                            .predictor()
                            .ok_or_else(|| format!("{} is no single model", name(served)))?;
                        if predictor.postprocess().task == network::Task::Regression {
                            return Err(format!("{} gives no probabilities", name(served)));
                        }
                        Ok(predictor.postprocess().labels.clone())
                    };
                    let expected = labels(first)?;
                    for other in rest {
                        if labels(other)? != expected {
                            return Err(differ("labels", other));
                        }
                    }
                    let outputs = vec![TensorSpec::batched_f32(PROBABILITIES, &[expected.len()])];
                    Signature { inputs: first.signature().inputs.clone(), outputs }
                }
            }
            Kind::Sequence => {
                for pair in members.windows(2) {
                    let [before, after] = pair else { continue };
                    feeds(before.signature(), after.signature())
                        .map_err(|why| format!("{} cannot feed {}: {why}", name(before), name(after)))?;
                }
                Signature {
                    inputs: first.signature().inputs.clone(),
                    outputs: last.signature().outputs.clone(),
                }
            }
        };
        // The members of a mean get the same prepared tensors, which mean the same to all only then.
        let known = members.iter().find(|member| member.predictor().is_some()).unwrap_or(first);
        let unlike = |other: &&Arc<Served>| config.kind != Kind::Sequence && !prepares_alike(known, other);
        if let Some(other) = members.iter().find(unlike) {
            return Err(format!("{} has other preprocessing than {}", name(other), name(known)));
        }
        let max_rows = members.iter().map(|member| member.executor().max_rows()).min().unwrap_or(0);
        let count = members.len();
        let given = if config.weights.is_empty() { vec![1.0; count] } else { config.weights.clone() };
        let sum: f32 = given.iter().sum();
        let weights = given.iter().map(|weight| weight / sum).collect();
        Ok(Self { kind: config.kind, weights, signature, max_rows, members })
    }

    fn mean(&self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, ExecuteError> {
        let mut sums: Vec<(Vec<usize>, Vec<f32>)> = Vec::new();
        for (member, weight) in self.members.iter().zip(&self.weights) {
            let outputs = member.run(inputs)?;
            let outputs =
                if self.kind == Kind::MeanProbabilities { probabilities(member, &outputs)? } else { outputs };
            for (place, spec) in self.signature.outputs.iter().enumerate() {
                let output = outputs.iter().find(|output| output.name == spec.name);
                let values = output.and_then(|output| Some((output.tensor.shape(), output.tensor.as_f32()?)));
                let (shape, values) = values.ok_or_else(|| missing(member, &spec.name))?;
                match sums.get_mut(place) {
                    None => sums.push((shape.to_vec(), values.iter().map(|value| value * weight).collect())),
                    Some((expected, sum)) if *expected == shape => {
                        sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value * weight);
                    }
                    Some(_) => return Err(missing(member, &spec.name)),
                }
            }
        }
        let named = self.signature.outputs.iter().zip(sums).map(|(spec, (shape, values))| {
            let tensor =
                Tensor::from_f32(shape, values).map_err(|error| ExecuteError::Failed(error.to_string()))?;
            Ok(NamedTensor { name: spec.name.clone(), tensor })
        });
        named.collect()
    }

    fn sequence(&self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, ExecuteError> {
        let Some((first, rest)) = self.members.split_first() else { return Ok(Vec::new()) };
        let mut tensors = first.run(inputs)?;
        for member in rest {
            // Outputs and inputs were found to fit by their order.
            let names = member.signature().inputs.iter().map(|spec| spec.name.clone());
            for (tensor, name) in tensors.iter_mut().zip(names) {
                tensor.name = name;
            }
            tensors = member.run(&tensors)?;
        }
        Ok(tensors)
    }
}

impl Executor for Ensemble {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn platform(&self) -> &'static str {
        "brazier_ensemble"
    }

    fn max_rows(&self) -> usize {
        self.max_rows
    }

    fn run(&self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, ExecuteError> {
        if self.kind == Kind::Sequence { self.sequence(inputs) } else { self.mean(inputs) }
    }
}

/// Whether tensors that were prepared for one version mean the same to another.
pub(crate) fn prepares_alike(one: &Served, other: &Served) -> bool {
    match (one.predictor(), other.predictor()) {
        (Some(one), Some(other)) => one.preprocess() == other.preprocess(),
        // What takes prepared tensors alone says nothing of how they are made.
        _ => true,
    }
}

fn missing(member: &Served, output: &str) -> ExecuteError {
    ExecuteError::Failed(format!("`{}` gave no output `{output}` of the right shape", member.name()))
}

fn probabilities(member: &Served, outputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, ExecuteError> {
    let failed =
        |error: &dyn std::fmt::Display| ExecuteError::Failed(format!("`{}`: {error}", member.name()));
    let predictor = member.predictor().ok_or_else(|| failed(&"it is no single model"))?;
    let rows = predictor.finish(outputs).map_err(|error| failed(&error))?;
    let mut values = Vec::new();
    for row in &rows {
        match row {
            Prediction::Class { probabilities, .. } | Prediction::Labels { probabilities, .. } => {
                values.extend_from_slice(probabilities);
            }
            Prediction::Values { .. } => return Err(failed(&"it gives no probabilities")),
        }
    }
    let shape = vec![rows.len(), values.len() / rows.len().max(1)];
    let tensor = Tensor::from_f32(shape, values).map_err(|error| failed(&error))?;
    Ok(vec![NamedTensor { name: PROBABILITIES.to_owned(), tensor }])
}

/// Whether the outputs of one fit the inputs of the next, in their order.
fn feeds(before: &Signature, after: &Signature) -> Result<(), String> {
    let (outputs, inputs) = (&before.outputs, &after.inputs);
    if outputs.len() != inputs.len() {
        return Err(format!("it gives {} tensors, and {} are taken", outputs.len(), inputs.len()));
    }
    let fits = |given: &Dim, taken: &Dim| match (given, taken) {
        (Dim::Fixed(given), Dim::Fixed(taken)) => given == taken,
        (Dim::Named(_), Dim::Named(_)) | (Dim::Fixed(_), Dim::Named(_)) => true,
        (Dim::Named(_), Dim::Fixed(_)) => false,
    };
    for (given, taken) in outputs.iter().zip(inputs) {
        let dims = given.dims.len() == taken.dims.len()
            && given.dims.iter().zip(&taken.dims).all(|(a, b)| fits(a, b));
        if given.dtype != taken.dtype || !dims {
            return Err(format!(
                "the output `{}` is {given}, and the input `{}` takes {taken}",
                given.name, taken.name
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(kind: Kind, members: &[&str]) -> EnsembleConfig {
        EnsembleConfig {
            kind,
            members: members.iter().map(|member| (*member).to_owned()).collect(),
            weights: Vec::new(),
        }
    }

    #[test]
    fn circles_and_wrong_settings_are_found() {
        let set = |entries: &[(&str, EnsembleConfig)]| {
            fault(&entries.iter().map(|(name, config)| ((*name).to_owned(), config.clone())).collect())
        };
        let mean = |members: &[&str]| config(Kind::Mean, members);
        assert_eq!(set(&[("both", mean(&["a", "b@2"])), ("more", mean(&["both", "c@production"]))]), None);
        let circle =
            set(&[("a", mean(&["b"])), ("b", mean(&["c", "x"])), ("c", mean(&["a@1"])), ("d", mean(&["x"]))]);
        let (name, why) = circle.unwrap();
        assert_eq!((name.as_str(), why.as_str()), ("a", "`members` go in a circle by way of b"));
        assert!(set(&[("a", mean(&["a"]))]).unwrap().1.contains("circle"));
        assert!(set(&[("a", mean(&[]))]).unwrap().1.contains("from 1 to 64"));
        assert!(set(&[("a", mean(&["B"]))]).unwrap().1.contains("is no name"));
        assert!(set(&[("a@1", mean(&["b"]))]).unwrap().1.contains("is no name"));
        for weights in [vec![1.0], vec![0.0, 0.0], vec![1.0, -1.0], vec![f32::NAN, 1.0], vec![3e38, 3e38]] {
            let wrong = EnsembleConfig { weights, ..mean(&["b", "c"]) };
            assert!(set(&[("a", wrong)]).unwrap().1.contains("`weights`"));
        }
        let weighted = EnsembleConfig { weights: vec![1.0, 1.0], ..config(Kind::Sequence, &["b", "c"]) };
        assert!(set(&[("a", weighted)]).unwrap().1.contains("a sequence has none"));
    }
}
