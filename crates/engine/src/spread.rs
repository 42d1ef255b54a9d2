//! How a run is spread over threads.
//!
//! Few rows and little work stay on the calling thread. Many rows are cut into blocks, and each thread takes the
//! next block through the whole program. The blocks shrink towards the end (guided self-scheduling, Polychronopoulos
//! and Kuck 1987), for a thread that something else kept from its processor must not keep the others waiting with a
//! large block. One row of a large network goes through the program step by step, and
//! the threads share each step that is worth it: the caller leads, and whoever is awake follows. Nobody waits
//! for a thread that has not begun.
#![allow(unsafe_code, reason = "hands the memory to the steps that were planned for it")]

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use network::background;

use crate::exec::{self, Env, Share, units};
use crate::isa::Isa;
use crate::layout::View;
use crate::pool::{Pool, wait};
use crate::program::Lane;
use crate::step::Step;

/// Vector operations from which on a second thread pays: about 25 µs.
const WORTH_WAKING: u64 = 60_000;
/// Vector operations of the smallest block of rows: about 100 µs. Less would read the weights too often.
const BLOCK: u64 = 4 * WORTH_WAKING;
/// Vector operations of the smallest share of a step: about 1.5 µs, a few times what handing it over costs.
const SHARE: u64 = 4_000;

/// One call of a program whose buffers have been measured.
pub(crate) struct Run<'a> {
    pub(crate) steps: &'a [Step],
    pub(crate) isa: Isa,
    /// Rows that the arena has room for.
    pub(crate) block: usize,
    pub(crate) rows: usize,
    /// The caller's buffers, each with the floats of a row.
    pub(crate) inputs: &'a [(*const f32, usize)],
    pub(crate) outputs: &'a [(*mut f32, usize)],
    /// Borrowed alone: nobody else touches this memory during the run.
    pub(crate) lanes: &'a mut [Lane],
}

/// What the threads share of a run.
#[derive(Clone, Copy)]
struct Shared<'a> {
    steps: &'a [Step],
    isa: Isa,
    inputs: &'a [(*const f32, usize)],
    outputs: &'a [(*mut f32, usize)],
    lanes: &'a [Lane],
}

// SAFETY: the pointers are used through `exec::run` alone, which gives each thread rows, values or shares of its
// own.
unsafe impl Sync for Shared<'_> {}

impl Shared<'_> {
    fn env(&self, rows: usize, first: usize, arena: usize, workspace: usize) -> Env<'_> {
        Env {
            isa: self.isa,
            rows,
            first,
            arena: self.lanes[arena].arena.as_ptr(),
            workspace: self.lanes[workspace].workspace.as_ptr(),
            inputs: self.inputs,
            outputs: self.outputs,
        }
    }

    /// Runs the whole program on one block of rows.
    fn block(&self, rows: usize, first: usize, lane: usize) {
        let env = self.env(rows, first, lane, lane);
        for step in self.steps {
            // SAFETY: the memory is the program's, the caller's buffers have been measured, and this thread
            // alone has this lane and these rows.
            unsafe { exec::run(step, &env, Share::ALL) };
            background::breathe();
        }
    }
}

pub(crate) fn spread(run: &Run<'_>, pool: Option<&Pool>) {
    let (rows, block) = (run.rows, run.block);
    let Run { steps, isa, inputs, outputs, .. } = *run;
    let shared = Shared { steps, isa, inputs, outputs, lanes: run.lanes };
    let cost: u64 = steps.iter().map(|step| step.cost).sum::<u64>().saturating_mul(rows as u64);
    let threads = pool.map_or(1, |pool| pool.threads().min(shared.lanes.len()));
    let Some(pool) = pool.filter(|_| threads > 1 && cost > WORTH_WAKING) else {
        for first in (0..rows).step_by(block) {
            shared.block(block.min(rows - first), first, 0);
        }
        return;
    };
    if rows >= 2 * threads {
        let least = usize::try_from(BLOCK.div_ceil((cost / rows as u64).max(1))).unwrap_or(usize::MAX);
        let next = AtomicUsize::new(0);
        let whole = &shared;
        pool.run(&|thread| {
            if thread >= threads {
                return;
            }
            while let Some((first, count)) = take(&next, rows, threads, least, block) {
                whole.block(count, first, thread);
            }
        });
        return;
    }
    for first in (0..rows).step_by(block) {
        let rows = block.min(rows - first);
        let team = Team {
            shared,
            rows,
            threads,
            progress: Apart(AtomicU64::new(0)),
            done: Apart(AtomicUsize::new(0)),
        };
        pool.run(&|thread| {
            if thread < threads {
                let env = team.shared.env(rows, first, 0, thread);
                if thread == 0 { team.lead(&env) } else { team.follow(thread, &env) }
            }
        });
    }
}

