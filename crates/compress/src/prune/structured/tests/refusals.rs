//! What cannot be pruned, and what the messages say.

use network::quantization::{Calibration, CalibrationMethod, Quantization};

use super::*;

fn refusal(parts: &Parts, text: &str) -> String {
    prune(parts, &digits().0, &config(text), &mut |_| ()).unwrap_err().to_string()
}

#[test]
fn a_configuration_that_cannot_be() {
    let parts = preset("mlp", &[4]);
    assert_eq!(
        refusal(&parts, "budget.share = 2.0"),
        "the configuration's `budget.share` must be above 0 and below 1"
    );
    assert_eq!(
        refusal(&parts, "groups.exclude = ['conv*']"),
        "`conv*` in `groups.exclude` names no layer that makes channels; there are `fc1`, `fc2`"
    );
    // The last layer cannot go anyway; naming it is no mistake.
    assert!(prune(&parts, &digits().0, &config("groups.exclude = ['fc3']"), &mut |_| ()).is_ok());
}

#[test]
fn a_budget_that_cannot_be_reached_says_what_can() {
    let parts = preset("mlp", &[4]);
    let error = refusal(&parts, "budget.share = 0.05");
    let least = share_of_macs(&parts.network, &[("fc1".to_owned(), 16), ("fc2".to_owned(), 16)].into());
    assert!(error.starts_with("a share of 0.050 cannot be reached"), "{error}");
    assert!(error.contains(&format!("{least:.3} is left")) && error.contains("`groups.minimum`"), "{error}");
}

#[test]
fn nothing_to_cut_says_why() {
    let parts = preset("mlp", &[4]);
    assert_eq!(
        refusal(&parts, "groups = {exclude = ['fc1'], minimum = 64}"),
        "nothing can be pruned: `fc1`: excluded by `fc1`; `fc2`: no smaller size is allowed; `fc3`: its \
         channels are the output `logits`"
    );
    let plain = parts_of(network(serde_json::json!({"inputs": [{"name": "input", "shape": [10]}],
        "layers": [{"type": "relu"}]})));
    assert_eq!(refusal(&plain, ""), "nothing can be pruned: it has no convolution and no dense layer");
}

#[test]
fn weights_that_are_no_floats_or_no_numbers() {
    let mut parts = preset("mlp", &[4]);
    parts.weights.insert("fc1.bias".to_owned(), Tensor::from_f32(vec![64], vec![f32::NAN; 64]).unwrap());
    assert_eq!(refusal(&parts, ""), "tensor `fc1.bias` holds a number that is not finite at index 0");
    let mut parts = preset("mlp", &[4]);
    let method = CalibrationMethod::MinMax;
    let calibration =
        Calibration { method, percentile: None, samples: 1, split: "train".to_owned(), seed: 1 };
    let layers = vec!["fc1".to_owned()];
    parts.quantization = Some(Quantization { layers, activations: BTreeMap::new(), calibration });
    assert!(refusal(&parts, "").starts_with("the model is quantized already"));
    parts.quantization = None;
    parts.weights.remove("fc2.weight");
    let error = prune(&parts, &digits().0, &config(""), &mut |_| ()).unwrap_err();
    let PruneError::Remove(source) = error else { panic!("{error}") };
    assert_eq!(source.to_string(), "`fc2.weight` is missing; it must be FP32 [64, 64]");
}

#[test]
fn samples_that_are_not_there() {
    let parts = for_digits(Network::new(network::preset("mlp", &[1, 8, 8], 10).unwrap()).unwrap());
    let mut data = digits().0.clone();
    data.splits.train.clear();
    data.splits.validation.clear();
    let refusal = |text: &str| prune(&parts, &data, &config(text), &mut |_| ()).unwrap_err().to_string();
    let needs = "the training split has no samples, and pruning needs some to";
    assert_eq!(refusal("criterion = 'taylor'"), format!("{needs} take gradients of"));
    assert_eq!(refusal("sensitivity.curves = true"), format!("{needs} draw sensitivity curves from"));
    // Norms and counts need none.
    assert!(prune(&parts, &data, &config(""), &mut |_| ()).is_ok());
    // Without a validation split the curves come from the training split.
    data.splits.train = digits().0.splits.train.clone();
    let config = config("[samples]\nsensitivity = 20\n[sensitivity]\ncurves = true\nlevels = [0.5]");
    let found = prune(&parts, &data, &config, &mut |_| ()).unwrap();
    assert_eq!(found.sensitivity[0].part, "train");
}
