//! Finds `initdb` and `postgres`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The command that installs Postgres on this kind of machine.
pub(super) const INSTALL: &str = if cfg!(target_os = "macos") {
    "brew install postgresql"
} else {
    "apt-get install -y postgresql"
};

/// Where packages put binaries that are not on PATH: a folder, the prefix of its subfolders, and the folder
/// inside those.
const PLACES: [(&str, &str, &str); 9] = [
    ("usr/lib/postgresql", "", "bin"),         // Debian, Ubuntu
    ("usr", "pgsql-", "bin"),                  // the RPMs of postgresql.org
    ("usr/lib", "postgresql", "bin"),          // SUSE
    ("usr/libexec", "postgresql", ""),         // Alpine
    ("opt/homebrew/opt", "postgresql", "bin"), // Homebrew on Apple silicon
    ("usr/local/opt", "postgresql", "bin"),    // Homebrew on Intel
    ("home/linuxbrew/.linuxbrew/opt", "postgresql", "bin"), // Homebrew on Linux
    (
        "Applications/Postgres.app/Contents/Versions",
        "latest",
        "bin",
    ), // Postgres.app
    ("usr/local", "pgsql", "bin"),             // built from source
];

/// The two programs, of one installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binaries {
    /// Makes a cluster.
    pub(super) initdb: PathBuf,
    /// The server.
    pub(super) postgres: PathBuf,
}

impl Binaries {
    /// The first installation on `path`, or else the newest one in the packages' folders below `root`.
    pub(super) fn find(path: &OsStr, root: &Path) -> Option<Self> {
        // An empty or relative element would mean a different folder to the server.
        let on_path = std::env::split_paths(path).filter(|folder| folder.is_absolute());
        on_path
            .chain(PLACES.iter().flat_map(|place| newest_first(root, place)))
            .find_map(|folder| Self::in_folder(&folder))
    }

    /// The program of the same installation that copies a running server's cluster. It is in the folder of the
    /// server itself, which PATH may only link to.
    pub(super) fn basebackup(&self) -> PathBuf {
        let postgres = self.postgres.canonicalize();
        let postgres = postgres.as_ref().unwrap_or(&self.postgres);
        postgres.with_file_name("pg_basebackup")
    }

    fn in_folder(folder: &Path) -> Option<Self> {
        let postgres = folder.join("postgres");
        let initdb = folder.join("initdb");
        (initdb.is_file() && postgres.is_file()).then_some(Self { initdb, postgres })
    }
}

fn newest_first(root: &Path, (parent, prefix, rest): &(&str, &str, &str)) -> Vec<PathBuf> {
    let Ok(entries) = root.join(parent).read_dir() else {
        return Vec::new();
    };
    let mut found: Vec<(Vec<u32>, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some((version(name.strip_prefix(prefix)?), entry.path().join(rest)))
        })
        .collect();
    found.sort_by(|(one, _), (other, _)| other.cmp(one));
    found.into_iter().map(|(_, folder)| folder).collect()
}

/// The numbers in a folder's name, so that 17 is newer than 9.6.
fn version(name: &str) -> Vec<u32> {
    name.split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine on which the folders hold both programs, gone when dropped.
    struct Machine(PathBuf);

    impl Machine {
        fn with(name: &str, folders: &[&str]) -> Self {
            let name = format!("larder-binaries-{}-{name}", std::process::id());
            let root = std::env::temp_dir().join(name);
            for folder in folders {
                std::fs::create_dir_all(root.join(folder)).unwrap();
                for program in ["initdb", "postgres"] {
                    std::fs::write(root.join(folder).join(program), "").unwrap();
                }
            }
            Self(root)
        }

        fn found(&self, path: &str) -> Option<String> {
            let path = if path.is_empty() {
                "".into()
            } else {
                self.0.join(path)
            };
            let folder = Binaries::find(path.as_os_str(), &self.0)?.initdb;
            let folder = folder
                .parent()
                .unwrap()
                .strip_prefix(&self.0)
                .unwrap()
                .to_owned();
            Some(folder.to_str().unwrap().to_owned())
        }
    }

    impl Drop for Machine {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn the_newest_version_is_taken() {
        let folders = [
            "usr/lib/postgresql/9.6/bin",
            "usr/lib/postgresql/17/bin",
            "usr/pgsql-18/bin",
        ];
        let machine = Machine::with("newest", &folders);
        assert_eq!(
            machine.found("").as_deref(),
            Some("usr/lib/postgresql/17/bin")
        );
    }

    #[test]
    fn path_comes_first() {
        let machine = Machine::with("path", &["usr/lib/postgresql/17/bin", "home/me/bin"]);
        assert_eq!(machine.found("home/me/bin").as_deref(), Some("home/me/bin"));
    }

    #[test]
    fn packages_of_every_kind_are_found() {
        for folder in [
            "usr/pgsql-16/bin",
            "usr/lib/postgresql16/bin",
            "usr/libexec/postgresql17",
            "opt/homebrew/opt/postgresql@17/bin",
            "usr/local/opt/postgresql@16/bin",
            "Applications/Postgres.app/Contents/Versions/latest/bin",
            "usr/local/pgsql/bin",
        ] {
            let machine = Machine::with("kinds", &[folder]);
            assert_eq!(machine.found("").as_deref(), Some(folder));
        }
    }

    #[test]
    fn nothing_is_found_where_nothing_is_installed() {
        assert_eq!(Machine::with("nothing", &[]).found(""), None);
    }
}
