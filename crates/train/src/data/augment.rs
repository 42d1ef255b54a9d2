//! Random shifts of prepared images, as a pure function of (seed, epoch, sample).

use super::draws::{Purpose, below, stream};

/// Moves a prepared image by up to `max_shift` pixels in each direction, in place.
///
/// `values` is `[channels, height, width]` in row-major order; what comes into view is filled with `fill`,
/// one value per channel (see `ImagePreprocess::background`). Other shapes stay as they are.
pub fn shift(
    values: &mut [f32],
    shape: &[usize],
    max_shift: usize,
    (seed, epoch, sample): (u64, u64, u64),
    fill: &[f32],
) {
    let &[channels, height, width] = shape else { return };
    if max_shift == 0 || values.len() != channels * height * width {
        return;
    }
    let mut rng = stream(seed, Purpose::Shift, epoch, sample);
    let mut offset = || below(&mut rng, 2 * max_shift as u64 + 1) as isize - max_shift as isize;
    let (down, right) = (offset(), offset());
    let mut moved = Vec::with_capacity(height * width);
    for (channel, plane) in values.chunks_exact_mut((height * width).max(1)).enumerate() {
        let fill = fill.get(channel).copied().unwrap_or(0.0);
        moved.clear();
        for row in 0..height {
            for column in 0..width {
                let from = source(row, down, height).zip(source(column, right, width));
                moved.push(from.map_or(fill, |(row, column)| plane[row * width + column]));
            }
        }
        plane.copy_from_slice(&moved);
    }
}

/// The place from which a pixel comes, when that lies inside.
fn source(position: usize, offset: isize, size: usize) -> Option<usize> {
    position.checked_add_signed(-offset).filter(|position| *position < size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_move_together_and_the_rest_is_filled() {
        let original: Vec<f32> = (1..=2 * 4 * 5).map(|value| value as f32).collect();
        let mut seen = std::collections::BTreeSet::new();
        for sample in 0..200 {
            let mut values = original.clone();
            shift(&mut values, &[2, 4, 5], 1, (9, 2, sample), &[-1.0, -2.0]);
            let mut again = original.clone();
            shift(&mut again, &[2, 4, 5], 1, (9, 2, sample), &[-1.0, -2.0]);
            assert_eq!(values, again);
            // The pixel (1, 1) of channel 0 holds 7: where it went tells the offset of every pixel.
            let at = values.iter().position(|value| *value == 7.0).unwrap();
            let (down, right) = (at as isize / 5 - 1, at as isize % 5 - 1);
            seen.insert((down, right));
            for (index, value) in values.iter().enumerate() {
                let (channel, row, column) =
                    (index / 20, index as isize % 20 / 5 - down, index as isize % 5 - right);
                let inside = (0..4).contains(&row) && (0..5).contains(&column);
                let expected = if inside {
                    original[channel * 20 + row as usize * 5 + column as usize]
                } else {
                    [-1.0, -2.0][channel]
                };
                assert_eq!(*value, expected);
            }
        }
        assert_eq!(seen.len(), 9, "all nine offsets occur");
    }

    #[test]
    fn epochs_differ_and_tables_stay() {
        let original: Vec<f32> = (0..64).map(|value| value as f32).collect();
        let run = |epoch| {
            let mut values = original.clone();
            shift(&mut values, &[1, 8, 8], 3, (0, epoch, 5), &[0.0]);
            values
        };
        assert!((0..5).map(run).collect::<Vec<_>>().windows(2).any(|pair| pair[0] != pair[1]));
        let mut row = original.clone();
        shift(&mut row, &[64], 3, (0, 0, 0), &[0.0]);
        assert_eq!(row, original);
    }
}
