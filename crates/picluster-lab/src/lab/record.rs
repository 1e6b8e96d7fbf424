//! The file by which a running lab is found again.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::spec::LabSpec;

/// What a running lab writes about itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Pid of the keeper.
    pub keeper: u32,
    /// Pid of the supervisor in this machine's numbering.
    pub supervisor: u32,
    /// Its start time: a pid alone may have been given to somebody else.
    pub supervisor_start: u64,
    pub cgroup: PathBuf,
    pub program: PathBuf,
    pub spec: LabSpec,
}

impl Record {
    pub(super) fn is_alive(&self) -> bool {
        #[cfg(target_os = "linux")]
        {
            crate::linux::procs::start_time(self.supervisor) == Some(self.supervisor_start)
        }
        #[cfg(not(target_os = "linux"))]
        {
            false
        }
    }

    pub(super) fn keeper_alive(&self) -> bool {
        // Its last act removes the record; a killed one leaves it, and is no process any more.
        Path::new("/proc").join(self.keeper.to_string()).exists()
    }
}
