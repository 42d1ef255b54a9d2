//! The method `auto`: for each value the rule that costs the network's outputs least.
//!
//! A range that is good for a value by itself need not be good for the network: what a rule loses may be what the
//! next layer does not look at. So one value at a time is rounded as each rule would, while all the others stay
//! floats, and the rule with the least squared error of the first output is taken.

use std::collections::{BTreeMap, BTreeSet};

use engine::Program;
use network::Affine;
use network::quantization::CalibrationMethod;

use super::{Histogram, Rule, alter, noise, round};
use crate::quantize::QuantizeError;

/// The most rows that decide: what is compared are ranges of the same value on the same rows, so that few suffice.
const ROWS: usize = 128;

/// Ranges for the values that are `needed`, with the method of each; `say` is told each name.
pub(crate) fn choose(
    floats: &Program,
    rows: &[f32],
    seen: &BTreeMap<String, Histogram>,
    needed: &BTreeSet<String>,
    rules: &[Rule],
    say: &mut dyn FnMut(&str),
) -> Result<BTreeMap<String, (Affine, CalibrationMethod)>, QuantizeError> {
    let per_row = floats.inputs().first().map_or(1, |input| input.values);
    let rows = &rows[..rows.len().min(ROWS * per_row)];
    let exact = alter(floats, rows, &mut |_, _| ())?;
    let mut chosen = BTreeMap::new();
    for (name, seen) in seen.iter().filter(|(name, _)| needed.contains(*name)) {
        say(name);
        let mut tried: Vec<(Affine, CalibrationMethod, f64)> = Vec::with_capacity(rules.len());
        for &rule in rules {
            let affine = seen.affine(rule);
            if tried.iter().any(|(known, _, _)| *known == affine) {
                continue;
            }
            let found = alter(floats, rows, &mut |shown, values| {
                if shown == name {
                    round(values, affine);
                }
            })?;
            tried.push((affine, rule.method(), noise(&exact, &found)));
        }
        let best = tried.into_iter().min_by(|a, b| a.2.total_cmp(&b.2));
        chosen.extend(best.map(|(affine, method, _)| (name.clone(), (affine, method))));
    }
    Ok(chosen)
}
