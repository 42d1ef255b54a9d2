//! The loop: one device, steps in a fixed order, a checkpoint after any of them.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use burn::data::dataloader::Progress;
use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::train::{
    EventProcessorTraining, Interrupter, Learner, LearnerEvent, SupervisedLearningStrategy,
    SupervisedTrainingEventProcessor, TrainLoader, TrainingComponents, TrainingItem, ValidLoader,
};
use network::{Affine, Weights};
use serde::{Deserialize, Serialize};

use super::batches::{Batch, Batches};
use super::checkpoint::{State, Sums, restore};
use super::hold::Held;
use super::trainee::{StepOutput, Trainee};
use super::{Checkpoint, Checkpoints, EpochRecord, FitError, Plan, step, write_history};

/// How a training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// All epochs are done.
    Completed,
    /// The validation part did not improve any more.
    StoppedEarly,
    /// Somebody asked; there is a checkpoint to go on from.
    Interrupted,
}

/// What a training gives.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// The best weights where early stopping watched, otherwise the last.
    pub weights: Weights,
    /// The epoch that the weights are from, counted from 1.
    pub epoch: usize,
    /// Every epoch.
    pub history: Vec<EpochRecord>,
    /// How it ended.
    pub finish: Finish,
    /// What the bytes of each value mean, where fake quantization found it.
    pub activations: BTreeMap<String, Affine>,
}

type Processor = SupervisedTrainingEventProcessor<Trainee>;

/// Our strategy. Burn's learner keeps its optimizer to itself, so the strategy has its own.
pub(super) struct Strategy {
    plan: Arc<Plan>,
    train: Arc<Batches>,
    validation: Arc<Batches>,
    checkpoints: Checkpoints,
    start: Mutex<Option<(ModuleOptimizer, Option<Checkpoint>)>>,
    outcome: Mutex<Option<Result<Fitted, FitError>>>,
}

/// What changes while training.
struct Run {
    model: Trainee,
    optimizer: ModuleOptimizer,
    state: State,
    best: Option<Weights>,
    /// The ranges that belong to the best weights.
    best_activations: BTreeMap<String, Affine>,
    held: Option<Held>,
    processor: Processor,
    interrupter: Interrupter,
}

impl Strategy {
    pub(super) fn new(
        plan: Arc<Plan>,
        optimizer: ModuleOptimizer,
        train: Arc<Batches>,
        validation: Arc<Batches>,
        resume: Option<Checkpoint>,
    ) -> Self {
        let checkpoints = Checkpoints::of_run(&plan.directory);
        let start = Mutex::new(Some((optimizer, resume)));
        Self { plan, train, validation, checkpoints, start, outcome: Mutex::new(None) }
    }

    /// The result, once.
    pub(super) fn take_outcome(&self) -> Option<Result<Fitted, FitError>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn run(&self, run: &mut Run) -> Result<Fitted, FitError> {
        if let Some(finish) = run.state.finished {
            return self.finish(run, finish);
        }
        self.guide(run)?;
        while run.state.epoch < self.plan.epochs {
            if self.epoch(run)? == Flow::Interrupted {
                self.save(run)?;
                return self.finish(run, Finish::Interrupted);
            }
            let over = self.plan.stopping.as_ref().is_some_and(|rule| rule.is_over(&run.state.stopping));
            let last = over || run.state.epoch == self.plan.epochs;
            if last {
                run.state.finished = Some(if over { Finish::StoppedEarly } else { Finish::Completed });
            }
            let every = self.plan.checkpoint.every_epochs;
            if last || (every > 0 && run.state.epoch.is_multiple_of(every)) {
                self.save(run)?;
            }
            if let Some(finish) = run.state.finished {
                return self.finish(run, finish);
            }
            if self.asked_to_stop(run) {
                self.save(run)?;
                return self.finish(run, Finish::Interrupted);
            }
        }
        self.finish(run, Finish::Completed)
    }

    /// Trains to the end of the epoch that is under way, then looks at the validation part.
    fn epoch(&self, run: &mut Run) -> Result<Flow, FitError> {
        let began = Instant::now();
        let before = run.state.epoch_seconds;
        let epoch = run.state.epoch;
        run.tell_train(LearnerEvent::StartSplit { epoch_number: epoch + 1, total_items: self.train.len() })?;
        let flow = self.prefetched(&self.train, epoch, run.state.step_in_epoch, |batch| {
            self.step(run, batch?)?;
            run.state.epoch_seconds = before + began.elapsed().as_secs_f64();
            if self.asked_to_stop(run) {
                return Ok(Flow::Interrupted);
            }
            let every = self.plan.checkpoint.every_steps;
            if every > 0 && run.state.step.is_multiple_of(every) {
                self.save(run)?;
            }
            Ok(Flow::Continues)
        })?;
        if flow == Flow::Interrupted {
            return Ok(flow);
        }
        run.tell_train(LearnerEvent::EndSplit(epoch + 1))?;
        let train_seconds = run.state.epoch_seconds.max(1e-9);
        let validation = if self.validation.len() > 0 { Some(self.validate(run, epoch)?) } else { None };
        self.record(run, validation, train_seconds, before + began.elapsed().as_secs_f64())?;
        run.tell_train(LearnerEvent::EndEpoch(epoch + 1))?;
        Ok(Flow::Continues)
    }

