//! Which channels go.

use network::channels::{Part, remove};

use super::*;
use crate::prune::structured::importance::importance;

/// Multiplies what belongs to some channels of a group in the tensors that `of` picks.
fn scale(
    parts: &mut Parts,
    group: &str,
    channels: &[usize],
    factor: f32,
    of: impl Fn(&network::channels::Slice) -> bool,
) {
    let groups = groups_of(parts);
    for slice in groups.get(group).unwrap().slices.iter().filter(|slice| of(slice)) {
        let (shape, _) = parts.weights[&slice.key].clone().into_parts();
        let mut values = parts.weights[&slice.key].as_f32().unwrap().to_vec();
        slice.for_each(|channel, at| {
            if channels.contains(&channel) {
                values[at] *= factor;
            }
        });
        parts.weights.insert(slice.key.clone(), Tensor::from_f32(shape, values).unwrap());
    }
}

/// The digits' network, in which every third channel of `conv2` does nothing: small filters, no factor, and nobody
/// reads them.
fn with_dead_channels() -> (Parts, Vec<usize>) {
    let mut parts = for_digits(Network::new(network::preset("digits-cnn", &[1, 8, 8], 10).unwrap()).unwrap());
    let dead: Vec<usize> = (0..64).filter(|channel| channel % 3 == 1).collect();
    scale(&mut parts, "conv2", &dead, 0.01, |slice| slice.part == Part::Producer);
    scale(&mut parts, "conv2", &dead, 0.0, |slice| slice.role == network::Role::Gamma);
    scale(&mut parts, "conv2", &dead, 0.0, |slice| slice.part == Part::Consumer);
    (parts, dead)
}

#[test]
fn every_criterion_finds_the_channels_that_do_nothing() {
    let (parts, dead) = with_dead_channels();
    let alive = 64 - dead.len();
    let limit = share_of_macs(&parts.network, &[("conv2".to_owned(), alive)].into()) + 1e-9;
    let removal = [("conv2".to_owned(), dead)].into();
    let (network, weights) = remove(&parts.network, &parts.weights, &removal).unwrap();
    for criterion in ["l1", "l2", "batch-norm", "taylor"] {
        let config = config(&format!(
            "criterion = '{criterion}'\nbudget.share = {limit}\n[groups]\nmultiple = 1\n\
             exclude = ['conv1', 'conv3', 'fc*']\n[samples]\ngradients = 48"
        ));
        let found = pruned(&parts, &config);
        assert_eq!(left(&found)["conv2"], alive, "{criterion}");
        assert_eq!((&found.parts.network, &found.parts.weights), (&network, &weights), "{criterion}");
        let same = answers(&parts, 4);
        for (a, b) in answers(&found.parts, 4).iter().zip(same) {
            assert!((a - b).abs() < 1e-4, "{criterion}: {a} and {b}");
        }
        let reasons: Vec<_> = found.groups.iter().filter_map(|group| group.reason.as_deref()).collect();
        assert_eq!(reasons, ["excluded by `conv1`", "excluded by `conv3`", "excluded by `fc*`"]);
        assert_eq!(found.fixed.len(), 1);
    }
}

#[test]
fn all_groups_together_lose_what_does_nothing_first() {
    let (parts, dead) = with_dead_channels();
    let limit = share_of_macs(&parts.network, &[("conv2".to_owned(), 64 - dead.len())].into()) + 1e-9;
    for criterion in ["l2", "taylor"] {
        let config = config(&format!(
            "criterion = '{criterion}'\nbudget.share = {limit}\n[groups]\nmultiple = 1\n[samples]\n\
             gradients = 48"
        ));
        let found = pruned(&parts, &config);
        assert_eq!(left(&found)["conv2"], 64 - dead.len(), "{criterion}: {:?}", left(&found));
    }
}

/// The importance of each group's channels.
fn values(parts: &Parts, text: &str) -> Vec<Option<Vec<f64>>> {
    let groups = groups_of(parts);
    let all: Vec<&Group> = groups.groups.iter().collect();
    importance(&all, parts, &digits().0, &config(text), &mut |_| ()).unwrap()
}

#[test]
fn norms_are_relative_to_the_mean_of_their_tensor() {
    let mut parts = parts_of(network(serde_json::json!({
        "inputs": [{"name": "input", "shape": [2]}],
        "layers": [{"type": "dense", "name": "a", "units": 2}, {"type": "dense", "name": "b", "units": 1}]
    })));
    let tensor = |shape: &[usize], values: &[f32]| Tensor::from_f32(shape.to_vec(), values.to_vec()).unwrap();
    parts.weights.insert("a.weight".to_owned(), tensor(&[2, 2], &[3.0, -1.0, -4.0, 0.0]));
    parts.weights.insert("b.weight".to_owned(), tensor(&[2, 1], &[-20.0, 60.0]));
    // Units have (7, 1) of 4 and (20, 60) of 40.
    let close = |text: &str, expected: [f64; 2]| {
        let found = values(&parts, text)[0].clone().unwrap();
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{text}: {found:?}");
    };
    close("criterion = 'l1'", [(7.0 / 4.0 + 0.5) / 2.0, (0.25 + 1.5) / 2.0]);
    close("criterion = 'l2'", [(5.0 / 3.0 + 0.5) / 2.0, (1.0 / 3.0 + 1.5) / 2.0]);
}

