//! Every preset, on every tier, against 64-bit arithmetic.

use network::{Network, PRESETS, preset};

use crate::check;

#[test]
fn every_preset_agrees_with_the_definitions() {
    for name in PRESETS {
        let input: &[usize] = match *name {
            "mlp" => &[13],
            "lenet-300-100" | "lenet5" => &[1, 28, 28],
            "digits-cnn" => &[1, 8, 8],
            "resnet32" | "resnet56" => &[3, 8, 8],
            _ => &[3, 32, 32],
        };
        let network = Network::new(preset(name, input, 10).unwrap()).unwrap();
        check(&network, 3, 1e-4, name);
    }
}
