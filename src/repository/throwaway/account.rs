//! The user that the server runs as. Postgres refuses to run as root, so root switches to another user.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{User, geteuid};

use super::ThrowawayError;

/// The users that may run the server instead of root: that of the packages, then one that exists everywhere.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

/// An unprivileged user.
#[derive(Debug, Clone)]
pub(super) struct Account {
    /// Its name.
    pub(super) name: String,
    /// Its number.
    pub(super) uid: u32,
    /// Its primary group's number.
    pub(super) gid: u32,
}

impl Account {
    /// The user to switch to; `None` unless this process runs as root.
    pub(super) fn choose() -> Result<Option<Self>, ThrowawayError> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        CANDIDATES
            .iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .map(|user| Self {
                name: user.name,
                uid: user.uid.as_raw(),
                gid: user.gid.as_raw(),
            })
            .map(Some)
            .ok_or(ThrowawayError::NoAccount)
    }

    /// Whether the account may enter the folder and every folder above it, judging by the permission bits
    /// alone.
    pub(super) fn can_enter(&self, folder: &Path) -> bool {
        let Ok(folder) = folder.canonicalize() else {
            return false;
        };
        folder.ancestors().all(|ancestor| {
            ancestor.metadata().is_ok_and(|metadata| {
                let execute = if metadata.uid() == self.uid {
                    0o100
                } else if metadata.gid() == self.gid {
                    0o010
                } else {
                    0o001
                };
                metadata.mode() & execute != 0
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{DirBuilder, remove_dir};
    use std::os::unix::fs::DirBuilderExt;

    use super::*;

    #[test]
    fn a_folder_closed_to_others_cannot_be_entered() {
        let folder = std::env::temp_dir().join(format!("larder-account-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&folder).unwrap();
        let stranger = Account {
            name: "stranger".to_owned(),
            uid: 4_000_001,
            gid: 4_000_001,
        };
        let owner = Account {
            uid: geteuid().as_raw(),
            ..stranger.clone()
        };
        assert!(!stranger.can_enter(&folder));
        assert!(stranger.can_enter(Path::new("/")));
        assert_eq!(
            owner.can_enter(&folder),
            owner.can_enter(folder.parent().unwrap())
        );
        remove_dir(&folder).unwrap();
        assert!(!stranger.can_enter(&folder));
    }
}
