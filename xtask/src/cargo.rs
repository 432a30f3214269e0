//! Building with cargo and learning which executables came of it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::run::{cargo, seconds, shown};

/// Name of the environment variable that tells tests and the demonstration where the product's program is.
pub(crate) const BINARY_VARIABLE: &str = "SWITCHYARD_BIN";

/// An executable that cargo built.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Executable {
    /// Folder of its package: cargo starts tests there.
    pub(crate) folder: PathBuf,
    /// Name of its package.
    pub(crate) package: String,
    /// Name of its target: the library, the program or the test.
    pub(crate) target: String,
    /// Whether it is a test program.
    pub(crate) is_test: bool,
    /// Where it is.
    pub(crate) path: PathBuf,
}

/// Builds, with cargo's progress shown.
pub(crate) fn build(title: &str, arguments: &[&str]) -> anyhow::Result<Vec<Executable>> {
    let mut cargo = cargo(arguments);
    println!("==> {title}: {}", shown(&cargo));
    let started = Instant::now();
    cargo.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    let mut child = cargo.spawn().with_context(|| format!("cannot run {}", shown(&cargo)))?;
    let stdout = child.stdout.take().context("standard output of cargo")?;
    let mut built = Vec::new();
    for line in BufReader::new(stdout).lines() {
        built.extend(executable(&line.context("cannot read what cargo built")?));
    }
    let status = child.wait().context("cannot wait for cargo")?;
    if !status.success() {
        bail!("{title} failed: {} ended with {status}", shown(&cargo));
    }
    println!("    {title}: {}", seconds(started.elapsed()));
    Ok(built)
}

impl Executable {
    /// Whether it is the program of this package and target.
    pub(crate) fn is_program(&self, (package, target): (&str, &str)) -> bool {
        !self.is_test && self.package == package && self.target == target
    }
}

/// Package and target of the product's program.
pub(crate) const SWITCHYARD: (&str, &str) = ("switchyard", "switchyard");

/// How fast what is built shall be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Profile {
    /// Built soon.
    Dev,
    /// Runs fast.
    Release,
}

/// Builds programs, each named by package and target, and returns their paths in that order. All at once, so that what they
/// share is built once, with one set of features.
pub(crate) fn programs(wanted: &[(&str, &str)], profile: Profile) -> anyhow::Result<Vec<PathBuf>> {
    let mut arguments = vec!["build"];
    for (package, name) in wanted {
        arguments.extend(["--package", package, "--bin", name]);
    }
    if profile == Profile::Release {
        arguments.push("--release");
    }
    let built = build("build", &arguments)?;
    let path = |&(package, name): &(&str, &str)| {
        let found = built.iter().find(|one| one.is_program((package, name)));
        Ok(found.with_context(|| format!("cargo built no `{name}`"))?.path.clone())
    };
    wanted.iter().map(path).collect()
}

/// The executable of one of cargo's messages, if it is about one
/// (<https://doc.rust-lang.org/cargo/reference/external-tools.html#artifact-messages>).
fn executable(message: &str) -> Option<Executable> {
    let message = serde_json::from_str::<Value>(message).ok()?;
    let path = message["executable"].as_str()?;
    let folder = Path::new(message["manifest_path"].as_str()?).parent()?;
    let id = message["package_id"].as_str()?;
    // path+file:///folder/name#version, or path+file:///folder/other#name@version.
    let (place, version) = id.rsplit_once('#')?;
    let package = match version.split_once('@') {
        Some((name, _)) => name,
        None => place.rsplit_once('/')?.1,
    };
    Some(Executable {
        folder: folder.into(),
        package: package.into(),
        target: message["target"]["name"].as_str()?.into(),
        is_test: message["profile"]["test"].as_bool()?,
        path: path.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str, executable: &str) -> String {
        format!(
            r#"{{"reason":"compiler-artifact","package_id":"{id}","manifest_path":"/w/xdp/layout/Cargo.toml",
            "target":{{"kind":["lib"],"name":"xdp_layout"}},"profile":{{"test":true}},"executable":{executable}}}"#
        )
    }

    #[test]
    fn executables_are_found_in_messages() {
        let named = executable(&message("path+file:///w/xdp/layout#xdp-layout@0.1.0", "\"/t/x\"")).unwrap();
        assert_eq!(named.package, "xdp-layout");
        assert_eq!((named.target.as_str(), named.folder.as_path()), ("xdp_layout", Path::new("/w/xdp/layout")));
        assert_eq!(named.path, Path::new("/t/x"));
        assert!(named.is_test && !named.is_program(("xdp-layout", "xdp_layout")));
        assert_eq!(executable(&message("path+file:///w/api#0.1.0", "\"/t/x\"")).unwrap().package, "api");
        assert_eq!(executable(&message("path+file:///w/api#0.1.0", "null")), None);
        assert_eq!(executable("warning: not JSON"), None);
    }
}
