//! What is wanted of a model's traffic: how it is split, what is shadowed, and how a candidate comes in by steps.

use std::collections::{BTreeMap, BTreeSet};

use artifact::parse_version;
use serde::{Deserialize, Serialize};

/// The traffic of a model, as the settings, the API and `traffic.json` write it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// Weights by version; a version's share is its weight among all. Empty: everything goes to the default version.
    pub split: BTreeMap<String, u32>,
    /// Who keeps a version: `none`, `client` (by address), or `header:NAME` (by the value of a header).
    pub sticky: String,
    /// A version that is asked as well, and never answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
    /// A candidate that comes in by steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto: Option<Auto>,
}

/// A version that gets copies of requests after they are answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shadow {
    /// The version.
    pub version: u64,
    /// Which share of the requests is copied.
    #[serde(default = "all")]
    pub percent: f64,
}

fn all() -> f64 {
    100.0
}

/// A candidate that gets more traffic step by step while it does well, and none when it does not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auto {
    /// The version that may become the default.
    pub candidate: u64,
    /// Its shares in percent, ascending; after the last step it is promoted. A first step of 0 is shadow alone.
    pub steps: Vec<u32>,
    /// Seconds that a step lasts at least.
    pub window_s: u64,
    /// Requests that the candidate must have had in a step (with a share of 0: compared copies).
    pub min_requests: u64,
    /// The most errors, as a share of the candidate's requests.
    pub max_error_rate: f64,
    /// The quantile of latency that is compared.
    pub quantile: f64,
    /// How many times the default version's latency the candidate's may be; both are known to about 10 %.
    pub max_latency_ratio: f64,
    /// The least share of compared copies that agree; 0 does not look. It needs `shadow` to be the candidate.
    pub min_agreement: f64,
}

impl Default for Auto {
    fn default() -> Self {
        Self {
            candidate: 0,
            steps: vec![5, 25, 50, 100],
            window_s: 60,
            min_requests: 100,
            max_error_rate: 0.01,
            quantile: 0.99,
            max_latency_ratio: 1.5,
            min_agreement: 0.0,
        }
    }
}

/// Finds the value of a header by its name.
pub type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Who asks, as far as a split may depend on it.
#[derive(Clone, Copy, Default)]
pub struct Caller<'a> {
    /// The client's address.
    pub address: Option<std::net::IpAddr>,
    /// Looks a header up.
    pub header: Option<&'a Lookup<'a>>,
}

impl std::fmt::Debug for Caller<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Plan {
    /// The weights by version, the newest first: so a candidate's clients stay with it while its share grows.
    #[must_use]
    pub fn weights(&self) -> Vec<(u64, u64)> {
        let parsed = self
            .split
            .iter()
            .filter_map(|(version, weight)| Some((parse_version(version)?, u64::from(*weight))));
        let mut weights: Vec<(u64, u64)> = parsed.collect();
        weights.sort_by(|a, b| b.cmp(a));
        weights
    }

    /// The versions that it names.
    #[must_use]
    pub fn versions(&self) -> BTreeSet<u64> {
        let others = [
            self.shadow.as_ref().map(|shadow| shadow.version),
            self.auto.as_ref().map(|auto| auto.candidate),
        ];
        self.weights().into_iter().map(|(version, _)| version).chain(others.into_iter().flatten()).collect()
    }

