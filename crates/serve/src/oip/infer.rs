//! Fits requests to a model and its answers to what was asked for. Knows no transport, and computes nothing.

use network::{Elements, NamedTensor, Signature, Tensor};

use super::types::{InferRequest, InferResponse, Output, RequestedOutput};
use crate::error::{Kind, Result, ServeError, shown, suggestion};

/// A number takes some ten characters.
pub const NUMBER: usize = 10;

/// What of a checked request is needed once the model has answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    id: Option<String>,
    outputs: Vec<RequestedOutput>,
}

/// Checks what a request asks for against the model that it is for, and returns its inputs, which are not checked yet,
/// with what the answer will need.
///
/// # Errors
/// 400 when the body names another model, or an output that the model does not give.
pub fn check(name: &str, signature: &Signature, request: InferRequest) -> Result<(Vec<NamedTensor>, Plan)> {
    if let Some(other) = request.model_name.as_deref().filter(|other| *other != name) {
        return Err(ServeError::invalid(format_args!(
            "`model_name` is {}, but the route names {}",
            shown(other),
            shown(name)
        )));
    }
    let outputs = select(signature, request.outputs, request.binary_output)?;
    Ok((request.inputs, Plan { id: request.id, outputs }))
}

/// The outputs to return, in order.
fn select(
    signature: &Signature,
    requested: Option<Vec<RequestedOutput>>,
    binary: bool,
) -> Result<Vec<RequestedOutput>> {
    let known = || signature.outputs.iter().map(|spec| spec.name.as_str());
    let Some(requested) = requested else {
        let all = known().map(|name| RequestedOutput { name: name.to_owned(), binary, ..Default::default() });
        return Ok(all.collect());
    };
    for (index, RequestedOutput { name, .. }) in requested.iter().enumerate() {
        if !known().any(|output| output == name) {
            let list = known().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let hint = suggestion(name, known());
            return Err(ServeError::invalid(format_args!(
                "there is no output {}{}; the model gives {list}",
                shown(name),
                hint.trim_end_matches('?')
            )));
        }
        if requested.iter().take(index).any(|earlier| earlier.name == *name) {
            return Err(ServeError::invalid(format_args!("output {} is asked for twice", shown(name))));
        }
    }
    Ok(requested)
}

impl Plan {
    /// The request's id.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// How many bytes of text the classes of these outputs are chosen from; 0 where none are asked for.
    #[must_use]
    pub fn text(&self, given: &[NamedTensor]) -> usize {
        let classified = |output: &&NamedTensor| {
            self.outputs.iter().any(|asked| asked.classes > 0 && asked.name == output.name)
        };
        given
            .iter()
            .filter(classified)
            .map(|output| output.tensor.elements().len().saturating_mul(NUMBER))
            .sum()
    }

    /// Makes the response of what the model gave; `labels` are the names of the classes, where it has some.
    ///
    /// # Errors
    /// 500 when the model gave not what its signature says, 400 for the classes of an output that has no numbers.
    pub fn respond(
        self,
        model: &str,
        version: u64,
        mut given: Vec<NamedTensor>,
        labels: &[String],
    ) -> Result<InferResponse> {
        let outputs =
            self.outputs
                .into_iter()
                .map(|RequestedOutput { name, binary, classes }| {
                    let index = given.iter().position(|output| output.name == name).ok_or_else(|| {
                        ServeError::internal(format_args!("the model gave no output `{name}`"))
                    })?;
                    let tensor = given.swap_remove(index);
                    let tensor = if classes == 0 { tensor } else { classify(&tensor, classes, labels)? };
                    Ok(Output { tensor, binary })
                })
                .collect::<Result<Vec<_>>>()?;
        Ok(InferResponse {
            model_name: model.to_owned(),
            model_version: version.to_string(),
            id: self.id,
            outputs,
        })
    }
}

/// The classification extension: of every row the `count` largest values as `value:index` or `value:index:label`,
/// the largest first; of equal ones the first.
fn classify(output: &NamedTensor, count: usize, labels: &[String]) -> Result<NamedTensor> {
    let shape = output.tensor.shape();
    let (Some(values), [rows, rest @ ..]) = (output.tensor.as_f32(), shape) else {
        let message =
            format!("output {} has no FP32 numbers in rows to choose classes from", shown(&output.name));
        return Err(ServeError::new(Kind::Invalid, message));
    };
    let width = rest.iter().product::<usize>().max(1);
    let count = count.min(width);
    let mut texts = Vec::with_capacity(rows.saturating_mul(count));
    for row in values.chunks(width) {
        let mut order: Vec<usize> = (0..row.len()).collect();
        let value = |index: &usize| row.get(*index).copied().unwrap_or(f32::NEG_INFINITY);
        let larger = |a: &usize, b: &usize| value(b).total_cmp(&value(a)).then(a.cmp(b));
        if count < order.len() {
            order.select_nth_unstable_by(count, larger);
            order.truncate(count);
        }
        order.sort_unstable_by(larger);
        texts.extend(order.iter().map(|index| {
            let label = labels.get(*index).map(|label| format!(":{label}")).unwrap_or_default();
            format!("{:.6}:{index}{label}", value(index)).into_bytes()
        }));
    }
    let tensor = Tensor::new(vec![*rows, count], Elements::Bytes(texts)).map_err(ServeError::internal)?;
    Ok(NamedTensor { name: output.name.clone(), tensor })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_the_largest_values_with_their_labels() {
        let rows = Tensor::from_f32(vec![2, 3], vec![0.1, 0.7, 0.2, 5.0, 5.0, f32::NEG_INFINITY]).unwrap();
        let output = NamedTensor { name: "y".to_owned(), tensor: rows };
        let texts = |count, labels: &[&str]| {
            let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
            let tensor = classify(&output, count, &labels).unwrap().tensor;
            let Elements::Bytes(texts) = tensor.elements() else { panic!("no text") };
            let texts: Vec<String> =
                texts.iter().map(|text| String::from_utf8(text.clone()).unwrap()).collect();
            (tensor.shape().to_vec(), texts.join(" "))
        };
        let expected = "0.700000:1:b 0.200000:2:c 5.000000:0:a 5.000000:1:b".to_owned();
        assert_eq!(texts(2, &["a", "b", "c"]), (vec![2, 2], expected));
        assert_eq!(texts(1, &[]), (vec![2, 1], "0.700000:1 5.000000:0".to_owned()));
        assert_eq!(texts(99, &[]).0, [2, 3]);
        let text = NamedTensor {
            name: "y".to_owned(),
            tensor: Tensor::new(vec![1], Elements::Bytes(vec![vec![]])).unwrap(),
        };
        assert!(classify(&text, 1, &[]).is_err());
    }
}
