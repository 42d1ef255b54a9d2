//! Images: decode, convert to grey or colour, fit to size, scale, standardise.

use std::io::Cursor;

use ::image::imageops::{self, FilterType};
use ::image::{DynamicImage, GrayImage, ImageDecoder, ImageReader, Limits, RgbImage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PreprocessError;
use super::drawing;
use crate::raw::{Bitmap, RawInput};

/// The longest side of an image that is decoded, and the memory that decoding may take: a small file can
/// claim to be a huge picture.
const MAX_SIDE: u32 = 8192;
const MAX_DECODED_BYTES: u64 = 256 << 20;

/// What happens to images. A value `v` in the data's units becomes `(v / max_value − mean) / std`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImagePreprocess {
    /// 1 (grey) or 3 (RGB).
    pub channels: usize,
    /// Rows of the prepared image.
    pub height: usize,
    /// Columns of the prepared image.
    pub width: usize,
    /// The value of a full pixel in the data's units: 255, or 16 for the optical digits.
    pub max_value: f32,
    /// Per channel, after the division by `max_value`.
    pub mean: Vec<f32>,
    /// Per channel, after the division by `max_value`.
    pub std: Vec<f32>,
    /// How an image of another size is brought to this one.
    pub fit: Fit,
}

/// How an image of another size is brought to the network's size. An image that has the size already is
/// taken as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fit {
    /// Resize height and width independently.
    Stretch,
    /// Resize so that the image covers the size, and cut the middle out.
    Crop,
    /// Resize so that the image fits into the size, and pad with black.
    Pad,
    /// A drawing: its ink is fitted into a square of `grid` × `grid` black and white pixels, and each
    /// prepared pixel counts the ink of its block, as the optical digits were made (Alpaydin & Kaynak 1998).
    DrawingCounts {
        /// The side of the square; a multiple of the height and the width.
        grid: usize,
    },
    /// A drawing: its ink is fitted into `inner` × `inner` pixels and placed with its centre of mass in
    /// the middle, as MNIST was made (LeCun et al. 1998).
    DrawingCentered {
        /// The side of the square that the ink fills.
        inner: usize,
    },
}

impl ImagePreprocess {
    pub(super) fn expects(&self) -> String {
        let channels = if self.channels == 1 { "" } else { " × 3 channels" };
        format!(
            "an image (PNG or JPEG), or {} rows × {} columns{channels} of numbers from 0 to {}",
            self.height, self.width, self.max_value
        )
    }

    /// Checks that the fields fit each other; a package may have been made by hand.
    ///
    /// # Errors
    /// What does not fit.
    pub fn check(&self) -> Result<(), String> {
        if self.channels != 1 && self.channels != 3 {
            return Err(format!("`channels` must be 1 or 3, but is {}", self.channels));
        }
        let side = MAX_SIDE as usize;
        if self.height == 0 || self.width == 0 || self.height > side || self.width > side {
            return Err(format!("`height` and `width` must be between 1 and {side}"));
        }
        if !(self.max_value > 0.0 && self.max_value.is_finite()) {
            return Err(format!("`max_value` must be above 0, but is {}", self.max_value));
        }
        if self.mean.len() != self.channels || self.std.len() != self.channels {
            return Err(format!(
                "`mean` and `std` need one value for each of the {} channels",
                self.channels
            ));
        }
        if !self.mean.iter().all(|mean| mean.is_finite()) || !self.std.iter().all(|std| *std > 0.0) {
            return Err("`mean` must be finite and `std` above 0".to_owned());
        }
        match self.fit {
            Fit::DrawingCounts { grid }
                if grid == 0 || grid > 1024 || grid % self.height != 0 || grid % self.width != 0 =>
            {
                Err(format!(
                    "`grid` must be a multiple of the height and the width, at most 1024, but is {grid}"
                ))
            }
            Fit::DrawingCentered { inner } if inner == 0 || inner > self.height.min(self.width) => {
                Err(format!("`inner` must be between 1 and the image's side, but is {inner}"))
            }
            _ => Ok(()),
        }
    }

