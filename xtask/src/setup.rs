//! `setup`: everything that building, testing and the demonstration need. Installs only what is missing.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::bail;

use crate::run::{cargo, command, is_root, output, seconds, shown, step};

/// The linker that turns the programs' bitcode into an eBPF object; its LLVM has to understand that of the pinned rustc.
const BPF_LINKER: &str = "0.10.3";

/// Debian packages of the programs that the testbed runs.
const PACKAGES: [&str; 9] =
    ["iproute2", "nftables", "ethtool", "iperf3", "nginx-light", "haproxy", "iputils-ping", "curl", "conntrack"];

/// First kernel with tcx links and netkit, (major, minor).
const KERNEL: (u32, u32) = (6, 6);

/// What `setup` could not provide, in sentences.
#[derive(Debug, Default)]
pub(crate) struct Unmet(Vec<String>);

impl Unmet {
    /// The sentences; empty if everything is there.
    pub(crate) fn sentences(&self) -> &[String] {
        &self.0
    }

    /// An error naming everything that is missing.
    pub(crate) fn into_result(self) -> anyhow::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        bail!("this machine lacks:\n  - {}", self.0.join("\n  - "));
    }

    fn keep(&mut self, result: anyhow::Result<()>) {
        if let Err(error) = result {
            self.0.push(format!("{error:#}"));
        }
    }
}

/// Provides what is missing and says so.
///
/// # Errors
/// The state of the machine cannot be read; what it merely lacks is returned.
pub(crate) fn run() -> anyhow::Result<Unmet> {
    let started = Instant::now();
    let mut unmet = Unmet::default();
    if !is_root() {
        unmet.0.push(
            "root: network namespaces and eBPF need it; run the same command with `sudo -E env \"PATH=$PATH\"`".into(),
        );
    }
    unmet.keep(kernel(&fs::read_to_string("/proc/sys/kernel/osrelease")?));
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        unmet.0.push("a kernel with BTF (CONFIG_DEBUG_INFO_BTF; /sys/kernel/btf/vmlinux is missing)".into());
    }
    unmet.keep(packages());
    unmet.keep(rust_source());
    unmet.keep(bpf_linker());
    unmet.keep(bpf_file_system());
    bridge_netfilter();
    let end = if unmet.0.is_empty() { "everything is there" } else { "something is missing" };
    println!("==> setup: {end} ({})", seconds(started.elapsed()));
    Ok(unmet)
}

fn kernel(release: &str) -> anyhow::Result<()> {
    let release = release.trim();
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else {
        bail!("a Linux kernel >= {}.{} (this one calls itself {release:?})", KERNEL.0, KERNEL.1);
    };
    if (major, minor) < KERNEL {
        bail!("a Linux kernel >= {}.{} (this one is {release})", KERNEL.0, KERNEL.1);
    }
    Ok(())
}

fn packages() -> anyhow::Result<()> {
    let all = PACKAGES.join(" ");
    // An unknown package makes dpkg-query fail, but it tells of the others all the same.
    let Ok(listed) =
        command("dpkg-query").args(["-W", "-f", "${Package} ${db:Status-Status}\n"]).args(PACKAGES).output()
    else {
        bail!("Debian's package manager: install by your own means what Debian calls {all}");
    };
    let missing = not_installed(&String::from_utf8_lossy(&listed.stdout));
    if missing.is_empty() {
        println!("    Debian packages: there");
        return Ok(());
    }
    if !is_root() {
        bail!("the Debian packages {} (installing them needs root)", missing.join(" "));
    }
    step("package lists", command("apt-get").args(["update", "-q"]))?;
    let mut install = command("apt-get");
    install.args(["install", "-q", "-y", "--no-install-recommends"]).args(missing);
    // The testbed starts nginx and haproxy itself, in its namespaces; the host is to be spared their services.
    install.env("DEBIAN_FRONTEND", "noninteractive").env("SYSTEMD_OFFLINE", "1");
    step("packages", &mut install)
}

