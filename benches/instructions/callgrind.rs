//! Runs this program under callgrind, and reads the counts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

/// callgrind dumps its counts before and after this function, each to a file of its own, so the second of each two
/// has what `run` costs.
#[inline(never)]
pub(crate) fn counted_from_here(run: &mut dyn FnMut()) {
    run();
    // Prevents a tail call, which would remove this function from the stack.
    std::hint::black_box(());
}

/// That function's name.
const COUNTED: &str = concat!(module_path!(), "::counted_from_here");

/// The functions of the system's allocator that allocate.
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
    /// Calls that allocate memory; those that free it are not counted.
    pub(crate) allocations: u64,
}

/// Runs this program under callgrind. Returns the counts by name.
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
        // glibc selects variants by the processor. The remaining ones need only AVX.
        .env(
            "GLIBC_TUNABLES",
            "glibc.cpu.hwcaps=-AVX2,-AVX512F,-AVX512VL,-ERMS,-FSRM",
        )
        .output()
        .context("cannot run valgrind; on Debian: apt-get install valgrind")?;
    let stderr = String::from_utf8_lossy(&ran.stderr);
    ensure!(ran.status.success(), "valgrind: {}\n{stderr}", ran.status);
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

/// Resolves names: `(7) malloc` defines 7, and a later `(7)` is `malloc` again.
fn remember<'t>(names: &mut BTreeMap<&'t str, &'t str>, name: &'t str) -> &'t str {
    match name.split_once(' ') {
        Some((number, name)) => {
            names.insert(number, name);
            name
        }
        None => names.get(name).copied().unwrap_or(name),
    }
}

/// A temporary folder of Cargo's. Dropped, it is removed.
struct Folder(PathBuf);

impl Folder {
    fn create() -> anyhow::Result<Self> {
        let name = format!("instructions-{}", std::process::id());
        let folder = Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
        std::fs::create_dir_all(&folder.0)?;
        Ok(folder)
    }

    #[expect(clippy::print_stdout, reason = "--keep asks for it")]
    fn keep(self) {
        println!("callgrind's files are in {}\n", self.0.display());
        std::mem::forget(self);
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // If it cannot be removed, it stays in Cargo's folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