    /// What about it cannot work, and what would.
    ///
    /// # Errors
    /// The first thing.
    pub fn check(&self) -> Result<(), String> {
        for (version, weight) in &self.split {
            if parse_version(version).is_none() {
                return Err(format!("`split` is by version numbers, and `{version:.32}` is none"));
            }
            if *weight > 1_000_000 {
                return Err(format!("the weight of version {version} must be at most 1000000"));
            }
        }
        if !self.split.is_empty() && self.split.values().all(|weight| *weight == 0) {
            return Err("a version in `split` must have a weight above 0".to_owned());
        }
        Sticky::read(&self.sticky)?;
        if let Some(Shadow { percent, .. }) = self.shadow
            && !(0.0..=100.0).contains(&percent)
        {
            return Err("`shadow.percent` must be from 0 to 100".to_owned());
        }
        let Some(auto) = &self.auto else { return Ok(()) };
        let ascending = auto.steps.is_sorted_by(|a, b| a < b) && auto.steps.iter().all(|step| *step <= 100);
        let shadows = self.shadow.as_ref().is_some_and(|shadow| shadow.version == auto.candidate);
        let wrong = [
            (auto.candidate == 0, "`auto.candidate` must be a version"),
            (
                auto.steps.is_empty() || auto.steps.len() > 32 || !ascending,
                "`auto.steps` must be at most 32 percentages, ascending",
            ),
            (!(1..=604_800).contains(&auto.window_s), "`auto.window_s` must be from 1 to 604800"),
            (auto.min_requests == 0, "`auto.min_requests` must be at least 1"),
            (!(0.0..=1.0).contains(&auto.max_error_rate), "`auto.max_error_rate` must be from 0 to 1"),
            (!(0.0..=1.0).contains(&auto.quantile), "`auto.quantile` must be from 0 to 1"),
            (
                auto.max_latency_ratio.is_nan() || auto.max_latency_ratio <= 0.0,
                "`auto.max_latency_ratio` must be above 0",
            ),
            (!(0.0..=1.0).contains(&auto.min_agreement), "`auto.min_agreement` must be from 0 to 1"),
            (
                auto.min_agreement > 0.0 && !shadows,
                "`auto.min_agreement` needs `shadow.version` to be the candidate",
            ),
            (
                auto.steps.first() == Some(&0) && !shadows,
                "a step of 0 needs `shadow.version` to be the candidate",
            ),
        ];
        wrong
            .into_iter()
            .find_map(|(wrong, message)| wrong.then(|| Err(message.to_owned())))
            .unwrap_or(Ok(()))
    }
}

/// The split of a plan as requests need it: read once, so that no request has to.
#[derive(Debug, Default)]
pub struct Split {
    /// As [`Plan::weights`] orders them.
    weights: Vec<(u64, u64)>,
    total: u64,
    sticky: Sticky,
}

/// What ties a caller to a version.
#[derive(Debug, Default)]
enum Sticky {
    #[default]
    Nothing,
    Address,
    Header(String),
}

impl Sticky {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "" | "none" => Ok(Self::Nothing),
            "client" => Ok(Self::Address),
            other => {
                let name = other.strip_prefix("header:").filter(|name| !name.is_empty() && name.len() <= 64);
                let name = name.filter(|name| {
                    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
                });
                let name = name.ok_or("`sticky` must be `none`, `client` or `header:NAME`")?;
                Ok(Self::Header(name.to_owned()))
            }
        }
    }

    /// A number that stays the same for the same caller; nothing when nothing ties it.
    fn key(&self, model: &str, caller: Caller<'_>) -> Option<u64> {
        let value = match self {
            Self::Nothing => None,
            Self::Address => caller.address.map(|address| address.to_string()),
            Self::Header(name) => caller.header.and_then(|header| header(name)),
        };
        value.map(|value| hash(model, &value))
    }
}

impl Split {
    /// That of a plan. What [`Plan::check`] would refuse in it counts as nothing.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        let weights = plan.weights();
        let total = weights.iter().map(|(_, weight)| weight).sum();
        Self { weights, total, sticky: Sticky::read(&plan.sticky).unwrap_or_default() }
    }

    /// The version that answers a request; `turn` counts the requests that nothing ties to a version. Nothing: the
    /// default version.
    #[must_use]
    pub fn pick(&self, model: &str, caller: Caller<'_>, turn: impl FnOnce() -> u64) -> Option<u64> {
        if self.total == 0 {
            return None;
        }
        let key = self.sticky.key(model, caller);
        // Steps of the golden ratio fill the range evenly from the first request on.
        let place = key.unwrap_or_else(|| turn().wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut place = u64::try_from((u128::from(place) * u128::from(self.total)) >> 64).unwrap_or(0);
        for &(version, weight) in &self.weights {
            if place < weight {
                return Some(version);
            }
            place -= weight;
        }
        None
    }
}

