//! The embedded data from end to end: load, fit, batches.

use network::{Preprocess, RawInput, Task};

use super::*;

fn loaded(source: SourceKind, seed: u64) -> (DataSet, Preprocess) {
    let config = DataConfig::new(source);
    let data = load(&config, seed).unwrap();
    let preprocess = fit_preprocess(&data, &config).unwrap();
    (data, preprocess)
}

#[test]
fn digits() {
    let (data, preprocess) = loaded(SourceKind::Digits, 1);
    assert_eq!((data.source.len(), data.task, data.labels.len()), (1797, Task::MultiClass, 10));
    let record = &data.splits.record;
    assert_eq!((record.test, record.validation, record.train), (359, 144, 1294));
    assert_eq!(data.label_counts(&data.splits.test).unwrap(), [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]);
    // `zcat images labels | sha256sum`
    assert_eq!(data.sha256, "663fb76c4498a2e6a9ea2c09e2b4c4ed5dacbb5707e8f598be22c9624f62bb4e");
    let Preprocess::Image(image) = &preprocess else { panic!("an image") };
    // scikit-learn gives mean 4.884 and deviation 6.017 over all pixels of the whole set.
    assert!((image.mean[0] * 16.0 - 4.884).abs() < 0.05 && (image.std[0] * 16.0 - 6.017).abs() < 0.05);
    assert!(data.redistributable && data.origin.licence == "CC BY 4.0");
}

#[test]
fn digits_in_another_size_and_in_colour() {
    let (plain, _) = loaded(SourceKind::Digits, 1);
    let mut config = DataConfig::new(SourceKind::Digits);
    (config.image.size, config.image.channels) = (Some([8, 8]), Some(1));
    assert!(matches!(load(&config, 1).unwrap().source.read(0).unwrap(), RawInput::Numbers(_)));
    for (size, channels) in [([16, 12], 1), ([8, 8], 3), ([5, 5], 3)] {
        (config.image.size, config.image.channels) = (Some(size), Some(channels));
        let data = load(&config, 1).unwrap();
        assert_eq!((&data.sha256, &data.splits), (&plain.sha256, &plain.splits));
        let Preprocess::Image(image) = fit_preprocess(&data, &config).unwrap() else { panic!("an image") };
        assert_eq!(([image.height, image.width], image.channels, image.max_value), (size, channels, 16.0));
        // Values of 0–16 became pictures of the full range: there is ink, and paper around it.
        assert!((0.05..0.5).contains(&image.mean[0]), "{:?}", image.mean);
        let prepared = Preprocess::Image(image).prepare(&data.source.read(3).unwrap()).unwrap();
        assert_eq!(prepared.len(), size[0] * size[1] * channels);
    }
}

#[test]
fn breast_cancer() {
    let (data, preprocess) = loaded(SourceKind::BreastCancer, 1);
    assert_eq!((data.task, data.labels.join(" ").as_str()), (Task::Binary, "benign malignant"));
    assert_eq!(data.label_counts(&(0..569).collect::<Vec<_>>()).unwrap(), [357, 212]);
    assert_eq!(preprocess.output_shape(), [30]);
}

#[test]
fn splits_follow_the_seed_and_only_training_data_is_fitted() {
    let (one, fitted) = loaded(SourceKind::BreastCancer, 1);
    let (again, _) = loaded(SourceKind::BreastCancer, 1);
    let (other, _) = loaded(SourceKind::BreastCancer, 2);
    assert_eq!(one.splits, again.splits);
    assert_ne!(one.splits.record.sha256, other.splits.record.sha256);
    // The same training rows with other test rows give the same preprocessing.
    let mut fewer = one.clone();
    fewer.splits.test.truncate(3);
    fewer.splits.validation.truncate(3);
    assert_eq!(fit_preprocess(&fewer, &DataConfig::new(SourceKind::BreastCancer)).unwrap(), fitted);
    // Standardised columns have mean 0 and deviation 1 over the training split, and only there.
    let loader = Loader::new(one.clone(), fitted, u64::MAX);
    let (values, _) = loader.batch(&one.splits.train).unwrap();
    let column: Vec<f32> = values.iter().step_by(30).copied().collect();
    let mean = column.iter().sum::<f32>() / column.len() as f32;
    let variance = column.iter().map(|value| value * value).sum::<f32>() / column.len() as f32;
    assert!(mean.abs() < 1e-4 && (variance - 1.0).abs() < 1e-3, "{mean} {variance}");
}

#[test]
fn cached_and_uncached_batches_are_the_same() {
    let (data, preprocess) = loaded(SourceKind::Digits, 3);
    let cached = Loader::new(data.clone(), preprocess.clone(), 1797 * 64 * 4);
    let direct = Loader::new(data.clone(), preprocess, 1797 * 64 * 4 - 1);
    assert!(cached.is_cached() && !direct.is_cached());
    let indices = [5, 3, 1700, 5];
    let first = cached.batch(&indices).unwrap();
    assert_eq!(first.0.len(), 4 * 64);
    assert_eq!(first.0[..64], first.0[192..]);
    assert_eq!(first, direct.batch(&indices).unwrap());
    assert_eq!(first, cached.batch(&indices).unwrap());
    assert!(matches!(cached.batch(&[1797]), Err(DataError::NoSuchSample { index: 1797, len: 1797 })));
}

#[test]
fn data_that_is_not_there_says_how_to_get_it() {
    let error = load(&DataConfig::new(SourceKind::FashionMnist), 1).unwrap_err();
    assert_eq!(error.to_string(), "fashion-mnist is not in artifacts/data/fashion-mnist");
    assert!(error.hint().unwrap().contains("cargo xtask data fetch fashion-mnist"));
}

#[test]
fn a_column_of_unique_names_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("people.csv");
    let rows: String = (0..3000).map(|row| format!("person {row},{}\n", row % 2)).collect();
    std::fs::write(&path, format!("name,y\n{rows}")).unwrap();
    let mut config: DataConfig = toml::from_str("source = \"csv\"\nlabel = \"y\"").unwrap();
    config.path = Some(path);
    let error = fit_preprocess(&load(&config, 1).unwrap(), &config).unwrap_err().to_string();
    assert!(
        error.starts_with("people: column `name` has 2160 different names in the training split"),
        "{error}"
    );
}
