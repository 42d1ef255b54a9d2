//! `cargo xtask image`: an OCI image of the server, written without a container engine.
//!
//! The image holds the program, a user, and a place for models; there is no shell and nothing else in it. The same
//! inputs give the same bytes.

mod layer;
mod layout;
mod program;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use artifact::{ModelRef, Registry};
use clap::Args;
use cli::{ErrorExt as _, ExitStatus, Printer, usage_error};
use serde_json::json;

use self::layer::Layer;
use self::layout::Layout;
use self::program::Program;
use crate::workspace::Workspace;

/// Arguments of `cargo xtask image`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Image {
    /// Where to write it: a directory, or an archive where the name ends with .tar.
    #[arg(long, value_name = "PATH", default_value = "target/image")]
    output: PathBuf,

    /// The program to put in, with the libraries that it needs, instead of building a static one.
    #[arg(long, value_name = "FILE", conflicts_with = "target")]
    binary: Option<PathBuf>,

    /// What to build for, for example x86_64-unknown-linux-musl. This machine without it.
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,

    /// Models to put in: a registry, or NAME, NAME@VERSION or NAME@ALIAS of artifacts/models. Repeatable. Without it
    /// the image has none, and they are mounted at /mnt/models.
    #[arg(long, value_name = "DIR|MODEL")]
    models: Vec<String>,

    /// What the image is called.
    #[arg(long, value_name = "NAME:TAG", default_value = concat!("brazier:", env!("CARGO_PKG_VERSION")))]
    tag: String,

    /// The most megabytes of the image without models.
    #[arg(long, value_name = "MB", default_value_t = 40)]
    max_mb: u64,

    #[command(flatten)]
    common: cli::Common,
}

const EXAMPLES: &str = "Examples:
  cargo xtask image                                          target/image, models are mounted
  cargo xtask image --models digits@production --output digits.tar
  podman load < digits.tar && podman run --read-only -p 8080:8080 -p 9000:9000 brazier:0.1.0

SOURCE_DATE_EPOCH sets the time of everything in it (default 0), so that the same program gives the same bytes.";

/// The user of the image: that of distroless images, so that policies know it.
const USER: u64 = 65532;
/// Where KServe puts models.
const MODELS: &str = "mnt/models";
const DESCRIPTION: &str = "Serves packed neural networks over HTTP and gRPC.";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

pub(crate) fn run(command: &Image, workspace: &Workspace, no_build: bool) -> anyhow::Result<ExitStatus> {
    let printer = command.common.start(tracing::Level::WARN);
    let time = match std::env::var("SOURCE_DATE_EPOCH") {
        Err(_) => 0,
        Ok(text) => text
            .trim()
            .parse::<u64>()
            .ok()
            .filter(|seconds| *seconds < 1 << 33)
            .ok_or_else(|| usage_error(format!("SOURCE_DATE_EPOCH must be seconds since 1970, not {text}")))
            .usage()?,
    };
    // What would be refused in the end is refused before minutes of building and packing.
    layout::check_output(&command.output)?;
    let models = models(&command.models, workspace)?;
    let program = match &command.binary {
        Some(program) => Program::read(program)?,
        None if no_build => {
            return Err(usage_error(
                "--no-build leaves nothing to put in; --binary names a program".to_owned(),
            ))
            .usage();
        }
        None => program::build(workspace, command.target.as_deref())?,
    };
    let mut layers = vec![base(&program, command)?.pack(time)?];
    let size = layers.iter().map(|layer| layer.bytes.len() as u64).sum::<u64>();
    if size > command.max_mb << 20 {
        printer.warn(format_args!(
            "the image would have {} without models; at most {} MB are allowed (--max-mb). A release build without \
             GPUs is far smaller. Nothing was written",
            cli::bytes(size),
            command.max_mb
        ));
        return Ok(ExitStatus::GateFailed);
    }
    if let Some(models) = models {
        layers.push(models.pack(time)?);
    }
    let architecture = program.architecture;

    let mut layout = Layout::default();
    let config = config(&layers, architecture, time, command.models.is_empty());
    let config = layout.blob("application/vnd.oci.image.config.v1+json", config.to_string().into_bytes());
    let layers: Vec<_> = layers.into_iter().map(|layer| layout.blob(LAYER, layer.bytes)).collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config,
        "layers": layers,
    });
    let manifest = layout.blob(MANIFEST, manifest.to_string().into_bytes());
    let digest = manifest["digest"].clone();
    layout.finish(manifest, architecture, &command.tag);
    layout.write(&command.output, time)?;
    told(&printer, command, &layout, &digest, architecture)?;
    Ok(ExitStatus::Success)
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn told(
    printer: &Printer,
    command: &Image,
    layout: &Layout,
    digest: &serde_json::Value,
    architecture: &str,
) -> anyhow::Result<()> {
    let (output, size) = (command.output.display().to_string(), layout.bytes());
    let result = json!({
        "output": output, "digest": digest, "bytes": size, "architecture": architecture, "tag": command.tag,
    });
    printer.result(&result, || {
        format!("{output}: {} for {architecture}, {}", cli::bytes(size as u64), digest.as_str().unwrap_or(""))
    })?;
    Ok(())
}

