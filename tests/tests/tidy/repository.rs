//! What the rules look at: files, packages, dependencies.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use serde_json::Value;

/// A text file of the repository.
pub(crate) struct File {
    /// From the root, with slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    #[cfg(test)]
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.into(), text: text.into() }
    }
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// All text files, without what is built or kept by git.
pub(crate) fn files() -> Vec<File> {
    let mut files = Vec::new();
    collect(root(), &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn collect(folder: &Path, files: &mut Vec<File>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let is_kept_by_a_tool = [".git", "target"].iter().any(|name| path.file_name() == Some(OsStr::new(name)));
            if !is_kept_by_a_tool {
                collect(&path, files);
            }
        } else if let Ok(text) = fs::read_to_string(&path) {
            files.push(File { path: relative(&path), text });
        }
    }
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned()
}

/// A package of the workspace.
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) is_library: bool,
    /// Names of dependencies, those for tests and build scripts left out.
    pub(crate) dependencies: Vec<String>,
    /// Names of all dependencies within the workspace except those for tests.
    pub(crate) members: Vec<String>,
    /// Root files of its targets, from the workspace's root.
    pub(crate) sources: Vec<String>,
}

impl Package {
    pub(crate) fn all() -> Vec<Self> {
        let text = cargo(&["metadata", "--no-deps", "--format-version", "1", "--locked", "--offline"]);
        let metadata = serde_json::from_str::<Value>(&text).unwrap();
        metadata["packages"].as_array().unwrap().iter().map(Self::read).collect()
    }

    fn read(package: &Value) -> Self {
        let dependencies = package["dependencies"].as_array().unwrap();
        let name = |dependency: &Value| dependency["name"].as_str().unwrap().to_owned();
        let targets = package["targets"].as_array().unwrap();
        let is_library = |target: &Value| target["kind"].as_array().unwrap().iter().any(|kind| kind == "lib");
        Self {
            name: name(package),
            is_library: targets.iter().any(is_library),
            dependencies: dependencies.iter().filter(|one| one["kind"].is_null()).map(name).collect(),
            members: dependencies
                .iter()
                .filter(|one| !one["path"].is_null() && one["kind"] != "dev")
                .map(name)
                .collect(),
            sources: targets.iter().map(|target| relative(Path::new(target["src_path"].as_str().unwrap()))).collect(),
        }
    }
}

/// Names of everything a package is built from, itself included.
pub(crate) fn dependencies(package: &str) -> Vec<String> {
    let tree = cargo(&["tree", "-p", package, "-e", "normal,build", "--prefix", "none", "--locked", "--offline"]);
    tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

fn cargo(arguments: &[&str]) -> String {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).current_dir(root()).args(arguments).output().unwrap();
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
