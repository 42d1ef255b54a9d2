//! From the device that a call asks for to the Cargo features that compile it in.
//!
//! The device can stand in a flag, in `--set train.device=…`, in the environment or in a configuration file,
//! and the program that is called has not been built yet, so it cannot be asked. The layers of
//! [`cli::config`] are asked instead, with the same precedence. What cannot be read here is left to the
//! program, which says what is wrong with it.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use cli::config::Layers;

use crate::binaries::Binary;

/// What compiles the interactive display of `train` in.
const TUI: &str = "train/tui";

/// Where what a call asks for can stand besides its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    /// The variables of the environment.
    pub(crate) variables: Vec<(String, String)>,
    /// The directory that relative paths begin in.
    pub(crate) directory: PathBuf,
    /// The root of the machine's file system; another one in tests.
    pub(crate) machine: PathBuf,
}

impl Surroundings {
    /// Those of this process.
    pub(crate) fn of_process(directory: &Path) -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into())));
        Self { variables: variables.collect(), directory: directory.to_owned(), machine: "/".into() }
    }

    fn variable(&self, name: &str) -> Option<&str> {
        let found = self.variables.iter().find(|(key, value)| key == name && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    }
}

/// What a call needs compiled in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needed {
    /// The features, in Cargo's form `package/feature`.
    pub(crate) features: Vec<&'static str>,
    /// The feature of the device among them.
    pub(crate) device: Option<&'static str>,
    /// What `auto` came to, to be said on stderr.
    pub(crate) remark: Option<String>,
}

impl Needed {
    /// What a call of `binary` needs.
    pub(crate) fn by(
        binary: Binary,
        subcommand: &[&str],
        arguments: &[OsString],
        around: &Surroundings,
    ) -> Self {
        let arguments = Arguments(arguments);
        let mut needed = match device(binary, subcommand, &arguments, around) {
            Some(device) => Self::for_device(&device, around),
            None => Self::default(),
        };
        if arguments.has(&["--quiet", "-q"]) {
            needed.remark = None;
        }
        if arguments.last(&["--progress"]).as_deref() == Some("tui") {
            needed.features.push(TUI);
        }
        needed
    }

    /// The features that compile a device in. Names that nobody knows are left to the program, which lists
    /// the ones it knows.
    fn for_device(device: &str, around: &Surroundings) -> Self {
        let (device, remark) = match device {
            "auto" => automatic(around),
            device => (Some(device.split(':').next().unwrap_or(device)), None),
        };
        // One list for all programs that have devices: built together, they share one build of Burn.
        let (device, features): (_, &[&str]) = match device {
            Some("ndarray") => (Some("ndarray"), &["train/ndarray", "predict/ndarray", "serve/ndarray"]),
            Some("vulkan") => (Some("vulkan"), &["train/vulkan", "predict/vulkan", "serve/vulkan"]),
            Some("wgpu") => (Some("wgpu"), &["train/wgpu", "predict/wgpu", "serve/wgpu"]),
            Some("cuda") => (Some("cuda"), &["train/cuda", "predict/cuda", "serve/cuda"]),
            _ => (None, &[]),
        };
        Self { features: features.to_vec(), device, remark }
    }
}

/// The device that a call asks for, as its program will find it: flag, `--set`, environment, file.
fn device(
    binary: Binary,
    subcommand: &[&str],
    arguments: &Arguments<'_>,
    around: &Surroundings,
) -> Option<String> {
    let flag = arguments.last(&["--device"]);
    match (binary, subcommand) {
        (Binary::Train, ["train", ..]) => match arguments.last(&["--resume"]) {
            // A run goes on as it began, on the device that it was begun on.
            Some(run) => flag.filter(|device| device != "auto").or_else(|| resumed(&run, arguments, around)),
            None => training(arguments, flag, around),
        },
        (Binary::Train, _) => flag,
        (Binary::Predict, _) => flag.or_else(|| around.variable("BRAZIER_PREDICT_DEVICE").map(str::to_owned)),
        (Binary::Serve, _) => serving(arguments, flag, around),
        // It measures what runs on the processor.
        (Binary::Compress | Binary::Load, _) => None,
    }
}

