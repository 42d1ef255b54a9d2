//! Which requests are traced, and under which names: the `traceparent` of W3C Trace Context, and the samplers of
//! OpenTelemetry. Ids of requests are made here too.

use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

/// The samplers, by the names of OpenTelemetry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SamplerKind {
    /// Everything.
    #[serde(rename = "always_on")]
    AlwaysOn,
    /// Nothing.
    #[serde(rename = "always_off")]
    AlwaysOff,
    /// A share of all traces, by their ids.
    #[serde(rename = "traceidratio")]
    Ratio,
    /// What the caller says; everything that has no caller.
    #[serde(rename = "parentbased_always_on")]
    ParentAlwaysOn,
    /// What the caller says; nothing that has no caller.
    #[serde(rename = "parentbased_always_off")]
    ParentAlwaysOff,
    /// What the caller says; a share of what has no caller.
    #[default]
    #[serde(rename = "parentbased_traceidratio")]
    ParentRatio,
}

/// Says which requests are traced.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sampler {
    follows: bool,
    /// Ids whose last 63 bits are below this.
    below: u64,
}

impl Sampler {
    pub(super) fn new(kind: SamplerKind, ratio: f64) -> Self {
        const ALL: u64 = 1 << 63;
        let share = (ratio.clamp(0.0, 1.0) * ALL as f64) as u64;
        let (follows, below) = match kind {
            SamplerKind::AlwaysOn => (false, ALL),
            SamplerKind::AlwaysOff => (false, 0),
            SamplerKind::Ratio => (false, share),
            SamplerKind::ParentAlwaysOn => (true, ALL),
            SamplerKind::ParentAlwaysOff => (true, 0),
            SamplerKind::ParentRatio => (true, share),
        };
        Self { follows, below }
    }

    /// Whether a trace is taken; `parent` is what the caller decided.
    pub(super) fn takes(self, trace: u128, parent: Option<bool>) -> bool {
        match parent.filter(|_| self.follows) {
            Some(sampled) => sampled,
            None => (trace as u64) >> 1 < self.below,
        }
    }
}

/// What a caller says of its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) trace: u128,
    pub(super) span: u64,
    pub(super) sampled: bool,
}

impl Parent {
    /// Reads a `traceparent`. What is malformed counts for nothing, as the standard wants it.
    pub(super) fn read(header: &str) -> Option<Self> {
        let mut parts = header.trim().split('-');
        let version = hex(parts.next()?, 2)?;
        let trace = hex(parts.next()?, 32)?;
        let span = u64::try_from(hex(parts.next()?, 16)?).ok()?;
        let flags = hex(parts.next()?, 2)?;
        // Later versions may add to it; this one does not.
        let whole = version != 0 || parts.next().is_none();
        (version != 0xff && trace != 0 && span != 0 && whole).then_some(Self {
            trace,
            span,
            sampled: flags & 1 == 1,
        })
    }
}

fn hex(text: &str, digits: usize) -> Option<u128> {
    let lower = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (text.len() == digits && lower).then(|| u128::from_str_radix(text, 16).ok())?
}

/// A `tracestate` that may be passed on, which is not ours to read.
pub(super) fn state(header: &str) -> Option<&str> {
    let plain = header.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    (!header.is_empty() && header.len() <= 512 && plain).then_some(header)
}