/// Takes the next block: its first row, and how many it has. It is the `2 · threads`-th part of what is left, at least
/// `least` rows, unless that many would leave a thread without any, and at most `most`.
fn take(
    next: &AtomicUsize,
    rows: usize,
    threads: usize,
    least: usize,
    most: usize,
) -> Option<(usize, usize)> {
    let least = least.min(rows.div_ceil(2 * threads));
    let count = |first: usize| {
        let left = rows.saturating_sub(first);
        left.div_ceil(2 * threads).max(least).min(most).min(left)
    };
    let first = next
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |first| {
            (first < rows).then(|| first + count(first))
        })
        .ok()?;
    Some((first, count(first)))
}

/// Fills the frames around the values of a new lane with room for `rows` samples.
pub(crate) fn fill_frames(lane: &Lane, isa: Isa, rows: usize, frames: &[(View, u8)]) {
    let (arena, workspace) = (lane.arena.as_ptr(), lane.workspace.as_ptr());
    let env = Env { isa, rows, first: 0, arena, workspace, inputs: &[], outputs: &[] };
    for (view, fill) in frames {
        // SAFETY: the views were placed in this arena for so many rows, and nobody else has it yet.
        unsafe { exec::clear(&env, view, *fill) };
    }
}

/// Runs one block on this thread and keeps the least time of each step.
pub(crate) fn time(run: &Run<'_>, best: &mut [Duration]) {
    let Run { steps, isa, inputs, outputs, .. } = *run;
    let shared = Shared { steps, isa, inputs, outputs, lanes: run.lanes };
    let env = shared.env(run.rows, 0, 0, 0);
    for (step, best) in steps.iter().zip(best) {
        let start = Instant::now();
        // SAFETY: as in `Shared::block`.
        unsafe { exec::run(step, &env, Share::ALL) };
        *best = start.elapsed().min(*best);
    }
}

/// Runs on this thread and shows each value in f32 after the step that made it, pixel by pixel; it may be changed.
pub(crate) fn visit(run: &Run<'_>, visitor: &mut dyn FnMut(&str, &mut [f32])) {
    let Run { steps, isa, inputs, outputs, rows, block, .. } = *run;
    let shared = Shared { steps, isa, inputs, outputs, lanes: run.lanes };
    for first in (0..rows).step_by(block) {
        let env = shared.env(block.min(rows - first), first, 0, 0);
        for step in steps {
            // SAFETY: as in `Shared::block`; the value is shown before another step may write over it.
            unsafe {
                exec::run(step, &env, Share::ALL);
                exec::visit(step, &env, visitor);
            }
        }
    }
}

/// Threads that go through the steps together.
struct Team<'a> {
    shared: Shared<'a>,
    rows: usize,
    threads: usize,
    /// The step that is shared now, counted from 1, and in the lower half a bit for each share that is taken.
    progress: Apart<AtomicU64>,
    /// Shares of that step that are complete.
    done: Apart<AtomicUsize>,
}

/// On cache lines of its own: whoever waits for the one must not hold up who counts in the other.
#[repr(align(128))]
struct Apart<T>(T);

const END: u64 = u64::MAX;
/// A bit for each.
const MOST_SHARES: usize = 32;

