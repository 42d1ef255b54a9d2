//! `compress recipe` as a person runs it: methods one after the other, from a file.

use serde_json::Value;

use crate::place::{Place, json, text};

const RECIPE: &str = "version = 1\n\
    [[steps]]\nmethod = 'prune'\nbudget = { share = 0.5 }\ngroups = { multiple = 4 }\n\
    sensitivity = { curves = false }\nfinetune = { epochs = 1, batch_size = 32 }\n\
    [[steps]]\nmethod = 'magnitude'\nsparsity = 0.8\nschedule = { every = 10 }\n\
    finetune = { epochs = 4, batch_size = 32, optimizer = { kind = 'adam', learning_rate = 0.005 } }\n\
    [[steps]]\nmethod = 'cluster'\nclusters = 16\nfinetune = { epochs = 1, batch_size = 32 }\n\
    [gate]\nmax_drop = 10\n";

#[test]
fn the_steps_are_followed_told_and_kept() {
    let place = Place::trained();
    std::fs::write(place.path("recipe.toml"), RECIPE).unwrap();
    let output = place.run(&["recipe", "pixels@1", "--config", "recipe.toml"]);
    let (result, told) = (json(&output), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert_eq!(result["model"], "pixels@2");
    let stages = result["stages"].as_array().unwrap();
    let methods: Vec<&str> = stages.iter().map(|stage| stage["method"].as_str().unwrap()).collect();
    assert_eq!(methods, ["prune", "magnitude", "cluster"]);
    // Each makes the file smaller, and the last number is what lies there.
    let bytes: Vec<u64> = stages.iter().map(|stage| stage["record_bytes"].as_u64().unwrap()).collect();
    assert!(bytes.is_sorted_by(|before, after| before > after), "{bytes:?}");
    let file = std::fs::metadata(place.path("models/pixels/2/weights.bpk")).unwrap().len();
    assert_eq!((file, result["after"]["record_bytes"].as_u64()), (bytes[2], Some(bytes[2])));
    let package = place.package("pixels@2");
    let lineage = &package.manifest().lineage;
    let kept: Vec<&str> = lineage.steps.iter().map(|step| step.method.as_str()).collect();
    assert_eq!(kept, methods);
    // What goes on is told on the other stream, a line for each.
    let events: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    assert_eq!((count("step"), count("epoch"), count("stage")), (3, 6, 3), "{told}");
}

#[test]
fn a_recipe_that_loses_too_much_packs_nothing() {
    let place = Place::trained();
    let recipe = "version = 1\n[[steps]]\nmethod = 'magnitude'\nsparsity = 0.99\nfinetune = { epochs = 1 }\n\
                  [gate]\nmax_drop = 0.1\n";
    std::fs::write(place.path("recipe.toml"), recipe).unwrap();
    let files = place.files();
    let output = place.command(&["recipe", "pixels@1", "--config", "recipe.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(place.files() == files, "something was written");
}

#[test]
fn a_recipe_that_cannot_be_read_is_refused() {
    let place = Place::trained();
    let step = "version = 1\n[[steps]]\nmethod = ";
    let cases = [
        ("version = 1\n".to_owned(), ["steps", "at least one step"]),
        (format!("{step}'shrink'\n"), ["shrink", "recipe.toml"]),
        (format!("{step}'magnitude'\nsparsity = 1.5\n"), ["sparsity", "recipe.toml"]),
        (format!("{step}'cluster'\nclusters = 0\n"), ["clusters", "recipe.toml"]),
        (format!("{step}'cluster'\nclustres = 4\n"), ["clustres", "recipe.toml"]),
    ];
    let files = place.files();
    for (recipe, parts) in cases {
        std::fs::write(place.path("recipe.toml"), &recipe).unwrap();
        let output = place.command(&["recipe", "pixels@1", "--config", "recipe.toml"]).output().unwrap();
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{recipe}{told}");
        assert!(parts.iter().all(|part| told.contains(part)), "{parts:?}: {told}");
    }
    assert!(place.files() == files);
}