/// 64 bits that no other call gives, and that nobody meets by chance. They are no secret.
pub(super) fn random() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    static TURN: AtomicU64 = AtomicU64::new(0);
    // The standard library seeds its hashers from the system.
    let seed = SEED.get_or_init(|| std::hash::RandomState::new().build_hasher().finish());
    let turn = TURN.fetch_add(1, Relaxed).wrapping_add(1);
    // SplitMix64, which visits every number once.
    let mut mixed = seed.wrapping_add(turn.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The id of a trace: 128 bits that are not all 0.
pub(super) fn trace_id() -> u128 {
    u128::from(random()) << 64 | u128::from(random().max(1))
}

/// The id of a span, which is not 0.
pub(super) fn span_id() -> u64 {
    random().max(1)
}

/// The id of a request: what the caller calls it, where that is fit for a log and for a header, else a new one.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestId(String);

/// The longest id that is taken from a caller.
const LONGEST: usize = 128;

impl RequestId {
    /// Takes the caller's id if it is well formed: 1 to 128 letters, digits and any of `-_.:/+=@`.
    #[must_use]
    pub fn accepted(header: Option<&str>) -> Self {
        let fits = |text: &&str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(&byte);
            (1..=LONGEST).contains(&text.len()) && text.bytes().all(plain)
        };
        header.filter(fits).map_or_else(Self::new, |text| Self(text.to_owned()))
    }

    fn new() -> Self {
        let bits = u128::from(random()) << 64 | u128::from(random());
        Self(format!("{bits:032x}"))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_caller_is_read_as_the_standard_says() {
        let parent = Parent::read(GOOD).unwrap();
        assert_eq!(parent.trace, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!((parent.span, parent.sampled), (0x00f0_67aa_0ba9_02b7, true));
        assert!(!Parent::read(&GOOD.replace("-01", "-00")).unwrap().sampled);
        assert_eq!(Parent::read(&format!("cc{}-what-comes", &GOOD[2..])).unwrap(), parent, "a later version");
        for wrong in [
            String::new(),
            GOOD.to_uppercase(),
            format!("{GOOD}-x"),
            GOOD.replacen("00", "ff", 1),
            GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            GOOD.replace("4bf9", "+bf9"),
            GOOD[..54].to_owned(),
        ] {
            assert_eq!(Parent::read(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn samplers_do_what_their_names_say() {
        use SamplerKind::*;
        let taken = |kind, ratio, parent| {
            let sampler = Sampler::new(kind, ratio);
            (0..4000).filter(|_| sampler.takes(trace_id(), parent)).count()
        };
        for parent in [None, Some(true), Some(false)] {
            assert_eq!((taken(AlwaysOn, 0.0, parent), taken(AlwaysOff, 1.0, parent)), (4000, 0));
            assert!((800..1200).contains(&taken(Ratio, 0.25, parent)));
        }
        for kind in [ParentAlwaysOn, ParentAlwaysOff, ParentRatio] {
            assert_eq!((taken(kind, 0.5, Some(true)), taken(kind, 0.5, Some(false))), (4000, 0));
        }
        assert_eq!((taken(ParentAlwaysOn, 0.0, None), taken(ParentAlwaysOff, 1.0, None)), (4000, 0));
        assert!((1700..2300).contains(&taken(ParentRatio, 0.5, None)));
        assert_eq!((taken(ParentRatio, 1.0, None), taken(ParentRatio, 0.0, None)), (4000, 0));
    }

    #[test]
    fn ids_of_callers_are_kept_where_they_are_harmless() {
        for good in ["a", "01H-x_y.z:1/2+3=@", &"a".repeat(128)] {
            assert_eq!(RequestId::accepted(Some(good)).as_str(), good);
        }
        for wrong in ["", "a b", "a\nb", "a\u{1b}[31m", "é", "a,b", "\"a\"", &"a".repeat(129)] {
            let made = RequestId::accepted(Some(wrong));
            assert_eq!(made.as_str().len(), 32, "{wrong}");
            assert!(made.as_str().bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
        let ids: std::collections::BTreeSet<String> =
            (0..1000).map(|_| RequestId::accepted(None).as_str().to_owned()).collect();
        assert_eq!(ids.len(), 1000);
    }

    proptest! {
        #[test]
        fn no_header_is_too_strange(text in "\\PC{0,80}|[0-9a-f-]{50,60}") {
            if let Some(parent) = Parent::read(&text) {
                prop_assert!(parent.trace != 0 && parent.span != 0);
            }
            prop_assert!(state(&text).is_none_or(|state| state.is_ascii()));
        }
    }
}
