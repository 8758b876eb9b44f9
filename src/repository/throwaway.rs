//! A temporary Postgres, for the demo and the tests: made in a temporary folder from the binaries found on
//! the machine, and removed when its handle is dropped. Nothing that serves a request uses it.
//!
//! | part       | does                                                              |
//! |------------|-------------------------------------------------------------------|
//! | `binaries` | finds `initdb` and `postgres`                                     |
//! | `account`  | the user the server runs as, because Postgres refuses to run as root |
//! | `error`    | what can go wrong                                                 |
//! | `folder`   | the temporary folder, and those that a killed owner left behind   |
//! | `cluster`  | runs the programs that make a database cluster                    |
//! | `port`     | finds a free port                                                 |
//! | `server`   | the server's process, ended with its handle                       |
//! | `process`  | signals to a server's process                                     |
//! | `standby`  | a second server that replicates the first                         |

mod account;
mod binaries;
mod cluster;
mod error;
mod folder;
mod port;
mod process;
mod server;
mod standby;

use std::fmt;
use std::pin::pin;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::SinkExt;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_postgres::{Client, NoTls};

use account::Account;
use binaries::Binaries;
use cluster::{initdb, program};
pub use error::ThrowawayError;
use folder::Folder;
use port::free_port;
use server::{Server, Shutdown};

/// The name of the superuser and of the database.
const NAME: &str = "larder";

/// How long a server may take to answer. A loaded machine needs seconds; after a minute it never will.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long to wait between attempts to connect while the server starts, which takes about 100 ms.
const START_POLL: Duration = Duration::from_millis(10);

/// How many ports are tried before giving up: each one was free a moment before.
const PORT_ATTEMPTS: u32 = 5;

