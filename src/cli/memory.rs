//! Keeps what the process has in memory, its keys above all, from the disk: no core dumps, no swapping where that is allowed.
//!
//! Guarantees: no core file is written of the process, and nobody but root may read its memory or trace it (`prctl(2)`,
//! PR_SET_DUMPABLE); memory is locked where the limit on locked memory is lifted, and only there, since with a limit a
//! later allocation would fail. Deliberately absent: what the machine does by itself (hibernation, an unencrypted hypervisor).

use super::CliError;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use std::io;

/// Before any key is read.
///
/// # Errors
/// The system does not let a process forgo its core dumps.
pub(super) fn protect() -> Result<(), CliError> {
    let refused = |error: io::Error| CliError::new(format!("core dumps cannot be turned off: {error}"));
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).map_err(|error| refused(error.into()))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| refused(error.into()))
}

/// Locks memory that is in use as it comes into use, where that cannot make an allocation fail. Whether it did.
///
/// # Errors
/// The system refuses though the limit is lifted.
pub(super) fn lock() -> io::Result<bool> {
    if getrlimit(Resource::Memlock).current.is_some() {
        return Ok(false);
    }
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)?;
    Ok(true)
}
