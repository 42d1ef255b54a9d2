//! The order in which the values of one knob are tried.

/// Values to try: the first; while that holds, those that are stronger, one after the other; otherwise those that are
/// weaker, until one holds.
#[derive(Clone, Debug)]
pub(super) struct Ladder<T> {
    stronger: Vec<T>,
    weaker: Vec<T>,
    next: Option<T>,
}

impl<T: Copy + PartialOrd> Ladder<T> {
    /// `stronger(a, b)` says that `a` compresses more than `b`.
    pub(super) fn new(values: &[T], stronger: impl Fn(T, T) -> bool) -> Self {
        let Some((&first, others)) = values.split_first() else {
            return Self { stronger: Vec::new(), weaker: Vec::new(), next: None };
        };
        let (mut above, mut below): (Vec<T>, Vec<T>) =
            others.iter().copied().filter(|&value| value != first).partition(|&value| stronger(value, first));
        // From the mildest of the stronger to the strongest, and from the strongest of the weaker to the mildest.
        let by_strength = |a: &T, b: &T| match (stronger(*a, *b), stronger(*b, *a)) {
            (true, _) => std::cmp::Ordering::Greater,
            (_, true) => std::cmp::Ordering::Less,
            _ => std::cmp::Ordering::Equal,
        };
        above.sort_by(by_strength);
        below.sort_by(|a, b| by_strength(b, a));
        // The next is taken from the end.
        above.reverse();
        below.reverse();
        Self { stronger: above, weaker: below, next: Some(first) }
    }

    /// The value to try now.
    pub(super) fn next(&self) -> Option<T> {
        self.next
    }

    /// Goes on after a value that was kept or not.
    pub(super) fn tell(&mut self, kept: bool) {
        if kept {
            self.weaker.clear();
            self.next = self.stronger.pop();
        } else {
            self.stronger.clear();
            self.next = self.weaker.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn climb(values: &[f64], holds: impl Fn(f64) -> bool) -> Vec<f64> {
        let mut ladder = Ladder::new(values, |a, b| a < b);
        let mut tried = Vec::new();
        while let Some(value) = ladder.next() {
            tried.push(value);
            ladder.tell(holds(value));
        }
        tried
    }

    #[test]
    fn what_holds_is_made_stronger_and_what_does_not_weaker() {
        let shares = [0.5, 0.35, 0.25, 0.7, 0.9];
        assert_eq!(climb(&shares, |_| true), [0.5, 0.35, 0.25]);
        assert_eq!(climb(&shares, |share| share > 0.3), [0.5, 0.35, 0.25]);
        assert_eq!(climb(&shares, |share| share > 0.4), [0.5, 0.35]);
        assert_eq!(climb(&shares, |share| share > 0.6), [0.5, 0.7]);
        assert_eq!(climb(&shares, |_| false), [0.5, 0.7, 0.9]);
        assert!(climb(&[], |_| true).is_empty());
        assert_eq!(climb(&[0.5, 0.5], |_| true), [0.5]);
    }
}
