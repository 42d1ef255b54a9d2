//! Looking at the values inside while a program runs, and changing them: for calibration, and to see what the
//! rounding of one value costs.

use crate::error::RunError;
use crate::program::Program;
use crate::spread::{Run, visit};

impl Program {
    /// Runs `rows` samples of all inputs on this thread and shows what each layer gives, for the ranges of a
    /// [`Plan`](crate::Plan): `show` gets the name of a layer (the last of those that are fused) or of an input, and
    /// some of its values; it is called many times for each. Values inside fused operations are not seen, and need
    /// no range. An input is shown once, as the caller gave it; any other value of up to
    /// [`Program::block_rows`] samples at a time, sample by sample, row by row, pixel by pixel, all channels of a
    /// pixel at once. Bytes are not shown.
    ///
    /// # Errors
    /// When an input is missing or does not fit.
    pub fn observe(
        &self,
        inputs: &[&[f32]],
        rows: usize,
        show: &mut dyn FnMut(&str, &[f32]),
    ) -> Result<(), RunError> {
        self.alter(inputs, rows, &mut |name, values| show(name, values)).map(drop)
    }

    /// As [`Program::observe`], with values that may be changed: whatever runs after it goes on with what it is
    /// made. Returns all outputs.
    ///
    /// # Errors
    /// As [`Program::observe`].
    pub fn alter(
        &self,
        inputs: &[&[f32]],
        rows: usize,
        change: &mut dyn FnMut(&str, &mut [f32]),
    ) -> Result<Vec<Vec<f32>>, RunError> {
        // Before anything is made that is as large as it is said to be.
        self.check_inputs(inputs, rows)?;
        let mut outputs: Vec<Vec<f32>> =
            self.outputs.iter().map(|port| vec![0.0; rows.saturating_mul(port.values)]).collect();
        let mut slices: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        let mut scratch = self.scratch();
        self.check(&scratch, inputs, rows, &slices)?;
        let mut inputs: Vec<Vec<f32>> = inputs.iter().map(|input| input.to_vec()).collect();
        for (port, input) in self.inputs.iter().zip(&mut inputs) {
            change(&port.name, input);
        }
        let sources: Vec<_> = inputs.iter().zip(&self.inputs).map(|(i, p)| (i.as_ptr(), p.values)).collect();
        let targets: Vec<_> =
            slices.iter_mut().zip(&self.outputs).map(|(o, p)| (o.as_mut_ptr(), p.values)).collect();
        let (steps, isa, block) = (self.steps.as_slice(), self.isa, self.rows);
        let lanes = scratch.lanes_mut();
        visit(&Run { steps, isa, block, rows, inputs: &sources, outputs: &targets, lanes }, change);
        Ok(outputs)
    }
}