fn training(arguments: &Arguments<'_>, flag: Option<String>, around: &Surroundings) -> Option<String> {
    let file = arguments.last(&["--config", "-c"]).map(|file| around.directory.join(file));
    let mut layers = layers(file.as_deref(), "BRAZIER_TRAIN_", around);
    for assignment in arguments.all(&["--set"]) {
        layers = layers.clone().set(&assignment).unwrap_or(layers);
    }
    layers.flag("train.device", "--device", flag).ok()?.peek("train.device").ok()?
}

fn serving(arguments: &Arguments<'_>, flag: Option<String>, around: &Surroundings) -> Option<String> {
    let named = arguments.last(&["--config"]);
    let named = named.or_else(|| around.variable("BRAZIER_SERVE_CONFIG").map(str::to_owned));
    let file = around.directory.join(named.unwrap_or_else(|| "configs/serve.toml".to_owned()));
    layers(Some(&file), "BRAZIER_SERVE_", around)
        .flag("device", "--device", flag)
        .ok()?
        .peek("device")
        .ok()?
}

/// The file and the environment, as far as they can be read.
fn layers(file: Option<&Path>, prefix: &str, around: &Surroundings) -> Layers {
    let layers = Layers::new();
    let layers = match file {
        Some(file) => layers.clone().file(file).unwrap_or(layers),
        None => layers,
    };
    layers.clone().env_from(prefix, around.variables.iter().cloned()).unwrap_or(layers)
}

/// The device in the record of a run.
fn resumed(run: &str, arguments: &Arguments<'_>, around: &Surroundings) -> Option<String> {
    let runs = arguments.last(&["--runs"]).unwrap_or_else(|| "artifacts/runs".to_owned());
    let places = [around.directory.join(runs).join(run), around.directory.join(run)];
    let text = places.iter().find_map(|place| std::fs::read(place.join("run.json")).ok())?;
    let record: serde_json::Value = serde_json::from_slice(&text).ok()?;
    Some(record.get("device")?.as_str()?.to_owned())
}

/// What `auto` is built as: with Vulkan where a GPU and Vulkan's loader show themselves. Not with CUDA, whose
/// build needs more than a Rust toolchain; which of the compiled devices is taken, the program decides.
fn automatic(around: &Surroundings) -> (Option<&'static str>, Option<String>) {
    let Some(gpu) = gpu(&around.machine) else {
        let remark = "`auto`: no GPU shows itself in /dev, so the programs are built for the processor alone";
        return (None, Some(remark.to_owned()));
    };
    if !has_vulkan(around) {
        let remark = format!(
            "`auto`: there is a GPU ({gpu}), but no Vulkan loader (libvulkan.so.1; Debian: libvulkan1), so the \
             programs are built for the processor alone; `--device cuda` builds them for an NVIDIA GPU"
        );
        return (None, Some(remark));
    }
    (Some("vulkan"), Some(format!("`auto`: there is a GPU ({gpu}), so the programs are built with Vulkan")))
}

/// The device file of a GPU.
fn gpu(machine: &Path) -> Option<String> {
    let nodes = std::fs::read_dir(machine.join("dev/dri")).into_iter().flatten().flatten();
    let names = nodes.filter_map(|node| node.file_name().into_string().ok());
    let render = names.filter(|name| name.starts_with("renderD")).min();
    let others = ["nvidiactl", "dxg"].into_iter().find(|name| machine.join("dev").join(name).exists());
    render.map(|name| format!("/dev/dri/{name}")).or_else(|| others.map(|name| format!("/dev/{name}")))
}

