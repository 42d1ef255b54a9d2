//! Shape inference: the check that makes a [`Network`] of a [`NetworkSpec`].
//!
//! Every layer is given the shape that reaches it; one that cannot work with it is an error that names the
//! layer, the shape and what the layer needs. Parameters and multiply–accumulates are counted on the way.

mod layer;

use std::collections::BTreeMap;

use self::layer::apply;
use crate::signature::{Signature, TensorSpec};
use crate::spec::{InputSpec, Layer, NetworkSpec, Op, OutputSpec};
use crate::tensor::element_count;

/// Bounds on a specification, so that a hostile one cannot ask for unbounded work or memory.
const MAX_LAYERS: usize = 10_000;
const MAX_DEPTH: usize = 16;
const MAX_ELEMENTS: usize = 1 << 31;
const MAX_NAME: usize = 128;

/// A specification that cannot run. The messages name the layer, what reaches it and what it needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages name the fields")]
pub enum ShapeError {
    #[error("the network has no input; give it one with a name and a shape")]
    NoInput,
    #[error(
        "input `{name}` has the shape {shape:?}; every dimension must be at least 1, and there must be 1 to 4"
    )]
    Input { name: String, shape: Vec<usize> },
    #[error(
        "`{name}` is not a name: use letters, digits, `_`, `-` and `.`, beginning with a letter, at most {MAX_NAME} characters"
    )]
    Name { name: String },
    #[error(
        "the name `{name}` is given twice; names are unique in the whole network, inside residual blocks too"
    )]
    Duplicate { name: String },
    #[error("layer `{layer}` ({kind}) needs {needs}, but {shape:?} reaches it")]
    Unfit { layer: String, kind: &'static str, needs: String, shape: Vec<usize> },
    #[error("layer `{layer}` ({kind}): {reason}")]
    Parameter { layer: String, kind: &'static str, reason: String },
    #[error(
        "layer `{layer}` reads `{from}`, which is no input and no earlier layer of the same list; known: {known}"
    )]
    From { layer: String, from: String, known: String },
    #[error("layer `{layer}` ({kind}) reads one tensor, but `from` names {count}")]
    Arity { layer: String, kind: &'static str, count: usize },
    #[error(
        "residual block `{layer}`: the body gives {body:?}, the shortcut {shortcut:?}; they must be equal: add a projection (a 1×1 convolution) to `shortcut`, or change the body"
    )]
    Residual { layer: String, body: Vec<usize>, shortcut: Vec<usize> },
    #[error("output `{name}` is taken from `{from}`, which is no layer and no input; known: {known}")]
    Output { name: String, from: String, known: String },
    #[error("the network is too large: {reason}")]
    TooLarge { reason: String },
}

/// What a parameter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it all")]
pub enum Role {
    Weight,
    Bias,
    Gamma,
    Beta,
    RunningMean,
    RunningVar,
}

impl Role {
    /// The parameter's name in the record, after the layer's.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Weight => "weight",
            Self::Bias => "bias",
            Self::Gamma => "gamma",
            Self::Beta => "beta",
            Self::RunningMean => "running_mean",
            Self::RunningVar => "running_var",
        }
    }

    /// Whether an optimizer changes it. Running statistics are only observed.
    #[must_use]
    pub fn is_trained(self) -> bool {
        !matches!(self, Self::RunningMean | Self::RunningVar)
    }
}

/// One tensor of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// `<layer>.<parameter>`.
    pub key: String,
    /// Its shape: dense weights are `[in, units]`, convolution weights `[out, in / groups, height, width]`.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: Role,
}

impl Parameter {
    /// The number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Never: shape inference refuses empty dimensions.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What shape inference found about one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerInfo {
    /// The layer's name.
    pub name: String,
    /// Its type, as configurations write it.
    pub type_name: &'static str,
    /// How many residual blocks it is inside.
    pub depth: usize,
    /// The shape that it reads, without the batch.
    pub input: Vec<usize>,
    /// The shape that it gives, without the batch.
    pub output: Vec<usize>,
    /// Its own parameters; those of the layers inside a residual block are listed there.
    pub parameters: Vec<Parameter>,
    /// Multiply–accumulates for one sample, of its own.
    pub macs: u64,
}