    /// What a pixel of value 0 becomes, per channel: the colour to fill with when a prepared image is moved.
    #[must_use]
    pub fn background(&self) -> Vec<f32> {
        (0..self.channels).map(|channel| self.standardise(0.0, channel)).collect()
    }

    fn standardise(&self, scaled: f32, channel: usize) -> f32 {
        (scaled - self.mean[channel]) / self.std[channel]
    }

    pub(super) fn append(&self, input: &RawInput, out: &mut Vec<f32>) -> Result<(), PreprocessError> {
        match input {
            RawInput::Numbers(values) => self.append_numbers(values, out),
            RawInput::Bitmap(bitmap) => {
                self.append_bitmap(&to_dynamic(bitmap), out);
                Ok(())
            }
            RawInput::EncodedImage(bytes) => {
                self.append_bitmap(&decode(bytes)?, out);
                Ok(())
            }
            other => Err(PreprocessError::Kind { expected: self.expects(), found: other.kind() }),
        }
    }

    fn append_numbers(&self, values: &[f32], out: &mut Vec<f32>) -> Result<(), PreprocessError> {
        let (channels, size) = (self.channels, self.height * self.width);
        if values.len() != channels * size {
            let channel = if channels == 1 { String::new() } else { format!(" × {channels}") };
            let expected = format!("{} × {}{channel} = {}", self.height, self.width, channels * size);
            return Err(PreprocessError::Count { expected, found: values.len() });
        }
        super::finite(values)?;
        let range = 0.0..=self.max_value;
        if let Some(index) = values.iter().position(|value| !range.contains(value)) {
            return Err(PreprocessError::Range { index, value: values[index], max: self.max_value });
        }
        for channel in 0..channels {
            let pixels = values.iter().skip(channel).step_by(channels);
            out.extend(pixels.map(|value| self.standardise(value / self.max_value, channel)));
        }
        Ok(())
    }

    fn append_bitmap(&self, image: &DynamicImage, out: &mut Vec<f32>) {
        let (height, width) = (self.height as u32, self.width as u32);
        let fits = image.height() == height && image.width() == width;
        let pixels: Vec<u8> = if self.channels == 1 {
            let grey = image.to_luma8();
            let fitted = if fits {
                grey
            } else {
                match self.fit {
                    Fit::DrawingCounts { grid } => drawing::counts(&grey, grid as u32, height, width),
                    Fit::DrawingCentered { inner } => drawing::centered(&grey, inner as u32, height, width),
                    Fit::Stretch | Fit::Crop | Fit::Pad => self.resize(image).to_luma8(),
                }
            };
            fitted.into_raw()
        } else if fits {
            image.to_rgb8().into_raw()
        } else {
            self.resize(image).to_rgb8().into_raw()
        };
        for channel in 0..self.channels {
            let plane = pixels.iter().skip(channel).step_by(self.channels);
            out.extend(plane.map(|&value| self.standardise(f32::from(value) / 255.0, channel)));
        }
    }

    /// Resizes with a triangle filter, which averages when it shrinks.
    fn resize(&self, image: &DynamicImage) -> DynamicImage {
        let (height, width) = (self.height as u32, self.width as u32);
        match self.fit {
            Fit::Crop => image.resize_to_fill(width, height, FilterType::Triangle),
            Fit::Pad => {
                let inner = image.resize(width, height, FilterType::Triangle).to_rgb8();
                let mut padded = RgbImage::new(width, height);
                let (x, y) = ((width - inner.width()) / 2, (height - inner.height()) / 2);
                imageops::replace(&mut padded, &inner, i64::from(x), i64::from(y));
                padded.into()
            }
            // A drawing's fit concerns grey ink; a colour network has nothing to do with it.
            _ => image.resize_exact(width, height, FilterType::Triangle),
        }
    }
}

