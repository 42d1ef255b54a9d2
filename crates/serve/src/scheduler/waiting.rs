//! What waits for one version, and which of it makes the next batch. Knows no threads.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::request::{Part, Request};
use super::settings::{QueueSettings, TimeoutAction};

/// The place of a request: the most urgent first, then the one that came first.
pub(crate) type Place = (u32, u64);

/// Behind all priorities: what is late and computed all the same.
const LATE: u32 = u32::MAX;

/// The limits of batches and queue of one version.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// The most rows of a batch, at least 1.
    pub(crate) most: usize,
    /// Whether requests share batches. Without a batch dimension every batch is one request.
    pub(crate) joins: bool,
    pub(crate) settings: QueueSettings,
}

/// Requests in the order in which they will be computed.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    requests: BTreeMap<Place, Pending>,
    /// Rows that are not in a batch yet.
    rows: usize,
}

#[derive(Debug)]
struct Pending {
    request: Arc<Request>,
    /// Rows before this one are in a batch already.
    next: usize,
}

/// When there is something to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Now,
    At(Instant),
    Never,
}

/// What was taken out to be computed, and what was found dead on the way.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) parts: Vec<Part>,
    pub(crate) dead: Dead,
}

/// Requests that will not be computed. They are told, and dropped with their tensors, where nobody waits for a lock.
#[derive(Debug, Default)]
pub(crate) struct Dead {
    /// Their time was up.
    pub(crate) expired: Vec<Arc<Request>>,
    /// Nobody waits for them any more.
    pub(crate) unwanted: Vec<Arc<Request>>,
}

impl Waiting {
    pub(crate) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Requests and rows.
    pub(crate) fn count(&self) -> (usize, usize) {
        (self.requests.len(), self.rows)
    }

    /// Whether a request of `rows` rows has room.
    pub(crate) fn has_room(&self, rows: usize, settings: &QueueSettings) -> bool {
        let rows_fit = self.rows == 0 || self.rows.saturating_add(rows) <= settings.max_queue_rows;
        self.requests.len() < settings.max_queue_requests && rows_fit
    }

    pub(crate) fn push(&mut self, place: Place, request: Arc<Request>) {
        self.rows += request.rows;
        self.requests.insert(place, Pending { request, next: 0 });
    }

    /// Takes a request out, with the rows of it that are in no batch yet; with `whole` only when that is all of it.
    /// Returns it if it did.
    pub(crate) fn withdraw(&mut self, place: Place, whole: bool) -> Option<Arc<Request>> {
        // What is late has been given another place.
        let places = [place, (LATE, place.1)];
        let found = places.iter().find_map(|place| Some((*place, self.requests.get(place)?.next)));
        let (place, next) = found.filter(|(_, next)| !whole || *next == 0)?;
        let Pending { request, .. } = self.requests.remove(&place)?;
        self.rows -= request.rows - next;
        Some(request)
    }

    /// When the next batch is due.
    pub(crate) fn due(&self, rules: &Rules) -> Due {
        if self.requests.is_empty() {
            return Due::Never;
        }
        let QueueSettings { max_delay_us, preferred_batch_rows, .. } = &rules.settings;
        let full =
            self.rows >= rules.most || preferred_batch_rows.first().is_some_and(|least| *least <= self.rows);
        // What has begun waits for nobody: the rest of it alone keeps its answer back.
        let begun = || self.requests.values().any(|pending| pending.next > 0);
        if *max_delay_us == 0 || full || !rules.joins || begun() {
            return Due::Now;
        }
        // There are fewer requests than rows of a batch, or it would be full.
        let oldest = self.requests.values().map(|pending| pending.request.asked).min();
        oldest.map_or(Due::Never, |oldest| Due::At(oldest + Duration::from_micros(*max_delay_us)))
    }

    /// Takes out the rows of the next batch, in order, as far as they fit. A request that fits into a batch is not
    /// cut; one that does not fills up the batch.
    pub(crate) fn take(&mut self, now: Instant, rules: &Rules) -> Taken {
        let limit = self.batch_size(rules);
        let (mut taken, mut rows) = (Taken::default(), 0usize);
        let mut after = Bound::Unbounded;
        while let Some((&place, _)) = self.requests.range((after, Bound::Unbounded)).next() {
            after = Bound::Excluded(place);
            if self.bury(place, now, &rules.settings, &mut taken) {
                continue;
            }
            let Some(pending) = self.requests.get_mut(&place) else { continue };
            let request = &pending.request;
            if let Some(first) = taken.parts.first()
                && !(rules.joins && share(&first.request, request))
            {
                break;
            }
            let left = request.rows - pending.next;
            let room = limit.saturating_sub(rows);
            let count = if left <= room || !rules.joins {
                left
            } else if request.rows > rules.most {
                room
            } else if rows == 0 {
                // It fits into a batch, but for the size that is preferred.
                left
            } else {
                0
            };
            if count == 0 {
                break;
            }
            let part = pending.next..pending.next + count;
            taken.parts.push(Part { request: Arc::clone(request), rows: part });
            pending.next += count;
            rows += count;
            self.rows -= count;
            if count == left {
                self.requests.remove(&place);
            }
            if rows >= limit {
                break;
            }
        }
        taken
    }

    /// How many rows the next batch may have.
    fn batch_size(&self, rules: &Rules) -> usize {
        let preferred = rules.settings.preferred_batch_rows.iter().rev();
        let good = preferred.copied().find(|size| *size <= self.rows);
        good.unwrap_or(self.rows).clamp(1, rules.most)
    }

    /// Takes a request out when it is dead, or puts it behind when it is late and that is the rule; `true` when it is
    /// not where it was.
    fn bury(&mut self, place: Place, now: Instant, settings: &QueueSettings, taken: &mut Taken) -> bool {
        let Some(pending) = self.requests.get(&place) else { return true };
        let request = &pending.request;
        let unwanted = !request.is_wanted();
        // What has begun is brought to its end.
        let expired = pending.next == 0 && place.0 != LATE && request.is_expired(now);
        if !unwanted && !expired {
            return false;
        }
        let Some(pending) = self.requests.remove(&place) else { return true };
        if !unwanted && settings.timeout_action == TimeoutAction::Delay {
            self.requests.insert((LATE, place.1), pending);
            return true;
        }
        self.rows -= pending.request.rows - pending.next;
        let dead = if unwanted { &mut taken.dead.unwanted } else { &mut taken.dead.expired };
        dead.push(pending.request);
        true
    }
}

/// Whether two requests fit into one batch: their inputs differ in nothing but the rows.
fn share(one: &Request, other: &Request) -> bool {
    one.inputs.len() == other.inputs.len()
        && one
            .inputs
            .iter()
            .zip(&other.inputs)
            .all(|(a, b)| a.tensor.shape().get(1..) == b.tensor.shape().get(1..))
}
