//! Which data path the process drives.

use crate::args::DevArgs;
use state_sync::{DataPlane, DataPlaneError};
use std::error::Error as _;

/// Opens the data path of this machine.
///
/// # Errors
/// It cannot be opened: no privileges, no BPF file system, or another process drives it.
pub(crate) fn open(args: &DevArgs) -> Result<Box<dyn DataPlane>, DataPlaneError> {
    let options = xdp::Options { flow_capacity: args.flow_capacity, ..xdp::Options::default() };
    match xdp::Agent::open(&args.bpffs, options) {
        Ok(agent) => Ok(Box::new(agent)),
        Err(error) => {
            let mut cause = error.to_string();
            let mut source = error.source();
            while let Some(next) = source {
                cause += &format!(": {next}");
                source = next.source();
            }
            Err(DataPlaneError { operation: "open the data path".to_owned(), cause })
        }
    }
}
