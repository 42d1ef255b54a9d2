//! What `inspect` finds in data that has every fault.

use super::*;
use crate::data::{SourceKind, load};

fn table(text: &str, extra: &str) -> Inspection {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.csv");
    std::fs::write(&path, text).unwrap();
    let mut config: DataConfig =
        toml::from_str(&format!("source = \"csv\"\nlabel = \"y\"\n{extra}")).unwrap();
    config.path = Some(path);
    let mut read = 0;
    let inspection = inspect(&load(&config, 1).unwrap(), &config, |more| read += more).unwrap();
    assert_eq!(read as usize, inspection.samples);
    inspection
}

#[test]
fn embedded_data_has_no_fault() {
    for source in [SourceKind::Digits, SourceKind::BreastCancer, SourceKind::Generated] {
        let config = DataConfig::new(source);
        let inspection = inspect(&load(&config, 1).unwrap(), &config, |_| ()).unwrap();
        assert_eq!(inspection.warnings, [""; 0], "{source}");
        assert_eq!(inspection.duplicates, Duplicates::default(), "{source}");
    }
    let config = DataConfig::new(SourceKind::Digits);
    let digits = inspect(&load(&config, 1).unwrap(), &config, |_| ()).unwrap();
    let pictures = digits.pictures.unwrap();
    assert_eq!(pictures.sizes, [SizeCount { height: 8, width: 8, count: 1797 }]);
    assert_eq!((pictures.min, pictures.max, pictures.blank), (0.0, 16.0, 0));
    assert_eq!(
        digits.labels.iter().map(|label| label.train + label.validation + label.test).sum::<usize>(),
        1797
    );
}

#[test]
fn every_fault_of_a_table_is_found() {
    let mut text = "id,same,name,hole,far,part,y\n".to_owned();
    for row in 0..200 {
        let part = ["train", "train", "train", "validation", "test"][row % 5];
        let hole = if row % 4 == 0 { "1" } else { "" };
        let far = if row == 0 { 1e6 } else { f64::from(row as u32 % 7) };
        let label = if row % 40 == 1 { "rare" } else { "often" };
        text += &format!("{},5,n{row},{hole},{far},{part},{label}\n", row + 1);
    }
    // One test row repeats a training row with another label.
    text += "201,5,n7,,0,train,often\n201,5,n7,,0,test,rare\n";
    let inspection = table(&text, "split.column = \"part\"");
    let all = inspection.warnings.join("\n");
    for expected in [
        "leakage: 1 of 41 test samples are also in the train part, so the test score will be too good",
        "1 samples equal another one but have another target",
        "fewer than 10 training samples for `rare`",
        "no validation sample for `rare`",
        "imbalance: 116 training samples of `often`, but 5 of `rare`",
        "constant: `same`, `hole` always the same",
        "nearly every row has another value in `name`",
        "more than half of the values are missing in `hole`",
        "column `name` has values that no training sample has: `n103`,",
    ] {
        assert!(all.contains(expected), "{expected}\n\n{all}");
    }
    assert_eq!(inspection.duplicates.across, [Shared { known: Part::Train, judged: Part::Test, samples: 1 }]);
    assert!(inspection.duplicates.examples[0][1].starts_with("line 203 of "));
    let far = inspection.columns.iter().find(|column| column.name == "far").unwrap();
    assert_eq!((far.min, far.max, far.missing), (Some(0.0), Some(1e6), 0));

    let counting = (0..60).map(|row| format!("{row},{},{}\n", row % 3, row % 2)).collect::<String>();
    let inspection = table(&format!("n,x,y\n{counting}"), "");
    assert!(inspection.warnings.iter().any(|warning| warning.starts_with("row number: `n` counts the rows")));
    let far = (0..300)
        .map(|row| format!("{},{}\n", if row == 9 { 1e6 } else { f64::from(row % 3) }, row % 2))
        .collect::<String>();
    let inspection = table(&format!("far,y\n{far}"), "");
    assert!(
        inspection.warnings[..]
            .iter()
            .any(|warning| warning.starts_with("outliers more than 15 deviations from the mean in `far`"))
    );
    let cleaned = table(
        "x,y\n1,a\n1,a\n1,b\n?,b\n2,a\n2,b\n3,a\n3,b\n4,a\n4,b\n5,a\n5,b\n6,a\n6,b\n7,a\n7,b\n8,a\n8,b\n9,a\n9,b\n",
        "table.missing = \"drop\"",
    );
    assert_eq!((cleaned.samples, cleaned.left_out), (20, 1));
}

#[test]
fn faults_of_pictures_are_found() {
    let root = tempfile::tempdir().unwrap();
    for index in 0..40u8 {
        let path = root.path().join(format!("{}/{index:02}.png", ["a", "b"][usize::from(index % 2)]));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut picture = image::RgbImage::from_pixel(6, 6, image::Rgb([index, 0, 0]));
        if index > 3 {
            picture.put_pixel(1, 1, image::Rgb([50, 0, 0]));
        }
        picture.save(path).unwrap();
    }
    std::fs::copy(root.path().join("a/20.png"), root.path().join("a/98.png")).unwrap();
    std::fs::write(root.path().join("b/99.png"), b"no image").unwrap();
    let mut config = DataConfig::new(SourceKind::Folder);
    config.path = Some(root.path().to_owned());
    (config.image.size, config.image.channels) = (Some([6, 6]), Some(1));
    let inspection = inspect(&load(&config, 1).unwrap(), &config, |_| ()).unwrap();
    let all = inspection.warnings.join("\n");
    for expected in [
        "1 samples cannot be read",
        "b/99.png: the image cannot be read",
        "4 pictures show nothing",
        "41 pictures have colours, which are turned into grey",
        "no pixel is larger than 50 of 255",
    ] {
        assert!(all.contains(expected), "{expected}\n\n{all}");
    }
    let duplicates = &inspection.duplicates;
    let across: usize = duplicates.across.iter().map(|shared| shared.samples).sum();
    assert_eq!(duplicates.within_train + duplicates.within_validation + duplicates.within_test + across, 1);
}
