//! Classifies image files with a packed model, as a program of your own would:
//!
//! ```text
//! cargo run --release -p predict --example classify -- artifacts/models digits@1 seven.png three.png
//! ```

use std::error::Error;

use artifact::Registry;
use predict::{DeviceSpec, Predictor, RawInput};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [registry, model, files @ ..] = arguments.as_slice() else {
        return Err("usage: classify REGISTRY MODEL IMAGE…".into());
    };

    // Opening verifies the package; the self-check runs its samples and warms the model up.
    let registry = Registry::open(registry)?;
    let predictor = Predictor::open(&registry, &model.parse()?, DeviceSpec::Cpu)?;
    predictor.self_check()?;

    // One batch for all files. A predictor is `Sync`: in a server, share one between threads.
    let images = files.iter().map(|file| Ok(RawInput::EncodedImage(std::fs::read(file)?.into())));
    let images = images.collect::<Result<Vec<_>, std::io::Error>>()?;
    let predictions = predictor.predict(&images)?;

    let labels = &predictor.postprocess().labels;
    for (file, prediction) in files.iter().zip(predictions) {
        let ranked = prediction.top_k(3, labels);
        let ranked: Vec<String> =
            ranked.iter().map(|(label, p)| format!("{label} ({:.1} %)", p * 100.0)).collect();
        #[allow(clippy::print_stdout, reason = "an example prints")]
        {
            println!("{file}: {}", ranked.join(", "));
        }
    }
    Ok(())
}