/// Without durability, which is useless in a folder that will be removed; otherwise small, on the loopback
/// interface, and the same on every machine.
const SETTINGS: [(&str, &str); 13] = [
    // The log is searched, so its language must not depend on the machine.
    ("lc_messages", "C"),
    ("listen_addresses", "127.0.0.1"),
    ("unix_socket_directories", ""),
    ("fsync", "off"),
    ("synchronous_commit", "off"),
    ("full_page_writes", "off"),
    ("shared_buffers", "32MB"),
    ("max_connections", "100"),
    ("huge_pages", "off"),
    ("jit", "off"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    ("log_checkpoints", "off"),
];

/// A temporary Postgres server, with the superuser and the database `larder`.
///
/// Dropping it ends the server and removes its data. If this process is killed instead, the next
/// [`Throwaway::start`] by the same user on the machine does that.
pub struct Throwaway {
    binaries: Binaries,
    account: Option<Account>,
    settings: Vec<(String, String)>,
    password: String,
    port: u16,
    url: String,
    client: Mutex<Option<Client>>,
    server: Mutex<Option<Server>>,
    // The last field is dropped last: the data is removed after the server has ended.
    folder: Arc<Folder>,
}

impl Throwaway {
    /// Makes a database cluster in a temporary folder and starts a server on it. It can be reached only from
    /// this machine, with a random password that is in [`Throwaway::url`].
    ///
    /// # Errors
    /// [`ThrowawayError::NotInstalled`] with the command that installs Postgres, or any other
    /// [`ThrowawayError`].
    pub async fn start() -> Result<Self, ThrowawayError> {
        Self::start_with(&[]).await
    }

    /// Like [`Throwaway::start`], with settings as in `postgresql.conf` that override its own.
    ///
    /// # Errors
    /// As [`Throwaway::start`]; [`ThrowawayError::Ended`] also for a setting that Postgres refuses.
    pub async fn start_with(settings: &[(&str, &str)]) -> Result<Self, ThrowawayError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let binaries = Binaries::find(&path, "/".as_ref()).ok_or(ThrowawayError::NotInstalled {
            install: binaries::INSTALL,
        })?;
        let account = Account::choose()?;
        let of_folder = account.clone();
        let folder = blocking(move || Folder::create(of_folder.as_ref())).await?;
        let password = folder::random_hex()?;
        initdb(&binaries, account.as_ref(), &folder, &password).await?;
        let own = SETTINGS.iter().chain(settings);
        let mut throwaway = Self {
            binaries,
            account,
            settings: own
                .map(|&(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            password,
            port: 0,
            url: String::new(),
            client: Mutex::new(None),
            server: Mutex::new(None),
            folder: Arc::new(folder),
        };
        throwaway.start_on_a_free_port().await?;
        let client = throwaway.connect("postgres").await?;
        client
            .batch_execute(&format!("CREATE DATABASE {NAME}"))
            .await?;
        Ok(throwaway)
    }

    /// Its URL, with the password: `postgresql://larder:…@127.0.0.1:port/larder`. A restart does not change
    /// it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops the server as an administrator would: sessions are ended, and the data is kept. Does nothing if
    /// it is already stopped.
    ///
    /// # Errors
    /// Only [`ThrowawayError::Interrupted`].
    pub async fn stop(&self) -> Result<(), ThrowawayError> {
        self.end(Shutdown::Fast).await
    }

    /// Stops the server as in a crash: connections break, and it recovers at the next start.
    ///
    /// # Errors
    /// Only [`ThrowawayError::Interrupted`].
    pub async fn crash(&self) -> Result<(), ThrowawayError> {
        self.end(Shutdown::Immediate).await
    }

    /// Starts the stopped server again, on the same port and with the same data. Does nothing if it is
    /// running.
    ///
    /// # Errors
    /// [`ThrowawayError::Ended`] or [`ThrowawayError::Silent`] with the end of the server's log.
    pub async fn start_again(&self) -> Result<(), ThrowawayError> {
        let mut server = self.server.lock().await;
        if server.as_mut().is_some_and(Server::is_running) {
            return Ok(());
        }
        *server = None;
        *server = Some(self.launch(NAME).await?);
        Ok(())
    }

    /// Runs statements, separated by semicolons, on a connection that is kept open.
    ///
    /// # Errors
    /// [`ThrowawayError::Postgres`] with the server's error.
    pub async fn execute(&self, sql: &str) -> Result<(), ThrowawayError> {
        let mut kept = self.client.lock().await;
        Ok(self.kept(&mut kept).await?.batch_execute(sql).await?)
    }

    /// Feeds `data` to a `COPY … FROM STDIN` statement, on the connection that is kept open.
    ///
    /// # Errors
    /// [`ThrowawayError::Postgres`] with the server's error.
    pub async fn copy_in(&self, statement: &str, data: &str) -> Result<(), ThrowawayError> {
        let mut kept = self.client.lock().await;
        let mut sink = pin!(self.kept(&mut kept).await?.copy_in(statement).await?);
        sink.send(Bytes::copy_from_slice(data.as_bytes())).await?;
        sink.finish().await?;
        Ok(())
    }

    async fn end(&self, shutdown: Shutdown) -> Result<(), ThrowawayError> {
        let mut server = self.server.lock().await;
        *self.client.lock().await = None;
        match server.take() {
            Some(running) => {
                blocking(move || {
                    running.stop(shutdown);
                    Ok(())
                })
                .await
            }
            None => Ok(()),
        }
    }

    async fn start_on_a_free_port(&mut self) -> Result<(), ThrowawayError> {
        let mut attempts = 1;
        loop {
            self.port = free_port()?;
            match self.launch("postgres").await {
                Ok(server) => {
                    *self.server.get_mut() = Some(server);
                    self.url = format!(
                        "postgresql://{NAME}:{}@127.0.0.1:{}/{NAME}",
                        self.password, self.port
                    );
                    return Ok(());
                }
                Err(ThrowawayError::Ended { log })
                    if log.contains("could not bind") && attempts < PORT_ATTEMPTS =>
                {
                    attempts += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Starts the process and waits until it answers. No other server has its password, so another one that
    /// has taken the port is not mistaken for it.
    async fn launch(&self, database: &str) -> Result<Server, ThrowawayError> {
        let command = self.command();
        let folder = Arc::clone(&self.folder);
        // The folder is returned with the server: if this is cancelled in between, the server ends first.
        let spawn = move || Ok((Server::spawn(command, &folder)?, folder));
        let (mut server, _) = blocking(spawn).await?;
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if let Ok(client) = self.connect(database).await {
                drop(client);
                return Ok(server);
            }
            if !server.is_running() {
                return Err(ThrowawayError::Ended {
                    log: self.folder.log_tail(),
                });
            }
            if Instant::now() >= deadline {
                let log = self.folder.log_tail();
                return Err(ThrowawayError::Silent {
                    limit: START_LIMIT,
                    log,
                });
            }
            tokio::time::sleep(START_POLL).await;
        }
    }

    fn command(&self) -> Command {
        let mut command = program(&self.binaries.postgres, self.account.as_ref(), &self.folder);
        command.arg("-D").arg(self.folder.data());
        for (name, value) in &self.settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        command.arg("-c").arg(format!("port={}", self.port));
        command
    }

    async fn connect(&self, database: &str) -> Result<Client, ThrowawayError> {
        let (client, connection) = tokio_postgres::Config::new()
            .host("127.0.0.1")
            .port(self.port)
            .user(NAME)
            .password(&self.password)
            .dbname(database)
            .connect(NoTls)
            .await?;
        // It ends with the client. Its error reaches the client's next call too.
        tokio::spawn(connection);
        Ok(client)
    }

    async fn kept<'a>(&self, kept: &'a mut Option<Client>) -> Result<&'a Client, ThrowawayError> {
        let client = match kept.take() {
            Some(client) if !client.is_closed() => client,
            Some(_) | None => self.connect(NAME).await?,
        };
        Ok(kept.insert(client))
    }
}

impl fmt::Debug for Throwaway {
    // Without the URL and the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throwaway")
            .field("folder", &self.folder.path())
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// Runs blocking work on the runtime's blocking threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ThrowawayError> + Send + 'static,
) -> Result<T, ThrowawayError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or(Err(ThrowawayError::Interrupted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_runs_statements_and_copies_and_is_removed_when_dropped() {
        let throwaway = Throwaway::start().await.unwrap();
        throwaway
            .execute("CREATE TABLE n (v int); INSERT INTO n VALUES (1)")
            .await
            .unwrap();
        throwaway
            .copy_in("COPY n FROM STDIN", "2\n3\n")
            .await
            .unwrap();
        let client = throwaway.connect(NAME).await.unwrap();
        let sum: i64 = client
            .query_one("SELECT sum(v) FROM n", &[])
            .await
            .unwrap()
            .get(0);
        assert_eq!(sum, 6);
        let (path, port) = (throwaway.folder.path().to_owned(), throwaway.port);
        drop(throwaway);
        assert!(!path.exists());
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    }

    #[tokio::test]
    async fn it_keeps_its_data_and_its_url_across_a_stop_and_a_crash() {
        let throwaway = Throwaway::start().await.unwrap();
        let url = throwaway.url().to_owned();
        throwaway
            .execute("CREATE TABLE n AS SELECT 1 AS v")
            .await
            .unwrap();
        throwaway.stop().await.unwrap();
        throwaway.stop().await.unwrap();
        assert!(throwaway.execute("SELECT").await.is_err());
        throwaway.start_again().await.unwrap();
        throwaway.start_again().await.unwrap();
        throwaway.execute("INSERT INTO n VALUES (2)").await.unwrap();
        throwaway.crash().await.unwrap();
        throwaway.start_again().await.unwrap();
        throwaway.execute("INSERT INTO n VALUES (3)").await.unwrap();
        assert_eq!(throwaway.url(), url);
    }

    #[tokio::test]
    async fn given_settings_override_its_own() {
        let settings = [
            ("shared_preload_libraries", "pg_stat_statements"),
            ("max_connections", "7"),
        ];
        let throwaway = Throwaway::start_with(&settings).await.unwrap();
        throwaway
            .execute("CREATE EXTENSION pg_stat_statements")
            .await
            .unwrap();
        let client = throwaway.connect(NAME).await.unwrap();
        let row = client.query_one("SHOW max_connections", &[]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), "7");
    }

    #[tokio::test]
    async fn a_setting_that_postgres_refuses_is_reported() {
        let error = Throwaway::start_with(&[("no_such_setting", "1")])
            .await
            .unwrap_err();
        assert!(error.to_string().contains("no_such_setting"), "{error}");
    }

    #[tokio::test]
    async fn what_a_killed_owner_leaves_behind_is_removed_at_the_next_start() {
        let Throwaway {
            server,
            folder,
            port,
            ..
        } = Throwaway::start().await.unwrap();
        let path = folder.path().to_owned();
        std::mem::forget(server);
        Arc::into_inner(folder).unwrap().abandon();
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        drop(Throwaway::start().await.unwrap());
        assert!(!path.exists());
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    }

    #[tokio::test]
    async fn it_rejects_a_wrong_password() {
        let throwaway = Throwaway::start().await.unwrap();
        let guess = throwaway.url().replace(&throwaway.password, "guess");
        assert!(tokio_postgres::connect(&guess, NoTls).await.is_err());
    }
}
