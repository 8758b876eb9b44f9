//! A hot standby of a throwaway Postgres.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::cluster::{make_cluster, program};
use super::folder::Folder;
use super::{NAME, Throwaway, ThrowawayError, blocking};

impl Throwaway {
    /// A hot standby of this server: a copy that replicates it and answers queries, with the same roles and
    /// passwords, until `SELECT pg_promote()` makes it a primary.
    ///
    /// # Errors
    /// [`ThrowawayError::Cluster`] if the copy cannot be made, and those of [`Throwaway::start`].
    pub async fn standby(&self) -> Result<Self, ThrowawayError> {
        let account = self.account.clone();
        let folder = blocking(move || Folder::create(account.as_ref())).await?;
        let mut copy = program(&self.binaries.basebackup(), self.account.as_ref(), &folder);
        copy.arg("--pgdata").arg(folder.data());
        copy.args(["--host=127.0.0.1", "--username", NAME])
            .arg(format!("--port={}", self.port))
            .env("PGPASSWORD", &self.password);
        copy.args(["--write-recovery-conf", "--wal-method=stream"])
            .args(["--checkpoint=fast", "--no-sync"]);
        make_cluster(copy, &folder).await?;
        let mut standby = Self {
            binaries: self.binaries.clone(),
            account: self.account.clone(),
            settings: self.settings.clone(),
            password: self.password.clone(),
            port: 0,
            url: String::new(),
            client: Mutex::new(None),
            server: Mutex::new(None),
            folder: Arc::new(folder),
        };
        standby.start_on_a_free_port().await?;
        Ok(standby)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_standby_follows_is_read_only_and_can_be_promoted() {
        let primary = Throwaway::start().await.unwrap();
        primary.execute("CREATE TABLE n (v int)").await.unwrap();
        let standby = primary.standby().await.unwrap();
        let insert = "INSERT INTO n VALUES (1)";
        assert!(standby.execute(insert).await.is_err());
        primary.stop().await.unwrap();
        standby.execute("SELECT pg_promote()").await.unwrap();
        standby.execute(insert).await.unwrap();
    }
}