/// Whether Vulkan's loader lies where Linux looks for libraries: the same places as the programs look at.
fn has_vulkan(around: &Surroundings) -> bool {
    let listed = around.variable("LD_LIBRARY_PATH").unwrap_or_default();
    let usual = [
        "usr/lib/x86_64-linux-gnu",
        "usr/lib/aarch64-linux-gnu",
        "usr/lib64",
        "usr/lib",
        "usr/local/lib",
        "lib64",
        "lib",
        "usr/local/nvidia/lib64",
        "usr/local/cuda/compat",
        "usr/lib/wsl/lib",
    ];
    let listed = listed.split(':').map(|folder| folder.trim_start_matches('/'));
    let mut folders = listed.filter(|folder| !folder.is_empty()).chain(usual);
    folders.any(|folder| around.machine.join(folder).join("libvulkan.so.1").exists())
}

/// Arguments that another program will parse.
struct Arguments<'a>(&'a [OsString]);

impl Arguments<'_> {
    /// The values of a flag, by all of its names.
    fn all(&self, names: &[&str]) -> Vec<String> {
        let mut values = Vec::new();
        let mut arguments = self.options();
        while let Some(argument) = arguments.next() {
            let text = argument.to_string_lossy();
            if names.contains(&text.as_ref()) {
                values.extend(arguments.next().map(|value| value.to_string_lossy().into_owned()));
            } else if let Some(value) = names.iter().find_map(|name| attached(&text, name)) {
                values.push(value.to_owned());
            }
        }
        values
    }

    /// The value of a flag: the last one counts.
    fn last(&self, names: &[&str]) -> Option<String> {
        self.all(names).pop()
    }

    /// Whether a flag without a value is there.
    fn has(&self, names: &[&str]) -> bool {
        self.options().any(|argument| names.iter().any(|name| argument == *name))
    }

    /// What stands before `--`.
    fn options(&self) -> impl Iterator<Item = &OsStr> {
        self.0.iter().map(OsString::as_os_str).take_while(|argument| *argument != "--")
    }
}

