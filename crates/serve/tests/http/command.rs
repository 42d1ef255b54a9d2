//! The `serve` command: which settings it refuses, and what its log says of models.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

use model::{DeviceSpec, Lane};
use predict::Precision;

use crate::registry::{Models, digits, prices};

/// The command with no settings but those given.
fn serve(models: &Models, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_serve"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("BRAZIER_SERVE_") {
            command.env_remove(name);
        }
    }
    command.current_dir(models.path()).env_remove("RUST_LOG").env("NO_COLOR", "1");
    command.args(["--port", "0", "--grpc-port", "0", "--models", "."]).args(arguments);
    command
}

fn refused(models: &Models, arguments: &[&str], variables: &[(&str, &str)], parts: &[&str]) {
    let output = serve(models, arguments).envs(variables.iter().copied()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?} {variables:?}: {said}");
    for part in parts {
        assert!(said.contains(part), "{arguments:?} {variables:?} should say {part:?}: {said}");
    }
}

#[test]
fn settings_that_cannot_work_are_refused_before_anything_is_read() {
    let models = Models::new();
    let sizes = |value| [("BRAZIER_SERVE_BATCH_SIZES", value)];
    refused(
        &models,
        &[],
        &sizes("[8, 1]"),
        &["`batch_sizes`", "must be ascending", "BRAZIER_SERVE_BATCH_SIZES"],
    );
    refused(&models, &[], &sizes("[1, 512]"), &["`batch_sizes`", "must hold numbers from 1 to 256"]);
    refused(&models, &[], &sizes("8"), &["`batch_sizes`"]);
    refused(
        &models,
        &["--precision", "fp16"],
        &[],
        &["`precision`", "`fp16` is not a precision", "f16 and bf16"],
    );
    refused(&models, &["--max-body-bytes", "0"], &[], &["`limits.max_body_bytes`", "must be from 1"]);
    refused(&models, &["--max-body-bytes=-1"], &[], &["-1"]);
    let negative = [("BRAZIER_SERVE_LIMITS__MAX_CONNECTIONS", "-1")];
    refused(&models, &[], &negative, &["limits.max_connections"]);
    refused(&models, &["--device", "gpu"], &[], &["`device`", "`gpu` is not a device"]);
    refused(
        &models,
        &["--trace-endpoint", "https://c:4318/v1/traces"],
        &[],
        &["`trace.endpoint`", "must be like http://"],
    );
    let collector = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317");
    refused(
        &models,
        &[],
        &[collector, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
        &["`trace.protocol`", "http/protobuf"],
    );
    refused(&models, &[], &[collector, ("OTEL_TRACES_SAMPLER_ARG", "2")], &["`trace.ratio`", "from 0 to 1"]);
    refused(&models, &[], &[collector, ("OTEL_TRACES_SAMPLER", "jaeger_remote")], &["trace.sampler"]);
    refused(
        &models,
        &["--metrics-port", "8081"],
        &[("BRAZIER_SERVE_GRPC__PORT", "9001"), ("BRAZIER_SERVE_LOG__ACCESS", "loud")],
        &["log.access"],
    );
    refused(&models, &["--device", "vulkan:77"], &[], &["`device`", "the device `vulkan:77` is not"]);
    // Which precisions a device lacks depends on the build and the machine.
    for device in DeviceSpec::available() {
        let lane = Lane::open(&device).unwrap();
        for precision in Precision::ALL.into_iter().filter(|precision| lane.supports(*precision).is_err()) {
            let arguments = ["--device", &device.to_string(), "--precision", precision.name()];
            let cannot = format!("the device `{device}` cannot compute in {precision}; it can in f32");
            refused(&models, &arguments, &[], &["`precision`", &cannot]);
        }
    }
}

#[test]
fn the_help_says_where_kernels_are_kept() {
    let output = serve(&Models::new(), &["--help"]).output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("BRAZIER_KERNEL_CACHE"));
}

/// Starts the server, waits until it listens or ends, stops it, and returns its log.
fn log(models: &Models, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let mut command = serve(models, arguments);
    command.envs(variables.iter().copied());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("Serving on http://"), "{line}");
    child.kill().unwrap();
    child.wait().unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    said
}

#[test]
fn the_log_says_what_was_loaded_and_why_a_model_was_not() {
    let models = Models::new();
    models.publish("digits", &digits(), 1);
    models.publish_spoiled("digits", &digits(), 2);
    models.publish("prices", &prices(), 3);
    assert!(log(&models, &[], &[]).contains("precision=f32 kernels=engine "));
    let said = log(&models, &["--precision", "bf16"], &[]);
    let line = |parts: [&str; 3]| {
        let found = said.lines().find(|line| parts.iter().all(|part| line.contains(part)));
        found.unwrap_or_else(|| panic!("no line with {parts:?}: {said}"))
    };
    let loaded = line(["loaded", "digits", "version=1"]);
    for part in ["device=cpu", "precision=bf16", "kernels=", "samples=1", "warm_up_ms="] {
        assert!(loaded.contains(part), "{part}: {loaded}");
    }
    let reason = "the model does not give the answers that it was packed with: output 1 of sample 0";
    let refused = line(["not served", "version=2", reason]);
    assert!(refused.contains("the device `cpu` computes something else in bf16"), "{refused}");
    line(["loaded", "prices", "version=1"]);
}

#[test]
fn auto_says_what_it_took() {
    let models = Models::new();
    models.publish("prices", &prices(), 1);
    let said = log(&models, &["--device", "auto"], &[]);
    assert!(said.contains("auto takes this device"), "{said}");
    let taken = DeviceSpec::Auto.resolve().unwrap();
    assert!(said.contains(&format!("device={taken}")), "{said}");
    if !taken.is_gpu() {
        assert_eq!(said.matches("not taken by auto").count(), 3, "{said}");
    }
}

/// A setting that does nothing is not passed over in silence.
#[test]
fn kernels_that_are_not_kept_are_warned_of() {
    let models = Models::new();
    models.publish("prices", &prices(), 1);
    let warning = "`kernel_cache` has no effect: this device compiles no kernels";
    let said = log(&models, &[], &[("BRAZIER_SERVE_KERNEL_CACHE", "kernels")]);
    assert!(said.lines().any(|line| line.contains("WARN") && line.contains(warning)), "{said}");
    assert!(!models.path().join("kernels").exists());
    // The common variable is for all commands, so it may name a place that this one has no use for.
    let said = log(&models, &[], &[("BRAZIER_KERNEL_CACHE", "kernels")]);
    assert!(!said.contains("kernel_cache"), "{said}");
}