/// The same on every machine and in every version of the server: FNV-1a, and the finish of SplitMix64 so that all bits
/// matter.
fn hash(model: &str, value: &str) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    for byte in model.bytes().chain([0]).chain(value.bytes()) {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(weights: &[(&str, u32)], sticky: &str) -> Plan {
        let split = weights.iter().map(|(version, weight)| ((*version).to_owned(), *weight)).collect();
        Plan { split, sticky: sticky.to_owned(), ..Plan::default() }
    }

    #[test]
    fn shares_are_those_of_the_weights() {
        let plan = Split::of(&split(&[("1", 90), ("2", 10)], "none"));
        for start in [0, 12_345] {
            let second =
                (start..start + 1000).filter(|turn| plan.pick("m", Caller::default(), || *turn) == Some(2));
            let count = second.count();
            assert!((95..=105).contains(&count), "{count}");
        }
        assert_eq!(Split::of(&split(&[], "")).pick("m", Caller::default(), || 1), None);
        assert_eq!(Split::of(&split(&[("3", 1)], "")).pick("m", Caller::default(), || 7), Some(3));
    }

    #[test]
    fn whoever_has_the_candidate_keeps_it_while_its_share_grows() {
        let of = |plan: &Split, user: u32| {
            let header = move |name: &str| (name == "x-user").then(|| format!("user-{user}"));
            plan.pick("m", Caller { address: None, header: Some(&header) }, || panic!("nobody is counted"))
        };
        let mut before: Vec<u32> = Vec::new();
        for share in [5, 25, 50, 100] {
            let plan = Split::of(&split(&[("1", 100 - share), ("2", share)], "header:x-user"));
            let now: Vec<u32> = (0..1000).filter(|user| of(&plan, *user) == Some(2)).collect();
            assert!(before.iter().all(|user| now.contains(user)), "at {share} %");
            let wanted = share as usize * 10;
            assert!(now.len().abs_diff(wanted) <= 60, "{} at {share} %", now.len());
            before = now;
        }
        // Pinned, so that no change of the server moves clients.
        assert_eq!(hash("digits", "user-1"), 0x9667_985f_753a_888c);
        let client = Split::of(&split(&[("1", 50), ("2", 50)], "client"));
        let address = Some("10.0.0.7".parse().unwrap());
        let one = client.pick("m", Caller { address, header: None }, || 0);
        assert!((0..20).all(|turn| client.pick("m", Caller { address, header: None }, || turn) == one));
    }

    #[test]
    fn plans_that_cannot_work_are_refused() {
        let shadow = Some(Shadow { version: 2, percent: 10.0 });
        let auto = |change: &dyn Fn(&mut Auto)| {
            let mut auto = Auto { candidate: 2, ..Auto::default() };
            change(&mut auto);
            Plan { auto: Some(auto), ..Plan::default() }
        };
        assert_eq!(auto(&|_| ()).check(), Ok(()));
        assert_eq!(Plan { shadow: shadow.clone(), ..auto(&|auto| auto.min_agreement = 0.9) }.check(), Ok(()));
        let cases = [
            (split(&[("one", 1)], ""), "version numbers"),
            (split(&[("1", 0)], ""), "above 0"),
            (split(&[("1", 1)], "header:"), "`header:NAME`"),
            (split(&[("1", 1)], "ip"), "`client`"),
            (
                Plan { shadow: Some(Shadow { version: 2, percent: f64::NAN }), ..Plan::default() },
                "from 0 to 100",
            ),
            (auto(&|auto| auto.steps = vec![50, 5]), "ascending"),
            (auto(&|auto| auto.steps = vec![101]), "ascending"),
            (auto(&|auto| auto.candidate = 0), "candidate"),
            (auto(&|auto| auto.max_latency_ratio = f64::NAN), "max_latency_ratio"),
            (auto(&|auto| auto.min_agreement = 0.5), "needs `shadow.version`"),
            (auto(&|auto| auto.steps = vec![0, 50]), "a step of 0"),
        ];
        for (plan, part) in cases {
            let error = plan.check().unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