/// The value in `--flag=value`, `-f=value` and `-fvalue`.
fn attached<'a>(argument: &'a str, name: &str) -> Option<&'a str> {
    let rest = argument.strip_prefix(name)?;
    match rest.strip_prefix('=') {
        Some(value) => Some(value),
        None if !name.starts_with("--") => Some(rest),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A machine and a workspace of its own; `files` are made below both.
    fn around(files: &[(&str, &str)], variables: &[(&str, &str)]) -> (tempfile::TempDir, Surroundings) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let variables = variables.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let around = Surroundings {
            variables: variables.collect(),
            directory: root.path().to_owned(),
            machine: root.path().to_owned(),
        };
        (root, around)
    }

    fn needed(line: &str, around: &Surroundings) -> Needed {
        let mut words = line.split_whitespace();
        let (binary, subcommand): (_, &[&str]) = match words.next().unwrap() {
            "train" => (Binary::Train, &["train"]),
            "evaluate" => (Binary::Train, &["evaluate"]),
            "predict" => (Binary::Predict, &[]),
            "serve" => (Binary::Serve, &[]),
            other => panic!("{other}"),
        };
        let arguments: Vec<OsString> = words.map(OsString::from).collect();
        Needed::by(binary, subcommand, &arguments, around)
    }

    #[test]
    fn a_device_is_mapped_to_its_features() {
        let (_root, around) = around(&[], &[]);
        let ndarray = "train/ndarray,predict/ndarray,serve/ndarray";
        let vulkan = "train/vulkan,predict/vulkan,serve/vulkan";
        let cases = [
            ("train", ""),
            ("train --config a.toml", ""),
            ("train --device cpu", ""),
            ("train --device=flex", ""),
            ("train --device=ndarray", ndarray),
            ("train --device cpu --seed 1 --device ndarray", ndarray),
            ("train x --device", ""),
            ("train -- --device ndarray", ""),
            ("train --device nonsense", ""),
            ("train --device vulkan:1", vulkan),
            ("evaluate digits@1 --device=vulkan", vulkan),
            ("predict --device wgpu:2 x", "train/wgpu,predict/wgpu,serve/wgpu"),
            ("serve --device cuda", "train/cuda,predict/cuda,serve/cuda"),
            ("train --progress tui", "train/tui"),
            ("train --progress plain", ""),
            ("train --device vulkan --progress=tui", "train/vulkan,predict/vulkan,serve/vulkan,train/tui"),
        ];
        for (line, expected) in cases {
            assert_eq!(needed(line, &around).features.join(","), expected, "{line}");
        }
    }

    #[test]
    fn the_device_is_found_where_the_program_will_find_it() {
        let train = "version = 1\n[train]\ndevice = 'vulkan'\n";
        let files = [
            ("gpu.toml", train),
            ("broken.toml", "[train\n"),
            ("configs/serve.toml", "device = 'wgpu'\n"),
            ("other.toml", "device = 'cuda:1'\n"),
            ("artifacts/runs/digits-3/run.json", r#"{"device": "cuda"}"#),
            ("elsewhere/digits-4/run.json", r#"{"device": "cpu"}"#),
        ];
        let (_root, plain) = around(&files, &[]);
        let environment = [
            ("BRAZIER_TRAIN_TRAIN__DEVICE", "wgpu"),
            ("BRAZIER_PREDICT_DEVICE", "cuda"),
            ("BRAZIER_SERVE_DEVICE", "vulkan"),
            ("BRAZIER_SERVE_CONFIG", "other.toml"),
        ];
        let (_other, set) = around(&files, &environment);
        let cases = [
            ("train --config gpu.toml", Some("vulkan"), Some("wgpu")),
            ("train -c gpu.toml --set train.device=cuda", Some("cuda"), Some("cuda")),
            ("train -cgpu.toml --set train.device=cuda --device cpu", None, None),
            ("train --config=gpu.toml --set seed", Some("vulkan"), Some("wgpu")),
            ("train --config broken.toml", None, Some("wgpu")),
            ("train --config nowhere.toml --device vulkan", Some("vulkan"), Some("vulkan")),
            ("train --resume digits-3", Some("cuda"), Some("cuda")),
            ("train --resume digits-3 --device auto", Some("cuda"), Some("cuda")),
            ("train --resume elsewhere/digits-4", None, None),
            ("train --resume digits-4 --runs elsewhere", None, None),
            ("evaluate digits@1 --config gpu.toml", None, None),
            ("predict digits@1 x.png", None, Some("cuda")),
            ("predict digits@1 x.png --device cpu", None, None),
            ("serve", Some("wgpu"), Some("vulkan")),
            ("serve --config other.toml", Some("cuda"), Some("vulkan")),
            ("serve --device cpu", None, None),
        ];
        for (line, without, with) in cases {
            assert_eq!(needed(line, &plain).device, without, "{line}");
            assert_eq!(needed(line, &set).device, with, "{line}, with the environment");
        }
    }

    #[test]
    fn auto_is_built_with_vulkan_where_there_is_a_gpu_and_says_so() {
        type Files = &'static [(&'static str, &'static str)];
        const LOADER: (&str, &str) = ("usr/lib/x86_64-linux-gnu/libvulkan.so.1", "");
        let cases: [(Files, Option<&str>, &str); 5] = [
            (&[LOADER], None, "no GPU shows itself"),
            (&[("dev/dri/card0", ""), LOADER], None, "no GPU shows itself"),
            (&[("dev/nvidiactl", "")], None, "(/dev/nvidiactl), but no Vulkan loader"),
            (&[("dev/nvidiactl", ""), LOADER], Some("vulkan"), "(/dev/nvidiactl), so the programs"),
            (&[("dev/dri/renderD128", ""), LOADER], Some("vulkan"), "(/dev/dri/renderD128), so"),
        ];
        for (files, device, remark) in cases {
            let (_root, around) = around(files, &[]);
            let found = needed("train --device auto", &around);
            assert_eq!(found.device, device, "{files:?}");
            assert!(found.remark.as_ref().is_some_and(|text| text.contains(remark)), "{found:?}");
            assert_eq!(needed("train --device auto -q", &around).remark, None);
        }
        let (_root, around) = around(
            &[("dev/dri/renderD128", ""), ("opt/x/libvulkan.so.1", "")],
            &[("LD_LIBRARY_PATH", "/opt/x")],
        );
        assert_eq!(needed("predict --device auto", &around).device, Some("vulkan"));
    }
}
