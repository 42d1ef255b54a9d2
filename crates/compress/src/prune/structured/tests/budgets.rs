//! Budgets hold, and no more is cut than they ask for.

use network::PRESETS;

use super::*;
use crate::prune::structured::allocate::sizes;

/// Presets with the inputs that they are made for.
fn shapes(name: &str) -> &'static [usize] {
    match name {
        "lenet-300-100" | "lenet5" => &[1, 28, 28],
        "digits-cnn" => &[1, 8, 8],
        "mlp" => &[30],
        _ => &[3, 32, 32],
    }
}

/// Checks that a budget of multiply–accumulates holds as tightly as the sizes allow, and that what is left runs.
fn check(name: &str, parts: &Parts, config: &StructuredConfig) -> Pruned {
    let found = pruned(parts, config);
    let limit = config.budget.share;
    let share = found.after.macs as f64 / found.before.macs as f64;
    assert!(share <= limit && (share - found.share).abs() < 1e-12, "{name}: {share}");
    assert_eq!((found.before.macs, found.after.macs), (parts.network.macs(), found.parts.network.macs()));
    let groups = groups_of(parts);
    let kept: BTreeMap<String, usize> = found
        .groups
        .iter()
        .map(|change| (change.name.clone(), change.after / groups.get(&change.name).unwrap().width))
        .collect();
    for (group, change) in groups.groups.iter().zip(&found.groups) {
        let allowed = sizes(group.channels, group.width, change.before, &config.groups);
        let now = kept[&group.name];
        let at = allowed.iter().position(|&size| size == now);
        assert!(at.is_some(), "{name}: {now} of {} is no size of `{}`", group.channels, group.name);
        // One size more anywhere would be too much, unless all shall be alike.
        if config.allocation == Allocation::Global
            && let Some(&larger) = at.unwrap().checked_sub(1).and_then(|at| allowed.get(at))
        {
            let mut more = kept.clone();
            more.insert(group.name.clone(), larger);
            let share = share_of_macs(&parts.network, &more);
            assert!(share > limit, "{name}: `{}` could have {larger}, {share}", group.name);
        }
    }
    assert!(answers(&found.parts, 2).iter().all(|value| value.is_finite()), "{name}");
    found
}

#[test]
fn every_preset_at_half_of_its_macs_compiles_and_predicts() {
    let config = config("");
    for name in PRESETS {
        let parts = preset(name, shapes(name));
        let found = check(name, &parts, &config);
        let share = |after: u64, before: u64| 100.0 * after as f64 / before as f64;
        println!(
            "{name}: {} -> {} MACs ({:.1} %), parameters {:.1} %, bytes {:.1} %: {:?}",
            found.before.macs,
            found.after.macs,
            share(found.after.macs, found.before.macs),
            share(found.after.parameters, found.before.parameters),
            share(found.after.bytes, found.before.bytes),
            left(&found)
        );
        // The lowest budgets leave something that runs, too.
        let least = super::config("[groups]\nmultiple = 1\nminimum = 1\nkeep = 0.0\n[budget]\nshare = 0.05");
        check(name, &parts, &least);
    }
}

#[test]
fn the_same_share_of_every_group_or_of_all_together() {
    let parts = preset("vgg-small", &[3, 16, 16]);
    let fine = "[groups]\nmultiple = 1\nminimum = 1";
    let uniform = check("uniform", &parts, &config(&format!("allocation = 'uniform'\n{fine}")));
    let share = |change: &GroupChange| change.after as f64 / change.before as f64;
    let shares: Vec<f64> = uniform.groups.iter().map(share).collect();
    let least = shares.iter().copied().fold(f64::INFINITY, f64::min);
    let most = shares.iter().copied().fold(0.0, f64::max);
    assert!(most - least < 0.035 && least > 0.6 && most < 0.8, "{shares:?}");
    // Doubled weights are not more important: what is compared is relative. But spread out ones are.
    let mut parts = parts;
    for (key, values) in [("conv3.weight", 2.0), ("norm3.gamma", 2.0)] {
        let (shape, _) = parts.weights[key].clone().into_parts();
        let doubled = parts.weights[key].as_f32().unwrap().iter().map(|value| value * values).collect();
        parts.weights.insert(key.to_owned(), Tensor::from_f32(shape, doubled).unwrap());
    }
    let global = config(fine);
    let found = check("global", &parts, &global);
    let same = pruned(&preset("vgg-small", &[3, 16, 16]), &global);
    assert_eq!(left(&found), left(&same));
}

