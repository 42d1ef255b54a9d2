//! One real digit out of the embedded data: the input of the predictions.

use std::io::Read;
use std::path::Path;

use anyhow::{Context as _, ensure};
use flate2::read::GzDecoder;
use image::{ExtendedColorType, ImageEncoder as _, codecs::png::PngEncoder};

const IMAGES: &str = "crates/train/data/digits/digits-images-idx3-ubyte.gz";
const LABELS: &str = "crates/train/data/digits/digits-labels-idx1-ubyte.gz";
const SIDE: usize = 8;
/// The largest pixel value in the data.
const MAX: u8 = 16;
/// Which of the 1,797 images: a seven that is no textbook seven.
const INDEX: usize = 7;
/// More than the files hold when they are unpacked.
const LIMIT_BYTES: u64 = 1 << 20;

/// An 8×8 image with values from 0 to 16, and what it shows.
#[derive(Debug)]
pub(super) struct Digit {
    pixels: Vec<u8>,
    pub(super) label: u8,
}

impl Digit {
    /// Reads the digit from the files below the root of the workspace.
    pub(super) fn read(root: &Path) -> anyhow::Result<Self> {
        let images = unpack(&root.join(IMAGES), 16)?;
        let labels = unpack(&root.join(LABELS), 8)?;
        let size = SIDE * SIDE;
        let pixels = images.get(INDEX * size..(INDEX + 1) * size);
        let (Some(pixels), Some(&label)) = (pixels, labels.get(INDEX)) else {
            anyhow::bail!("{IMAGES} holds fewer than {} digits", INDEX + 1);
        };
        ensure!(pixels.iter().all(|&pixel| pixel <= MAX), "{IMAGES} holds values above {MAX}");
        Ok(Digit { pixels: pixels.to_vec(), label })
    }

    /// The values row by row, as a request in JSON carries them.
    pub(super) fn rows(&self) -> Vec<&[u8]> {
        self.pixels.chunks(SIDE).collect()
    }

    /// The digit in shades, two characters a pixel, for the terminal.
    pub(super) fn picture(&self) -> String {
        let shade = |pixel: &u8| [" ", "░", "▒", "▓", "█"][usize::from(pixel.div_ceil(4)).min(4)].repeat(2);
        let rows: Vec<String> = self
            .rows()
            .iter()
            .map(|row| format!("      {}", row.iter().map(shade).collect::<String>()).trim_end().to_owned())
            .collect();
        rows.join("\n")
    }

    /// Writes it as a grey image whose white is the largest value.
    pub(super) fn write_png(&self, path: &Path) -> anyhow::Result<()> {
        let grey: Vec<u8> =
            self.pixels.iter().map(|&pixel| (u16::from(pixel) * 255 / u16::from(MAX)) as u8).collect();
        let mut png = Vec::new();
        let side = SIDE as u32;
        PngEncoder::new(&mut png)
            .write_image(&grey, side, side, ExtendedColorType::L8)
            .context("cannot encode a PNG")?;
        artifact::atomic::write(path, &png).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The content of a gzipped IDX file behind its header of `header` bytes. The training program checks these
/// files thoroughly; here their length is enough.
fn unpack(path: &Path, header: usize) -> anyhow::Result<Vec<u8>> {
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut content = Vec::new();
    GzDecoder::new(file)
        .take(LIMIT_BYTES)
        .read_to_end(&mut content)
        .with_context(|| format!("cannot unpack {}", path.display()))?;
    ensure!(content.len() > header, "{} is too short", path.display());
    Ok(content.split_off(header))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digit_of_the_tour_is_a_seven() {
        let digit = Digit::read(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()).unwrap();
        assert_eq!(digit.label, 7);
        insta::assert_snapshot!(digit.picture(), @r"
          ▒▒▒▒██████░░
          ▒▒▒▒░░▓▓▓▓
              ▒▒██░░
        ░░▒▒▒▒████▒▒
        ░░▓▓████░░
            ██▒▒
          ▓▓██░░
          ██▒▒
        ");
        let json = serde_json::to_string(&digit.rows()).unwrap();
        insta::assert_snapshot!(json, @"[[0,0,7,8,13,16,15,1],[0,0,7,7,4,11,12,0],[0,0,0,0,8,13,1,0],[0,4,8,8,15,15,6,0],[0,2,11,15,15,4,0,0],[0,0,0,16,5,0,0,0],[0,0,9,15,1,0,0,0],[0,0,13,5,0,0,0,0]]");
    }

    #[test]
    fn the_picture_keeps_the_values() {
        let digit = Digit { pixels: (0..64).map(|index| index % 17).collect(), label: 0 };
        let directory = std::env::temp_dir().join(format!("brazier-digit-{}", std::process::id()));
        let path = directory.join("digit.png");
        digit.write_png(&path).unwrap();
        let decoded = image::open(&path).unwrap().to_luma8();
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(decoded.dimensions(), (8, 8));
        let back: Vec<u8> =
            decoded.pixels().map(|pixel| (f64::from(pixel.0[0]) * 16.0 / 255.0).round() as u8).collect();
        assert_eq!(back, digit.pixels);
    }
}
