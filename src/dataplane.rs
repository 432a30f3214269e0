//! Which data path the process drives.

use crate::args::DevArgs;
use state_sync::{DataPlane, DataPlaneError};

/// Opens the data path of this machine.
///
/// # Errors
/// It cannot be opened: no privileges, no BPF file system, or not part of this build.
pub(crate) fn open(_args: &DevArgs) -> Result<Box<dyn DataPlane>, DataPlaneError> {
    Err(DataPlaneError {
        operation: "open the data path".to_owned(),
        cause: "this program was not built with a data plane".to_owned(),
    })
}
