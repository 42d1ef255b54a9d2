//! What differs between two packages.

use std::collections::{BTreeMap, BTreeSet};

use network::{Elements, Tensor, Weights};
use serde::Serialize;

use crate::package::{Package, PackageError};

/// The differences between two packages, from the first to the second. What is equal is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Diff {
    /// Fields of network, preprocessing, postprocessing and quantization, and the precision of layers that both
    /// have: the path and both values as JSON.
    pub fields: Vec<FieldChange>,
    /// Scores of either.
    pub metrics: Vec<MetricChange>,
    /// Sizes of the files of either.
    pub files: Vec<FileChange>,
    /// Tensors that are in one only, of another shape, or of other values; int8 layers as the 32-bit floats that
    /// their integers stand for.
    pub tensors: Vec<TensorChange>,
    /// How many tensors are equal bit by bit.
    pub equal_tensors: usize,
}

/// One field that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FieldChange {
    /// Where: `network.layers.conv1.channels`.
    pub path: String,
    /// In the first; null where it is not there.
    pub before: serde_json::Value,
    /// In the second; null where it is not there.
    pub after: serde_json::Value,
}

/// One score.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricChange {
    /// Its name.
    pub name: String,
    /// In the first.
    pub before: Option<f64>,
    /// In the second.
    pub after: Option<f64>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// Its name.
    pub path: String,
    /// Bytes in the first.
    pub before: Option<u64>,
    /// Bytes in the second.
    pub after: Option<u64>,
}

/// One tensor that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TensorChange {
    /// `<layer>.<parameter>`.
    pub name: String,
    /// The shape in the first.
    pub before: Option<Vec<usize>>,
    /// The shape in the second.
    pub after: Option<Vec<usize>>,
    /// The largest absolute difference, where both have the same shape and type.
    pub max_abs_difference: Option<f64>,
}

impl Diff {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.metrics.is_empty() && self.files.is_empty() && self.tensors.is_empty()
    }
}

/// Compares two packages: network, preprocessing, postprocessing, precision, scores, files and tensors.
///
/// # Errors
/// When a record cannot be read.
pub fn diff(before: &Package, after: &Package) -> Result<Diff, PackageError> {
    let mut diff = Diff::default();
    let (a, b) = (before.manifest(), after.manifest());
    compare(&mut diff.fields, "network", &json(&a.network), &json(&b.network));
    compare(&mut diff.fields, "preprocess", &json(&a.preprocess), &json(&b.preprocess));
    compare(&mut diff.fields, "postprocess", &json(&a.postprocess), &json(&b.postprocess));
    let (precision_a, precision_b) = (precision(before), precision(after));
    for (layer, a) in &precision_a {
        if let Some(b) = precision_b.get(layer).filter(|b| *b != a) {
            let (before, after) = ((*a).into(), (*b).into());
            diff.fields.push(FieldChange { path: format!("precision.{layer}"), before, after });
        }
    }
    compare(&mut diff.fields, "quantization", &ranges(before), &ranges(after));
    for name in keys(&a.metrics, &b.metrics) {
        let (before, after) = (a.metrics.get(name).copied(), b.metrics.get(name).copied());
        if before != after {
            diff.metrics.push(MetricChange { name: name.clone(), before, after });
        }
    }
    let sizes = |package: &Package| -> BTreeMap<String, u64> {
        package.manifest().files.iter().map(|entry| (entry.path.clone(), entry.size_bytes)).collect()
    };
    let (a, b) = (sizes(before), sizes(after));
    for path in keys(&a, &b) {
        let (before, after) = (a.get(path).copied(), b.get(path).copied());
        if before != after {
            diff.files.push(FileChange { path: path.clone(), before, after });
        }
    }
    (diff.tensors, diff.equal_tensors) = tensors(&before.f32_weights()?, &after.f32_weights()?);
    Ok(diff)
}

/// In which precision each layer with weights computes.
fn precision(package: &Package) -> BTreeMap<&str, &'static str> {
    let precision = |layer: &str| package.quantization().map_or("f32", |plan| plan.precision(layer));
    let layers = package.network().layers().iter().filter(|layer| layer.macs > 0);
    layers.map(|layer| (layer.name.as_str(), precision(&layer.name))).collect()
}

/// The quantization but its lists of layers, which [`precision`] tells.
fn ranges(package: &Package) -> serde_json::Value {
    let mut ranges = json(&package.quantization());
    if let Some(plan) = ranges.as_object_mut() {
        plan.remove("layers");
        plan.remove("dynamic");
    }
    ranges
}

/// The tensors that differ, and how many do not.
#[must_use]
pub fn tensors(before: &Weights, after: &Weights) -> (Vec<TensorChange>, usize) {
    let mut changes = Vec::new();
    let mut equal = 0;
    for name in keys(before, after) {
        let (a, b) = (before.get(name), after.get(name));
        let difference = a.zip(b).and_then(|(a, b)| max_abs_difference(a, b));
        if difference == Some(0.0) {
            equal += 1;
            continue;
        }
        let shape = |tensor: Option<&Tensor>| tensor.map(|tensor| tensor.shape().to_vec());
        let (before, after) = (shape(a), shape(b));
        changes.push(TensorChange { name: name.clone(), before, after, max_abs_difference: difference });
    }
    (changes, equal)
}

