//! A Postgres of one's own, for the demo and the tests: made in a temporary folder from the
//! binaries found on the machine, gone when its handle is dropped. It knows nothing of endpoints,
//! and nothing that serves a request knows of it.
//!
//! | part       | does                                                               |
//! |------------|--------------------------------------------------------------------|
//! | `binaries` | where `initdb` and `postgres` are                                  |
//! | `account`  | whom the server runs as, because Postgres refuses to run as root   |
//! | `error`    | what can go wrong, in words for the user                           |
//! | `folder`   | the temporary folder, and those that a killed owner left behind    |
//! | `server`   | the process: started, stopped, ended with its handle               |
//! | `standby`  | another server that follows this one                               |

mod account;
mod binaries;
mod error;
mod folder;
mod process;
mod server;
mod standby;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::pin::pin;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::SinkExt;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_postgres::{Client, NoTls};

use account::Account;
use binaries::Binaries;
pub use error::ThrowawayError;
use folder::Folder;
use server::{Server, Shutdown};

/// The superuser, and the database, that every throwaway Postgres has.
const NAME: &str = "larder";

/// How long a server may take until it answers. A loaded machine needs seconds; a minute means that
/// it never will.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long to wait between attempts to connect while the server starts, which takes about 100 ms.
const START_POLL: Duration = Duration::from_millis(10);

/// How many ports are tried before giving up: each one was free a moment before.
const PORT_ATTEMPTS: u32 = 5;

