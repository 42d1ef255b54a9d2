//! A network without its batch normalisations: each becomes part of the weights before it.
//!
//! What is trained with batch normalisation is run without it: in inference it is `x · scale + shift` per channel
//! with `scale = gamma / √(variance + epsilon)`, and a dense layer or convolution whose output nobody else reads
//! takes both into its weights and bias (Jacob et al. 2018, section 3.2). The result is an ordinary network and an
//! ordinary record, so that every device computes the same; the layer keeps its name, and who read the
//! normalisation reads the layer.

use std::collections::{BTreeMap, HashMap};

use crate::shape::{LayerInfo, Network, Role, ShapeError};
use crate::spec::{BatchNorm, Layer, Op};
use crate::tensor::{LengthError, Tensor};
use crate::weights::{self, Weights, WeightsError};

/// A record that is not that of the network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages say it")]
pub enum FoldError {
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error("the folded network is not valid")]
    Network(#[from] ShapeError),
    #[error("a folded tensor is not valid")]
    Length(#[from] LengthError),
}

/// Folds every batch normalisation that directly follows a dense layer or convolution, inside residual blocks and
/// shortcuts too, into its weights and bias. Computed in 64 bits and rounded once.
///
/// A normalisation stays where it cannot go without changing what others see: it follows another kind of layer,
/// reads something else than the layer before it, or is not the only one to read it. One whose folded weights
/// would not be finite stays as well.
///
/// # Errors
/// When a parameter of those layers is missing or of another type or shape.
pub fn fold_batch_norm(network: &Network, weights: &Weights) -> Result<(Network, Weights), FoldError> {
    let mut spec = network.spec().clone();
    let mut folder = Folder {
        weights,
        infos: network.layers().iter().map(|info| (info.name.as_str(), info)).collect(),
        readers: HashMap::new(),
        renamed: HashMap::new(),
        folded: BTreeMap::new(),
    };
    folder.count(&spec.layers);
    for output in &spec.outputs {
        *folder.readers.entry(output.from.clone()).or_default() += 1;
    }
    spec.layers = folder.list(spec.layers)?;
    for output in &mut spec.outputs {
        output.from = folder.current(&output.from);
    }
    let Folder { renamed, folded, .. } = folder;
    let mut kept = weights.clone();
    for info in network.layers().iter().filter(|info| renamed.contains_key(&info.name)) {
        info.parameters.iter().for_each(|parameter| drop(kept.remove(&parameter.key)));
    }
    for (layer, Wide { shape, weight, bias }) in folded {
        let narrow = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect::<Vec<_>>();
        kept.insert(format!("{layer}.bias"), Tensor::from_f32(vec![bias.len()], narrow(bias))?);
        kept.insert(format!("{layer}.weight"), Tensor::from_f32(shape, narrow(weight))?);
    }
    Ok((Network::new(spec)?, kept))
}

/// Gives every dense layer and convolution that has no bias one of zeros, as an int8 layer must have.
///
/// # Errors
/// None for a checked network.
pub fn with_biases(network: &Network, weights: &Weights) -> Result<(Network, Weights), FoldError> {
    let mut spec = network.spec().clone();
    give_biases(&mut spec.layers);
    let network = Network::new(spec)?;
    let mut weights = weights.clone();
    for parameter in network.parameters().filter(|parameter| parameter.role == Role::Bias) {
        if !weights.contains_key(&parameter.key) {
            let zeros = Tensor::from_f32(parameter.shape.clone(), vec![0.0; parameter.len()])?;
            weights.insert(parameter.key.clone(), zeros);
        }
    }
    Ok((network, weights))
}

fn give_biases(layers: &mut [Layer]) {
    for layer in layers {
        match &mut layer.op {
            Op::Residual(block) => {
                give_biases(&mut block.body);
                give_biases(&mut block.shortcut);
            }
            op => set_bias(op),
        }
    }
}

fn set_bias(op: &mut Op) {
    match op {
        Op::Dense(dense) => dense.bias = true,
        Op::Conv2d(conv) => conv.bias = true,
        _ => {}
    }
}

/// Weights and bias of a layer in 64 bits, until the last normalisation is part of them.
#[derive(Clone)]
struct Wide {
    shape: Vec<usize>,
    weight: Vec<f64>,
    bias: Vec<f64>,
}

impl Wide {
    /// Weights of one output lie in runs of this length.
    fn run(&self, op: &Op) -> usize {
        if matches!(op, Op::Dense(_)) { 1 } else { self.weight.len() / self.bias.len().max(1) }
    }

    fn is_finite(&self) -> bool {
        self.weight.iter().chain(&self.bias).all(|&value| (value as f32).is_finite())
    }
}

struct Folder<'a> {
    weights: &'a Weights,
    infos: HashMap<&'a str, &'a LayerInfo>,
    /// How many layers and outputs read the value of a name.
    readers: HashMap<String, usize>,
    /// Where the value of a normalisation that is gone is found now.
    renamed: HashMap<String, String>,
    folded: BTreeMap<String, Wide>,
}

