//! What a process is called in lists of processes.
//!
//! A forked process shows the command line it was forked from. In a container that would be the launcher's, with a path of the
//! host; so the container's init overwrites it. Executing something small instead would cost a tenth of the whole start.

use std::fs;
use std::ptr;

/// Where this process, and every one forked from it, has its command line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Title {
    start: usize,
    length: usize,
}

impl Title {
    /// The fields of `/proc/PID/stat` behind the name: where the arguments begin.
    const ARGUMENTS_START: usize = 45;

    /// Found once, before forking; `None` where procfs does not say.
    pub(crate) fn of_this_process() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(Self::ARGUMENTS_START);
        let (start, end): (usize, usize) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (start != 0 && end > start).then(|| Self { start, length: end - start })
    }

    /// Calls this process `name`, which has at most 15 bytes and no zero byte.
    ///
    /// Nothing may read the arguments of this process afterwards.
    pub(crate) fn replace(self, name: &std::ffi::CStr) {
        let shown = name.to_bytes().len().min(self.length - 1);
        // SAFETY: the kernel put the arguments there, into the stack of the first thread, which is writable and lives as long as
        // the process; a fork has them at the same place. The caller sees to it that nobody reads them any more.
        unsafe {
            let start = ptr::with_exposed_provenance_mut::<u8>(self.start);
            ptr::write_bytes(start, 0, self.length);
            ptr::copy_nonoverlapping(name.as_ptr().cast(), start, shown);
            libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0);
        }
    }
}