/// The program with what it needs, and a user that owns nothing but the place for models.
fn base(program: &Program, command: &Image) -> anyhow::Result<Layer> {
    let mut layer = Layer::default();
    layer.file("serve", program.bytes.clone(), 0o755, 0);
    for library in program.libraries()? {
        // Links are followed: the file lies where the loader looks for it.
        let bytes = std::fs::read(&library).with_context(|| format!("cannot read {}", library.display()))?;
        layer.file(library.to_string_lossy().trim_start_matches('/'), bytes, 0o755, 0);
    }
    layer.file("etc/passwd", format!("nonroot:x:{USER}:{USER}::/:/nologin\n").into_bytes(), 0o644, 0);
    layer.file("etc/group", format!("nonroot:x:{USER}:\n").into_bytes(), 0o644, 0);
    layer.directory("tmp", 0o1777, 0);
    if command.models.is_empty() {
        layer.directory(MODELS, 0o755, USER);
    }
    Ok(layer)
}

/// The models that were named, at the place where they are looked for; nothing when none was.
fn models(named: &[String], workspace: &Workspace) -> anyhow::Result<Option<Layer>> {
    if named.is_empty() {
        return Ok(None);
    }
    let mut layer = Layer::default();
    layer.directory(MODELS, 0o755, USER);
    for text in named {
        if Path::new(text).is_dir() {
            layer.tree(MODELS, Path::new(text), USER)?;
            continue;
        }
        let reference = text.parse::<ModelRef>().map_err(|error| usage_error(error.to_string())).usage()?;
        let root = workspace.root().join("artifacts/models");
        let registry = Registry::open(&root).context("cannot open the registry")?;
        let found = registry.resolve(&reference).with_context(|| format!("cannot find {text}"))?;
        layer.tree(&format!("{MODELS}/{}/{}", found.name, found.version), &found.path, USER)?;
    }
    Ok(Some(layer))
}

/// How the image is run.
fn config(layers: &[layer::Packed], architecture: &str, time: u64, mounted: bool) -> serde_json::Value {
    let created = cli::rfc3339(time);
    let mut config = json!({
        "User": format!("{USER}:{USER}"),
        "ExposedPorts": { "8080/tcp": {}, "9000/tcp": {} },
        "Env": [
            // A container has an address of its own, which nobody reaches who is not let.
            "BRAZIER_SERVE_HOST=0.0.0.0",
            format!("BRAZIER_SERVE_MODELS=/{MODELS}"),
        ],
        "Entrypoint": ["/serve"],
        "WorkingDir": "/",
        "StopSignal": "SIGTERM",
        "Labels": {
            "org.opencontainers.image.title": "brazier",
            "org.opencontainers.image.description": DESCRIPTION,
            "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
            "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
            "org.opencontainers.image.created": created,
        },
    });
    if mounted {
        config["Volumes"] = json!({ format!("/{MODELS}"): {} });
    }
    let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    let step = |what: &str| json!({ "created": created, "created_by": what });
    let history: Vec<_> = ["cargo xtask image: the program", "cargo xtask image: the models"]
        .map(step)
        .into_iter()
        .take(layers.len())
        .collect();
    json!({
        "created": created,
        "architecture": architecture,
        "os": "linux",
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": history,
    })
}
