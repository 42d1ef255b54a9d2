//! Batched equals unbatched, bit for bit, with real networks.

use std::sync::Arc;

use network::{NamedTensor, Network, Postprocess, Preprocess, Task, Tensor};
use predict::{DeviceSpec, Parts, Predictor};
use serve::scheduler::QueueSettings;
use serve::served::{Call, Served};

use crate::fake::scheduler;

fn predictor(network: &str, shape: &[usize]) -> Predictor {
    let network = Network::new(network::preset(network, shape, 10).unwrap()).unwrap();
    let parts = Parts {
        weights: model::initial_weights(&network, 7),
        network,
        preprocess: Preprocess::Numbers { shape: shape.to_vec() },
        postprocess: Postprocess::new(Task::MultiClass, (0..10).map(|class| class.to_string()).collect()),
        quantization: None,
    };
    Predictor::from_parts(parts, DeviceSpec::Cpu).unwrap()
}

/// Row `row` of all that are asked: different from every other.
fn sample(row: usize, values: usize) -> Vec<f32> {
    (0..values).map(|place| ((row * 7919 + place * 104_729) % 1000) as f32 / 500.0 - 1.0).collect()
}

fn input(shape: &[usize], rows: impl Iterator<Item = usize>) -> Vec<NamedTensor> {
    let values: usize = shape.iter().product();
    let data: Vec<f32> = rows.flat_map(|row| sample(row, values)).collect();
    let shape: Vec<usize> = std::iter::once(data.len() / values).chain(shape.iter().copied()).collect();
    vec![NamedTensor { name: "input".to_owned(), tensor: Tensor::from_f32(shape, data).unwrap() }]
}

#[test]
fn batched_equals_unbatched_bit_for_bit() {
    for (name, shape) in [("mlp", &[12][..]), ("lenet5", &[1, 28, 28])] {
        let predictor = predictor(name, shape);
        let alone: Vec<Vec<u32>> = (0..120)
            .map(|row| {
                let outputs = predictor.infer(&input(shape, row..row + 1)).unwrap();
                outputs[0].tensor.as_f32().unwrap().iter().map(|value| value.to_bits()).collect()
            })
            .collect();
        let scheduler = scheduler(2, QueueSettings { max_batch_rows: 13, ..QueueSettings::default() });
        let served = Served::predictor_of(predictor, &scheduler, &Arc::default());
        std::thread::scope(|scope| {
            for client in 0..4 {
                let (served, alone) = (&served, &alone);
                scope.spawn(move || {
                    actix_web::rt::System::new().block_on(async {
                        let mut first = client;
                        for size in [1, 2, 5, 30, 1, 13, 14] {
                            let rows = first..first + size;
                            let inputs = input(shape, rows.clone());
                            let answer = served.ask(Call { inputs, ..Call::default() }).await.unwrap();
                            let values = answer.outputs[0].tensor.as_f32().unwrap();
                            let bits: Vec<u32> = values.iter().map(|value| value.to_bits()).collect();
                            assert_eq!(bits, alone[rows].concat(), "{name}: {size} rows from {first}");
                            first += size;
                        }
                    });
                });
            }
        });
        let sizes = served.stats().by_batch_size();
        assert!(sizes.iter().any(|size| size.rows > 1), "{sizes:?}");
    }
}
