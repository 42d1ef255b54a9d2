//! Each operation as operators of ONNX. Batches come first everywhere; images are `[batch, channels, height, width]`
//! on both sides.

use network::spec::{Op, Pair, Pool2d};

use super::flow::Node;
use super::proto::AttributeProto;
use super::writer::Writer;
use crate::error::ExportError;

impl<'a> Writer<'a> {
    /// A dense layer or a convolution with these parameters: the weight and, if it has one, the bias.
    pub(super) fn product(&mut self, node: &Node<'a>, op: &Op, input: &str, parameters: &[String]) {
        let inputs: Vec<&str> = std::iter::once(input).chain(parameters.iter().map(String::as_str)).collect();
        let output = self.plain(node.output);
        // A dense weight is `[inputs, units]` as `Gemm` reads it by default; a convolution's is as `Conv` does.
        let (op_type, attributes) = match op {
            Op::Conv2d(conv) => {
                let attributes = vec![
                    pair("kernel_shape", conv.kernel),
                    pair("strides", conv.stride),
                    pads(conv.padding),
                    pair("dilations", conv.dilation),
                    AttributeProto::int("group", conv.groups as i64),
                ];
                ("Conv", attributes)
            }
            _ => ("Gemm", Vec::new()),
        };
        self.builder.node(op_type, node.name, &inputs, output, attributes);
    }

    /// Any other layer.
    pub(super) fn operator(&mut self, node: &Node<'a>, op: &Op, input: &str) -> Result<(), ExportError> {
        let name = node.name;
        let output = self.plain(node.output);
        let shape = self.flow.values[node.input].shape;
        let (op_type, inputs, attributes) = match op {
            Op::BatchNorm(norm) => {
                let channels = &shape[..1];
                let mut inputs = vec![input.to_owned()];
                for role in ["gamma", "beta", "running_mean", "running_var"] {
                    inputs.push(self.parameter(name, role, channels)?);
                }
                ("BatchNormalization", inputs, vec![AttributeProto::float("epsilon", norm.epsilon as f32)])
            }
            Op::LayerNorm(norm) => {
                let last = &shape[shape.len() - 1..];
                let mut inputs = vec![input.to_owned()];
                for role in ["gamma", "beta"] {
                    inputs.push(self.parameter(name, role, last)?);
                }
                let epsilon = AttributeProto::float("epsilon", norm.epsilon as f32);
                ("LayerNormalization", inputs, vec![AttributeProto::int("axis", -1), epsilon])
            }
            Op::LeakyRelu(relu) => {
                let alpha = AttributeProto::float("alpha", relu.slope as f32);
                ("LeakyRelu", vec![input.to_owned()], vec![alpha])
            }
            Op::Gelu(_) => {
                // x · (1 + erf(x / √2)) · ½: operator set 20 has it as one operator, but older runtimes do not.
                let root = self.builder.number(&format!("{name}.sqrt_two"), std::f32::consts::SQRT_2);
                let one = self.builder.number(&format!("{name}.one"), 1.0);
                let half = self.builder.number(&format!("{name}.half"), 0.5);
                let scaled = self.builder.part("Div", name, "scaled", &[input, &root]);
                let erf = self.builder.part("Erf", name, "erf", &[&scaled]);
                let raised = self.builder.part("Add", name, "raised", &[&erf, &one]);
                let doubled = self.builder.part("Mul", name, "doubled", &[input, &raised]);
                ("Mul", vec![doubled, half], Vec::new())
            }
            Op::Silu(_) => {
                let gate = self.builder.part("Sigmoid", name, "gate", &[input]);
                ("Mul", vec![input.to_owned(), gate], Vec::new())
            }
            Op::MaxPool2d(pool) => ("MaxPool", vec![input.to_owned()], windows(pool)),
            Op::AvgPool2d(pool) => {
                let mut attributes = windows(pool);
                attributes.push(AttributeProto::int("count_include_pad", 1));
                ("AveragePool", vec![input.to_owned()], attributes)
            }
            Op::GlobalAvgPool(_) | Op::GlobalMaxPool(_) => {
                let average = matches!(op, Op::GlobalAvgPool(_));
                let op_type = if average { "GlobalAveragePool" } else { "GlobalMaxPool" };
                let pixel = self.builder.part(op_type, name, "pixel", &[input]);
                ("Flatten", vec![pixel], vec![AttributeProto::int("axis", 1)])
            }
            Op::Relu(_) => ("Relu", vec![input.to_owned()], Vec::new()),
            Op::Sigmoid(_) => ("Sigmoid", vec![input.to_owned()], Vec::new()),
            Op::Tanh(_) => ("Tanh", vec![input.to_owned()], Vec::new()),
            Op::Flatten(_) => ("Flatten", vec![input.to_owned()], vec![AttributeProto::int("axis", 1)]),
            other => {
                let (layer, kind) = (name.to_owned(), other.type_name());
                return Err(ExportError::Unsupported { layer, kind });
            }
        };
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        self.builder.node(op_type, name, &inputs, output, attributes);
        Ok(())
    }
}

fn pair(name: &str, pair: Pair) -> AttributeProto {
    AttributeProto::ints(name, [pair.height, pair.width])
}

/// As much at the end of an axis as at its beginning.
fn pads(padding: Pair) -> AttributeProto {
    let Pair { height, width } = padding;
    AttributeProto::ints("pads", [height, width, height, width])
}

fn windows(pool: &Pool2d) -> Vec<AttributeProto> {
    vec![pair("kernel_shape", pool.kernel), pair("strides", pool.step()), pads(pool.padding)]
}
