//! Which version of a model answers, without anything in front of the server: a weighted split, a shadow that is asked
//! and compared and never answers, and a candidate that comes in by steps while it does well.
//!
//! Requests that name a version get it; only those that leave it to the server are split ([`Split::pick`]). What
//! answers is counted at the version itself, whatever route or protocol asked.

mod act;
mod plan;
mod rules;
mod store;
mod tally;
mod tap;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use artifact::{PRODUCTION, Registry, Selector};

pub use self::act::Action;
pub use self::plan::{Auto, Caller, Lookup, Plan, Shadow, Split};
use self::rules::{Verdict, judge};
use self::store::{Event, Kept};
use self::tally::{Shadowed, Tally, Window};
pub(crate) use self::tap::Tap;
use self::tap::{Copies, Sender};
use crate::ensemble::prepares_alike;
use crate::served::Served;
use crate::state::{Model, Phase, State, Version};

/// How often rules are looked at.
const TICK: Duration = Duration::from_millis(200);

/// The time of day in RFC 3339, which only the binary reads.
pub type Clock = fn() -> Option<String>;

/// What directs the traffic of all models.
#[derive(Debug)]
pub struct Traffic {
    registry: Registry,
    clock: Clock,
    sender: Sender,
    /// What holds, by model. It is never held over a file, so that nobody who looks waits for one.
    models: Mutex<BTreeMap<String, Directed>>,
    /// Held by whoever changes what holds, over the files and their locks as well. It has the models whose file has been
    /// read.
    changing: Mutex<BTreeSet<String>>,
    ended: AtomicBool,
}

/// What requests need to know of a model's traffic: part of the catalog.
#[derive(Debug)]
pub struct Live {
    plan: Plan,
    split: Split,
    named: BTreeSet<u64>,
    turn: AtomicU64,
}

/// One model with a plan.
#[derive(Debug)]
struct Directed {
    kept: Kept,
    /// Whether `kept` is on the disk, else why not.
    persisted: Result<(), String>,
    tallies: BTreeMap<u64, Arc<Tally>>,
    /// What became of copies in the present step. Those of an earlier one that are still under way count there.
    shadowed: Arc<Shadowed>,
    /// When the present step began.
    since: Instant,
    live: Arc<Live>,
}

impl Live {
    fn new(plan: Plan, turn: u64) -> Self {
        let (split, named) = (Split::of(&plan), plan.versions());
        Self { plan, split, named, turn: AtomicU64::new(turn) }
    }

    /// The versions that must be served, whatever the policy leaves out.
    #[must_use]
    pub fn named(&self) -> &BTreeSet<u64> {
        &self.named
    }

    /// The version that answers, when it is not the default.
    #[must_use]
    pub fn pick(&self, model: &str, caller: Caller<'_>) -> Option<u64> {
        self.split.pick(model, caller, || self.turn.fetch_add(1, Ordering::Relaxed))
    }
}

