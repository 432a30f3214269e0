//! Builds the eBPF object with the pinned stable toolchain: `-Z build-std=core` needs `RUSTC_BOOTSTRAP`, and the linker is
//! bpf-linker, which carries rustc's own LLVM. The object is embedded by `object.rs`, never committed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    for source in ["programs", "forward", "layout", "../maglev"] {
        println!("cargo::rerun-if-changed={}", manifest.join(source).join("src").display());
        println!("cargo::rerun-if-changed={}", manifest.join(source).join("Cargo.toml").display());
    }
    // OUT_DIR is <target>/<profile>/build/<package>/out. A folder of its own, since this build holds the lock of that one.
    let target = out.ancestors().nth(4).expect("cargo's layout of OUT_DIR").join("bpf");
    build(&manifest, &target);
    let object = target.join("bpfel-unknown-none/release/switchyard");
    fs::copy(&object, out.join("switchyard.bpf.o"))
        .unwrap_or_else(|e| panic!("copy the eBPF object {}: {e}", object.display()));
}

fn build(manifest: &Path, target: &Path) {
    let flags = ["-Clinker=bpf-linker", "-Clink-arg=--btf", "-Ctarget-cpu=v3", "-Cdebuginfo=2"].join("\u{1f}");
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets it"));
    cargo
        .current_dir(manifest.join("programs"))
        .args(["build", "--release", "--locked", "--package", "xdp-programs"])
        .args(["--target", "bpfel-unknown-none", "-Zbuild-std=core", "--target-dir"])
        .arg(target)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags);
    for inherited in ["RUSTC", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTFLAGS", "CARGO_TARGET_DIR"] {
        cargo.env_remove(inherited);
    }
    let status = cargo.status().unwrap_or_else(|e| panic!("run cargo for the eBPF programs: {e}"));
    assert!(
        status.success(),
        "building the eBPF programs failed ({status}); `cargo xtask setup` installs rust-src and bpf-linker"
    );
}
