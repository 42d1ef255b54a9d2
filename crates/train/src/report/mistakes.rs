//! The worst mistakes: as pictures where the data is pictures, as rows where it is a table.

use std::io::Cursor;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::{DynamicImage, GrayImage, ImageFormat, RgbImage};
use network::preprocess::decode_image;
use network::{Bitmap, Cell, RawInput, Task};

use super::html::{self, escape};
use super::{Page, ReportError};
use crate::data::DataKind;
use crate::evaluate::Mistake;

/// Pictures are made smaller when they are larger than this on a side.
const SIDE: u32 = 160;
/// So many cells of a row are shown.
const CELLS: usize = 6;

pub(super) fn section(page: &Page<'_>) -> Result<String, ReportError> {
    let mistakes = &page.evaluation.mistakes;
    if mistakes.is_empty() {
        return Ok(String::new());
    }
    let mut figures = String::new();
    for mistake in mistakes {
        let input = page.prepared.data.source.read(mistake.index)?;
        let shown = picture(&input, &page.prepared.data.kind).unwrap_or_else(|| row(&input));
        figures += &format!("<figure>{shown}{}</figure>\n", caption(mistake, page.evaluation.task));
    }
    let lead = match page.evaluation.task {
        Task::MultiClass | Task::Binary => "Wrong answers, the most confident first.",
        Task::MultiLabel => "Samples with a wrong label, the highest loss first.",
        Task::Regression => "The largest errors.",
    };
    let body = format!("<p class=\"soft\">{lead}</p><div class=\"gallery\">{figures}</div>");
    Ok(html::section("Worst mistakes", &body))
}

fn caption(mistake: &Mistake, task: Task) -> String {
    let severity = match task {
        Task::MultiClass | Task::Binary => format!("{:.1} % sure", 100.0 * mistake.severity),
        Task::MultiLabel => format!("loss {:.3}", mistake.severity),
        Task::Regression => format!("off by {:.4}", mistake.severity),
    };
    format!(
        "<figcaption>is <b>{}</b><br>said <i>{}</i><br><span class=\"soft\">{severity} · #{}</span></figcaption>",
        escape(&mistake.truth),
        escape(&mistake.predicted),
        mistake.index
    )
}

/// The sample as an inline PNG, when it is a picture.
fn picture(input: &RawInput, kind: &DataKind) -> Option<String> {
    let bitmap = match input {
        RawInput::Bitmap(bitmap) => bitmap.clone(),
        RawInput::EncodedImage(bytes) => decode_image(bytes).ok()?,
        RawInput::Numbers(values) => {
            let &DataKind::Image { channels, height, width, max_value } = kind else { return None };
            let pixel = |value: &f32| (value / max_value * 255.0).round().clamp(0.0, 255.0) as u8;
            Bitmap::new(height, width, channels, values.iter().map(pixel).collect())?
        }
        RawInput::Row(_) | RawInput::Prepared(_) => return None,
    };
    let (width, height) = (u32::try_from(bitmap.width()).ok()?, u32::try_from(bitmap.height()).ok()?);
    let image = match bitmap.channels() {
        1 => DynamicImage::ImageLuma8(GrayImage::from_raw(width, height, bitmap.pixels().to_vec())?),
        _ => DynamicImage::ImageRgb8(RgbImage::from_raw(width, height, bitmap.pixels().to_vec())?),
    };
    let image = if width.max(height) > SIDE { image.thumbnail(SIDE, SIDE) } else { image };
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).ok()?;
    let encoded = STANDARD.encode(bytes.into_inner());
    Some(format!("<img alt=\"the sample\" src=\"data:image/png;base64,{encoded}\">"))
}

/// The first cells of a row.
fn row(input: &RawInput) -> String {
    let cells: Vec<String> = match input {
        RawInput::Row(row) => {
            let cell = |(name, cell): (&String, &Cell)| match cell {
                Cell::Missing => format!("{name}: –"),
                Cell::Number(number) => format!("{name}: {number}"),
                Cell::Text(text) => format!("{name}: {text}"),
            };
            row.columns().iter().zip(row.cells()).take(CELLS).map(cell).collect()
        }
        RawInput::Numbers(values) => values.iter().take(CELLS).map(f32::to_string).collect(),
        _ => Vec::new(),
    };
    cells.iter().map(|cell| format!("<span class=\"soft\">{}</span><br>", escape(cell))).collect()
}
