//! Looking at parameters and changing which of them train.

use burn::module::{Flag, Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use network::Weights;

use crate::layer::Layer;
use crate::net::{Net, NetError, Nodes};

/// A parameter as it stands in the module; its values stay on the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterState {
    /// `<layer>.<parameter>`.
    pub key: String,
    /// By which Burn's gradients and optimizers know it; a function of the key.
    pub id: ParamId,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Whether training changes it; running statistics and frozen parameters are `false`.
    pub is_trained: bool,
}

impl Net {
    /// All parameters with the running statistics, copied to the host.
    ///
    /// # Errors
    /// When the device cannot be read.
    pub fn weights(&self) -> Result<Weights, NetError> {
        // `valid` first brings the running statistics up to date.
        let mut reader = Reader { path: Path::default(), result: Ok(Weights::new()) };
        self.valid().visit(&mut reader);
        reader.result
    }

    /// All parameters in running order, without their values.
    #[must_use]
    pub fn parameters(&self) -> Vec<ParameterState> {
        let mut lister = Lister { path: Path::default(), states: Vec::new() };
        self.visit(&mut lister);
        lister.states
    }

    /// The sum of the absolute values of all weights that train (not biases and not gamma and beta), as a
    /// tensor of shape `[1]` that gradients flow through; `None` when no weight trains.
    #[must_use]
    pub fn l1_norm(&self) -> Option<Tensor<1>> {
        let mut sum = AbsoluteSum { path: Path::default(), total: None };
        self.visit(&mut sum);
        sum.total
    }

    /// Freezes layers by name; a residual block's name freezes all layers inside it. A frozen layer's
    /// parameters get no gradients, its batch normalisation keeps its running statistics and uses them,
    /// and its dropout is off.
    ///
    /// # Errors
    /// When the network has no layer of such a name.
    pub fn freeze_layers(self, names: &[String]) -> Result<Self, NetError> {
        let mut known = Vec::new();
        layer_names(&self.nodes, &mut known);
        if let Some(name) = names.iter().find(|name| !known.contains(name)) {
            let known = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            return Err(NetError::UnknownLayer { name: name.clone(), known });
        }
        let nodes = freeze(self.nodes, names);
        Ok(Self { nodes, ..self })
    }
}

fn layer_names(nodes: &Nodes, names: &mut Vec<String>) {
    for node in &nodes.nodes {
        names.push(node.name.clone());
        if let Layer::Residual { body, shortcut } = &node.layer {
            layer_names(body, names);
            layer_names(shortcut, names);
        }
    }
}

fn freeze(mut nodes: Nodes, names: &[String]) -> Nodes {
    let freeze_node = |mut node: crate::net::Node| {
        if names.contains(&node.name) {
            let single = Nodes { nodes: vec![node], slots: 0 }.map(&mut Freezer);
            return single.nodes;
        }
        if let Layer::Residual { body, shortcut } = node.layer {
            node.layer = Layer::Residual { body: freeze(body, names), shortcut: freeze(shortcut, names) };
        }
        vec![node]
    };
    nodes.nodes = nodes.nodes.into_iter().flat_map(freeze_node).collect();
    nodes
}

struct Freezer;

impl ModuleMapper for Freezer {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.set_require_grad(false)
    }

    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        flag.with_value(false)
    }
}

/// The path to the parameter being visited: the layer, then the parameter.
#[derive(Default)]
struct Path(Vec<String>);

impl Path {
    fn enter(&mut self, name: &str) {
        self.0.push(name.to_owned());
    }

    fn exit(&mut self) {
        self.0.pop();
    }

    fn key(&self) -> String {
        self.0.join(".")
    }

    fn is_weight(&self) -> bool {
        self.0.last().is_some_and(|name| name == "weight")
    }
}

/// Each visitor keeps a path; this spares writing the two methods again.
macro_rules! keep_path {
    () => {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.path.enter(name);
        }

        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.exit();
        }
    };
}

struct Reader {
    path: Path,
    result: Result<Weights, NetError>,
}

impl ModuleVisitor for Reader {
    keep_path!();

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let key = self.path.key();
        let Ok(weights) = &mut self.result else {
            return;
        };
        let tensor = param.val();
        let shape = tensor.dims().to_vec();
        let read = tensor.try_into_vec_as::<f32>().map_err(|error| format!("{error:?}"));
        match read
            .and_then(|values| network::Tensor::from_f32(shape, values).map_err(|error| error.to_string()))
        {
            Ok(tensor) => {
                weights.insert(key, tensor);
            }
            Err(reason) => self.result = Err(NetError::Device { reason }),
        }
    }
}

struct Lister {
    path: Path,
    states: Vec<ParameterState>,
}

impl ModuleVisitor for Lister {
    keep_path!();

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.states.push(ParameterState {
            key: self.path.key(),
            id: param.id,
            shape: param.dims().to_vec(),
            is_trained: param.is_require_grad(),
        });
    }
}

struct AbsoluteSum {
    path: Path,
    total: Option<Tensor<1>>,
}

impl ModuleVisitor for AbsoluteSum {
    keep_path!();

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !self.path.is_weight() || !param.is_require_grad() {
            return;
        }
        let sum = param.val().abs().sum();
        self.total = Some(match self.total.take() {
            Some(total) => total + sum,
            None => sum,
        });
    }
}
