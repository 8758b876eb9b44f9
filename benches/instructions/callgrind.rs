//! This program under callgrind, and what that counted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

/// What callgrind counts while this runs, it writes to a file of its own: the second of two, the first
/// being what was counted before.
#[inline(never)]
pub(crate) fn counted_from_here(run: &mut dyn FnMut()) {
    run();
    // So that the call above is none in tail position, and this function is on the stack meanwhile.
    std::hint::black_box(());
}

/// That function's name.
const COUNTED: &str = concat!(module_path!(), "::counted_from_here");

/// Where memory is asked for, by the names of the system's allocator.
const ALLOCATORS: [&str; 5] = [
    "malloc",
    "calloc",
    "realloc",
    "posix_memalign",
    "aligned_alloc",
];

/// What was counted.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) instructions: u64,
    /// Calls of the allocator for memory; giving it back is not counted.
    pub(crate) allocations: u64,
}

/// Runs this program under callgrind. What it counted, by name.
pub(crate) fn run(keep: bool) -> anyhow::Result<Vec<(String, Counted)>> {
    let folder = Folder::create()?;
    let out = folder.0.join("callgrind.out");
    let this = std::env::current_exe()?;
    let ran = Command::new("valgrind")
        .args(["--tool=callgrind", "-q"])
        .arg(format!("--dump-before={COUNTED}"))
        .arg(format!("--dump-after={COUNTED}"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(&this)
        .args(["--bench", "--counted"])
        // Which of its variants glibc takes depends on the processor: those left need no more than AVX.
        .env(
            "GLIBC_TUNABLES",
            "glibc.cpu.hwcaps=-AVX2,-AVX512F,-AVX512VL,-ERMS,-FSRM",
        )
        .output()
        .context("can not run valgrind; on Debian: apt-get install valgrind")?;
    let said = String::from_utf8_lossy(&ran.stderr);
    ensure!(ran.status.success(), "valgrind: {}\n{said}", ran.status);
    let names = String::from_utf8(ran.stdout)?;
    let counted = names
        .lines()
        .zip(1..)
        .map(|(name, nth)| {
            let file = folder.0.join(format!("callgrind.out.{}", 2 * nth));
            let counted = read(&file).with_context(|| format!("no count of `{name}`"))?;
            Ok((name.to_owned(), counted))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    ensure!(!counted.is_empty(), "nothing was counted");
    if keep {
        folder.keep();
    }
    Ok(counted)
}

/// The format: <https://valgrind.org/docs/manual/cl-format.html>.
fn read(file: &Path) -> anyhow::Result<Counted> {
    let text = std::fs::read_to_string(file)?;
    let mut names = BTreeMap::new();
    let mut called = "";
    let (mut instructions, mut allocations) = (0, 0);
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("fn=") {
            remember(&mut names, name);
        } else if let Some(name) = line.strip_prefix("cfn=") {
            called = remember(&mut names, name);
        } else if let Some(calls) = line.strip_prefix("calls=") {
            if ALLOCATORS.contains(&called) {
                let (count, _) = calls.split_once(' ').unwrap_or((calls, ""));
                allocations += count.parse::<u64>()?;
            }
        } else if let Some(total) = line.strip_prefix("summary: ") {
            instructions = total.trim().parse()?;
        }
    }
    if instructions == 0 {
        bail!("{} has no summary", file.display());
    }
    Ok(Counted {
        instructions,
        allocations,
    })
}

/// Of `(7) malloc` and of each later `(7)`: `malloc`.
fn remember<'t>(names: &mut BTreeMap<&'t str, &'t str>, name: &'t str) -> &'t str {
    match name.split_once(' ') {
        Some((number, name)) => {
            names.insert(number, name);
            name
        }
        None => names.get(name).copied().unwrap_or(name),
    }
}

/// A folder of cargo's, gone when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn create() -> anyhow::Result<Self> {
        let name = format!("instructions-{}", std::process::id());
        let folder = Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
        std::fs::create_dir_all(&folder.0)?;
        Ok(folder)
    }

    #[expect(clippy::print_stdout, reason = "it was asked for")]
    fn keep(self) {
        println!("callgrind's files are in {}\n", self.0.display());
        std::mem::forget(self);
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed stays in cargo's own folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
