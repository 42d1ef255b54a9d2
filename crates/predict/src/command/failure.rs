//! Errors of the library as the command line tells them: with the name of the input, with a hint, and as a mistake
//! of the person or of the machine.

use anyhow::{Context as _, anyhow};
use cli::ErrorExt as _;
use predict::{DeviceError, Precision, PredictError};

use super::source::Input;

/// A device that is not there or cannot do what was asked is the person's mistake; one that fails is not.
pub(super) fn device<T>(error: DeviceError) -> anyhow::Result<T> {
    let failed = matches!(error, DeviceError::Failed { .. });
    let result = match error.hint() {
        Some(hint) => Err(error).hint(hint),
        None => Err(error.into()),
    };
    if failed { result } else { result.usage() }
}

/// A model that does not give the answers that it was packed with.
pub(super) fn unfit<T>(error: PredictError, model: &str) -> anyhow::Result<T> {
    match error {
        PredictError::Device(error) => device(error),
        PredictError::Overflow { precision, .. } => {
            overflow(precision).with_context(|| format!("`{model}` fails its self-check"))
        }
        error => Err(error).hint("`cargo xtask models verify` checks the registry"),
    }
}

/// Inputs that the model does not answer.
pub(super) fn unanswered<T>(error: PredictError, inputs: &[Input]) -> anyhow::Result<T> {
    let name = |index: usize| inputs.get(index).map_or("an input", |input| input.name.as_str());
    match error {
        PredictError::Device(error) => device(error),
        PredictError::Input(refused) => {
            Err(refused.source).with_context(|| format!("{} cannot be predicted", name(refused.index)))
        }
        PredictError::Overflow { row, precision } => {
            overflow(precision).with_context(|| format!("{} cannot be predicted", name(row)))
        }
        error => Err(error.into()),
    }
}

fn overflow<T>(precision: Precision) -> anyhow::Result<T> {
    let hint = match precision {
        Precision::Bf16 => "`--precision f32` has the range",
        _ => "`--precision f32` has the range, and so has bf16 where the device can compute in it",
    };
    Err(anyhow!("its numbers are too large for {precision}")).hint(hint)
}

#[cfg(test)]
mod tests {
    use predict::DeviceSpec;

    use super::*;

    fn told(result: anyhow::Result<()>) -> (u8, String) {
        let error = result.unwrap_err();
        (cli::exit_status(&error).code(), cli::render_error(&error, false))
    }

    #[test]
    fn a_device_that_fails_is_not_the_persons_mistake() {
        let failed = || DeviceError::Failed { device: DeviceSpec::Cuda(0), reason: "it fell off".to_owned() };
        let expected = "error: the device `cuda` failed: it fell off\n\n\
                        hint: `cargo xtask devices` lists the devices with their drivers\n";
        let everywhere =
            [device(failed()), unfit(failed().into(), "digits@1"), unanswered(failed().into(), &[])];
        for result in everywhere {
            assert_eq!(told(result), (3, expected.to_owned()));
        }
    }

    #[test]
    fn a_device_that_is_not_there_is() {
        let reason = "2 of this kind are found: cuda, cuda:1".to_owned();
        let (code, text) = told(device(DeviceError::NotFound { device: DeviceSpec::Cuda(7), reason }));
        assert_eq!(code, 2);
        assert!(text.contains("hint: `cargo xtask devices --device cuda:7` lists what there is"), "{text}");
    }

    #[test]
    fn an_overflow_says_what_has_the_range() {
        let error = |precision| PredictError::Overflow { row: 0, precision };
        let (code, text) = told(unfit(error(Precision::F16), "digits@1"));
        assert_eq!(code, 3);
        assert!(text.starts_with("error: `digits@1` fails its self-check\n"), "{text}");
        assert!(text.contains("too large for f16") && text.contains("bf16 where the device can"), "{text}");
        let (_, text) = told(unanswered(error(Precision::Bf16), &[]));
        assert!(text.contains("too large for bf16\n\nhint: `--precision f32`"), "{text}");
    }
}
