//! A tensor as units × inputs: which weights feed one output, and where each of them lies in a picture.
//!
//! The weights of one unit are coded one after the other, so that a model sees what the same unit takes from the
//! neighbours of a pixel, and what earlier units take from the pixel itself.

use super::coder::Coder;
use super::numbers::Numbers;

/// How the elements of a tensor are walked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// Outputs: the columns of a dense weight, the first dimension of a convolution's; 1 for a vector.
    pub(super) units: usize,
    /// Weights of one unit.
    pub(super) inputs: usize,
    /// Inputs of one channel of the picture that they are; 0 when they are none.
    pub(super) plane: usize,
    /// Inputs of one line of the picture.
    pub(super) width: usize,
    /// Whether the elements of a unit lie `units` apart, as in a dense weight, and not side by side.
    pub(super) strided: bool,
}

impl View {
    /// The view that the shape alone tells, of a tensor of at least one element.
    pub(super) fn of(shape: &[usize]) -> Self {
        let flat = |units, inputs, strided| Self { units, inputs, plane: 0, width: 0, strided };
        match *shape {
            [inputs, units] => flat(units, inputs, true),
            [] | [_] => flat(1, shape.iter().product(), false),
            // Its elements could be counted, so no product overflows.
            [units, ref rest @ ..] => {
                let (plane, width) = match *rest {
                    [.., height, width] if rest.len() > 1 && height * width > 1 => (height * width, width),
                    _ => (0, 0),
                };
                Self { plane, width, ..flat(units, rest.iter().product(), false) }
            }
        }
    }

    /// Where the element of a unit lies.
    pub(super) fn index(&self, unit: usize, input: usize) -> usize {
        if self.strided { input * self.units + unit } else { unit * self.inputs + input }
    }

    /// Pictures that the inputs of a dense layer may be: one with equal sides, or the channels of the layer before.
    pub(super) fn pictures(&self, channels: usize) -> Vec<Self> {
        let square = |channels: usize| {
            let plane = self.inputs.checked_div(channels)?;
            let width = plane.isqrt();
            let whole = width > 1 && width * width * channels == self.inputs;
            whole.then_some(Self { plane, width, ..*self })
        };
        let mut found: Vec<Self> = [1, 3, channels].into_iter().filter_map(square).collect();
        found.dedup();
        if self.strided { found } else { Vec::new() }
    }

    /// Codes the picture of a dense layer, which its shape does not tell.
    pub(super) fn code<C: Coder>(mut self, coder: &mut C, numbers: &mut Numbers) -> Option<Self> {
        if self.strided {
            self.width = usize::try_from(numbers.code(coder, self.width as u64)).ok()?;
            if self.width > 0 {
                self.plane = usize::try_from(numbers.code(coder, self.plane as u64)).ok()?;
            }
            let possible = if self.width == 0 {
                self.plane == 0
            } else {
                self.plane >= self.width
                    && self.plane <= self.inputs
                    && self.plane.is_multiple_of(self.width)
                    && self.inputs.is_multiple_of(self.plane)
            };
            return possible.then_some(self);
        }
        Some(self)
    }
}

/// The number of units of a tensor of this shape, which may have no elements at all.
pub(super) fn units(shape: &[usize]) -> usize {
    match *shape {
        [_, units] | [units, _, _, ..] => units,
        _ => 1,
    }
}

/// How much the units of the layer before have of something, for each input of this one: a convolution's channel
/// stands for all its inputs. Nothing where the numbers do not fit.
pub(super) fn spread(before: &[u32], inputs: usize) -> Option<Vec<u32>> {
    let each = inputs.checked_div(before.len())?;
    if each == 0 || each * before.len() != inputs {
        return None;
    }
    Some(before.iter().flat_map(|&units| std::iter::repeat_n(units, each)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_has_its_place() {
        for shape in [vec![], vec![5], vec![3, 4], vec![2, 3, 4], vec![2, 3, 5, 5], vec![2, 3, 1, 1]] {
            let view = View::of(&shape);
            assert_eq!(units(&shape), view.units);
            let mut indices: Vec<usize> = (0..view.units)
                .flat_map(|unit| (0..view.inputs).map(move |input| view.index(unit, input)))
                .collect();
            indices.sort_unstable();
            let count: usize = shape.iter().product();
            assert_eq!(indices, (0..count).collect::<Vec<_>>(), "{shape:?}");
        }
        let conv = View::of(&[2, 3, 5, 4]);
        assert_eq!((conv.units, conv.inputs, conv.plane, conv.width), (2, 60, 20, 4));
        assert_eq!(View::of(&[4, 2, 1, 1]).plane, 0);
    }

    #[test]
    fn pictures_are_guessed_from_their_size() {
        let found = |shape: &[usize], channels| -> Vec<(usize, usize)> {
            View::of(shape).pictures(channels).iter().map(|view| (view.plane, view.width)).collect()
        };
        assert_eq!(found(&[784, 300], 0), [(784, 28)]);
        assert_eq!(found(&[800, 500], 50), [(16, 4)]);
        assert_eq!(found(&[3072, 10], 0), [(1024, 32)]);
        assert_eq!(found(&[301, 100], 301), []);
        assert_eq!(found(&[784], 1), []);
    }

    #[test]
    fn channels_stand_for_their_inputs() {
        assert_eq!(spread(&[1, 2], 6), Some(vec![1, 1, 1, 2, 2, 2]));
        assert_eq!((spread(&[], 6), spread(&[1; 4], 6), spread(&[1, 2], 0)), (None, None, None));
    }
}
