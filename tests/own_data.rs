//! One's own data: a CSV and a folder of images become models with the configs that the README names.

use std::fmt::Write as _;

use crate::support::{Place, run};

#[test]
fn a_csv_becomes_a_model() {
    let place = Place::new();
    let mut csv = "height,colour,\"weight, kg\",kind\n".to_owned();
    for index in 0..120 {
        let (kind, base) = if index % 2 == 0 { ("cat", 4.0) } else { ("dog", 20.0) };
        let height =
            if index % 17 == 0 { String::new() } else { format!("{}", base * 5.0 + f64::from(index % 7)) };
        let colour = ["black", "white", "\"red, brown\""][index as usize % 3];
        writeln!(csv, "{height},{colour},{},{kind}", base + f64::from(index % 5) * 0.3).unwrap();
    }
    let path = place.write("animals.csv", csv);
    let set = format!("data.path={path}");
    let said = place.train(&[
        "--config",
        "configs/train/own-csv.toml",
        "--name",
        "animals",
        "--set",
        &set,
        "--set",
        "data.label=kind",
    ]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let row = place.write("row.csv", "height,colour,\"weight, kg\"\n22,white,4.3\n");
    let answer =
        run("predict", &["animals@1", &row, "--models", &place.path("models"), "--json"]).ok().json();
    assert_eq!(answer["predictions"][0]["class"], "cat", "{answer}");
}

#[test]
fn a_folder_of_images_becomes_a_model() {
    let place = Place::new();
    for index in 0..60u32 {
        for (class, vertical) in [("stripes-down", true), ("stripes-across", false)] {
            // Pictures of different sizes, stripes of different phase.
            let (width, height) = (20 + index % 9, 24 + index % 5);
            let picture = image::GrayImage::from_fn(width, height, |x, y| {
                let along = if vertical { x } else { y };
                image::Luma([if (along + index) % 6 < 3 { 220 } else { 30 }])
            });
            let folder = place.path(&format!("pictures/{class}"));
            std::fs::create_dir_all(&folder).unwrap();
            picture.save(format!("{folder}/{index}.png")).unwrap();
        }
    }
    let set = format!("data.path={}", place.path("pictures"));
    let arguments = [
        "--config",
        "configs/train/own-folder.toml",
        "--name",
        "stripes",
        "--set",
        &set,
        "--set",
        "train.epochs=8",
    ];
    let said = place.train(&arguments);
    assert_eq!(said.code, Some(0), "{said:?}");
    let picture = place.path("pictures/stripes-down/3.png");
    let answer =
        run("predict", &["stripes", &picture, "--models", &place.path("models"), "--json"]).ok().json();
    assert_eq!(answer["predictions"][0]["class"], "stripes-down", "{answer}");
}