/// Decodes a PNG or JPEG file; transparent parts become white, the orientation that a camera noted is
/// applied.
///
/// # Errors
/// When the bytes are no such file, or claim a size over the limits (8192 pixels a side, 256 MiB decoded).
pub fn decode_image(bytes: &[u8]) -> Result<Bitmap, PreprocessError> {
    let image = decode(bytes)?;
    let (height, width) = (image.height() as usize, image.width() as usize);
    let bitmap = if image.color().has_color() {
        Bitmap::new(height, width, 3, image.into_rgb8().into_raw())
    } else {
        Bitmap::new(height, width, 1, image.into_luma8().into_raw())
    };
    bitmap.ok_or_else(|| unreadable("it has no pixels"))
}

/// How many pixels a PNG or JPEG file says that it has, without unpacking them.
///
/// # Errors
/// When the bytes are no such file.
pub fn image_pixels(bytes: &[u8]) -> Result<u64, PreprocessError> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(unreadable)?;
    let (width, height) = reader.into_dimensions().map_err(unreadable)?;
    Ok(u64::from(width) * u64::from(height))
}

fn unreadable(reason: impl ToString) -> PreprocessError {
    PreprocessError::Image { reason: reason.to_string(), limit: MAX_SIDE }
}

fn decode(bytes: &[u8]) -> Result<DynamicImage, PreprocessError> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(unreadable)?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(unreadable)?;
    let orientation = decoder.orientation().map_err(unreadable)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(unreadable)?;
    image.apply_orientation(orientation);
    if image.width() == 0 || image.height() == 0 {
        return Err(unreadable("it has no pixels"));
    }
    Ok(if image.color().has_alpha() { on_white(&image) } else { image })
}

