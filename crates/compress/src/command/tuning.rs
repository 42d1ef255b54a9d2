//! What commands that train have in common: epochs are told, and Ctrl-C packs nothing.

use cli::{ErrorExt as _, Interrupt, Printer};
use compress::finetune::{FinetuneHooks, Finetuned};
use predict::DeviceSpec;
use train::config::Metric;
use train::fit::{EpochRecord, Finish};

/// Where a command trains, and who may stop it.
pub(crate) struct Tuning<'a> {
    printer: &'a Printer,
    interrupt: Interrupt,
    device: DeviceSpec,
}

impl<'a> Tuning<'a> {
    /// Begins to listen to Ctrl-C.
    pub(crate) fn new(printer: &'a Printer, device: DeviceSpec) -> anyhow::Result<Self> {
        Ok(Self { printer, interrupt: Interrupt::listen()?, device: device.resolve().usage()? })
    }

    /// Runs something that trains, telling its epochs.
    pub(crate) fn run<T, E>(
        &self,
        epochs: usize,
        metric: Metric,
        train: impl FnOnce(&mut FinetuneHooks<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut epoch = |record: &EpochRecord| {
            self.printer.milestone(&record.event(epochs, metric), || record.line(epochs, metric));
        };
        train(&mut FinetuneHooks { epoch: &mut epoch, stop: self.interrupt.flag(), device: self.device })
    }

    /// True, with a word about it, when somebody asked to stop: the training, or what was done after it.
    pub(crate) fn was_stopped(&self, tuned: &Finetuned) -> bool {
        let stopped = tuned.finish == Finish::Interrupted || self.interrupt.is_requested();
        if stopped {
            self.printer.warn("stopped before the training was over; nothing is packed");
        }
        stopped
    }
}