impl Traffic {
    /// Starts to direct. The thread ends with [`Traffic::stop`] or when nobody has the traffic any more.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn start(
        state: &Arc<State>,
        registry: Registry,
        configured: BTreeMap<String, Plan>,
        clock: Clock,
    ) -> std::io::Result<Arc<Self>> {
        let traffic = Arc::new(Self {
            registry,
            clock,
            sender: Sender::start()?,
            models: Mutex::default(),
            changing: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        traffic.configure(state, configured);
        state.set_traffic(Arc::clone(&traffic));
        let (weak, state) = (Arc::downgrade(&traffic), Arc::downgrade(state));
        std::thread::Builder::new().name("traffic".to_owned()).spawn(move || direct(&weak, &state))?;
        Ok(traffic)
    }

    /// Ends the thread; what holds goes on to hold.
    pub fn stop(&self) {
        self.ended.store(true, Ordering::Release);
    }

    fn models(&self) -> MutexGuard<'_, BTreeMap<String, Directed>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changing(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn directory(&self, name: &str) -> PathBuf {
        self.registry.root().join(name)
    }

    /// Takes up what was kept of models that are new here; `read` has those that are not.
    fn read(&self, state: &State, read: &mut BTreeSet<String>) {
        for name in state.catalog().models.keys() {
            if !read.insert(name.clone()) {
                continue;
            }
            match Kept::read(&self.directory(name)) {
                Ok(Some(kept)) => {
                    let configured = kept.configured.clone();
                    let before = self.models().insert(name.clone(), Directed::new(kept, Ok(())));
                    // The settings may have spoken of it before it was there. They count when they have changed.
                    if let Some(Kept { configured: said, plan, .. }) = before.map(|before| before.kept)
                        && said != configured
                    {
                        entry(&mut self.models(), name).kept.configured = said;
                        self.replace(name, plan, 0, "set", "as the settings say");
                    }
                }
                Ok(None) => {
                    let is_known = self.models().contains_key(name);
                    if is_known {
                        self.keep(name);
                    }
                }
                Err(reason) => {
                    tracing::error!(model = %name, reason, "traffic.json cannot be used; the default version answers")
                }
            }
        }
    }

    /// Takes what the settings say. A plan that says what it said before changes nothing: what has become of it since,
    /// by steps or by requests, goes on to hold.
    pub fn configure(&self, state: &State, configured: BTreeMap<String, Plan>) {
        {
            let mut changing = self.changing();
            self.read(state, &mut changing);
            let mut changed = Vec::new();
            for (name, directed) in self.models().iter() {
                if directed.kept.configured.is_some() && !configured.contains_key(name) {
                    changed.push((name.clone(), Plan::default(), None));
                }
            }
            for (name, plan) in configured {
                let known = self.models().get(&name).and_then(|directed| directed.kept.configured.clone());
                if known.as_ref() != Some(&plan) {
                    changed.push((name, plan.clone(), Some(plan)));
                }
            }
            for (name, plan, configured) in changed {
                entry(&mut self.models(), &name).kept.configured = configured;
                self.replace(&name, plan, 0, "set", "as the settings say");
            }
        }
        self.tick(state);
    }

    /// Gives a model another plan, notes why, and keeps both.
    fn replace(&self, name: &str, plan: Plan, step: usize, what: &str, why: &str) {
        tracing::info!(model = %name, what, why, plan = %serde_json::to_string(&plan).unwrap_or_default(), "traffic");
        {
            let mut models = self.models();
            let directed = entry(&mut models, name);
            directed.kept.plan = plan;
            directed.kept.step = step;
            directed.kept.note(Event { at: (self.clock)(), what: what.to_owned(), why: why.to_owned() });
            directed.begin();
        }
        self.keep(name);
    }

    /// Writes what holds for a model.
    fn keep(&self, name: &str) {
        let kept = entry(&mut self.models(), name).kept.clone();
        let persisted = kept.write(&self.directory(name));
        if let Err(reason) = &persisted {
            tracing::warn!(model = %name, reason, "the traffic of the model is not kept over a restart");
        }
        entry(&mut self.models(), name).persisted = persisted;
    }

    /// Looks at the rules, and brings the catalog and the versions in line with the plans.
    pub fn tick(&self, state: &State) {
        let mut changing = self.changing();
        self.read(state, &mut changing);
        let names: Vec<String> = self.models().keys().cloned().collect();
        for name in &names {
            let catalog = state.catalog();
            let Some(model) = catalog.models.get(name) else { continue };
            let default = model.number(name, &Selector::Default).ok();
            self.judge(state, name, model, default);
            let live = {
                let mut models = self.models();
                let directed = entry(&mut models, name);
                directed.settle(default);
                directed.listen(model, &self.sender);
                Arc::clone(&directed.live)
            };
            if !model.traffic.as_ref().is_some_and(|now| Arc::ptr_eq(now, &live)) {
                state.update(|catalog| {
                    if let Some(model) = catalog.models.get_mut(name) {
                        model.traffic = Some(live);
                    }
                });
            }
        }
    }

    fn judge(&self, state: &State, name: &str, model: &Model, default: Option<u64>) {
        let Some(Judged { plan, step, auto, verdict }) = self.verdict(state, name, model, default) else {
            return;
        };
        let share = auto.steps.get(step).copied().unwrap_or_default();
        match verdict {
            Verdict::Wait => {}
            Verdict::Back(reason) => {
                let why = format!("version {} at {share} %: {reason}", auto.candidate);
                self.replace(name, Plan::default(), 0, "rolled_back", &why);
            }
            Verdict::Advance => match auto.steps.get(step + 1) {
                Some(next) => {
                    let why = format!("version {} from {share} % to {next} %", auto.candidate);
                    self.replace(name, plan, step + 1, "step", &why);
                }
                None => self.promote(state, name, auto.candidate, "it has passed every step"),
            },
        }
    }

    /// What the rules say of a model's candidate, where it has one.
    fn verdict(&self, state: &State, name: &str, model: &Model, default: Option<u64>) -> Option<Judged> {
        let models = self.models();
        let directed = models.get(name)?;
        let (plan, step) = (directed.kept.plan.clone(), directed.kept.step);
        let auto = plan.auto.clone()?;
        let share = *auto.steps.get(step)?;
        let ended = directed.since.elapsed() >= Duration::from_secs(auto.window_s);
        let (stable, candidate) = (directed.window(default), directed.window(Some(auto.candidate)));
        let verdict = match model.versions.get(&auto.candidate) {
            Some(Version::Ready(_) | Version::Loading) => {
                judge(&auto, share, &stable, &candidate, &directed.shadowed.now(), ended)
            }
            _ if state.phase() == Phase::Loading => Verdict::Wait,
            _ => Verdict::Back("it is not loaded any more".to_owned()),
        };
        Some(Judged { plan, step, auto, verdict })
    }

    /// Points the alias `production` at a version, so that it answers after a restart too. Where the registry cannot be
    /// written, the split does what the alias would.
    fn promote(&self, state: &State, name: &str, version: u64, why: &str) {
        match self.registry.promote(name, version, PRODUCTION) {
            Ok(_) => {
                let why = format!("version {version} is in production: {why}");
                self.replace(name, Plan::default(), 0, "promoted", &why);
                point(state, name, version);
            }
            Err(error) => {
                let reason = crate::load::chain(&error);
                tracing::warn!(model = %name, version, reason, "the alias `production` cannot be moved");
                let plan = Plan { split: [(version.to_string(), 1)].into(), ..Plan::default() };
                let why = format!(
                    "version {version} gets all traffic, and the alias `production` could not be moved: {why}"
                );
                self.replace(name, plan, 0, "promoted", &why);
            }
        }
    }
}

