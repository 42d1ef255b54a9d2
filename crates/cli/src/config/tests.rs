//! The layers on a configuration shaped like a training run's: tagged tables, nested lists of tables.

use serde::Deserialize;

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    name: String,
    #[serde(default)]
    seed: u64,
    epochs: Option<u32>,
    #[serde(default)]
    optimizer: Optimizer,
    #[serde(default)]
    network: Network,
    #[serde(default)]
    labels: Vec<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Optimizer {
    Sgd {
        learning_rate: f32,
        #[serde(default)]
        momentum: f32,
    },
    AdamW {
        learning_rate: f32,
        #[serde(default)]
        beta1: f32,
    },
}

impl Default for Optimizer {
    fn default() -> Self {
        Optimizer::Sgd { learning_rate: 0.1, momentum: 0.0 }
    }
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Network {
    #[serde(default)]
    layers: Vec<Layer>,
    rate: Option<Schedule>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Schedule {
    Constant,
    Cosine,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Layer {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(flatten)]
    op: Op,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Op {
    Dense(Dense),
    Residual(Residual),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Dense {
    units: usize,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Residual {
    body: Vec<Layer>,
}

const FILE: &str = r#"name = "digits"
seed = 7

[optimizer]
type = "sgd"
learning_rate = 0.05

[[network.layers]]
type = "dense"
units = 32

[[network.layers]]
type = "residual"
body = [{ name = "inner", type = "dense", units = 32 }]
"#;

fn layers(text: &str) -> Layers {
    Layers::new().text(Path::new("t.toml"), text).unwrap()
}

/// The error and the hint, as a person sees them.
fn refusal(layers: Result<Layers, ConfigError>) -> String {
    let error = match layers.and_then(|layers| layers.resolve::<Config>()) {
        Ok(resolved) => panic!("accepted: {:?}", resolved.config),
        Err(error) => error,
    };
    match error.hint() {
        Some(hint) => format!("{error} | {hint}"),
        None => error.to_string(),
    }
}

#[test]
fn stronger_layers_win_whatever_the_order_of_the_calls() {
    let variables = [("B_SEED", "8"), ("B_OPTIMIZER__MOMENTUM", "0.9"), ("B_EPOCHS", ""), ("OTHER", "x")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let resolved = Layers::new()
        .flag("epochs", "--epochs", Some(3))
        .and_then(|layers| layers.flag("seed", "--seed", None::<u64>))
        .and_then(|layers| layers.set("optimizer.learning_rate=3e-4"))
        .and_then(|layers| layers.env_from("B_", variables))
        .and_then(|layers| layers.text(Path::new("t.toml"), FILE))
        .and_then(|layers| layers.preset("quick", &serde_json::json!({ "epochs": 1, "labels": ["a"] })))
        .and_then(|layers| layers.defaults(&serde_json::json!({ "seed": 1, "epochs": 9 })))
        .and_then(|layers| layers.resolve::<Config>())
        .unwrap();
    assert_eq!(resolved.config.optimizer, Optimizer::Sgd { learning_rate: 3e-4, momentum: 0.9 });
    let shown: Vec<String> = resolved
        .entries()
        .iter()
        .map(|entry| format!("{} = {} <- {}", entry.key, entry.value, entry.origin))
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    epochs = 3 <- --epochs
    labels = ["a"] <- preset quick
    name = "digits" <- t.toml:1:8
    network.layers[0].type = "dense" <- t.toml:9:8
    network.layers[0].units = 32 <- t.toml:10:9
    network.layers[1].body[0].name = "inner" <- t.toml:14:18
    network.layers[1].body[0].type = "dense" <- t.toml:14:34
    network.layers[1].body[0].units = 32 <- t.toml:14:51
    network.layers[1].type = "residual" <- t.toml:13:8
    optimizer.learning_rate = 0.0003 <- --set
    optimizer.momentum = 0.9 <- environment variable B_OPTIMIZER__MOMENTUM
    optimizer.type = "sgd" <- t.toml:5:8
    seed = 8 <- environment variable B_SEED
    "#);
}

#[test]
fn the_written_configuration_loads_again() {
    let resolved = layers(FILE)
        .set("labels=[\"zero # 0\", \"o\\\"ne\"]")
        .and_then(|layers| layers.flag("seed", "--seed", Some(u64::MAX)))
        .and_then(|layers| layers.set("network.layers.0.units=64"))
        .and_then(|layers| layers.resolve::<Config>())
        .unwrap();
    let text = resolved.write_with_origins();
    insta::assert_snapshot!(text, @r#"
    # The resolved configuration. Each comment says where the value came from.
    labels = ["zero # 0", "o\"ne"]  # --set
    name = "digits"  # t.toml:1:8
    seed = 18446744073709551615  # --seed

    [network]

    [[network.layers]]
    type = "dense"  # t.toml:9:8
    units = 64  # --set

    [[network.layers]]
    type = "residual"  # t.toml:13:8

    [[network.layers.body]]
    name = "inner"  # t.toml:14:18
    type = "dense"  # t.toml:14:34
    units = 32  # t.toml:14:51

    [optimizer]
    learning_rate = 0.05  # t.toml:6:17
    momentum = 0.0  # default
    type = "sgd"  # t.toml:5:8
    "#);
    let again = layers(&text).resolve::<Config>().unwrap();
    assert_eq!(again.config, resolved.config);
}

#[test]
fn refusals_name_the_key_the_place_and_what_would_be_right() {
    let cases: &[(&str, &str)] = &[
        ("name = \"x\"\nsed = 1", "unknown key `sed` in t.toml:2:1 | did you mean `seed`?"),
        (
            "name = \"x\"\n[optimizer]\ntype = \"sgd\"\n leraning_rate = 1",
            "unknown key `optimizer.leraning_rate` in t.toml:4:2 | did you mean `learning_rate`?",
        ),
        (
            "name = \"x\"\n[[network.layers]]\ntype=\"dense\"\nunits=1\nbias_=1",
            "unknown key `network.layers[0].bias_` in t.toml:5:1 | the keys here are `units`",
        ),
        (
            "name = \"x\"\n[[network.layers]]\ntype=\"residual\"\nbody=[{type=\"dense\", unitz=1}]",
            "unknown key `network.layers[0].body[0].unitz` in t.toml:4:22 | did you mean `units`?",
        ),
        (
            "name = \"x\"\nseed = \"one\"",
            "`seed` in t.toml:2:8 must be a whole number, 0 or more, but it is the string \"one\"",
        ),
        ("name = \"x\"\nseed = -1", "`seed` in t.toml:2:8 must be a whole number, 0 or more, but it is -1"),
        ("name = 1", "`name` in t.toml:1:8 must be a string, but it is 1"),
        (
            "name = \"x\"\n[[network.layers]]\ntype=\"dense\"\nunits=\"many\"",
            "`network.layers[0].units` in t.toml:4:7 must be a whole number, 0 or more, but it is the string \"many\"",
        ),
        (
            "name = \"x\"\n[[network.layers]]\ntype=\"dens\"",
            "`network.layers[0].type` in t.toml:3:6 is \"dens\", which does not exist | did you mean `dense`?",
        ),
        (
            "name = \"x\"\n[network]\nrate=\"cosin\"",
            "`network.rate` in t.toml:3:6 is \"cosin\", which does not exist | did you mean `cosine`?",
        ),
        ("name = \"x\"\nlabels = 3", "`labels` in t.toml:2:10 must be a list, but it is 3"),
        ("name = \"x\"\nnetwork = 3", "`network` in t.toml:2:11 must be a table, but it is 3"),
        ("seed = 1", "missing key `name` in the configuration"),
        (
            "name = \"x\"\n[[network.layers]]\ntype=\"dense\"",
            "missing key `units` in `network.layers[0]` (t.toml:2:1)",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(refusal(Ok(layers(text))), *expected, "{text}");
    }
    assert!(
        refusal(Layers::new().text(Path::new("t.toml"), "a = \nb = 1"))
            .starts_with("invalid TOML in t.toml:1:")
    );
}

#[test]
fn refusals_of_flags_and_variables_name_them() {
    let base = || layers("name = \"x\"");
    let env = |name: &str, value: &str| base().env_from("B_", [(name.to_owned(), value.to_owned())]);
    let cases = [
        (
            base().set("seed=many"),
            "`seed` from `--set seed=…` must be a whole number, 0 or more, but it is the string \"many\"",
        ),
        (base().set("labels=[1"), "invalid TOML from `--set labels=…`: "),
        (base().set("seed"), "`--set seed` has no value: write `--set key=value`"),
        (
            base().set("a..b=1"),
            "`--set a..b=1` has no proper key: write it as in `--set optimizer.learning_rate=3e-4`",
        ),
        (
            base().set("labels.3=x"),
            "there is no element `3` from `--set labels.3=…`: the list has 0, counted from 0",
        ),
        (
            env("B_OPTIMISER__X", "1"),
            "unknown key `optimiser` from the environment variable B_OPTIMISER__X | did you mean `optimizer`?",
        ),
        (
            env("B_EPOCHS", "1.5"),
            "`epochs` from the environment variable B_EPOCHS must be a whole number, 0 or more, but it is 1.5",
        ),
        (
            base().set("seed=1").and_then(|layers| layers.flag("seed", "--seed", Some(2))),
            "`seed` is given twice and differently: from `--set seed=…` and from `--seed` | give the value once",
        ),
    ];
    for (layers, expected) in cases {
        let layers = layers.and_then(|layers| layers.defaults(&serde_json::json!({ "labels": [] })));
        let refusal = refusal(layers);
        assert!(refusal.starts_with(expected), "{refusal}\n{expected}");
    }
}

#[test]
fn the_same_value_twice_is_no_conflict_and_the_later_set_wins() {
    let resolved = layers("name = \"x\"")
        .set("seed=1")
        .and_then(|layers| layers.set("seed=2"))
        .and_then(|layers| layers.resolve::<Config>());
    assert_eq!(resolved.unwrap().config.seed, 2);
    let resolved = layers("name = \"x\"")
        .set("seed=2")
        .and_then(|layers| layers.flag("seed", "--seed", Some(2)))
        .and_then(|layers| layers.resolve::<Config>());
    assert_eq!(resolved.unwrap().config.seed, 2);
}

#[test]
fn a_changed_type_drops_defaults_but_never_what_somebody_wrote() {
    let with_defaults = |text: &str| {
        let defaults =
            serde_json::json!({ "optimizer": { "type": "sgd", "learning_rate": 0.1, "momentum": 0.9 } });
        layers(text).defaults(&defaults)
    };
    let adam = with_defaults("name='x'\n[optimizer]\ntype='adam_w'\nlearning_rate=1").unwrap();
    let config = adam.resolve::<Config>().unwrap().config;
    assert_eq!(config.optimizer, Optimizer::AdamW { learning_rate: 1.0, beta1: 0.0 });
    let refusal = refusal(
        with_defaults("name='x'\n[optimizer]\nlearning_rate=1\nmomentum=0.5")
            .and_then(|layers| layers.set("optimizer.type=adam_w")),
    );
    assert_eq!(
        refusal,
        "unknown key `optimizer.momentum` in t.toml:4:1 | the keys here are `learning_rate`, `beta1`"
    );
}

#[test]
fn typed_text_stays_text_where_a_string_is_wanted() {
    for text in ["123", "true", "1e-3", "2024-01-01", "plain words", "a=b", "\"quoted\"", "/a/path"] {
        let layers = Layers::new().set(&format!("name={text}")).unwrap();
        assert_eq!(layers.resolve::<Config>().unwrap().config.name, text.trim_matches('"'), "{text}");
    }
}

#[test]
fn peek_and_refuse_find_values_and_places() {
    let layers = layers(FILE);
    assert_eq!(layers.peek("optimizer.type").unwrap().as_deref(), Some("sgd"));
    assert_eq!(layers.peek("optimizer.none").unwrap(), None);
    let resolved = layers.resolve::<Config>().unwrap();
    let error = resolved.refuse("network.layers[1].body[0].units", "must be even");
    assert_eq!(error.to_string(), "`network.layers[1].body[0].units` in t.toml:14:51: must be even");
    assert_eq!(resolved.refuse("epochs", "must be set").to_string(), "`epochs` in the defaults: must be set");
    assert_eq!(resolved.non_defaults().count(), resolved.entries().len() - 2);
}

#[test]
fn files_are_read_with_a_limit() {
    let error = Layers::new().file("no/such.toml").unwrap_err();
    assert_eq!(error.to_string(), "cannot read the configuration no/such.toml");
    let error = Layers::new().file("/dev/zero").unwrap_err();
    assert!(matches!(error.kind(), ConfigErrorKind::TooLarge { .. }), "{error}");
}
