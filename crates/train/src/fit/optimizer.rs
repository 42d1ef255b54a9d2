//! The configured optimizer as Burn's.

use burn::module::ParamGroup;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdaGradConfig, AdamConfig, AdamWConfig, ModuleOptimizer, RmsPropConfig, SgdConfig};
use model::ParameterState;

use crate::config::{Optimizer, OptimizerRule};

/// Burn's optimizer. Weight decay pulls at weights only: biases and the factors of norms get an optimizer
/// of their own without it.
pub(super) fn build(config: &Optimizer, parameters: &[ParameterState]) -> ModuleOptimizer {
    let decayed = single(config, config.weight_decay);
    if config.weight_decay == 0.0 {
        return decayed;
    }
    let others = parameters.iter().filter(|parameter| !parameter.key.ends_with(".weight"));
    let group = ParamGroup::from_ids(others.map(|parameter| parameter.id).collect());
    match rule(config, 0.0) {
        Rule::Sgd(config) => decayed.with_group(group, config.build(), None),
        Rule::Adam(config) => decayed.with_group(group, config.build(), None),
        Rule::AdamW(config) => decayed.with_group(group, config.build(), None),
        Rule::AdaGrad(config) => decayed.with_group(group, config.build(), None),
        Rule::RmsProp(config) => decayed.with_group(group, config.build(), None),
    }
}

enum Rule {
    Sgd(SgdConfig),
    Adam(AdamConfig),
    AdamW(AdamWConfig),
    AdaGrad(AdaGradConfig),
    RmsProp(RmsPropConfig),
}

fn single(config: &Optimizer, weight_decay: f64) -> ModuleOptimizer {
    match rule(config, weight_decay) {
        Rule::Sgd(config) => config.init(),
        Rule::Adam(config) => config.init(),
        Rule::AdamW(config) => config.init(),
        Rule::AdaGrad(config) => config.init(),
        Rule::RmsProp(config) => config.init(),
    }
}

fn rule(config: &Optimizer, weight_decay: f64) -> Rule {
    let decay = (weight_decay > 0.0).then(|| WeightDecayConfig::new(weight_decay as f32));
    match config.rule {
        OptimizerRule::Sgd { momentum, nesterov } => {
            // Burn dampens by 0.1 unless told otherwise, which is not what "momentum 0.9" means elsewhere.
            let momentum = (momentum > 0.0).then(|| {
                MomentumConfig::new().with_momentum(momentum).with_dampening(0.0).with_nesterov(nesterov)
            });
            Rule::Sgd(SgdConfig::new().with_momentum(momentum).with_weight_decay(decay))
        }
        OptimizerRule::Adam { beta1, beta2, epsilon } => Rule::Adam(
            AdamConfig::new()
                .with_beta_1(beta1 as f32)
                .with_beta_2(beta2 as f32)
                .with_epsilon(epsilon as f32)
                .with_weight_decay(decay),
        ),
        OptimizerRule::AdamW { beta1, beta2, epsilon } => Rule::AdamW(
            AdamWConfig::new()
                .with_beta_1(beta1 as f32)
                .with_beta_2(beta2 as f32)
                .with_epsilon(epsilon as f32)
                .with_weight_decay(weight_decay as f32),
        ),
        OptimizerRule::AdaGrad { epsilon } => {
            Rule::AdaGrad(AdaGradConfig::new().with_epsilon(epsilon as f32).with_weight_decay(decay))
        }
        OptimizerRule::RmsProp { alpha, momentum, epsilon } => Rule::RmsProp(
            RmsPropConfig::new()
                .with_alpha(alpha as f32)
                .with_momentum(momentum as f32)
                .with_epsilon(epsilon as f32)
                .with_weight_decay(decay),
        ),
    }
}