fn on_white(image: &DynamicImage) -> DynamicImage {
    let pixels = image.to_rgba8();
    let blend = |value: u8, alpha: u8| {
        let (value, alpha) = (u32::from(value), u32::from(alpha));
        ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    if image.color().has_color() {
        RgbImage::from_fn(pixels.width(), pixels.height(), |x, y| {
            let [r, g, b, a] = pixels.get_pixel(x, y).0;
            [blend(r, a), blend(g, a), blend(b, a)].into()
        })
        .into()
    } else {
        GrayImage::from_fn(pixels.width(), pixels.height(), |x, y| {
            let [grey, _, _, alpha] = pixels.get_pixel(x, y).0;
            [blend(grey, alpha)].into()
        })
        .into()
    }
}

fn to_dynamic(bitmap: &Bitmap) -> DynamicImage {
    let (height, width) = (bitmap.height() as u32, bitmap.width() as u32);
    let pixels = bitmap.pixels().to_vec();
    let image = if bitmap.channels() == 1 {
        GrayImage::from_raw(width, height, pixels).map(DynamicImage::from)
    } else {
        RgbImage::from_raw(width, height, pixels).map(DynamicImage::from)
    };
    // A `Bitmap` guarantees that the sizes fit the pixels.
    image.unwrap_or_default()
}

/// Mean and standard deviation per channel, gathered from images one at a time.
#[derive(Clone, Debug)]
pub struct ChannelStatistics {
    sums: Vec<(f64, f64)>,
    count: u64,
}

impl ChannelStatistics {
    /// Statistics of no image yet.
    #[must_use]
    pub fn new(channels: usize) -> Self {
        Self { sums: vec![(0.0, 0.0); channels], count: 0 }
    }

    /// Adds one image: `[channels, height, width]`, values scaled to 0–1.
    pub fn add(&mut self, image: &[f32]) {
        let size = image.len() / self.sums.len().max(1);
        for ((sum, squares), plane) in self.sums.iter_mut().zip(image.chunks(size.max(1))) {
            for &value in plane {
                *sum += f64::from(value);
                *squares += f64::from(value) * f64::from(value);
            }
        }
        self.count += size as u64;
    }

    /// The means and standard deviations; a channel without a spread gets 1.
    #[must_use]
    pub fn finish(&self) -> (Vec<f32>, Vec<f32>) {
        let count = self.count.max(1) as f64;
        let each = self.sums.iter().map(|(sum, squares)| {
            let mean = sum / count;
            let deviation = (squares / count - mean * mean).max(0.0).sqrt();
            (mean as f32, if deviation > 1e-6 { deviation as f32 } else { 1.0 })
        });
        each.unzip()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::Preprocess;

    fn digits() -> ImagePreprocess {
        let (mean, std) = (vec![0.0], vec![1.0]);
        let fit = Fit::DrawingCounts { grid: 32 };
        ImagePreprocess { channels: 1, height: 8, width: 8, max_value: 16.0, mean, std, fit }
    }

    #[test]
    fn numbers_and_pixels_of_the_right_size_agree() {
        let mut rgb = digits();
        (rgb.channels, rgb.max_value, rgb.mean, rgb.std) =
            (3, 255.0, vec![0.1, 0.2, 0.3], vec![0.5, 0.6, 0.7]);
        rgb.fit = Fit::Stretch;
        let preprocess = Preprocess::Image(rgb);
        let pixels: Vec<u8> = (0..8 * 8 * 3).map(|value| (value % 251) as u8).collect();
        let numbers = RawInput::Numbers(pixels.iter().map(|&value| f32::from(value)).collect());
        let bitmap = RawInput::Bitmap(Bitmap::new(8, 8, 3, pixels).unwrap());
        let prepared = preprocess.prepare(&bitmap).unwrap();
        assert_eq!(prepared, preprocess.prepare(&numbers).unwrap());
        // The second plane begins with the green value of the first pixel.
        assert_eq!(prepared[64], (1.0 / 255.0 - 0.2) / 0.6);
    }

    #[test]
    fn refusals_say_what_is_expected() {
        let preprocess = Preprocess::Image(digits());
        let mut bad = vec![0.0; 64];
        bad[3] = 17.0;
        let cases = [
            (RawInput::Numbers(vec![0.0; 63]), "the model takes 8 × 8 = 64 numbers, but 63 were given"),
            (RawInput::Numbers(bad), "number 3 is 17, but pixels lie between 0 and 16"),
            (RawInput::Numbers(vec![f32::NAN; 64]), "number 0 is not finite"),
        ];
        for (input, message) in cases {
            assert_eq!(preprocess.prepare(&input).unwrap_err().to_string(), message);
        }
        let error = preprocess.prepare(&RawInput::EncodedImage(b"GIF89a".as_slice().into())).unwrap_err();
        assert!(error.to_string().starts_with("the image cannot be read: "), "{error}");
    }

    #[test]
    fn a_huge_claim_in_a_small_file_is_refused() {
        // A PNG header that claims 60,000 × 60,000 pixels.
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
        png.extend(60_000u32.to_be_bytes());
        png.extend(60_000u32.to_be_bytes());
        png.extend([8, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert!(decode_image(&png).is_err());
    }

    #[test]
    fn crop_pad_and_stretch_give_the_size() {
        // White above, black below; twice as high as wide.
        let pixels = (0..32 * 16).map(|index| if index < 16 * 16 { 255 } else { 0 }).collect();
        let input = RawInput::Bitmap(Bitmap::new(32, 16, 1, pixels).unwrap());
        for (fit, corner, left_of_middle) in
            [(Fit::Stretch, 1.0, 0.0), (Fit::Crop, 1.0, 0.0), (Fit::Pad, 0.0, 0.0)]
        {
            let prepared = Preprocess::Image(ImagePreprocess { fit, ..digits() }).prepare(&input).unwrap();
            assert_eq!(prepared.len(), 64, "{fit:?}");
            assert_eq!((prepared[0], prepared[7 * 8 + 3]), (corner, left_of_middle), "{fit:?}");
        }
    }

    #[test]
    fn statistics_of_channels() {
        let mut statistics = ChannelStatistics::new(2);
        statistics.add(&[0.0, 1.0, 0.5, 0.5]);
        statistics.add(&[1.0, 0.0, 0.5, 0.5]);
        assert_eq!(statistics.finish(), (vec![0.5, 0.5], vec![0.5, 1.0]));
    }
}
