//! `models export`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use artifact::{ModelRef, Registry, atomic, digest};
use cli::{ErrorExt as _, Printer};
use export::Model;
use serde_json::json;

use super::found;

/// Where a file goes when nobody says.
const DIRECTORY: &str = "artifacts/exports";

/// The formats of others.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Format {
    /// The network and its weights, for any runtime of ONNX; int8 as quantize and dequantize nodes,
    /// dynamic layers and weight-only ones as floats.
    Onnx,
    /// The weights alone, under the keys of the record.
    Safetensors,
}

impl Format {
    /// The name, which is also how such files end.
    fn name(self) -> &'static str {
        match self {
            Self::Onnx => "onnx",
            Self::Safetensors => "safetensors",
        }
    }
}

/// What to write where.
#[derive(clap::Args, Debug)]
pub(crate) struct Export {
    /// The format to write.
    #[arg(long, value_enum)]
    format: Format,
    /// The file to write [default: artifacts/exports/NAME-VERSION.FORMAT]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace a file that is there.
    #[arg(long)]
    force: bool,
}

pub(super) fn run(
    registry: &Registry,
    model: &ModelRef,
    export: &Export,
    root: &Path,
    printer: &Printer,
) -> anyhow::Result<()> {
    let package = found(registry.package(model))?;
    let (name, version) = (&package.manifest().name, package.manifest().version);
    let format = export.format.name();
    let default = || root.join(DIRECTORY).join(format!("{name}-{version}.{format}"));
    let path = export.out.clone().unwrap_or_else(default);
    if path.is_dir() {
        let error = cli::usage_error(format!("`{}` is a directory", path.display()));
        return Err(error).hint("`--out` is the file to write");
    }
    if path.exists() && !export.force {
        let error = cli::usage_error(format!("`{}` exists already", path.display()));
        return Err(error).hint("`--force` replaces it, `--out` writes another file");
    }
    let parts = Model::open(&package)?;
    let floats = parts.layers_as_floats();
    if matches!(export.format, Format::Onnx) && !floats.is_empty() {
        let layers = floats.iter().map(|layer| format!("`{layer}`")).collect::<Vec<_>>().join(", ");
        printer.status(format_args!(
            "ONNX has no ranges for single samples and no weights in blocks: {layers} are written as floats"
        ));
    }
    let bytes = match export.format {
        Format::Onnx => export::onnx(&parts),
        Format::Safetensors => export::safetensors(&parts),
    };
    let bytes = bytes.with_context(|| format!("{name}@{version} cannot be written as {format}"))?;
    atomic::write(&path, &bytes)?;
    let (size, sha256) = (bytes.len() as u64, digest::sha256_hex(&bytes));
    let value = json!({
        "model": format!("{name}@{version}"),
        "format": format,
        "path": path,
        "size_bytes": size,
        "sha256": sha256,
    });
    printer.result(&value, || format!("wrote {} ({}, sha256 {sha256})", path.display(), cli::bytes(size)))?;
    Ok(())
}