impl Folder<'_> {
    /// Counts who reads what. Names are unique in the whole network, so one count serves all lists.
    fn count(&mut self, layers: &[Layer]) {
        let mut previous: Option<&str> = None;
        for layer in layers {
            if let Some(source) = layer.from.first().map(String::as_str).or(previous) {
                *self.readers.entry(source.to_owned()).or_default() += 1;
            }
            if let Op::Residual(block) = &layer.op {
                self.count(&block.body);
                self.count(&block.shortcut);
            }
            previous = Some(&layer.name);
        }
    }

    fn current(&self, name: &str) -> String {
        self.renamed.get(name).map_or(name, String::as_str).to_owned()
    }

    fn list(&mut self, layers: Vec<Layer>) -> Result<Vec<Layer>, FoldError> {
        let mut kept: Vec<Layer> = Vec::with_capacity(layers.len());
        // The value that the last kept layer ends in: its own or that of what was folded into it.
        let mut last = String::new();
        for mut layer in layers {
            if let (Op::BatchNorm(norm), Some(host)) = (&layer.op, kept.last_mut()) {
                let follows = layer.from.first().is_none_or(|from| *from == last);
                let alone = self.readers.get(&last) == Some(&1);
                if follows && alone && self.fold(host, &layer.name, norm)? {
                    self.renamed.insert(layer.name.clone(), host.name.clone());
                    last = layer.name;
                    continue;
                }
            }
            last.clone_from(&layer.name);
            layer.from.iter_mut().for_each(|from| *from = self.current(from));
            if let Op::Residual(block) = &mut layer.op {
                block.body = self.list(std::mem::take(&mut block.body))?;
                block.shortcut = self.list(std::mem::take(&mut block.shortcut))?;
            }
            kept.push(layer);
        }
        Ok(kept)
    }

    /// Makes a normalisation part of a layer; false: it cannot be.
    fn fold(&mut self, host: &mut Layer, name: &str, norm: &BatchNorm) -> Result<bool, FoldError> {
        if !matches!(host.op, Op::Dense(_) | Op::Conv2d(_)) {
            return Ok(false);
        }
        let mut wide = match self.folded.get(&host.name) {
            Some(wide) => wide.clone(),
            None => self.widen(&host.name)?,
        };
        let [gamma, beta, mean, variance] =
            [Role::Gamma, Role::Beta, Role::RunningMean, Role::RunningVar].map(|role| self.read(name, role));
        let (gamma, beta, mean, variance) = (gamma?, beta?, mean?, variance?);
        let scale: Vec<f64> = gamma
            .iter()
            .zip(&variance)
            .map(|(gamma, variance)| gamma / (variance + norm.epsilon).sqrt())
            .collect();
        let run = wide.run(&host.op);
        for (index, weight) in wide.weight.iter_mut().enumerate() {
            *weight *= scale[index / run % scale.len()];
        }
        for (output, bias) in wide.bias.iter_mut().enumerate() {
            *bias = (*bias - mean[output]) * scale[output] + beta[output];
        }
        if !wide.is_finite() {
            return Ok(false);
        }
        set_bias(&mut host.op);
        self.folded.insert(host.name.clone(), wide);
        Ok(true)
    }

    /// Weights and bias of a dense layer or convolution; without a bias, zeros.
    fn widen(&self, layer: &str) -> Result<Wide, FoldError> {
        let info = self.infos.get(layer);
        let outputs = info.and_then(|info| info.output.first()).copied().unwrap_or_default();
        let weight = info.and_then(|info| info.parameters.iter().find(|p| p.role == Role::Weight));
        let shape = weight.map(|weight| weight.shape.clone()).unwrap_or_default();
        let mut bias = self.read(layer, Role::Bias)?;
        bias.resize(outputs, 0.0);
        Ok(Wide { shape, weight: self.read(layer, Role::Weight)?, bias })
    }

    /// A parameter in 64 bits; empty when the layer has none of that role.
    fn read(&self, layer: &str, role: Role) -> Result<Vec<f64>, FoldError> {
        let parameters = self.infos.get(layer).map(|info| info.parameters.as_slice()).unwrap_or_default();
        let Some(parameter) = parameters.iter().find(|parameter| parameter.role == role) else {
            return Ok(Vec::new());
        };
        let values = weights::parameter(self.weights, parameter)?;
        Ok(values.iter().map(|&value| f64::from(value)).collect())
    }
}
