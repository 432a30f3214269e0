//! Generates message types, services and the descriptor set from `proto/`, without protoc.

use std::path::PathBuf;

const FILES: [&str; 8] = [
    "switchyard/v1/attachment.proto",
    "switchyard/v1/common.proto",
    "switchyard/v1/config.proto",
    "switchyard/v1/flow.proto",
    "switchyard/v1/graph.proto",
    "switchyard/v1/network_function.proto",
    "switchyard/v1/system.proto",
    "switchyard/v1/tenant.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let descriptors = protox::compile(FILES, ["proto"])?;
    tonic_prost_build::configure()
        .file_descriptor_set_path(out.join("switchyard.bin"))
        .compile_fds(descriptors)?;
    Ok(())
}