#[test]
fn factors_of_normalisation_speak_only_where_there_is_one() {
    let mut parts = preset("digits-cnn", &[1, 8, 8]);
    scale(&mut parts, "conv1", &[3], -2.5, |slice| slice.role == network::Role::Gamma);
    let found = values(&parts, "criterion = 'batch-norm'");
    assert_eq!(found[0].as_ref().unwrap()[2..5], [1.0, 2.5, 1.0]);
    assert!(found[1].is_some() && found[3].is_none(), "fc1 has none");
    let pruned = pruned(&parts, &config("criterion = 'batch-norm'"));
    assert_eq!(left(&pruned)["fc1"], 128);
    let reason = pruned.groups[3].reason.as_deref();
    assert_eq!(reason, Some("the criterion `batch-norm` needs a batch normalisation"));
    // Layer normalisation has factors of the same name.
    let parts = parts_of(network(serde_json::json!({
        "inputs": [{"name": "input", "shape": [4]}],
        "layers": [{"type": "dense", "name": "a", "units": 40}, {"type": "layer_norm"},
            {"type": "dense", "name": "b", "units": 10}]
    })));
    assert_eq!(values(&parts, "criterion = 'batch-norm'"), [None]);
}

#[test]
fn taylor_is_the_change_of_the_loss_to_first_order() {
    let mut parts = for_digits(network(serde_json::json!({
        "inputs": [{"name": "input", "shape": [1, 8, 8]}],
        "layers": [{"type": "flatten"}, {"type": "dense", "name": "a", "units": 6}, {"type": "tanh"},
            {"type": "dense", "name": "b", "units": 10}]
    })));
    // Small steps, for which the first order is all there is.
    scale(&mut parts, "a", &[0, 1, 2, 3, 4, 5], 0.01, |slice| slice.part == Part::Consumer);
    let text = "criterion = 'taylor'\nsamples.gradients = 32";
    let found = values(&parts, text)[0].clone().unwrap();
    let data = &digits().0;
    let samples = train::data::draw(&data.splits.train, 32, config(text).seed);
    let loss = |parts: &Parts| {
        let mut found = f64::NAN;
        let device = DeviceSpec::Flex.open().unwrap();
        train::fit::gradients_of(parts, data, &samples, 32, &device, &mut |loss, _| found = loss).unwrap();
        found
    };
    let whole = loss(&parts);
    for (channel, importance) in found.iter().enumerate() {
        let removal = [("a".to_owned(), vec![channel])].into();
        let (network, weights) = remove(&parts.network, &parts.weights, &removal).unwrap();
        let change = (loss(&Parts { network, weights, ..parts.clone() }) - whole).abs();
        let estimate = importance.sqrt();
        assert!((estimate - change).abs() < 0.05 * change + 2e-6, "{channel}: {estimate}, {change}");
    }
}

#[test]
fn a_draw_depends_on_the_seed_alone() {
    let parts = preset("digits-cnn", &[1, 8, 8]);
    let draw = |seed: u64| values(&parts, &format!("criterion = 'random'\nseed = {seed}"));
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    let mut first = draw(1)[0].clone().unwrap();
    first.sort_by(f64::total_cmp);
    assert!(first.iter().enumerate().all(|(rank, value)| *value == rank as f64 / 32.0), "{first:?}");
}

#[test]
fn curves_show_what_each_group_bears_and_share_out_the_cuts() {
    let (parts, dead) = with_dead_channels();
    let config = config(
        "allocation = 'sensitivity'\n[samples]\nsensitivity = 60\n[groups]\nmultiple = 1\n[sensitivity]\n\
         curves = true\nlevels = [0.7, 0.3, 0.02]",
    );
    let mut told = Vec::new();
    let found = prune(&parts, &digits().0, &config, &mut |stage| {
        if let Stage::Sensitivity { group, kept, channels, .. } = stage {
            told.push((group.to_owned(), kept, channels));
        }
    })
    .unwrap();
    assert_eq!(told.len(), 4 * 3);
    assert_eq!(told[3], ("conv2".to_owned(), 45, 64));
    assert_eq!(found.sensitivity.len(), 4);
    let curve = &found.sensitivity[1];
    assert_eq!((curve.group.as_str(), curve.channels), ("conv2", 64));
    assert_eq!((curve.metric.as_str(), curve.part.as_str()), ("accuracy", "validation"));
    let kept: Vec<usize> = curve.points.iter().map(|point| point.kept).collect();
    assert_eq!(kept, [64, 45, 19, 1]);
    // Without those that do nothing nothing is lost.
    assert!(dead.len() >= 64 - 45);
    assert_eq!((curve.points[1].drop, curve.points[1].score), (0.0, curve.points[0].score));
    assert!(found.share <= 0.5);
    // They are drawn for the report where nothing needs them, and not in later steps.
    let plain =
        super::config("steps = 2\n[samples]\nsensitivity = 20\n[sensitivity]\ncurves = true\nlevels = [0.5]");
    let baseline = Baseline::of(&parts, &plain).unwrap();
    let step = |step: usize| {
        prune_step(&parts, &digits().0, &plain, &baseline, step, &mut |_| ()).unwrap().sensitivity.len()
    };
    assert_eq!((step(1), step(2)), (4, 0));
}