/// A specification that has been checked: the shapes of all layers are known to fit.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    spec: NetworkSpec,
    layers: Vec<LayerInfo>,
    outputs: Vec<(String, Vec<usize>)>,
}

impl Network {
    /// Checks a specification; layers without a name are given one.
    ///
    /// # Errors
    /// The first thing that cannot work, with the layer, the shape that reaches it and what it needs.
    pub fn new(mut spec: NetworkSpec) -> Result<Self, ShapeError> {
        check_limits(&spec.layers, 0, &mut 0)?;
        spec.name_layers();
        check_names(&spec)?;
        let Some(first) = spec.inputs.first() else {
            return Err(ShapeError::NoInput);
        };
        let mut scope: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for InputSpec { name, shape } in &spec.inputs {
            let elements = element_count(shape).filter(|&count| count > 0 && count <= MAX_ELEMENTS);
            if shape.is_empty() || shape.len() > 4 || elements.is_none() {
                return Err(ShapeError::Input { name: name.clone(), shape: shape.clone() });
            }
            scope.insert(name.clone(), shape.clone());
        }
        let mut layers = Vec::new();
        infer_list(&spec.layers, &first.name, first.shape.clone(), &mut scope, 0, &mut layers)?;
        if spec.outputs.is_empty() {
            let from = spec.layers.last().map_or_else(|| first.name.clone(), |layer| layer.name.clone());
            spec.outputs.push(OutputSpec { name: "logits".to_owned(), from });
        }
        let mut outputs: Vec<(String, Vec<usize>)> = Vec::new();
        for OutputSpec { name, from } in &spec.outputs {
            let Some(shape) = scope.get(from) else {
                let known = known(&scope);
                return Err(ShapeError::Output { name: name.clone(), from: from.clone(), known });
            };
            if outputs.iter().any(|(earlier, _)| earlier == name) {
                return Err(ShapeError::Duplicate { name: name.clone() });
            }
            outputs.push((name.clone(), shape.clone()));
        }
        Ok(Self { spec, layers, outputs })
    }

    /// The specification, every layer named and the outputs filled in.
    #[must_use]
    pub fn spec(&self) -> &NetworkSpec {
        &self.spec
    }

    /// All layers in running order; those inside a residual block follow it, one level deeper.
    #[must_use]
    pub fn layers(&self) -> &[LayerInfo] {
        &self.layers
    }

    /// All tensors of the record, in the order of the layers.
    pub fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        self.layers.iter().flat_map(|layer| &layer.parameters)
    }

    /// The number of trained values; running statistics are not counted.
    #[must_use]
    pub fn parameter_count(&self) -> u64 {
        self.parameters().filter(|p| p.role.is_trained()).map(|p| p.len() as u64).sum()
    }

    /// Multiply–accumulates of one forward pass of one sample.
    #[must_use]
    pub fn macs(&self) -> u64 {
        self.layers.iter().map(|layer| layer.macs).sum()
    }

    /// The named, batched inputs and outputs.
    #[must_use]
    pub fn signature(&self) -> Signature {
        let inputs = self.spec.inputs.iter().map(|input| TensorSpec::batched_f32(&input.name, &input.shape));
        let outputs = self.outputs.iter().map(|(name, shape)| TensorSpec::batched_f32(name, shape));
        Signature { inputs: inputs.collect(), outputs: outputs.collect() }
    }

    /// The shape of the first input, without the batch.
    #[must_use]
    pub fn input_shape(&self) -> &[usize] {
        self.spec.inputs.first().map_or(&[], |input| &input.shape)
    }

    /// The shape of the first output, without the batch.
    #[must_use]
    pub fn output_shape(&self) -> &[usize] {
        self.outputs.first().map_or(&[], |(_, shape)| shape)
    }

    /// The shape that reaches a layer, without the batch.
    #[must_use]
    pub fn input_shape_of(&self, layer: &str) -> Option<&[usize]> {
        self.layers.iter().find(|info| info.name == layer).map(|info| info.input.as_slice())
    }
}

