//! Batched equals unbatched, bit for bit, with real networks.

use std::sync::Arc;

use network::{NamedTensor, Network, Postprocess, Preprocess, Task, Tensor};
use predict::{DeviceSpec, Parts, Predictor};
use serve::scheduler::QueueSettings;
use serve::served::{Call, Served};

use crate::fake::{Echo, Server, scheduler};

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
    }
}

#[actix_web::test]
async fn requests_that_share_a_batch_are_answered_as_if_alone() {
    let (shape, requests) = (&[1, 28, 28][..], 0..7);
    let predictor = predictor("lenet5", shape);
    let alone = |row: usize| predictor.infer(&input(shape, row..row + 1)).unwrap();
    let alone: Vec<_> = requests.clone().map(alone).collect();
    let scheduler = scheduler(1, QueueSettings::default());
    let served = Served::predictor_of(predictor, &scheduler, &Arc::default());
    // The only worker is held up, so all of them wait together.
    let other = Server::with(Echo::new(1).shut(), &scheduler);
    let held = other.occupy().await;
    let sent: Vec<_> = requests
        .map(|row| {
            let (served, inputs) = (Arc::clone(&served), input(shape, row..row + 1));
            actix_web::rt::spawn(async move { served.ask(Call { inputs, ..Call::default() }).await })
        })
        .collect();
    while served.waiting().0 < sent.len() {
        actix_web::rt::task::yield_now().await;
    }
    other.echo.open();
    held.await.unwrap().unwrap();
    for (sent, alone) in sent.into_iter().zip(alone) {
        let answer = sent.await.unwrap().unwrap();
        assert_eq!(answer.timing.batch_rows, 7);
        let bits = |tensor: &Tensor| tensor.as_f32().unwrap().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&answer.outputs[0].tensor), bits(&alone[0].tensor));
    }
}
