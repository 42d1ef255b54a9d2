//! The numbered steps of the tour, each with the time it took.

use std::time::Instant;

use cli::{Printer, duration};

pub(super) struct Steps<'a> {
    printer: &'a Printer,
    total: usize,
    number: usize,
    begun: Instant,
    step: Instant,
}

impl<'a> Steps<'a> {
    pub(super) fn new(printer: &'a Printer, total: usize) -> Self {
        Steps { printer, total, number: 0, begun: Instant::now(), step: Instant::now() }
    }

    /// Ends the step before, if there was one, and begins the next.
    pub(super) fn begin(&mut self, title: &str) {
        self.end_step();
        self.number += 1;
        self.step = Instant::now();
        let paint = self.printer.paint_status();
        self.printer.status(format!("{} {title}", paint.green(&format!("[{}/{}]", self.number, self.total))));
    }

    fn end_step(&self) {
        if self.number > 0 {
            let paint = self.printer.paint_status();
            self.printer.status(paint.dim(&format!("      {}\n", duration(self.step.elapsed()))));
        }
    }

    /// Ends the last step and says how long all of them took.
    pub(super) fn end(self) {
        self.end_step();
        self.printer.status(format!("all {} steps: {}\n", self.total, duration(self.begun.elapsed())));
    }
}