/// What the rules say, and of what.
struct Judged {
    plan: Plan,
    step: usize,
    auto: Auto,
    verdict: Verdict,
}

fn entry<'a>(models: &'a mut BTreeMap<String, Directed>, name: &str) -> &'a mut Directed {
    models.entry(name.to_owned()).or_insert_with(|| Directed::new(Kept::default(), Ok(())))
}

/// Moves the alias `production` in the catalog, as it has been moved on the disk: whoever reads it need not wait for the
/// next look at the directory, which may never move it where requests alone change what is served.
fn point(state: &State, name: &str, version: u64) {
    state.update(|catalog| {
        if let Some(model) = catalog.models.get_mut(name) {
            model.aliases.insert(PRODUCTION.to_owned(), version);
        }
    });
    state.front.nudge();
}

impl Directed {
    fn new(kept: Kept, persisted: Result<(), String>) -> Self {
        Self {
            kept,
            persisted,
            tallies: BTreeMap::new(),
            shadowed: Arc::default(),
            since: Instant::now(),
            live: Arc::new(Live::new(Plan::default(), 0)),
        }
    }

    /// From now on is another step.
    fn begin(&mut self) {
        self.since = Instant::now();
        self.shadowed = Arc::default();
        for tally in self.tallies.values_mut() {
            *tally = Arc::default();
        }
    }

    /// What a version has done in the present step.
    fn window(&self, version: Option<u64>) -> Window {
        let tally = version.and_then(|version| self.tallies.get(&version)).cloned();
        tally.unwrap_or_default().now()
    }

    /// What requests are told: the plan, and what its present step makes of it.
    fn settle(&mut self, default: Option<u64>) {
        let mut plan = self.kept.plan.clone();
        if let Some(auto) = &plan.auto
            && let (Some(&share), Some(default)) = (auto.steps.get(self.kept.step), default)
            && default != auto.candidate
        {
            plan.split =
                [(default.to_string(), 100 - share.min(100)), (auto.candidate.to_string(), share)].into();
        }
        if self.live.plan != plan {
            self.live = Arc::new(Live::new(plan, self.live.turn.load(Ordering::Relaxed)));
        }
    }

    /// Listens at every version, but for the shadow: its copies are counted apart.
    fn listen(&mut self, model: &Model, sender: &Sender) {
        let shadow = self.kept.plan.shadow.clone();
        let target =
            shadow.as_ref().and_then(|shadow| model.versions.get(&shadow.version)?.served().cloned());
        let idle = self.kept.plan == Plan::default();
        for (number, served) in
            model.versions.iter().filter_map(|(number, version)| Some((*number, version.served()?)))
        {
            if idle {
                served.set_tap(None);
                continue;
            }
            let tally = Arc::clone(self.tallies.entry(number).or_default());
            // What it would be given must mean to it what it means to who answers.
            let fits = |target: &&Arc<Served>| target.version() != number && prepares_alike(served, target);
            let copied = target.as_ref().filter(fits).map(Arc::downgrade);
            let share = (shadow.as_ref().map_or(0.0, |shadow| shadow.percent) * 100.0).round() as u64;
            let listens = served.tap().is_some_and(|tap| {
                let copies = match (&tap.copies, &copied) {
                    (Some(now), Some(wanted)) => {
                        now.share == share
                            && Weak::ptr_eq(&now.shadow, wanted)
                            && Arc::ptr_eq(&now.shadowed, &self.shadowed)
                    }
                    (now, wanted) => now.is_none() && wanted.is_none(),
                };
                Arc::ptr_eq(&tap.tally, &tally) && copies
            });
            if listens {
                continue;
            }
            let copies = copied.map(|shadow| Copies {
                share,
                turn: AtomicU64::new(0),
                shadow,
                shadowed: Arc::clone(&self.shadowed),
                sender: sender.clone(),
            });
            served.set_tap(Some(Arc::new(Tap { tally, copies })));
        }
    }
}

fn direct(traffic: &Weak<Traffic>, state: &Weak<State>) {
    loop {
        std::thread::sleep(TICK);
        let (Some(traffic), Some(state)) = (traffic.upgrade(), state.upgrade()) else { return };
        if traffic.ended.load(Ordering::Acquire) {
            return;
        }
        traffic.tick(&state);
    }
}
