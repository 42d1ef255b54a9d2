//! `serve`: the server's command line.

mod key;
mod place;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use artifact::{ModelRef, Registry};
use clap::{Parser, Subcommand};
use cli::config::{Layers, Resolved};
use cli::{ErrorExt as _, ExitStatus, LogFormat};
use serve::config::Config;
use serve::load::LoadError;
use serve::run::{Addresses, Outside, RunError, run};
use serve::telemetry::{Format, from_environment};

/// Serves every model of a registry over HTTP, with a playground at `/`.
///
/// A flag beats its environment variable, which beats the configuration file. The file has more settings;
/// each has an environment variable of the same pattern.
#[derive(Debug, Parser)]
#[command(name = "serve", version, after_help = EXAMPLES)]
struct Args {
    /// The registry to serve [default: artifacts/models] [env: BRAZIER_SERVE_MODELS]
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,

    /// The address to listen on; 0.0.0.0 for all [default: 127.0.0.1] [env: BRAZIER_SERVE_HOST]
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,

    /// The port to listen on; 0 takes a free one [default: 8080] [env: BRAZIER_SERVE_PORT]
    #[arg(long)]
    port: Option<u16>,

    /// The port of gRPC; 0 takes a free one [default: 9000] [env: BRAZIER_SERVE_GRPC__PORT]
    #[arg(long, value_name = "PORT", conflicts_with = "no_grpc")]
    grpc_port: Option<u16>,

    /// Serves HTTP alone [env: BRAZIER_SERVE_GRPC__ENABLED=false]
    #[arg(long)]
    no_grpc: bool,

    /// The file of the keys that clients need, which `serve key new` makes [env: BRAZIER_SERVE_ACCESS__KEYS]
    #[arg(long, value_name = "FILE", global = true)]
    keys: Option<PathBuf>,

    /// The server's certificate (PEM), with which connections are encrypted [env: BRAZIER_SERVE_TLS__CERTIFICATE]
    #[arg(long, value_name = "FILE")]
    tls_certificate: Option<PathBuf>,

    /// Its private key (PEM) [env: BRAZIER_SERVE_TLS__KEY]
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,

    /// The model that /predict asks: NAME, NAME@VERSION or NAME@ALIAS [env: BRAZIER_SERVE_DEFAULT_MODEL]
    #[arg(long, value_name = "MODEL")]
    default_model: Option<String>,

    /// Where the models run: cpu, flex, ndarray, vulkan[:INDEX], wgpu[:INDEX], cuda[:INDEX], or auto for the best
    /// there is [default: cpu] [env: BRAZIER_SERVE_DEVICE]
    #[arg(long)]
    device: Option<String>,

    /// What they compute in: f32, or f16 or bf16 where the device can [default: f32] [env: BRAZIER_SERVE_PRECISION]
    #[arg(long)]
    precision: Option<String>,

    /// Threads that compute; 0 takes one per processor [default: 0] [env: BRAZIER_SERVE_THREADS]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,

    /// Largest body of a request [default: 16777216] [env: BRAZIER_SERVE_LIMITS__MAX_BODY_BYTES]
    #[arg(long, value_name = "BYTES")]
    max_body_bytes: Option<usize>,

    /// A further port for the metrics alone; 0 takes a free one [default: none] [env: BRAZIER_SERVE_METRICS__PORT]
    #[arg(long, value_name = "PORT")]
    metrics_port: Option<u16>,

    /// Logs every request [env: BRAZIER_SERVE_LOG__ACCESS=info]
    #[arg(long)]
    access_log: bool,

    /// Where OpenTelemetry traces go, by OTLP over HTTP, as http://127.0.0.1:4318/v1/traces
    /// [env: OTEL_EXPORTER_OTLP_ENDPOINT, BRAZIER_SERVE_TRACE__ENDPOINT]
    #[arg(long, value_name = "URL")]
    trace_endpoint: Option<String>,

    /// The configuration file [default: configs/serve.toml, where it exists]
    #[arg(long, value_name = "FILE", env = CONFIG_VARIABLE, global = true)]
    config: Option<PathBuf>,

    #[command(flatten)]
    common: cli::Common,

    #[command(subcommand)]
    command: Option<Command>,
}