/// The largest absolute difference of two tensors of one shape and type. Two that are no numbers at the same
/// place are equal; one against a number is infinitely far.
fn max_abs_difference(a: &Tensor, b: &Tensor) -> Option<f64> {
    if a.shape() != b.shape() || a.dtype() != b.dtype() {
        return None;
    }
    macro_rules! largest {
        ($a:expr, $b:expr) => {
            $a.iter().zip($b).map(|(&a, &b)| distance(a as f64, b as f64)).fold(0.0, f64::max)
        };
    }
    Some(match (a.elements(), b.elements()) {
        (Elements::F32(a), Elements::F32(b)) => largest!(a, b),
        (Elements::F64(a), Elements::F64(b)) => largest!(a, b),
        (Elements::I8(a), Elements::I8(b)) => largest!(a, b),
        (Elements::I16(a), Elements::I16(b)) => largest!(a, b),
        (Elements::I32(a), Elements::I32(b)) => largest!(a, b),
        (Elements::I64(a), Elements::I64(b)) => largest!(a, b),
        (Elements::U8(a), Elements::U8(b)) => largest!(a, b),
        (Elements::U16(a), Elements::U16(b)) => largest!(a, b),
        (Elements::U32(a), Elements::U32(b)) => largest!(a, b),
        (Elements::U64(a), Elements::U64(b)) => largest!(a, b),
        _ => return None,
    })
}

fn distance(a: f64, b: f64) -> f64 {
    if a == b || (a.is_nan() && b.is_nan()) {
        return 0.0;
    }
    let distance = (a - b).abs();
    if distance.is_nan() { f64::INFINITY } else { distance }
}

fn keys<'a, V>(a: &'a BTreeMap<String, V>, b: &'a BTreeMap<String, V>) -> BTreeSet<&'a String> {
    a.keys().chain(b.keys()).collect()
}

fn json(value: &impl Serialize) -> serde_json::Value {
    // These types have string keys only and finite numbers, so they are always JSON.
    serde_json::to_value(value).unwrap_or_default()
}

/// Walks two JSON values in step. Lists of named things (layers, inputs) are matched by name, so that one
/// layer more is one difference and not one for each layer after it.
fn compare(changes: &mut Vec<FieldChange>, path: &str, a: &serde_json::Value, b: &serde_json::Value) {
    use serde_json::Value;
    if a == b {
        return;
    }
    let children = match (a, b) {
        (Value::Object(a), Value::Object(b)) => Some((a.clone(), b.clone())),
        (Value::Array(a), Value::Array(b)) => by_name(a).zip(by_name(b)),
        _ => None,
    };
    let Some((a_children, b_children)) = children else {
        changes.push(FieldChange { path: path.to_owned(), before: a.clone(), after: b.clone() });
        return;
    };
    let names: BTreeSet<&String> = a_children.keys().chain(b_children.keys()).collect();
    let earlier = changes.len();
    for name in names {
        let child =
            |children: &serde_json::Map<String, Value>| children.get(name).cloned().unwrap_or_default();
        compare(changes, &format!("{path}.{name}"), &child(&a_children), &child(&b_children));
    }
    // The same things in another order.
    if changes.len() == earlier {
        changes.push(FieldChange { path: path.to_owned(), before: a.clone(), after: b.clone() });
    }
}

fn by_name(items: &[serde_json::Value]) -> Option<serde_json::Map<String, serde_json::Value>> {
    let named = |item: &serde_json::Value| Some((item.get("name")?.as_str()?.to_owned(), item.clone()));
    let map: serde_json::Map<_, _> = items.iter().map(named).collect::<Option<_>>()?;
    (map.len() == items.len()).then_some(map)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_compared_by_name() {
        let mut changes = Vec::new();
        let a = json!({"layers": [{"name": "a", "units": 1}, {"name": "b", "units": 2}], "mean": [1, 2]});
        let b = json!({"layers": [{"name": "new"}, {"name": "a", "units": 1}, {"name": "b", "units": 3}], "mean": [1, 3]});
        compare(&mut changes, "network", &a, &b);
        let paths: Vec<&str> = changes.iter().map(|change| change.path.as_str()).collect();
        assert_eq!(paths, ["network.layers.b.units", "network.layers.new", "network.mean"]);
        let mut changes = Vec::new();
        compare(
            &mut changes,
            "x",
            &json!([{"name": "a"}, {"name": "b"}]),
            &json!([{"name": "b"}, {"name": "a"}]),
        );
        assert_eq!(changes.len(), 1);
    }

    #[test]
    fn tensors_are_compared_by_value() {
        let tensor = |values: &[f32]| Tensor::from_f32(vec![values.len()], values.to_vec()).unwrap();
        let weights = |tensors: &[(&str, &[f32])]| -> Weights {
            tensors.iter().map(|(name, values)| ((*name).to_owned(), tensor(values))).collect()
        };
        let a = weights(&[
            ("same", &[1.0]),
            ("moved", &[1.0, 2.0]),
            ("shape", &[1.0]),
            ("old", &[0.0]),
            ("nan", &[f32::NAN]),
        ]);
        let b = weights(&[
            ("same", &[1.0]),
            ("moved", &[1.5, 1.0]),
            ("shape", &[1.0, 2.0]),
            ("new", &[0.0]),
            ("nan", &[f32::NAN]),
        ]);
        let (changes, equal) = tensors(&a, &b);
        assert_eq!(equal, 2);
        let found: Vec<(&str, Option<f64>)> =
            changes.iter().map(|change| (change.name.as_str(), change.max_abs_difference)).collect();
        assert_eq!(found, [("moved", Some(1.0)), ("new", None), ("old", None), ("shape", None)]);
    }
}
