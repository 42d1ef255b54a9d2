//! Our records are Burn's: what either side writes, the other reads.

use burn::module::Module;
use burn::store::ModuleRecord;
use burn::tensor::{Bytes, Tensor, TensorData};
use model::{DeviceSpec, Net};

use crate::{busy_weights, network, numbers};

/// Every kind of parameter, at the top and inside a block.
const NETWORK: &str = r#"{
  "inputs": [{"name": "x", "shape": [2, 6, 6]}],
  "layers": [
    {"name": "stem", "type": "conv2d", "channels": 4, "kernel": 3, "padding": 1},
    {"name": "block.1", "type": "residual", "body": [
      {"name": "conv", "type": "conv2d", "channels": 4, "kernel": 3, "padding": 1, "bias": false},
      {"name": "norm", "type": "batch_norm"}]},
    {"name": "pool", "type": "global_avg_pool"},
    {"name": "scale", "type": "layer_norm"},
    {"name": "head.out", "type": "dense", "units": 3}
  ]}"#;

fn logits(net: &Net) -> Vec<f32> {
    let device = DeviceSpec::Cpu.open().unwrap();
    let data = TensorData::new(numbers(1, 2 * 72), [2, 2, 6, 6]);
    net.forward(Tensor::<4>::from_data(data, &device)).try_into_vec_as::<f32>().unwrap()
}

#[test]
fn burn_reads_our_record() {
    let network = network(NETWORK);
    let device = DeviceSpec::Cpu.open().unwrap();
    let weights = busy_weights(&network);
    let ours = Net::from_weights(&network, &weights, &device).unwrap();

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weights.bpk");
    std::fs::write(&path, artifact::record::encode(&weights).unwrap()).unwrap();
    // Neither partial nor unused tensors are allowed by default, so the names agree exactly.
    let blank = Net::init(&network, 9, &device).unwrap();
    assert_ne!(logits(&blank), logits(&ours));
    let loaded = blank.try_load_record(ModuleRecord::load(&path).unwrap()).unwrap();
    assert_eq!(loaded.weights().unwrap(), weights);
    assert_eq!(logits(&loaded), logits(&ours));
    // The identity of each parameter is a function of its key on both sides: an optimizer's state keeps its place.
    assert_eq!(loaded.parameters(), ours.parameters());
}

#[test]
fn we_read_burns_record() {
    let network = network(NETWORK);
    let device = DeviceSpec::Cpu.open().unwrap();
    let weights = busy_weights(&network);
    let net = Net::from_weights(&network, &weights, &device).unwrap();
    let bytes: Bytes = net.into_record().into_bytes().unwrap();
    let read = artifact::record::decode(&bytes, &artifact::Limits::default()).unwrap();
    assert_eq!(read, weights);
}
