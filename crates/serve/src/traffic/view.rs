//! The traffic of a model as the API tells it.

use serde_json::{Value, json};

use artifact::Selector;

use super::{Plan, Traffic};
use crate::error::Result;
use crate::state::State;

impl Traffic {
    /// What holds for a model, what its versions did in the present step, and what happened before.
    ///
    /// # Errors
    /// 404 for an unknown model.
    pub fn view(&self, state: &State, name: &str) -> Result<Value> {
        let catalog = state.catalog();
        let model = catalog.model(name)?;
        let default = model.number(name, &Selector::Default).ok();
        let models = self.models();
        let Some(directed) = models.get(name) else {
            return Ok(json!({
                "model": name, "default": default, "plan": Plan::default(), "split": {}, "versions": {}, "history": [],
            }));
        };
        let versions: serde_json::Map<String, Value> = directed
            .tallies
            .iter()
            .map(|(number, tally)| {
                let window = tally.now();
                let view = json!({
                    "requests": window.requests,
                    "errors": window.errors,
                    "p50_ms": window.latency_ms(0.5),
                    "p99_ms": window.latency_ms(0.99),
                });
                (number.to_string(), view)
            })
            .collect();
        let mut view = json!({
            "model": name,
            "default": default,
            "plan": directed.kept.plan,
            "split": directed.live.plan.split,
            "since_s": directed.since.elapsed().as_secs(),
            "versions": versions,
            "history": directed.kept.history,
            "persisted": directed.persisted.is_ok(),
        });
        if let Some(auto) = &directed.kept.plan.auto {
            view["step"] =
                json!({ "index": directed.kept.step, "percent": auto.steps.get(directed.kept.step) });
        }
        if let Some(shadow) = &directed.kept.plan.shadow {
            let copies = directed.shadowed.now();
            let (answering, shadowed) = (directed.shadowed.answering.now(), directed.shadowed.tally.now());
            view["shadow"] = json!({
                "version": shadow.version,
                "copies": copies,
                "agreement": copies.share(),
                "answered_p50_ms": answering.latency_ms(0.5),
                "answered_p99_ms": answering.latency_ms(0.99),
                "shadow_p50_ms": shadowed.latency_ms(0.5),
                "shadow_p99_ms": shadowed.latency_ms(0.99),
            });
        }
        Ok(view)
    }
}
