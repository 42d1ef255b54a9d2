//! Drawings: from any picture of ink on paper to the form in which a data set holds its digits.

use ::image::imageops::{self, FilterType};
use ::image::{GrayImage, Luma};

/// Ink at or above this value counts as drawn.
const INK: u8 = 96;

/// The picture with ink bright on dark. Paper is what the border shows.
fn ink_on_dark(image: &GrayImage) -> GrayImage {
    let (width, height) = image.dimensions();
    let border = (0..width)
        .flat_map(|x| [(x, 0), (x, height - 1)])
        .chain((0..height).flat_map(|y| [(0, y), (width - 1, y)]));
    let (sum, count) = border
        .fold((0u64, 0u64), |(sum, count), (x, y)| (sum + u64::from(image.get_pixel(x, y).0[0]), count + 1));
    let mut image = image.clone();
    if sum > count * 127 {
        imageops::invert(&mut image);
    }
    image
}

/// The part of the picture that holds its ink, scaled so that the longer side is `side`; `None` for an
/// empty picture.
fn ink(image: &GrayImage, side: u32) -> Option<GrayImage> {
    let image = ink_on_dark(image);
    let drawn = image.enumerate_pixels().filter(|(_, _, pixel)| pixel.0[0] >= INK);
    let (left, top, right, bottom) = drawn
        .fold((u32::MAX, u32::MAX, 0, 0), |(l, t, r, b), (x, y, _)| (l.min(x), t.min(y), r.max(x), b.max(y)));
    if left == u32::MAX {
        return None;
    }
    let (width, height) = (right - left + 1, bottom - top + 1);
    let cut = imageops::crop_imm(&image, left, top, width, height).to_image();
    let longest = width.max(height);
    let scale = |length: u32| ((length * side + longest / 2) / longest).max(1);
    Some(imageops::resize(&cut, scale(width), scale(height), FilterType::Triangle))
}

/// The ink of each block of a `grid` × `grid` black and white picture, as a share of the block: 0–255.
pub(super) fn counts(image: &GrayImage, grid: u32, height: u32, width: u32) -> GrayImage {
    let mut counts = vec![0u32; (height * width) as usize];
    let (block_height, block_width) = (grid / height, grid / width);
    if let Some(ink) = ink(image, grid) {
        let (left, top) = ((grid - ink.width()) / 2, (grid - ink.height()) / 2);
        for (x, y, pixel) in ink.enumerate_pixels() {
            if pixel.0[0] >= 128 {
                let (row, column) = ((y + top) / block_height, (x + left) / block_width);
                counts[(row * width + column) as usize] += 1;
            }
        }
    }
    let full = block_height * block_width;
    GrayImage::from_fn(width, height, |x, y| Luma([(counts[(y * width + x) as usize] * 255 / full) as u8]))
}

/// The ink in `inner` × `inner` pixels, its centre of mass in the middle of the picture.
pub(super) fn centered(image: &GrayImage, inner: u32, height: u32, width: u32) -> GrayImage {
    let mut picture = GrayImage::new(width, height);
    let Some(ink) = ink(image, inner) else {
        return picture;
    };
    let (mut mass, mut x_sum, mut y_sum) = (0.0f64, 0.0f64, 0.0f64);
    for (x, y, pixel) in ink.enumerate_pixels() {
        let weight = f64::from(pixel.0[0]);
        mass += weight;
        x_sum += weight * (f64::from(x) + 0.5);
        y_sum += weight * (f64::from(y) + 0.5);
    }
    if mass > 0.0 {
        let left = (f64::from(width) / 2.0 - x_sum / mass).round() as i64;
        let top = (f64::from(height) / 2.0 - y_sum / mass).round() as i64;
        imageops::replace(&mut picture, &ink, left, top);
    }
    picture
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A vertical bar, drawn somewhere on a large sheet.
    fn bar(paper: u8, pen: u8) -> GrayImage {
        GrayImage::from_fn(200, 300, |x, y| {
            Luma([if (120..140).contains(&x) && (40..200).contains(&y) { pen } else { paper }])
        })
    }

    #[test]
    fn place_size_and_polarity_of_the_drawing_do_not_matter() {
        let white_on_black = counts(&bar(0, 255), 32, 8, 8);
        assert_eq!(white_on_black, counts(&bar(255, 0), 32, 8, 8));
        // 160 high becomes 32, 20 wide becomes 4: columns 14 to 17 of 32, half of blocks 3 and 4.
        for (x, y, pixel) in white_on_black.enumerate_pixels() {
            let expected = if x == 3 || x == 4 { 127 } else { 0 };
            assert_eq!(pixel.0[0], expected, "at {x}, {y}");
        }
    }

    #[test]
    fn the_centre_of_mass_is_in_the_middle() {
        let picture = centered(&bar(255, 0), 20, 28, 28);
        let columns: Vec<u32> =
            picture.enumerate_pixels().filter(|(_, _, pixel)| pixel.0[0] > 128).map(|(x, _, _)| x).collect();
        assert!(columns.iter().all(|x| (12..=15).contains(x)), "{columns:?}");
        assert!(!columns.is_empty());
    }

    #[test]
    fn an_empty_sheet_is_background() {
        for paper in [0, 255] {
            let sheet = GrayImage::from_pixel(50, 60, Luma([paper]));
            assert!(counts(&sheet, 32, 8, 8).pixels().all(|pixel| pixel.0[0] == 0));
            assert!(centered(&sheet, 20, 28, 28).pixels().all(|pixel| pixel.0[0] == 0));
        }
    }
}