impl Team<'_> {
    /// Into how many shares a step is cut; 1: the leader runs it alone.
    fn shares(&self, step: &Step) -> usize {
        let worth = (step.cost.saturating_mul(self.rows as u64) / SHARE).min(self.threads as u64);
        units(step, self.rows).min(worth as usize).clamp(1, MOST_SHARES)
    }

    fn lead(&self, env: &Env<'_>) {
        let _end = Ending(&self.progress.0);
        for (index, step) in self.shared.steps.iter().enumerate() {
            let count = self.shares(step);
            if count == 1 {
                // SAFETY: as in `Shared::block`; the followers have no share to run.
                unsafe { exec::run(step, env, Share::ALL) };
                continue;
            }
            self.done.0.store(0, Ordering::Relaxed);
            self.progress.0.store((index as u64 + 1) << 32, Ordering::Release);
            while self.take(index, count, 0, env) {}
            let mut spins = 0;
            while self.done.0.load(Ordering::Acquire) < count {
                wait(&mut spins);
            }
        }
    }

    fn follow(&self, thread: usize, env: &Env<'_>) {
        let mut spins = 0;
        loop {
            let progress = self.progress.0.load(Ordering::Acquire);
            if progress == END {
                return;
            }
            let index = (progress >> 32) as usize;
            let Some(step) = index.checked_sub(1).and_then(|index| self.shared.steps.get(index)) else {
                wait(&mut spins);
                continue;
            };
            if self.take(index - 1, self.shares(step), thread, env) {
                spins = 0;
            } else {
                wait(&mut spins);
            }
        }
    }

    /// Runs a share of a step that nobody has taken; `false` when none is left. Each thread begins with its own
    /// part, the same in every step, so that it finds in its cache what it wrote before; then it takes from the
    /// end, away from where the others work.
    fn take(&self, index: usize, count: usize, thread: usize, env: &Env<'_>) -> bool {
        let number = index as u64 + 1;
        let own = (thread * count).div_ceil(self.threads)..((thread + 1) * count).div_ceil(self.threads);
        let mut progress = self.progress.0.load(Ordering::Acquire);
        loop {
            if progress == END || progress >> 32 != number {
                return false;
            }
            let free = |share: &usize| progress >> share & 1 == 0;
            let Some(share) = own.clone().find(free).or_else(|| (0..count).rev().find(free)) else {
                return false;
            };
            let taken = progress | 1 << share;
            match self.progress.0.compare_exchange(progress, taken, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    let _done = Done(&self.done.0);
                    // SAFETY: as in `Shared::block`; the share is this thread's alone, and the steps before
                    // are complete.
                    unsafe { exec::run(&self.shared.steps[index], env, Share { index: share, count }) };
                    return true;
                }
                Err(found) => progress = found,
            }
        }
    }
}

/// Counts a share as complete, also when it panics: the pool reports that.
struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// Sends the followers home, also when the leader panics.
struct Ending<'a>(&'a AtomicU64);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(END, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_all_rows_once_and_shrink() {
        for (rows, threads, least, most) in
            [(32, 2, 1, 8), (32, 2, 3, 64), (7, 3, 1, 1), (64, 2, 100, 64), (100, 4, 2, 5)]
        {
            let next = AtomicUsize::new(0);
            let blocks: Vec<_> = std::iter::from_fn(|| take(&next, rows, threads, least, most)).collect();
            let mut end = 0;
            for (first, count) in &blocks {
                assert_eq!(*first, end, "{blocks:?}");
                assert!((1..=most).contains(count), "{blocks:?}");
                end += count;
            }
            assert_eq!(end, rows);
            assert!(blocks.is_sorted_by(|a, b| a.1 >= b.1), "{blocks:?}");
            assert!(blocks.len() >= threads, "{blocks:?}");
        }
        let next = AtomicUsize::new(0);
        let counts: Vec<_> =
            std::iter::from_fn(|| take(&next, 32, 2, 1, 64)).map(|(_, count)| count).collect();
        assert_eq!(counts, [8, 6, 5, 4, 3, 2, 1, 1, 1, 1]);
    }
}
