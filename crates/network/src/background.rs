//! Work that must not be in the way of other work: loading the next version while requests are answered.
//!
//! The scheduler of the system alone does not see to that. Whichever priority a thread has, once it is on a processor
//! it stays there, until another thread is woken there or its time slice is over, which on many systems is found out
//! every 4 ms only; and meanwhile a thread may wait that was in the middle of a request. So work in the background
//! offers its processor to others every few microseconds ([`breathe`]).

use std::cell::Cell;

thread_local! {
    static BACKGROUND: Cell<bool> = const { Cell::new(false) };
}

/// This thread works in the background from now on, for as long as it lives.
pub fn enter() {
    BACKGROUND.set(true);
}

/// Whether this thread works in the background. What it computes it computes alone: helpers would wait for it, nobody
/// else would have them meanwhile, and those that it was the first to start would inherit its priority.
#[must_use]
pub fn is_background() -> bool {
    BACKGROUND.get()
}

/// Lets whoever waits for this processor have it, where this thread works in the background; elsewhere it does nothing.
/// To be called in loops that take long, about every 20 to 50 µs.
pub fn breathe() {
    if is_background() {
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_is_in_the_background_and_the_others_are_not() {
        std::thread::spawn(|| {
            enter();
            breathe();
            assert!(is_background());
        })
        .join()
        .unwrap();
        assert!(!is_background());
    }
}
