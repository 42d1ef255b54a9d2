//! ONNX: the network as a graph of standard operators that any runtime can execute.
//!
//! The names of nodes are those of the layers, the names of constants the keys of the record. An int8 model is
//! written with `QuantizeLinear` and `DequantizeLinear` around what its plan says is bytes, so that a runtime may
//! compute in integers and one that cannot gets the same answers in floats. Dynamic layers and layers whose weights
//! alone are integers are written as the floats that those stand for: the standard's `DynamicQuantizeLinear` finds one
//! range for a whole batch, so that an answer would depend on its neighbours.

mod builder;
mod flow;
mod fusion;
mod operators;
mod proto;
mod quantized;
#[cfg(test)]
mod tests;
mod writer;

use prost::Message as _;

use self::proto::{GraphProto, IR_VERSION, ModelProto, OPERATOR_SET, OperatorSetIdProto};
use self::proto::{StringStringEntryProto, ValueInfoProto};
use self::writer::Writer;
use crate::error::ExportError;
use crate::model::Model;

/// The most bytes that a protocol buffer may have.
const LIMIT: u64 = i32::MAX as u64;

/// The model as an ONNX file, with operators of set 17 and a batch of any size. Equal models give equal bytes.
///
/// # Errors
/// When the weights are not those of the network, an int8 layer lacks a range, or the file would be too large.
pub fn onnx(model: &Model) -> Result<Vec<u8>, ExportError> {
    let network = model.network();
    let signature = network.signature();
    if let Some(output) =
        signature.outputs.iter().find(|output| signature.inputs.iter().any(|input| input.name == output.name))
    {
        return Err(ExportError::OutputName { name: output.name.clone() });
    }
    let floats = model.with_fixed_ranges()?;
    let written = Writer::write(floats.as_ref().unwrap_or(model))?;
    let port = |spec: &network::TensorSpec| {
        ValueInfoProto::batched_f32(&spec.name, &spec.sample_shape().unwrap_or_default())
    };
    let graph = GraphProto {
        node: written.nodes,
        name: model.name().to_owned(),
        initializer: written.initializers,
        input: signature.inputs.iter().map(port).collect(),
        output: signature.outputs.iter().map(port).collect(),
    };
    let entry =
        |(key, value): (&String, &String)| StringStringEntryProto { key: key.clone(), value: value.clone() };
    let proto = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "brazier".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        model_version: i64::try_from(model.version()).unwrap_or(i64::MAX),
        doc_string: model.description().to_owned(),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: OPERATOR_SET }],
        metadata_props: model.metadata().iter().map(entry).collect(),
    };
    let bytes = proto.encoded_len() as u64;
    if bytes > LIMIT {
        return Err(ExportError::TooLarge { bytes, limit: LIMIT });
    }
    Ok(proto.encode_to_vec())
}