    /// One step of the optimizer.
    fn step(&self, run: &mut Run, batch: Batch) -> Result<(), FitError> {
        let learning_rate = self.learning_rate(run.state.step);
        let count = batch.targets.len();
        let clip_norm = self.plan.optimizer.clip_norm;
        let (model, output) =
            step::step(&run.model, &mut run.optimizer, batch, learning_rate, clip_norm, run.held.as_ref())?;
        let StepOutput { loss, score, .. } = output;
        if !loss.is_finite() {
            let (epoch, step) = (run.state.epoch + 1, run.state.step + 1);
            return Err(FitError::Diverged { loss, epoch, step, learning_rate });
        }
        run.model = model;
        run.state.sums.loss += loss * count as f64;
        run.state.sums.score += score * count as f64;
        run.state.sums.count += count;
        run.state.step += 1;
        run.state.step_in_epoch += 1;
        self.guide(run)?;
        let progress = Progress::new(run.state.sums.count, self.train.len(), Some("items".to_owned()));
        let iteration = run.state.step_in_epoch as usize;
        let item = TrainingItem::new(output, progress, Some(iteration), Some(learning_rate.into()));
        run.tell_train(LearnerEvent::ProcessedItem(item))
    }

    /// Before the first step and after every step: what guides the training may change with the steps.
    fn guide(&self, run: &mut Run) -> Result<(), FitError> {
        let step = run.state.step;
        if let Some(held) = &run.held
            && held.advance(step, &run.model.net)?
        {
            run.model.net = held.hold(run.model.net.clone());
        }
        if let (Some(simulation), Some(plan)) =
            (run.model.simulation(), &self.plan.guidance.fake_quantization)
        {
            let total = self.train.steps() * self.plan.epochs as u64;
            if step == (total as f64 * plan.freeze_after).round() as u64 {
                simulation.freeze(&run.model.companions.steps)?;
            }
        }
        Ok(())
    }

    fn learning_rate(&self, step: u64) -> f64 {
        let per_epoch = self.train.steps();
        let total = per_epoch * self.plan.epochs as u64;
        self.plan.optimizer.learning_rate * self.plan.schedule.factor(step, per_epoch, total)
    }

    /// The loss and the metric of the validation part, with the weights as they are.
    fn validate(&self, run: &mut Run, epoch: usize) -> Result<Sums, FitError> {
        if let Some(simulation) = run.model.simulation() {
            simulation.take(&run.model.companions.steps)?;
        }
        let model = run.model.valid();
        let mut sums = Sums::default();
        run.tell_valid(LearnerEvent::StartSplit {
            epoch_number: epoch + 1,
            total_items: self.validation.len(),
        })?;
        self.prefetched(&self.validation, epoch, 0, |batch| {
            let output = model.look(batch?).read(&model)?;
            sums.loss += output.loss * output.count as f64;
            sums.score += output.score * output.count as f64;
            sums.count += output.count;
            let progress = Progress::new(sums.count, self.validation.len(), Some("items".to_owned()));
            run.tell_valid(LearnerEvent::ProcessedItem(TrainingItem::new(output, progress, None, None)))?;
            Ok(Flow::Continues)
        })?;
        run.tell_valid(LearnerEvent::EndSplit(epoch + 1))?;
        Ok(sums)
    }