fn known(scope: &BTreeMap<String, Vec<usize>>) -> String {
    scope.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn check_limits(layers: &[Layer], depth: usize, count: &mut usize) -> Result<(), ShapeError> {
    if depth > MAX_DEPTH {
        let reason = format!("residual blocks are nested more than {MAX_DEPTH} deep");
        return Err(ShapeError::TooLarge { reason });
    }
    for layer in layers {
        *count += 1;
        if *count > MAX_LAYERS {
            return Err(ShapeError::TooLarge { reason: format!("more than {MAX_LAYERS} layers") });
        }
        if let Op::Residual(block) = &layer.op {
            check_limits(&block.body, depth + 1, count)?;
            check_limits(&block.shortcut, depth + 1, count)?;
        }
    }
    Ok(())
}

fn check_names(spec: &NetworkSpec) -> Result<(), ShapeError> {
    let layers = spec.all_layers();
    let names = spec.inputs.iter().map(|input| &input.name).chain(layers.iter().map(|layer| &layer.name));
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        check_name(name)?;
        if !seen.insert(name) {
            return Err(ShapeError::Duplicate { name: name.clone() });
        }
    }
    spec.outputs.iter().try_for_each(|output| check_name(&output.name))
}

fn check_name(name: &str) -> Result<(), ShapeError> {
    let valid = name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if valid { Ok(()) } else { Err(ShapeError::Name { name: name.chars().take(MAX_NAME).collect() }) }
}

/// Walks a list of layers and returns the shape of the last one.
fn infer_list(
    layers: &[Layer],
    first_name: &str,
    first_shape: Vec<usize>,
    scope: &mut BTreeMap<String, Vec<usize>>,
    depth: usize,
    found: &mut Vec<LayerInfo>,
) -> Result<Vec<usize>, ShapeError> {
    let mut shape = first_shape;
    let mut previous = first_name;
    for layer in layers {
        let kind = layer.op.type_name();
        let source = match layer.from.as_slice() {
            [] => previous,
            [one] => one,
            many => return Err(ShapeError::Arity { layer: layer.name.clone(), kind, count: many.len() }),
        };
        let input = match scope.get(source) {
            Some(input) => input.clone(),
            None if source == previous => shape.clone(),
            None => {
                let (layer, from) = (layer.name.clone(), source.to_owned());
                return Err(ShapeError::From { layer, from, known: known(scope) });
            }
        };
        let position = found.len();
        let (output, parameters, macs) = match &layer.op {
            Op::Residual(block) => {
                found.push(info(layer, depth, &input, &input, Vec::new(), 0));
                let branch = |list: &[Layer], found: &mut Vec<LayerInfo>| {
                    // A branch has a scope of its own: it reads the block's input and its own layers.
                    infer_list(list, &layer.name, input.clone(), &mut BTreeMap::new(), depth + 1, found)
                };
                let body = branch(&block.body, found)?;
                let shortcut = branch(&block.shortcut, found)?;
                if body != shortcut {
                    return Err(ShapeError::Residual { layer: layer.name.clone(), body, shortcut });
                }
                (body, Vec::new(), 0)
            }
            _ => apply(layer, &input)?,
        };
        let elements = element_count(&output).filter(|&count| count <= MAX_ELEMENTS);
        let weights = parameters.iter().try_fold(0usize, |sum, parameter| {
            element_count(&parameter.shape).and_then(|count| sum.checked_add(count))
        });
        if elements.is_none() || weights.is_none_or(|count| count > MAX_ELEMENTS) {
            let reason = format!("layer `{}` ({kind}) has over {MAX_ELEMENTS} values", layer.name);
            return Err(ShapeError::TooLarge { reason });
        }
        if matches!(layer.op, Op::Residual(_)) {
            found[position].output.clone_from(&output);
        } else {
            found.push(info(layer, depth, &input, &output, parameters, macs));
        }
        scope.insert(layer.name.clone(), output.clone());
        shape = output;
        previous = &layer.name;
    }
    Ok(shape)
}

fn info(
    layer: &Layer,
    depth: usize,
    input: &[usize],
    output: &[usize],
    parameters: Vec<Parameter>,
    macs: u64,
) -> LayerInfo {
    let (input, output) = (input.to_vec(), output.to_vec());
    LayerInfo {
        name: layer.name.clone(),
        type_name: layer.op.type_name(),
        depth,
        input,
        output,
        parameters,
        macs,
    }
}
