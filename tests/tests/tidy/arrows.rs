//! Which crate may depend on which.

use crate::repository::Package;

/// Crates without I/O, clock and tasks.
pub(crate) const PURE: [&str; 4] = ["chain-graph", "maglev", "xdp-forward", "xdp-layout"];

/// What no pure crate is built from, by the beginning of the name.
const IMPURE: [&str; 5] = ["tokio", "tonic", "kube", "openraft", "aya"];

const LIBRARIES: &[&str] = &["api", "chain-graph", "maglev", "state-sync", "xdp", "xdp-forward", "xdp-layout"];

/// What a crate may depend on within the workspace.
fn allowed(package: &str) -> Option<&'static [&'static str]> {
    Some(match package {
        "maglev" | "xdp-layout" | "xtask" => &[],
        "xdp-forward" => &["maglev", "xdp-layout"],
        "xdp-fixtures" | "xdp-programs" => &["maglev", "xdp-forward", "xdp-layout"],
        "chain-graph" => &["maglev", "xdp-forward", "xdp-layout"],
        "state-sync" => &["chain-graph", "maglev", "xdp-forward", "xdp-layout"],
        "xdp" => &["chain-graph", "maglev", "state-sync", "xdp-forward", "xdp-layout"],
        "api" => &["chain-graph", "state-sync", "xdp-layout"],
        "switchyard" => LIBRARIES,
        "tests" => &["api", "chain-graph", "maglev", "state-sync", "switchyard", "xdp", "xdp-forward", "xdp-layout"],
        "bench" => {
            &["api", "chain-graph", "maglev", "state-sync", "switchyard", "tests", "xdp", "xdp-forward", "xdp-layout"]
        }
        _ => return None,
    })
}

/// Dependencies against the arrows.
pub(crate) fn in_workspace(packages: &[Package]) -> Vec<String> {
    let violations = packages.iter().flat_map(|package| {
        let Some(allowed) = allowed(&package.name) else {
            return vec![format!("{}: no rule says what it may depend on", package.name)];
        };
        let against = package.members.iter().filter(|member| !allowed.contains(&member.as_str()));
        against.map(|member| format!("{} must not depend on {member}", package.name)).collect()
    });
    violations.collect()
}

/// Libraries have errors with types; `anyhow` is for programs and tests.
pub(crate) fn anyhow(packages: &[Package]) -> Vec<String> {
    let libraries = packages.iter().filter(|package| package.is_library);
    let wrong = libraries.filter(|one| one.name != "tests" && one.name != "bench");
    let wrong = wrong.filter(|one| one.dependencies.iter().any(|dependency| dependency == "anyhow"));
    wrong.map(|one| format!("{}: a library must not depend on anyhow", one.name)).collect()
}

/// Dependencies, direct or not, that a pure crate must not have.
pub(crate) fn impure(package: &str, dependencies: &[String]) -> Vec<String> {
    let is_impure = |name: &str| {
        IMPURE
            .iter()
            .any(|impure| name.strip_prefix(impure).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')))
    };
    let found = dependencies.iter().filter(|name| is_impure(name));
    found.map(|name| format!("{package} is built from {name}")).collect()
}

fn package(name: &str, dependencies: &[&str]) -> Package {
    let dependencies = dependencies.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    Package { name: name.into(), is_library: true, members: dependencies.clone(), dependencies, sources: Vec::new() }
}

#[test]
fn arrows_can_be_broken() {
    assert_eq!(in_workspace(&[package("state-sync", &["chain-graph"]), package("maglev", &[])]), [""; 0]);
    let wrong = [package("chain-graph", &["maglev", "state-sync"]), package("maglev", &["xdp-layout"])];
    let told = ["chain-graph must not depend on state-sync", "maglev must not depend on xdp-layout"];
    assert_eq!(in_workspace(&wrong), told);
    assert_eq!(in_workspace(&[package("unheard-of", &[])]).len(), 1);
}

#[test]
fn anyhow_is_found_in_libraries_only() {
    let program = Package { is_library: false, ..package("switchyard", &["anyhow"]) };
    assert_eq!(anyhow(&[program, package("tests", &["anyhow"])]), [""; 0]);
    assert_eq!(anyhow(&[package("api", &["anyhow"])]).len(), 1);
}

#[test]
fn impurity_is_found() {
    let tree = ["serde", "ayatana", "tokio-util", "aya", "kubernetes"].map(str::to_owned);
    assert_eq!(impure("maglev", &tree), ["maglev is built from tokio-util", "maglev is built from aya"]);
}