    /// Writes the epoch down and goes on to the next.
    fn record(
        &self,
        run: &mut Run,
        valid: Option<Sums>,
        train_seconds: f64,
        seconds: f64,
    ) -> Result<(), FitError> {
        let mean = |sum: f64, count: usize| sum / count.max(1) as f64;
        let sums = run.state.sums;
        let mut record = EpochRecord {
            epoch: run.state.epoch + 1,
            step: run.state.step,
            learning_rate: self.learning_rate(run.state.step.saturating_sub(1)),
            train_loss: mean(sums.loss, sums.count),
            train_score: mean(sums.score, sums.count),
            valid_loss: valid.map(|sums| mean(sums.loss, sums.count)),
            valid_score: valid.map(|sums| mean(sums.score, sums.count)),
            seconds,
            samples_per_second: sums.count as f64 / train_seconds,
            best: false,
        };
        // As long as the form of the weights changes, no epoch can be the best.
        let settled = run.held.as_ref().is_none_or(|held| held.constraint.is_settled());
        if let Some(rule) = self.plan.stopping.as_ref().filter(|_| settled) {
            record.best = rule.improved(&mut run.state.stopping, &record);
            if record.best {
                run.best = Some(run.model.net.weights()?);
                run.best_activations = run.activations()?;
            }
        }
        (self.plan.on_epoch)(&record);
        run.state.history.push(record);
        run.state.epoch += 1;
        run.state.step_in_epoch = 0;
        run.state.sums = Sums::default();
        run.state.epoch_seconds = 0.0;
        let metric = self.plan.objective.metric().name();
        write_history(&self.plan.directory, metric, &run.state.history).map_err(FitError::Metrics)
    }

    /// Feeds batches to `consume` while another thread prepares the next ones.
    fn prefetched(
        &self,
        batches: &Batches,
        epoch: usize,
        first: u64,
        mut consume: impl FnMut(Result<Batch, FitError>) -> Result<Flow, FitError>,
    ) -> Result<Flow, FitError> {
        std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel(2);
            scope.spawn(move || {
                for batch in batches.epoch(epoch, first) {
                    // The receiver is gone when the training was interrupted or failed.
                    if sender.send(batch).is_err() {
                        break;
                    }
                }
            });
            for batch in receiver {
                if consume(batch)? == Flow::Interrupted {
                    return Ok(Flow::Interrupted);
                }
            }
            Ok(Flow::Continues)
        })
    }

    fn asked_to_stop(&self, run: &Run) -> bool {
        self.plan.stop.load(Ordering::Relaxed) || run.interrupter.should_stop()
    }

    fn save(&self, run: &Run) -> Result<(), FitError> {
        let weights = run.model.net.weights()?;
        self.checkpoints.save(&run.state, &weights, run.best.as_ref(), &run.optimizer)?;
        Ok(())
    }

    fn finish(&self, run: &Run, finish: Finish) -> Result<Fitted, FitError> {
        let (weights, epoch, activations) = match (&run.best, run.state.stopping.best) {
            (Some(weights), Some(best)) if finish != Finish::Interrupted => {
                (weights.clone(), best.epoch, run.best_activations.clone())
            }
            _ => (run.model.net.weights()?, run.state.epoch, run.activations()?),
        };
        Ok(Fitted { weights, epoch, history: run.state.history.clone(), finish, activations })
    }
}

/// Whether the training goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Continues,
    Interrupted,
}

impl Run {
    /// The ranges as they are; none without fake quantization.
    fn activations(&self) -> Result<BTreeMap<String, Affine>, FitError> {
        let Some(simulation) = self.model.simulation() else { return Ok(BTreeMap::new()) };
        simulation.take(&self.model.companions.steps)?;
        Ok(simulation.activations())
    }

    fn tell_train(&mut self, event: LearnerEvent<StepOutput>) -> Result<(), FitError> {
        self.processor.process_train(event).map_err(|error| FitError::Display(error.to_string()))
    }

    fn tell_valid(&mut self, event: LearnerEvent<StepOutput>) -> Result<(), FitError> {
        self.processor.process_valid(event).map_err(|error| FitError::Display(error.to_string()))
    }
}

impl SupervisedLearningStrategy<Trainee> for Strategy {
    fn fit(
        &self,
        components: TrainingComponents<Trainee>,
        learner: Learner<Trainee>,
        _train: TrainLoader<Trainee>,
        _validation: ValidLoader<Trainee>,
        _starting_epoch: usize,
    ) -> (Trainee, Processor) {
        let model = learner.model();
        let start = self.start.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((optimizer, resume)) = start else {
            return (model, components.event_processor);
        };
        let constraint = self.plan.guidance.constraint.clone();
        let held = constraint.map(|constraint| Held::new(constraint, &model.net));
        let mut run = Run {
            model,
            optimizer,
            state: State::default(),
            best: None,
            best_activations: BTreeMap::new(),
            held,
            processor: components.event_processor,
            interrupter: components.interrupter,
        };
        let outcome = match resume {
            None => self.run(&mut run),
            Some(checkpoint) => {
                run.state = checkpoint.state;
                run.best = checkpoint.best;
                let restored = restore(run.optimizer.clone(), checkpoint.optimizer);
                restored.map_err(FitError::from).and_then(|optimizer| {
                    run.optimizer = optimizer;
                    self.run(&mut run)
                })
            }
        };
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        (run.model, run.processor)
    }
}
