//! Bytes: what an int8 layer reads, and its weights.
//!
//! A value that an int8 layer reads is quantized and dequantized before it; everyone else reads it as it is. That
//! is where the engine has bytes too, so both round at the same places.

use network::spec::Op;
use network::{Affine, DType, Elements};

use super::flow::{Kind, Node, ValueId};
use super::proto::{AttributeProto, TensorProto};
use super::writer::Writer;
use crate::error::ExportError;

impl<'a> Writer<'a> {
    /// The name of a value as the bytes of it mean, for the int8 layer that reads it.
    pub(super) fn through_bytes(&mut self, layer: &str, value: ValueId) -> Result<String, ExportError> {
        if let Some(name) = self.rounded.get(&value) {
            return Ok(name.clone());
        }
        let (named, input) = match self.flattenings.get(&value) {
            Some(&image) => {
                // The image becomes bytes, and flat bytes are bytes: runtimes move them without a float.
                let input = self.through_bytes(layer, image)?;
                let name = self.flow.values[value].name;
                let output = self.builder.name(&format!("{name}.flat"));
                let axis = AttributeProto::int("axis", 1);
                (image, self.builder.node("Flatten", name, &[&input], output, vec![axis]))
            }
            None => (value, self.plain(value)),
        };
        let affine = self.range(layer, self.flow.values[named].name)?;
        let rounded = self.round(self.flow.values[value].name, &input, affine);
        self.rounded.insert(value, rounded.clone());
        Ok(rounded)
    }

    fn range(&self, layer: &str, value: &str) -> Result<Affine, ExportError> {
        let ranges = self.quantization.map(|plan| &plan.activations);
        ranges.and_then(|ranges| ranges.get(value)).copied().ok_or_else(|| {
            let known = ranges.into_iter().flatten().map(|(name, _)| format!("`{name}`"));
            let known: Vec<String> = known.collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            ExportError::Range { layer: layer.to_owned(), value: value.to_owned(), known }
        })
    }

    /// To bytes and back.
    fn round(&mut self, name: &str, input: &str, affine: Affine) -> String {
        let scale = self.builder.number(&format!("{name}.activation_scale"), affine.scale);
        let zero = self.builder.name(&format!("{name}.activation_zero_point"));
        let zero = self.builder.constant(TensorProto::u8(&zero, &[], &[affine.zero_point]));
        let bytes = self.builder.part("QuantizeLinear", name, "quantized", &[input, &scale, &zero]);
        self.builder.part("DequantizeLinear", name, "dequantized", &[&bytes, &scale, &zero])
    }

    /// Weight and bias of a layer that computes in int8. The bias is in whole steps of the products, as the engine
    /// adds it and as runtimes with integer kernels need it.
    pub(super) fn integers(&mut self, node: &Node<'a>) -> Result<Vec<String>, ExportError> {
        let name = node.name;
        let key = format!("{name}.weight");
        let found = self.weights.get(&key);
        let shape = found.map(|tensor| tensor.shape().to_vec()).unwrap_or_default();
        let integers = match self.tensor(&key, DType::I8, &shape)?.elements() {
            Elements::I8(integers) => integers.as_slice(),
            _ => &[],
        };
        let is_dense = matches!(node.kind, Kind::Layer(Op::Dense(_)));
        // Dense weights are `[inputs, outputs]`, those of a convolution begin with the outputs.
        let axis = usize::from(is_dense);
        let outputs = shape.get(axis).copied().unwrap_or(0);
        let scale_key = format!("{name}.scale");
        let scales = self.tensor(&scale_key, DType::F32, &[outputs])?.as_f32().unwrap_or_default();
        let bias_key = format!("{name}.bias");
        let bias = self.tensor(&bias_key, DType::F32, &[outputs])?.as_f32().unwrap_or_default();

        let image = self.flattenings.get(&node.input).copied().unwrap_or(node.input);
        let input = self.range(name, self.flow.values[image].name)?;
        let (mut steps, mut whole) = (Vec::with_capacity(outputs), Vec::with_capacity(outputs));
        for (index, (&value, &scale)) in bias.iter().zip(scales).enumerate() {
            let step = f64::from(input.scale) * f64::from(scale);
            let count = (f64::from(value) / step).round_ties_even();
            if !(count.abs() <= f64::from(i32::MAX) && (step as f32).is_normal()) {
                return Err(ExportError::Bias { key: bias_key, index, value, step });
            }
            steps.push(step as f32);
            whole.push(count as i32);
        }

        let weight = TensorProto::i8(&self.key(&key), &shape, integers);
        let scale = TensorProto::f32(&self.key(&scale_key), &[outputs], scales);
        let zero = self.builder.name(&format!("{name}.zero_point"));
        let zero = TensorProto::i8(&zero, &[outputs], &vec![0; outputs]);
        let weight = self.dequantized(&key, axis, [weight, scale, zero]);

        let bias = TensorProto::i32(&self.key(&bias_key), &[outputs], &whole);
        let scale = self.builder.name(&format!("{name}.bias_scale"));
        let scale = TensorProto::f32(&scale, &[outputs], &steps);
        let zero = self.builder.name(&format!("{name}.bias_zero_point"));
        let zero = TensorProto::i32(&zero, &[outputs], &vec![0; outputs]);
        let bias = self.dequantized(&bias_key, 0, [bias, scale, zero]);
        Ok(vec![weight, bias])
    }

    /// Integers, scales and zero points along an axis, as floats.
    fn dequantized(&mut self, key: &str, axis: usize, parts: [TensorProto; 3]) -> String {
        let parts = parts.map(|part| self.builder.constant(part));
        let name = format!("{key}.dequantized");
        let output = self.builder.name(&name);
        let inputs: Vec<&str> = parts.iter().map(String::as_str).collect();
        let axis = AttributeProto::int("axis", axis as i64);
        self.builder.node("DequantizeLinear", &name, &inputs, output, vec![axis])
    }
}
