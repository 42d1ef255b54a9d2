//! What compression changed, in numbers: printed, and kept in the package as `compression.json`.

use artifact::LineageStep;
use serde::Serialize;

use crate::compare::table;
use crate::side::Side;

/// A model before and after.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The method, such as `quantize`.
    pub method: &'static str,
    /// What was asked for.
    pub config: serde_json::Value,
    /// The parent.
    pub before: Side,
    /// What came out.
    pub after: Side,
    /// How far the headline metric fell on the samples that chose, in the units of the gate.
    pub drop_choosing: f64,
    /// The split that those samples are of: `validation`, or `train` where there is none.
    pub chosen_on: &'static str,
    /// How far it fell on the test split.
    pub drop_test: f64,
    /// What was done, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<LineageStep>,
    /// What the method found out on the way.
    #[serde(flatten)]
    pub findings: Findings,
}

/// What a method found out: an object of JSON for programs, and the same as text for people.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Findings {
    /// Fields that stand beside those of the comparison.
    #[serde(flatten)]
    pub fields: serde_json::Map<String, serde_json::Value>,
    /// Tables for the terminal; may be empty.
    #[serde(skip)]
    pub text: String,
}

impl Findings {
    /// One finding under one name.
    ///
    /// # Errors
    /// When the value has no JSON.
    pub fn new(name: &str, value: &impl Serialize, text: String) -> Result<Self, serde_json::Error> {
        let fields = [(name.to_owned(), serde_json::to_value(value)?)].into_iter().collect();
        Ok(Self { fields, text })
    }
}

impl Comparison {
    /// Both sides in a table, and what the method found.
    #[must_use]
    pub fn human(&self) -> String {
        let table = table(&[&self.before, &self.after]);
        match self.findings.text.as_str() {
            "" => table,
            text => format!("{table}\n{text}"),
        }
    }
}