/// Below every system's range for outgoing connections (32,768 on Linux, 49,152 elsewhere), so that
/// none of those takes the port while the server is stopped.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Durability is worthless in a folder that is about to be removed; everything else keeps the server
/// small, on the loopback interface, and the same on every machine.
const SETTINGS: [(&str, &str); 13] = [
    // Its log is read here, whatever language the machine speaks.
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

/// A Postgres server of this process's own, with the superuser and the database `larder`.
///
/// Dropping it ends the server and removes its data. When its process is killed instead, the next
/// [`Throwaway::start`] on the machine by the same user does so.
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
    /// Makes a database cluster in a temporary folder and starts a server on it, reachable from this
    /// machine alone and with a password that only [`Throwaway::url`] knows.
    ///
    /// # Errors
    /// [`ThrowawayError::NotInstalled`] with the line that installs Postgres, or what else
    /// [`ThrowawayError`] names.
    pub async fn start() -> Result<Self, ThrowawayError> {
        Self::start_with(&[]).await
    }

    /// [`Throwaway::start`] with settings as in `postgresql.conf`, which take precedence over its own.
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

    /// Where it is, password included: `postgresql://larder:…@127.0.0.1:port/larder`. It stays the same
    /// when the server is stopped and started again.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops the server as an administrator would: sessions are ended, the data stays. Nothing
    /// happens when it is stopped already.
    ///
    /// # Errors
    /// [`ThrowawayError::Interrupted`] alone.
    pub async fn stop(&self) -> Result<(), ThrowawayError> {
        self.end(Shutdown::Fast).await
    }

    /// Stops the server as a crash would: connections break, and it recovers when it is started again.
    ///
    /// # Errors
    /// [`ThrowawayError::Interrupted`] alone.
    pub async fn crash(&self) -> Result<(), ThrowawayError> {
        self.end(Shutdown::Immediate).await
    }

    /// Starts the stopped server again, on the same port and with the data it had. Nothing happens
    /// when it runs.
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

    /// Runs statements, separated by semicolons, over a connection that is kept.
    ///
    /// # Errors
    /// [`ThrowawayError::Postgres`] with the error of the server.
    pub async fn execute(&self, sql: &str) -> Result<(), ThrowawayError> {
        let mut kept = self.client.lock().await;
        Ok(self.kept(&mut kept).await?.batch_execute(sql).await?)
    }

    /// Feeds `data` to a `COPY … FROM STDIN` statement, over the connection that is kept.
    ///
    /// # Errors
    /// [`ThrowawayError::Postgres`] with the error of the server.
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

    /// Starts the process and waits until it answers. The password is this server's alone, so that
    /// whatever else may have taken the port is not mistaken for it.
    async fn launch(&self, database: &str) -> Result<Server, ThrowawayError> {
        let command = self.command();
        let folder = Arc::clone(&self.folder);
        // The folder comes back with the server: given up in between, the server ends first.
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
        // It ends with the client; what it has to say about it, the client's next call says too.
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
    // The URL and the password stay out of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throwaway")
            .field("folder", &self.folder.path())
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// Makes the cluster. Its encoding and collation are the same on every machine.
async fn initdb(
    binaries: &Binaries,
    account: Option<&Account>,
    folder: &Folder,
    password: &str,
) -> Result<(), ThrowawayError> {
    let password_file = folder.write_for(account, "password", password)?;
    let mut pwfile = OsString::from("--pwfile=");
    pwfile.push(&password_file);
    let mut command = program(&binaries.initdb, account, folder);
    command
        .arg("-D")
        .arg(folder.data())
        .arg(format!("--username={NAME}"))
        .arg(pwfile)
        // Small segments: 16 MB of them would be written for nothing.
        .args([
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--wal-segsize=1",
        ])
        .args(["--no-sync", "--no-instructions"]);
    make_cluster(command, folder).await?;
    folder::remove_file(&password_file)
}

/// Runs the program that makes the cluster.
async fn make_cluster(mut command: Command, folder: &Folder) -> Result<(), ThrowawayError> {
    let program = PathBuf::from(command.get_program());
    // Its helpers outlive it for a moment when it is killed; they hold the log, for which the folder
    // waits before it goes.
    command.stdout(Stdio::piped()).stderr(folder.open_log()?);
    let output = match run_to_its_end(command).await {
        Ok(output) => output,
        Err(source) => return Err(ThrowawayError::Run { program, source }),
    };
    if output.status.success() {
        return Ok(());
    }
    let mut words = String::from_utf8_lossy(&output.stdout).into_owned();
    words.push_str(&folder.log_tail());
    let output = words.trim().to_owned();
    Err(ThrowawayError::Cluster { program, output })
}

/// Runs a command, which is killed when nobody waits for it any more, and captures its stdout.
async fn run_to_its_end(command: Command) -> std::io::Result<Output> {
    let mut command = tokio::process::Command::from(command);
    let running = command.kill_on_drop(true).spawn()?;
    running.wait_with_output().await
}

/// A program of Postgres's as the account, in a folder the account can enter, deaf to the terminal's
/// Ctrl-C: the owner ends it in its own time.
fn program(path: &std::path::Path, account: Option<&Account>, folder: &Folder) -> Command {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(path);
    command
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .process_group(0);
    // The log's words are looked into, and none of the caller's libpq settings are meant for it.
    command
        .env("LC_ALL", "C")
        .env_remove("PGDATA")
        .env_remove("PGPORT")
        .env_remove("PGOPTIONS");
    if let Some(account) = account {
        command.uid(account.uid).gid(account.gid);
    }
    command
}

/// A port that nothing listens on, from a place in the range that is another for every server.
fn free_port() -> Result<u16, ThrowawayError> {
    let start = u16::from_str_radix(&folder::random_hex()?[..4], 16).unwrap_or_default();
    let width = PORTS.end - PORTS.start;
    (0..width)
        .map(|step| PORTS.start + (start % width + step) % width)
        .find(|&port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok())
        .ok_or_else(|| ThrowawayError::Ended {
            log: "no port is free".to_owned(),
        })
}

/// Runs what blocks where it holds nobody up.
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
    async fn it_runs_statements_and_copies_and_is_gone_when_dropped() {
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
    async fn it_keeps_its_data_and_its_url_over_a_stop_and_a_crash() {
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
    async fn settings_given_take_precedence() {
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
    async fn a_setting_that_postgres_refuses_is_reported_in_its_own_words() {
        let error = Throwaway::start_with(&[("no_such_setting", "1")])
            .await
            .unwrap_err();
        assert!(error.to_string().contains("no_such_setting"), "{error}");
    }

    #[tokio::test]
    async fn what_a_killed_owner_left_behind_is_removed_at_the_next_start() {
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
    async fn it_refuses_connections_without_the_password() {
        let throwaway = Throwaway::start().await.unwrap();
        let guess = throwaway.url().replace(&throwaway.password, "guess");
        assert!(tokio_postgres::connect(&guess, NoTls).await.is_err());
    }
}
