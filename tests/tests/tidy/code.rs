//! Rules about source files.

use std::collections::BTreeSet;
use std::path::Path;

use crate::repository::File;

const FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 100;

/// Reminders and gaps. In two halves, since this file is looked at too.
const LEFTOVERS: [(&str, &str); 5] = [("TO", "DO"), ("FIX", "ME"), ("XX", "X"), ("todo", "!"), ("unimplemented", "!")];

/// Where people and machines keep their checkouts; a slash follows.
const MACHINE_FOLDERS: [&str; 4] = ["home", "root", "work", "Users"];

/// Where unsafe code is needed beyond the eBPF crates: system calls without a safe form.
const UNSAFE_PLACES: [&str; 6] = [
    "bench/src/bpf.rs",
    "tests/src/recorder/socket.rs",
    "tests/src/sys.rs",
    "tests/src/drops/program.rs",
    "tests/src/trace/ptrace.rs",
    "xdp/",
];

/// Source files that no `mod` leads to.
pub(crate) fn orphans(roots: &[String], sources: &[File]) -> Vec<String> {
    let mut reached = BTreeSet::new();
    let mut waiting = roots.iter().map(|root| (root.clone(), true)).collect::<Vec<_>>();
    while let Some((path, is_root)) = waiting.pop() {
        let Some(file) = sources.iter().find(|file| file.path == path) else {
            continue;
        };
        if reached.insert(path) {
            waiting.extend(modules(file, is_root).into_iter().map(|path| (path, false)));
        }
    }
    let orphans = sources.iter().filter(|file| !reached.contains(&file.path));
    orphans.map(|file| format!("{}: no `mod` leads here", file.path)).collect()
}

/// Sources of the binaries that a manifest outside the workspace names.
pub(crate) fn binaries(manifest: &File) -> Vec<String> {
    let folder = manifest.path.trim_end_matches("Cargo.toml");
    let paths = manifest.text.lines().filter_map(|line| line.strip_prefix("path = \""));
    paths.filter_map(|rest| rest.split('"').next()).map(|path| format!("{folder}{path}")).collect()
}

/// Files that the modules declared in a file may lie in.
fn modules(file: &File, is_root: bool) -> Vec<String> {
    let path = Path::new(&file.path);
    let folder = path.parent().unwrap();
    let below = if is_root || path.ends_with("mod.rs") { folder.into() } else { path.with_extension("") };
    let mut found = Vec::new();
    let mut given = None;
    for line in file.text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("#[path = \"") {
            given = rest.split('"').next();
        } else if let Some(name) = module(line) {
            match given.take() {
                Some(given) => found.push(folder.join(given)),
                None => found.extend([below.join(format!("{name}.rs")), below.join(name).join("mod.rs")]),
            }
        } else if let Some((_, rest)) = line.split_once("include!(\"") {
            found.extend(rest.split('"').next().map(|name| folder.join(name)));
        }
    }
    found.into_iter().map(|path| path.to_str().unwrap().to_owned()).collect()
}

/// The name in `mod name;`, whatever its visibility.
fn module(line: &str) -> Option<&str> {
    let name = line.strip_suffix(';')?;
    let name = match name.split_once("mod ")? {
        ("", name) => name,
        (visibility, name) if visibility.starts_with("pub") => name,
        _ => return None,
    };
    name.chars().all(|c| c.is_alphanumeric() || c == '_').then_some(name)
}

pub(crate) fn long_file(file: &File) -> Vec<String> {
    let lines = file.text.lines().count();
    if lines <= FILE_LINES {
        return Vec::new();
    }
    vec![format!("{}: {lines} lines, more than {FILE_LINES}", file.path)]
}

/// Functions from their first line to the closing brace in the same column, as rustfmt lays them out.
pub(crate) fn long_functions(file: &File) -> Vec<String> {
    let lines = file.text.lines().collect::<Vec<_>>();
    let starts = lines.iter().enumerate().filter(|(_, line)| is_function(line));
    let long = starts.filter_map(|(start, line)| {
        let indent = &line[..line.len() - line.trim_start().len()];
        let ends = |line: &&str| line.strip_prefix(indent).is_some_and(|rest| rest == "}" || rest == ";");
        let has_no_block = line.ends_with(';') || line.ends_with('}');
        let length = if has_no_block { 1 } else { lines[start..].iter().position(ends)? + 1 };
        let signature_ends = lines[start..].iter().position(|line| line.ends_with(';') || line.ends_with('{'))?;
        let is_declaration = lines[start + signature_ends].ends_with(';');
        (length > FUNCTION_LINES && !is_declaration)
            .then(|| format!("{}:{}: a function of {length} lines, more than {FUNCTION_LINES}", file.path, start + 1))
    });
    long.collect()
}

fn is_function(line: &str) -> bool {
    let Some((before, _)) = line.split_once("fn ") else {
        return false;
    };
    let words = before.split_whitespace();
    before.ends_with([' ', '\t']) | before.is_empty()
        && words.into_iter().all(|word| {
            matches!(word, "const" | "async" | "unsafe" | "extern" | "\"C\"" | "safe") || word.starts_with("pub")
        })
}

