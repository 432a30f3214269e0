//! Rules about documents written by hand.

use std::path::{Component, Path, PathBuf};

use crate::repository::File;

const README_LINES: usize = 120;

/// The README is short and opens with two commands that exist.
pub(crate) fn readme(readme: &str, xtask: &str) -> Vec<String> {
    let mut violations = Vec::new();
    let lines = readme.lines().count();
    if lines > README_LINES {
        violations.push(format!("README.md: {lines} lines, more than {README_LINES}"));
    }
    let block = readme.split("```").nth(1).unwrap_or_default();
    let commands = block.lines().skip(1).map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>();
    if commands.len() != 2 {
        violations.push(format!("README.md: the first code block has not two commands, but {commands:?}"));
    }
    for command in commands {
        let command = command.split('#').next().unwrap_or_default().trim();
        let is_known =
            command.strip_prefix("cargo xtask ").is_some_and(|name| xtask.contains(&format!("\"{name}\" =>")));
        if !is_known {
            violations.push(format!("README.md: `{command}` is no command of xtask"));
        }
    }
    violations
}

/// What CI runs, a person can run.
pub(crate) fn ci(script: &str) -> Vec<String> {
    let commands =
        script.lines().filter(|line| !line.starts_with('#') && !line.starts_with("set ")).collect::<Vec<_>>();
    if commands == ["cd \"$(dirname \"$0\")/..\"", "exec cargo xtask test"] {
        return Vec::new();
    }
    vec![format!(".ci/run does something else than `cargo xtask test`: {commands:?}")]
}

/// Links of a document that lead nowhere in the repository.
pub(crate) fn links(document: &File, files: &[File]) -> Vec<String> {
    let folder = Path::new(&document.path).parent().unwrap();
    let broken = targets(&document.text).into_iter().filter(|target| {
        let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
        let path = if path.is_empty() { PathBuf::from(&document.path) } else { plain(&folder.join(path)) };
        let exact = files.iter().find(|file| Path::new(&file.path) == path);
        match exact {
            Some(file) => !anchor.is_empty() && !anchors(&file.text).iter().any(|one| one == anchor),
            // A folder.
            None => !anchor.is_empty() || !files.iter().any(|file| Path::new(&file.path).starts_with(&path)),
        }
    });
    broken.map(|target| format!("{}: the link {target} leads nowhere", document.path)).collect()
}

/// Targets of links to places in the repository.
fn targets(text: &str) -> Vec<&str> {
    let after = text.split("](").skip(1).filter_map(|rest| rest.split([')', '\n']).next());
    after.filter(|target| !target.contains("://") && !target.starts_with("mailto:")).collect()
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

/// Anchors of a document's headings, as forges make them.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn readmes_can_be_wrong() {
    let xtask = "\"demo\" => run(),\n\"test\" => test(),";
    let good = "# Title\n\n```sh\ncargo xtask demo   # shows it\ncargo xtask test\n```\n\n```\nother\n```\n";
    assert_eq!(readme(good, xtask), [""; 0]);
    assert_eq!(readme(&good.replace("xtask test", "xtask tset"), xtask).len(), 1);
    assert_eq!(readme(&good.replace("cargo xtask test", "make"), xtask).len(), 1);
    assert_eq!(readme(&good.replace("cargo xtask test\n", ""), xtask).len(), 1);
    assert_eq!(readme(&good.replace("cargo xtask test\n", "cargo xtask test\ncargo xtask test\n"), xtask).len(), 1);
    assert_eq!(readme(&(good.to_owned() + &"\n".repeat(README_LINES)), xtask).len(), 1);
    assert!(!readme("", xtask).is_empty());
}

#[test]
fn ci_can_be_wrong() {
    let good = "#!/usr/bin/env bash\nset -eu\ncd \"$(dirname \"$0\")/..\"\nexec cargo xtask test\n";
    assert_eq!(ci(good), [""; 0]);
    assert_eq!(ci(&good.replace("test", "verify")).len(), 1);
    assert_eq!(ci(&format!("{good}rm -r target\n")).len(), 1);
}

#[test]
fn broken_links_are_found() {
    let files = [
        File::new("docs/a.md", "# Title\n## One: two, three\n"),
        File::new("README.md", ""),
        File::new("xdp/src/lib.rs", ""),
    ];
    let told = |text: &str| links(&File::new("docs/a.md", text), &files).len();
    let fine = "[a](a.md) [b](../README.md) [c](../xdp/src) [d](a.md#one-two-three) [e](https://x.org/y) [f](../xdp)";
    assert_eq!(told(fine), 0);
    assert_eq!(told("# Here\n[own](#title)"), 0);
    for broken in ["[a](b.md)", "[a](README.md)", "[a](a.md#two)", "[a](../xdp/tests)", "[a](../xd)"] {
        assert_eq!(told(broken), 1, "{broken}");
    }
}