fn not_installed(listed: &str) -> Vec<&'static str> {
    let installed = |package: &str| listed.lines().any(|line| line.split_once(' ') == Some((package, "installed")));
    PACKAGES.into_iter().filter(|package| !installed(package)).collect()
}

fn rust_source() -> anyhow::Result<()> {
    let Some(sysroot) = output(command("rustc").args(["--print", "sysroot"]))? else {
        bail!("rustup's Rust (https://rustup.rs): `rustc` is not found");
    };
    if Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/Cargo.lock").exists() {
        println!("    rust-src: there");
        return Ok(());
    }
    if output(command("rustup").arg("--version"))?.is_none() {
        bail!("rustup's Rust (https://rustup.rs): the component rust-src is missing and `rustup` is not found");
    }
    step("rust-src", command("rustup").args(["component", "add", "rust-src"]))
}

fn bpf_linker() -> anyhow::Result<()> {
    // A broken one is as good as none.
    let version = output(command("bpf-linker").arg("--version")).ok().flatten();
    if version.as_deref().is_some_and(|version| version.split_whitespace().nth(1) == Some(BPF_LINKER)) {
        println!("    bpf-linker {BPF_LINKER}: there");
        return Ok(());
    }
    println!("    bpf-linker {BPF_LINKER} is built from source; this takes about two minutes");
    step("bpf-linker", &mut cargo(&["install", "bpf-linker", "--version", BPF_LINKER, "--locked"]))
}

fn bpf_file_system() -> anyhow::Result<()> {
    if has_bpf_file_system(&fs::read_to_string("/proc/mounts").unwrap_or_default()) {
        println!("    bpffs at /sys/fs/bpf: there");
        return Ok(());
    }
    if !is_root() {
        bail!("the BPF file system at /sys/fs/bpf (mounting it needs root)");
    }
    step("bpffs", command("mount").args(["-t", "bpf", "bpf", "/sys/fs/bpf"]))
}

fn has_bpf_file_system(mounts: &str) -> bool {
    mounts.lines().any(|line| {
        let mut words = line.split(' ').skip(1);
        words.next() == Some("/sys/fs/bpf") && words.next() == Some("bpf")
    })
}

/// Loads br_netfilter, which the stateful bridge firewall needs. Where it cannot be loaded, the tests that need it say so.
fn bridge_netfilter() {
    if Path::new("/proc/sys/net/bridge").exists() {
        println!("    br_netfilter: there");
        return;
    }
    let mut load = command("modprobe");
    load.arg("br_netfilter");
    match output(&mut load) {
        Ok(Some(_)) => println!("    br_netfilter: loaded"),
        Ok(None) => println!("    br_netfilter: not loaded, and there is no modprobe (Debian package kmod)"),
        Err(error) => println!("    br_netfilter: `{}` failed: {error:#}", shown(&load)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels() {
        for good in ["6.6.0", "6.12.48+deb13-amd64\n", "7.0.0-rc1", "10.1"] {
            assert!(kernel(good).is_ok(), "{good}");
        }
        for bad in ["6.5.13", "6.1.0-18-amd64\n", "5.15.0", "", "x.y"] {
            assert!(kernel(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_installed_packages_count() {
        let all = PACKAGES.map(|package| format!("{package} installed\n")).concat();
        assert_eq!(not_installed(&all), [""; 0]);
        let one_removed = all.replace("haproxy installed", "haproxy config-files").replace("curl installed\n", "");
        assert_eq!(not_installed(&one_removed), ["haproxy", "curl"]);
    }

    #[test]
    fn bpffs_is_found_by_place_and_kind() {
        assert!(has_bpf_file_system("proc /proc proc rw 0 0\nnone /sys/fs/bpf bpf rw,mode=700 0 0\n"));
        assert!(!has_bpf_file_system("tmpfs /sys/fs/bpf tmpfs rw 0 0\nbpf /mnt bpf rw 0 0\n"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut unmet = Unmet::default();
        unmet.keep(kernel("5.10.0"));
        unmet.keep(kernel("6.6.0"));
        assert_eq!(unmet.sentences().len(), 1);
        assert!(unmet.into_result().unwrap_err().to_string().contains("5.10.0"));
    }
}
