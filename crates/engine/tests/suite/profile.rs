//! What a profile says of a program.

use std::collections::BTreeMap;
use std::time::Duration;

use engine::{Affine, Isa, Options, Plan, Precision, Profile, Program};
use network::{Network, preset};

use crate::busy_weights;

fn profile(network: &Network, plan: &Plan, options: Options) -> Profile {
    let program = Program::compile_int8(network, &busy_weights(network), plan, options).unwrap();
    Profile::measure(&program, Duration::from_millis(3), 1)
}

/// Every tier measures its ceilings, which the plain one takes long for; one that vectors is enough here.
fn options() -> Options {
    Options::default().with_isa(Isa::best())
}

#[test]
fn every_layer_with_products_is_counted_once() {
    for (name, input) in [("lenet5", [1, 28, 28]), ("resnet20", [3, 32, 32])] {
        let network = Network::new(preset(name, &input, 10).unwrap()).unwrap();
        let profile = profile(&network, &Plan::default(), options());
        assert_eq!(profile.macs(), network.macs(), "{name}");
        let weights: usize = profile.steps.iter().map(|step| step.weight_bytes).sum();
        assert_eq!(weights, profile.weight_bytes, "{name}");
        assert!(profile.weight_bytes as u64 >= 4 * network.macs().min(network.parameter_count()), "{name}");
        for step in &profile.steps {
            let expected = (step.macs > 0).then_some(Precision::F32);
            assert_eq!(step.precision, expected, "{name}: {step:?}");
        }
        let told: Vec<&String> = profile.steps.iter().flat_map(|step| &step.layers).collect();
        for layer in network.layers().iter().filter(|layer| layer.macs > 0) {
            assert_eq!(told.iter().filter(|told| **told == &layer.name).count(), 1, "{name}: {}", layer.name);
        }
    }
}

#[test]
fn precisions_are_those_of_the_kernels() {
    let network = Network::new(preset("lenet-300-100", &[1, 28, 28], 10).unwrap()).unwrap();
    let layers: Vec<String> =
        network.layers().iter().filter(|layer| layer.macs > 0).map(|layer| layer.name.clone()).collect();
    let values = network.layers().iter().map(|layer| layer.name.clone()).chain(["input".to_owned()]);
    let affine = Affine::covering(-1.0, 1.0);
    let plan = Plan {
        layers: BTreeMap::from([(layers[0].clone(), Vec::new())]),
        values: values.map(|name| (name, affine)).collect(),
        ..Plan::default()
    };
    let profile = profile(&network, &plan, options().with_bf16(true));
    let told: Vec<Precision> = profile.steps.iter().filter_map(|step| step.precision).collect();
    assert_eq!(told, [Precision::Int8, Precision::Bf16, Precision::Bf16]);

    // What a package keeps is what was measured.
    let text = serde_json::to_string(&profile).unwrap();
    assert_eq!(serde_json::from_str::<Profile>(&text).unwrap(), profile);
}
