//! What applies when a configuration does not say.

use toml::{Table, Value};

use super::OptimizerKind;

fn table(pairs: Vec<(&str, Value)>) -> Table {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// What naming an optimizer brings with it: a layer above the defaults, since the learning rate that is
/// sensible depends on the optimizer.
#[must_use]
pub fn optimizer_preset(optimizer: OptimizerKind) -> Table {
    let learning_rate: f64 = match optimizer {
        OptimizerKind::Sgd => 0.05,
        OptimizerKind::Adam | OptimizerKind::AdamW => 0.001,
        OptimizerKind::AdaGrad => 0.01,
        OptimizerKind::RmsProp => 0.0005,
    };
    table(vec![("optimizer", table(vec![("learning_rate", learning_rate.into())]).into())])
}

/// The default values as the lowest configuration layer.
#[must_use]
pub fn defaults() -> Table {
    table(vec![
        ("optimizer", table(vec![("kind", "adamw".into())]).into()),
        ("schedule", table(vec![("kind", "cosine".into()), ("warmup_steps", 0.into())]).into()),
        (
            "train",
            table(vec![
                ("epochs", 20.into()),
                ("batch_size", 64.into()),
                ("seed", 1.into()),
                ("device", "cpu".into()),
                ("label_smoothing", 0.0.into()),
                ("class_weights", "none".into()),
                ("augment", table(vec![("shift", 0.into())]).into()),
                ("checkpoint", table(vec![("every_epochs", 1.into()), ("every_steps", 0.into())]).into()),
            ])
            .into(),
        ),
    ])
}
