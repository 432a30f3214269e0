//! The repository looks at itself: dependency arrows, forgotten files, lengths, leftovers, documents.
//!
//! Each rule is a function from text to violations, tested beside it with text that breaks it; here they meet the
//! repository. `SWITCHYARD_BLESS=1` rewrites the generated documents instead of comparing them.

mod arrows;
mod code;
mod documents;
mod generated;
mod repository;

use std::{env, fs};

use repository::{File, Package, files, root};

/// Set to rewrite generated documents.
const BLESS: &str = "SWITCHYARD_BLESS";

#[track_caller]
fn none(violations: &[String]) {
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

/// Violations of one rule in all files with one of these endings.
fn in_files(endings: &[&str], rule: impl Fn(&File) -> Vec<String>) -> Vec<String> {
    let looked_at = files().into_iter().filter(|file| endings.iter().any(|ending| file.path.ends_with(ending)));
    let looked_at = looked_at.collect::<Vec<_>>();
    assert!(!looked_at.is_empty(), "no file ends in {endings:?}");
    looked_at.iter().flat_map(rule).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn crates_depend_one_way() {
    let packages = Package::all();
    assert!(packages.len() > 8);
    none(&arrows::in_workspace(&packages));
    none(&arrows::anyhow(&packages));
}

#[test]
fn the_pure_crates_stay_pure() {
    for package in arrows::PURE {
        let tree = repository::dependencies(package);
        assert!(tree.iter().any(|dependency| dependency == package), "{tree:?}");
        none(&arrows::impure(package, &tree));
    }
}

#[test]
fn every_source_file_is_compiled() {
    let sources = files().into_iter().filter(|file| file.path.ends_with(".rs")).collect::<Vec<_>>();
    let mut roots = Package::all().into_iter().flat_map(|package| package.sources).collect::<Vec<_>>();
    roots.extend(files().iter().filter(|file| file.path.ends_with("/fuzz/Cargo.toml")).flat_map(code::binaries));
    assert!(roots.iter().any(|root| root == "tests/tests/tidy/main.rs"));
    none(&code::orphans(&roots, &sources));
}

#[test]
fn files_and_functions_are_short() {
    none(&in_files(&[".rs"], code::long_file));
    none(&in_files(&[".rs"], code::long_functions));
}

#[test]
fn nothing_is_left_undone() {
    none(&in_files(&[".rs", ".toml", ".proto", ".md", ".yaml", ".yml", ".ci/run"], code::leftovers));
}

#[test]
fn no_path_of_a_machine() {
    none(&in_files(&[".rs", ".toml", ".proto", ".md", ".yaml", ".yml", ".txt", ".ci/run"], code::machine_paths));
}

#[test]
fn unsafe_code_stays_where_it_is_needed() {
    none(&in_files(&[".rs"], code::unsafe_code));
}

#[test]
fn the_readme_opens_with_two_commands() {
    none(&documents::readme(&read("README.md"), &read("xtask/src/main.rs")));
}

#[test]
fn ci_has_no_logic_of_its_own() {
    none(&documents::ci(&read(".ci/run")));
}

#[test]
fn links_lead_somewhere() {
    let files = files();
    let documents = files.iter().filter(|file| file.path.ends_with(".md")).collect::<Vec<_>>();
    let violations = documents.iter().flat_map(|document| documents::links(document, &files)).collect::<Vec<_>>();
    none(&violations);
}

#[test]
fn generated_documents_are_current() {
    let documents = [
        ("docs/drop-reasons.md", generated::drop_reasons()),
        ("docs/counters.md", generated::counters()),
        ("docs/metrics.md", generated::metrics(&read("api/src/metrics.rs"))),
    ];
    for (path, wanted) in documents {
        if env::var_os(BLESS).is_some() {
            fs::write(root().join(path), &wanted).unwrap();
        }
        let found = fs::read_to_string(root().join(path)).unwrap_or_default();
        assert!(found == wanted, "{path} is not what the code says; `cargo xtask fix` rewrites it");
    }
}
