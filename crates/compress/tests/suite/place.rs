//! A registry with small trained models and their int8 versions, made once and copied for each test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use artifact::{Package, Registry};
use predict::{DeviceSpec, Parts, Predictor};
use train::data::DataSet;
use train::evaluate::packed_data;

use crate::training::{self, request};

/// Files by their paths below a folder.
pub(crate) type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Convolutions with batch normalisation.
pub(crate) const DIGITS: &str = "digits";
/// Dense layers alone.
pub(crate) const PIXELS: &str = "pixels";
/// A regression.
pub(crate) const NUMBERS: &str = "numbers";
/// All of those have an int8 version 2.
pub(crate) const QUANTIZED: [&str; 3] = [DIGITS, PIXELS, NUMBERS];
/// A table that a package names and that is not there.
pub(crate) const TABLE: &str = "table";

/// What does not depend on how fast the machine is.
pub(crate) const ALL_LAYERS: [&str; 2] = ["--set", "layers.faster_only=false"];

/// What the registry holds before anything is quantized, and after.
struct Made {
    trained: Files,
    quantized: Files,
}

/// Two commands that make a small file.
fn sparse() -> &'static Files {
    static MADE: OnceLock<Files> = OnceLock::new();
    MADE.get_or_init(|| {
        let place = Place::trained();
        let flags = ["--set", "finetune.optimizer.learning_rate=0.005", "--set", "gate.max_drop=5"];
        let prune = ["prune", "pixels@1", "--method", "magnitude", "--set", "schedule.every=10"];
        place.made(&[&prune[..], &flags, &["--set", "finetune.epochs=8"]].concat());
        let cluster = ["cluster", "pixels@2", "--set", "clusters=16", "--set", "layers={ fc3 = 32 }"];
        place.made(&[&cluster[..], &flags, &["--set", "finetune.epochs=1"]].concat());
        files(&place.path("models"))
    })
}

fn made() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();
    MADE.get_or_init(|| {
        let place = Place { root: tempfile::tempdir().unwrap() };
        let table: String = (0..120).map(|row| format!("{},{}\n", row % 7, row % 2)).collect();
        std::fs::write(place.path("table.csv"), format!("number,target\n{table}")).unwrap();
        let table =
            format!("source = 'csv'\npath = '{}'\nlabel = 'target'", place.path("table.csv").display());
        let friedman = "source = 'generated'\ngenerate = { kind = 'friedman1', samples = 1200 }";
        let models = [
            (DIGITS, "source = 'digits'", "preset = 'digits-cnn'", 3),
            (PIXELS, "source = 'digits'", "preset = 'lenet-300-100'", 4),
            (NUMBERS, friedman, "preset = 'mlp'", 20),
            (TABLE, table.as_str(), "preset = 'mlp'", 1),
        ];
        for (name, data, network, epochs) in models {
            let config = format!(
                "version = 1\nname = '{name}'\n[data]\n{data}\n[network]\n{network}\n\
                 [optimizer]\nkind = 'adamw'\nlearning_rate = 0.003\n[schedule]\nkind = 'cosine'\n\
                 [train]\nseed = 1\ndevice = 'cpu'\nepochs = {epochs}\nbatch_size = 32\n"
            );
            training::train(&request(&config, place.root.path(), None), false).unwrap();
        }
        std::fs::remove_file(place.path("table.csv")).unwrap();
        let trained = files(&place.path("models"));
        for name in QUANTIZED {
            let output = place.quantize(&format!("{name}@1"), &ALL_LAYERS);
            assert_eq!(output.status.code(), Some(0), "{name}: {}", text(&output.stderr));
        }
        Made { trained, quantized: files(&place.path("models")) }
    })
}

/// A folder of its own with the registry in `models`.
pub(crate) struct Place {
    root: tempfile::TempDir,
}

impl Place {
    /// Every model as it was trained, and no int8 version.
    pub(crate) fn trained() -> Self {
        Self::with(&made().trained)
    }

    /// With version 2 in int8.
    pub(crate) fn quantized() -> Self {
        Self::with(&made().quantized)
    }

    /// With versions of the model of dense layers whose weights are zero for the most part (2), and share a few values
    /// besides (3).
    pub(crate) fn sparse() -> Self {
        Self::with(sparse())
    }

    fn with(files: &Files) -> Self {
        let place = Self { root: tempfile::tempdir().unwrap() };
        for (path, bytes) in files {
            let path = place.path("models").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn files(&self) -> Files {
        files(&self.path("models"))
    }

    pub(crate) fn registry(&self) -> Registry {
        Registry::open(self.path("models")).unwrap()
    }

    pub(crate) fn package(&self, reference: &str) -> Package {
        training::package(self.root.path(), reference)
    }

    /// Runs `compress quantize` here on one thread.
    pub(crate) fn quantize(&self, model: &str, arguments: &[&str]) -> Output {
        self.run(&[&["quantize", model], arguments].concat())
    }

    /// Runs a command here on one thread, for programs to read.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).arg("--json").output().unwrap()
    }

    /// A command here on one thread, for people to read.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_compress"));
        command.current_dir(self.root.path()).env_remove("RUST_LOG");
        command.args(arguments).args(["--models", "models", "--threads", "1"]);
        command
    }

    /// Runs a command that must succeed, and gives what it says.
    pub(crate) fn made(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.run(arguments);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
        json(&output)
    }
}

/// All files below a folder.
fn files(root: &Path) -> Files {
    let mut found = Files::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_owned(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}{}", text(&output.stdout), text(&output.stderr)))
}

/// What a package is made of.
pub(crate) fn parts(package: &Package) -> Parts {
    let manifest = package.manifest();
    Parts {
        network: package.network().clone(),
        preprocess: manifest.preprocess.clone(),
        postprocess: manifest.postprocess.clone(),
        weights: package.weights().unwrap(),
        quantization: package.quantization().cloned(),
    }
}

pub(crate) fn open(package: &Package, device: DeviceSpec) -> Predictor {
    training::one_thread();
    Predictor::from_package(package, device).unwrap()
}

pub(crate) fn data(package: &Package) -> DataSet {
    packed_data(package.manifest()).unwrap()
}