/// What else the program does.
#[derive(Debug, Subcommand)]
enum Command {
    /// Make, list and revoke the keys that clients need.
    #[command(subcommand)]
    Key(key::Key),
}

const EXAMPLES: &str = "Examples:
  serve                                      every model in artifacts/models on 127.0.0.1:8080
  serve --default-model digits --port 8000   /predict asks digits@production, else its newest version
  curl -H 'content-type: image/png' --data-binary @digit.png http://127.0.0.1:8080/models/digits/predict

A GPU's compiled kernels are kept in the folder kernel-cache beside the registry, or where BRAZIER_KERNEL_CACHE says.";

const PREFIX: &str = "BRAZIER_SERVE_";
const CONFIG_VARIABLE: &str = "BRAZIER_SERVE_CONFIG";
const DEFAULT_FILE: &str = "configs/serve.toml";

fn main() -> std::process::ExitCode {
    cli::run(|| {
        let args = Args::parse();
        // The settings say in which form there is a log, so they come before it.
        let resolved = resolve(&args);
        let mut common = args.common.clone();
        if let Ok(resolved) = &resolved {
            common.log_format = Some(match resolved.config.log.format {
                Format::Text => LogFormat::Text,
                Format::Json => LogFormat::Json,
            });
        }
        let printer = common.start(tracing::Level::INFO);
        let resolved = resolved?;
        for entry in resolved.non_defaults() {
            // What is sent to a collector may hold the key to it.
            let value = if entry.key == "trace.headers" { "…" } else { entry.value.as_str() };
            tracing::debug!(key = entry.key, value, origin = %entry.origin, "setting");
        }
        match args.command {
            Some(Command::Key(ref command)) => {
                key::run(command, resolved.config.access.keys.as_deref(), &printer)
            }
            None => serve(resolved, args, printer),
        }
    })
}

fn resolve(args: &Args) -> anyhow::Result<Resolved<Config>> {
    let file = match &args.config {
        Some(file) => Some(file.as_path()),
        None => Some(Path::new(DEFAULT_FILE)).filter(|file| file.is_file()),
    };
    let mut layers = Layers::new();
    if let Some(file) = file {
        layers = layers.file(file)?;
    }
    // The file's own name is no setting in the file.
    let variables: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        .filter(|(name, _)| name != CONFIG_VARIABLE)
        .collect();
    let layers = layers
        .env_from(PREFIX, with_platform(variables))?
        .flag("models", "--models", args.models.as_ref())?
        .flag("host", "--host", args.host.as_ref())?
        .flag("port", "--port", args.port)?
        .flag("grpc.port", "--grpc-port", args.grpc_port)?
        .flag("grpc.enabled", "--no-grpc", args.no_grpc.then_some(false))?
        .flag("access.keys", "--keys", args.keys.as_ref())?
        .flag("tls.certificate", "--tls-certificate", args.tls_certificate.as_ref())?
        .flag("tls.key", "--tls-key", args.tls_key.as_ref())?
        .flag("default_model", "--default-model", args.default_model.as_ref())?
        .flag("device", "--device", args.device.as_ref())?
        .flag("precision", "--precision", args.precision.as_ref())?
        .flag("threads", "--threads", args.threads)?
        .flag("limits.max_body_bytes", "--max-body-bytes", args.max_body_bytes)?
        .flag("metrics.port", "--metrics-port", args.metrics_port)?
        .flag("log.access", "--access-log", args.access_log.then_some("info"))?
        .flag("log.format", "--log-format", args.common.log_format.map(|format| format.to_string()))?
        .flag("trace.endpoint", "--trace-endpoint", args.trace_endpoint.as_ref())?;
    let resolved = layers.resolve::<Config>()?;
    let fault = resolved.config.fault().map(|(key, message)| (key, message.to_owned()));
    match fault.or_else(|| resolved.config.model_fault()) {
        Some((key, message)) => Err(resolved.refuse(&key, message).into()),
        None => Ok(resolved),
    }
}