pub(crate) fn leftovers(file: &File) -> Vec<String> {
    let words = LEFTOVERS.map(|(first, second)| format!("{first}{second}"));
    lines_with(file, |line| words.iter().any(|word| has_word(line, word)), "something left undone")
}

/// Whether a word stands in a line, not as part of a longer one.
fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let after = &line[at + word.len()..];
        !line[..at].ends_with(is_part) && (word.ends_with('!') || !after.starts_with(is_part))
    })
}

pub(crate) fn machine_paths(file: &File) -> Vec<String> {
    let folders = MACHINE_FOLDERS.map(|folder| format!("/{folder}/"));
    let is_path = |line: &str| {
        folders.iter().any(|folder| {
            line.match_indices(folder.as_str())
                .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '.'))
        })
    };
    lines_with(file, is_path, "a path of somebody's machine")
}

pub(crate) fn unsafe_code(file: &File) -> Vec<String> {
    if UNSAFE_PLACES.iter().any(|place| file.path.starts_with(place)) {
        return Vec::new();
    }
    // In two halves, since this file is looked at too.
    let allow = concat!("allow(", "unsafe_code");
    lines_with(file, |line| line.contains(allow), "unsafe code is not needed here")
}

fn lines_with(file: &File, is_wrong: impl Fn(&str) -> bool, what: &str) -> Vec<String> {
    let wrong = file.text.lines().enumerate().filter(|(_, line)| is_wrong(line));
    wrong.map(|(number, line)| format!("{}:{}: {what}: {}", file.path, number + 1, line.trim())).collect()
}

#[test]
fn orphans_are_found() {
    let sources = [
        File::new(
            "a/src/lib.rs",
            "mod one;\npub(crate) mod two;\n#[path = \"other/x.rs\"]\nmod three;\nmod inline {}\n",
        ),
        File::new("a/src/one.rs", "mod deep;\n// mod orphan;\n"),
        File::new("a/src/one/deep.rs", ""),
        File::new("a/src/two/mod.rs", "mod deeper;"),
        File::new("a/src/two/deeper.rs", "include!(\"part.rs\");"),
        File::new("a/src/two/part.rs", ""),
        File::new("a/src/other/x.rs", ""),
        File::new("a/src/orphan.rs", "mod of_orphan;"),
        File::new("a/src/orphan/of_orphan.rs", ""),
        File::new("a/tests/it.rs", "mod common;"),
        File::new("a/tests/common/mod.rs", ""),
    ];
    let roots = ["a/src/lib.rs".to_owned(), "a/tests/it.rs".to_owned()];
    let told = ["a/src/orphan.rs: no `mod` leads here", "a/src/orphan/of_orphan.rs: no `mod` leads here"];
    assert_eq!(orphans(&roots, &sources), told);
}

#[test]
fn lengths_are_measured() {
    let body = "        let x = 1;\n".repeat(FUNCTION_LINES - 1);
    let short =
        format!("impl A {{\n    fn short(&self) {{\n{}    }}\n}}\n", "        call();\n".repeat(FUNCTION_LINES - 2));
    let long = format!("impl A {{\n    pub(crate) const unsafe fn long(&self) {{\n{body}    }}\n}}\n");
    let spread = format!("fn spread(\n    a: u8,\n) {{\n{}}}\n", "    call();\n".repeat(FUNCTION_LINES));
    let declared =
        format!("trait T {{\n    fn a(&self);\n    fn b(\n        &self,\n    ) -> u8;\n{}}}\n", "\n".repeat(200));
    let found = |text: &str| long_functions(&File::new("x.rs", text));
    assert_eq!(found(&short), [""; 0]);
    assert_eq!(found(&long), ["x.rs:2: a function of 101 lines, more than 100"]);
    assert_eq!(found(&spread).len(), 1);
    assert_eq!(found(&declared), [""; 0]);
    assert_eq!(long_file(&File::new("x.rs", &"\n".repeat(FILE_LINES))), [""; 0]);
    assert_eq!(long_file(&File::new("x.rs", &"\n".repeat(FILE_LINES + 1))).len(), 1);
}

#[test]
fn leftovers_are_found() {
    for (first, second) in LEFTOVERS {
        let word = format!("{first}{second}");
        let argument = if word.ends_with('!') { "(\"x\")" } else { ": x" };
        assert_eq!(leftovers(&File::new("x.rs", &format!("fine\n    // {word}{argument}\n"))).len(), 1, "{word}");
    }
    let fine = format!("mktemp {}\ntodo = \"warn\"\nTO DO", "X".repeat(6));
    assert_eq!(leftovers(&File::new("x.rs", &fine)), [""; 0]);
}

#[test]
fn machine_paths_are_found() {
    for folder in MACHINE_FOLDERS {
        assert_eq!(machine_paths(&File::new("x.md", &format!("see /{folder}/me/x\n"))).len(), 1, "{folder}");
        assert_eq!(machine_paths(&File::new("x.md", &format!("see ../{folder}/me and a/{folder}/b"))), [""; 0]);
    }
}

#[test]
fn misplaced_unsafe_code_is_found() {
    let text = concat!("#![allow(", "unsafe_code, reason = \"x\")]");
    assert_eq!(unsafe_code(&File::new("api/src/lib.rs", text)).len(), 1);
    assert_eq!(unsafe_code(&File::new("xdp/src/sys.rs", text)), [""; 0]);
}
