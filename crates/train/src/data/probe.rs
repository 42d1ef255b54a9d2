//! What size the images of a folder have, judged by the headers of some of them.

use std::io::{BufReader, Cursor};

use image::{ImageDecoder, ImageReader};
use network::RawInput;

use super::DataError;
use super::folder::FolderSource;
use super::source::Source;

/// Images whose headers are read, evenly spread.
const PROBED: usize = 256;

/// What was found.
pub(super) struct Probe {
    /// 1 when every image is grey, otherwise 3.
    pub(super) channels: usize,
    smallest: [usize; 2],
    largest: [usize; 2],
}

impl Probe {
    /// The size that all images have.
    pub(super) fn size(&self, root: &str) -> Result<[usize; 2], DataError> {
        if self.smallest == self.largest {
            return Ok(self.smallest);
        }
        let ([low, left], [high, right]) = (self.smallest, self.largest);
        let problem = format!(
            "images of different sizes ({low}×{left} and {high}×{right}, height × width); say what the network reads: \
             data.image.size = [height, width]"
        );
        Err(DataError::file(root, problem))
    }
}

/// Reads the headers of some images.
pub(super) fn probe(source: &FolderSource) -> Result<Probe, DataError> {
    let count = source.len().min(PROBED);
    let mut found: Option<Probe> = None;
    for step in 0..count {
        let index = step * source.len() / count;
        let (size, channels) = header(source, index)?;
        let probe = found.get_or_insert(Probe { channels, smallest: size, largest: size });
        probe.channels = probe.channels.max(channels);
        probe.smallest = probe.smallest.min(size);
        probe.largest = probe.largest.max(size);
    }
    found.ok_or_else(|| DataError::file("the folder", "no images"))
}

/// Height and width, and 1 or 3 channels, of one image.
fn header(source: &FolderSource, index: usize) -> Result<([usize; 2], usize), DataError> {
    let unreadable = |error: image::ImageError| {
        DataError::file(
            &source.describe(index),
            format!("this is no PNG or JPEG file that can be read: {error}"),
        )
    };
    let RawInput::EncodedImage(bytes) = source.read(index)? else {
        return Err(DataError::file(&source.describe(index), "expected an image file"));
    };
    let reader = ImageReader::new(BufReader::new(Cursor::new(bytes))).with_guessed_format();
    let reader = reader.map_err(|error| unreadable(image::ImageError::IoError(error)))?;
    let decoder = reader.into_decoder().map_err(unreadable)?;
    let (width, height) = decoder.dimensions();
    let channels = if decoder.color_type().has_color() { 3 } else { 1 };
    Ok(([height as usize, width as usize], channels))
}
