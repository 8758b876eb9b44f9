//! Has glibc return large blocks to the kernel when they are freed.
//!
//! glibc maps a large block by itself, and unmaps it when it is freed. But each time it raises its threshold to
//! the size of that block, up to 32 MiB. From then on large answers lie in heaps, which only shrink at their
//! ends. A threshold that is set stays. It can be set by a call, which Rust considers unsafe, or in the
//! environment, which glibc reads before the program starts.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// mallopt(3)
const VARIABLE: &str = "MALLOC_MMAP_THRESHOLD_";

/// glibc's threshold at the start, in bytes.
const THRESHOLD: &str = "131072";

/// Starts this program again, as the same process, with the variable set, unless it is. Does nothing if that
/// is not possible.
pub(super) fn return_large_blocks() {
    if cfg!(target_env = "gnu") && env::var_os(VARIABLE).is_none() {
        let mut arguments = env::args_os();
        let name = arguments.next().unwrap_or_else(|| "larder".into());
        if let Ok(program) = env::current_exe() {
            // Returns only if it fails, and then larger memory is no reason not to serve.
            let _ = Command::new(program)
                .arg0(name)
                .args(arguments)
                .env(VARIABLE, THRESHOLD)
                .exec();
        }
    }
}
