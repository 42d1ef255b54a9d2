//! What the tests of records share: networks from JSON and weights that depend on a seed alone.

use network::{Network, NetworkSpec, Role, Tensor, Weights};

pub(crate) fn network(json: serde_json::Value) -> Network {
    Network::new(serde_json::from_value::<NetworkSpec>(json).expect("the case is a specification"))
        .expect("the case is a network")
}

/// Weights of a network between −0.5 and 0.5; variances and factors of normalisations between 0.5 and 1.5.
pub(crate) fn weights(network: &Network, seed: u64) -> Weights {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let tensor = |parameter: &network::Parameter| {
        let around = if matches!(parameter.role, Role::RunningVar | Role::Gamma) { 1.0 } else { 0.0 };
        let values = (0..parameter.len()).map(|_| around + next()).collect();
        (parameter.key.clone(), Tensor::from_f32(parameter.shape.clone(), values).expect("the shape fits"))
    };
    network.parameters().map(tensor).collect()
}