/// The variables with which platforms tell a container what to do, and the settings that they mean: those of Vertex AI
/// and of SageMaker. Those of OpenTelemetry are [`from_environment`].
const PLATFORM: [(&str, &str); 4] = [
    ("AIP_HTTP_PORT", "PORT"),
    ("AIP_HEALTH_ROUTE", "PATHS__HEALTH"),
    ("AIP_PREDICT_ROUTE", "PATHS__PREDICT"),
    ("SAGEMAKER_BIND_TO_PORT", "PORT"),
];

/// Adds the settings that a platform's variables mean, where no variable of ours says otherwise.
fn with_platform(variables: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut all = variables;
    for (theirs, key) in PLATFORM {
        let ours = format!("{PREFIX}{key}");
        let set = |all: &[(String, String)], name: &str| all.iter().find(|(found, _)| found == name).cloned();
        if let (None, Some((_, value))) = (set(&all, &ours), set(&all, theirs)) {
            all.push((ours, value));
        }
    }
    let theirs = from_environment(|name| Some(all.iter().find(|(found, _)| found == name)?.1.clone()));
    for (key, value) in theirs {
        let ours = format!("{PREFIX}{key}");
        if all.iter().all(|(found, _)| *found != ours) {
            all.push((ours, value));
        }
    }
    all
}

fn serve(resolved: Resolved<Config>, args: Args, printer: cli::Printer) -> anyhow::Result<ExitStatus> {
    let config = &resolved.config;
    let default = match &config.default_model {
        None => None,
        Some(text) => {
            let parsed = text.parse::<ModelRef>();
            Some(parsed.map_err(|error| resolved.refuse("default_model", error.to_string()))?)
        }
    };
    // Held until the end, so that the device stays open whatever becomes of the models.
    let (_lane, options) = place::place(&resolved)?;
    if !config.models.is_dir() {
        return Err(anyhow::anyhow!("there is no registry at {}", config.models.display()))
            .hint(NO_MODELS)
            .usage();
    }
    let registry = Registry::open(&config.models).context("cannot open the registry")?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if config.threads == 0 { processors } else { config.threads };
    // Once, before anything computes: the CPU device shares rayon's pool.
    model::device::set_threads(threads)?;
    let scheme = if config.tls.is_on() { "https" } else { "http" };
    let started = move |Addresses { http, grpc, metrics }: Addresses| {
        let url = format!("{scheme}://{http}");
        let result = printer.result(
            &serde_json::json!({ "listening": url, "grpc": grpc, "metrics": metrics }),
            || {
                let grpc = grpc.map_or_else(String::new, |address| format!(" and gRPC on {address}"));
                format!("Serving on {url}{grpc} (the playground is at {url}/, Ctrl-C stops)")
            },
        );
        if let Err(error) = result {
            tracing::warn!(%error, "the address could not be printed");
        }
    };
    let reread = move || resolve(&args).map(|resolved| resolved.config).map_err(|error| format!("{error:#}"));
    let outside = Outside { started, reread, clock: cli::now, now: std::time::SystemTime::now };
    let running = run(config, registry, default, options, threads, outside);
    let result = actix_web::rt::System::new().block_on(running);
    match result {
        Ok(()) => Ok(ExitStatus::Success),
        Err(error @ RunError::Load(LoadError::Empty { .. })) => Err(error).hint(NO_MODELS).usage(),
        Err(error @ (RunError::Load(LoadError::Default { .. }) | RunError::Access(_))) => Err(error).usage(),
        Err(RunError::Load(error @ LoadError::AllFailed { .. })) => {
            let hint = match &error {
                LoadError::AllFailed { device: Some(device), .. } => device.hint(),
                _ => None,
            };
            let verify = "the lines above say why; `cargo xtask models verify` checks the registry";
            Err(error).hint(hint.as_deref().unwrap_or(verify))
        }
        Err(error @ RunError::ListenGrpc { .. }) => {
            Err(error).hint("choose another port with --grpc-port, or --no-grpc for none")
        }
        Err(error @ RunError::ListenMetrics { .. }) => {
            Err(error).hint("choose another port with --metrics-port")
        }
        Err(error @ RunError::Listen { .. }) => Err(error).hint("choose another port with --port"),
        Err(error) => Err(error.into()),
    }
}

const NO_MODELS: &str = "make one with `cargo xtask quickstart`, or name another registry with --models";
