//! `bench floors`: what the machine does by itself, for other figures to be held against.

use super::{crun, spawn};
use crate::workspace::Workspace;

pub(super) fn run(workspace: &Workspace) -> Result<(), String> {
    spawn::floor()?.print("spawn and wait, a thread per core");
    crun::floor(workspace).map(drop)
}