#[test]
fn parameters_and_bytes_are_counted_on_what_is_left() {
    let parts = preset("lenet5", &[1, 28, 28]);
    for (metric, count) in [
        ("parameters", (|costs: &Costs| costs.parameters) as fn(&Costs) -> u64),
        ("bytes", |costs: &Costs| costs.bytes),
    ] {
        let found = pruned(&parts, &config(&format!("[budget]\nmetric = '{metric}'\nshare = 0.25")));
        let share = count(&found.after) as f64 / count(&found.before) as f64;
        assert!(share <= 0.25 && share > 0.2 && (share - found.share).abs() < 1e-12, "{metric}: {share}");
    }
    let bytes = record::encode(&parts.weights).unwrap().len() as u64;
    assert_eq!(Costs::of(&parts.network).unwrap().bytes, bytes);
}

#[test]
fn latency_is_measured_until_the_budget_holds() {
    let parts = preset("lenet-300-100", &[1, 28, 28]);
    // Whatever else the machine does, half of the time is not met by chance.
    let config = config("[budget]\nmetric = 'latency'\nshare = 0.5\nbatch = 4");
    let mut measured = Vec::new();
    let found = prune(&parts, &digits().0, &config, &mut |stage| {
        if let Stage::Measured { share } = stage {
            measured.push(share);
        }
    });
    let found = found.unwrap();
    assert!(found.share <= 0.5 && measured.contains(&found.share), "{} of {measured:?}", found.share);
    assert!(found.after.macs < found.before.macs);
}

#[test]
fn several_steps_come_to_the_same_budget() {
    let parts = preset("digits-cnn", &[1, 8, 8]);
    let config = config("steps = 3\n[groups]\nmultiple = 4\nminimum = 4");
    let mut shares = Vec::new();
    let found = prune(&parts, &digits().0, &config, &mut |stage| {
        if let Stage::Chosen { step, steps, share } = stage {
            shares.push((step, steps, share));
        }
    })
    .unwrap();
    assert_eq!(shares.len(), 3);
    for (step, steps, share) in shares {
        assert!(steps == 3 && share <= config.share_after(step), "step {step}: {share}");
    }
    assert_eq!(found.before, Costs::of(&parts.network).unwrap());
    assert_eq!(found.after, Costs::of(&found.parts.network).unwrap());
    assert!(found.share <= 0.5 && found.share > 0.4);
    for group in &found.groups {
        assert_eq!(group.after, filters(&found.parts.network, &group.name));
        assert_eq!(group.before, filters(&parts.network, &group.name));
    }
    // One by one, as a caller does who trains between, it is the same.
    let baseline = Baseline::of(&parts, &config).unwrap();
    let mut now = parts;
    for step in 1..=3 {
        now = prune_step(&now, &digits().0, &config, &baseline, step, &mut |_| ()).unwrap().parts;
    }
    assert_eq!((now.network, now.weights), (found.parts.network, found.parts.weights));
    // A budget that holds already asks for nothing.
    let parts = preset("digits-cnn", &[1, 8, 8]);
    let small = pruned(&parts, &config).parts;
    let again = prune_step(&small, &digits().0, &config, &baseline, 3, &mut |_| ()).unwrap();
    assert_eq!((again.parts.network, again.parts.weights), (small.network, small.weights));
}

#[test]
fn grouped_convolutions_lose_whole_groups() {
    let network = network(serde_json::json!({
        "inputs": [{"name": "input", "shape": [3, 8, 8]}],
        "layers": [
            {"type": "conv2d", "name": "a", "channels": 32, "kernel": 3, "padding": 1},
            {"type": "batch_norm"},
            {"type": "conv2d", "name": "g", "channels": 32, "kernel": 3, "padding": 1, "groups": 8},
            {"type": "relu"},
            {"type": "conv2d", "name": "w", "channels": 32, "kernel": 3, "padding": 1, "groups": 32},
            {"type": "conv2d", "name": "b", "channels": 24, "kernel": 1},
            {"type": "relu"},
            {"type": "global_avg_pool"},
            {"type": "dense", "name": "c", "units": 10}
        ]
    }));
    let parts = parts_of(network);
    let found = check("grouped", &parts, &config("[groups]\nmultiple = 4\nminimum = 4"));
    let a = left(&found)["a"];
    assert!(a < 32 && a.is_multiple_of(4), "{a}");
    assert_eq!(filters(&found.parts.network, "w"), a);
}
