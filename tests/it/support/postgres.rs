//! A Postgres for each test: a schema on a shared server, or a server of the test's own.
//!
//! The shared server is the one that `TEST_DATABASE_URL` names, which `tests/run` starts once for all
//! tests, or a throwaway one that lives as long as any test of this process needs it.
//!
//! What outlives the test's runtime or must not hear of its paused clock runs on threads of its own.

use std::future::Future;
use std::pin::pin;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::SystemTime;

use larder::repository::throwaway::{Throwaway, ThrowawayError};
use tokio::sync::oneshot;
use tokio_postgres::{Client, NoTls};

/// What begins the name of every test's schema.
const PREFIX: &str = "larder_test_";

/// A repository of the test's own, gone at its end.
#[derive(Debug)]
pub(crate) struct Postgres {
    url: String,
    /// Dropped, it drops the schema and waits until that is done.
    _schema: Option<Schema>,
    own: Option<Arc<Throwaway>>,
}

impl Postgres {
    /// A schema of the test's own on the shared server, first in its search path, in which the
    /// statements have been run.
    pub(crate) async fn with(sql: &str) -> Self {
        let (schema, url) = Schema::make().await;
        let postgres = Self {
            url,
            _schema: Some(schema),
            own: None,
        };
        postgres.execute(sql).await;
        postgres
    }

    /// A server of the test's own, which can be stopped, with `pg_stat_statements` to see what
    /// reached it.
    pub(crate) async fn own() -> Self {
        Self::own_with(&[]).await
    }

    /// [`Postgres::own`] that speaks German.
    pub(crate) async fn german() -> Self {
        install_german();
        let postgres = Self::own_with(&[("lc_messages", "de_DE.UTF-8")]).await;
        let wrong = postgres.client().await.batch_execute("SELECT 1 / 0").await;
        let words = wrong.expect_err("it does not divide by zero");
        let words = words.as_db_error().map(|error| error.message().to_owned());
        assert_eq!(
            words.as_deref(),
            Some("Division durch Null"),
            "it speaks German"
        );
        postgres
    }

    async fn own_with(settings: &[(&'static str, &'static str)]) -> Self {
        let mut all = vec![("shared_preload_libraries", "pg_stat_statements")];
        all.extend_from_slice(settings);
        let throwaway = apart(async move {
            Throwaway::start_with(&all)
                .await
                .unwrap_or_else(|error| no_postgres(error))
        })
        .await;
        let postgres = Self {
            url: throwaway.url().to_owned(),
            _schema: None,
            own: Some(Arc::new(throwaway)),
        };
        postgres
            .execute("CREATE EXTENSION pg_stat_statements")
            .await;
        postgres
    }

    /// A hot standby of the server of the test's own, which follows it until it is promoted.
    pub(crate) async fn standby(&self) -> Self {
        let own = self.server();
        let standby = apart(async move { own.standby().await }).await;
        let standby = standby.expect("a server of one's own can be copied");
        Self {
            url: standby.url().to_owned(),
            _schema: None,
            own: Some(Arc::new(standby)),
        }
    }

    /// Where it is, password and search path included.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// [`Postgres::url`] with a limit on connecting that no machine passes because it is busy: for a test
    /// in which Postgres must not be lost.
    pub(crate) fn patient_url(&self) -> String {
        with_setting(&self.url, "connect_timeout=60")
    }

    /// A connection to it.
    pub(crate) async fn client(&self) -> Client {
        connect(&self.url)
            .await
            .expect("the test's Postgres is there")
    }

    /// Runs statements, separated by semicolons.
    pub(crate) async fn execute(&self, sql: &str) {
        let done = self.client().await.batch_execute(sql).await;
        done.unwrap_or_else(|error| panic!("Postgres refused {sql:?}: {error:?}"));
    }

    /// Has the server of the test's own write a file into its data folder: so it is owned by the
    /// server's user, and nobody else can read a key.
    pub(crate) async fn write(&self, name: &str, text: &str) {
        let text = text.trim_end();
        self.execute(&format!(
            "COPY (SELECT regexp_split_to_table('{text}', '\\r?\\n')) TO PROGRAM 'umask 077; cat > {name}'"
        ))
        .await;
    }

    /// Stops the server of the test's own, as an administrator would.
    pub(crate) async fn stop(&self) {
        let own = self.server();
        apart(async move { own.stop().await })
            .await
            .expect("it stops");
    }

    /// Stops the server of the test's own, as a crash would.
    pub(crate) async fn crash(&self) {
        let own = self.server();
        apart(async move { own.crash().await })
            .await
            .expect("it stops");
    }

    /// Starts the server of the test's own again, where it was and with the data it had.
    pub(crate) async fn start_again(&self) {
        let own = self.server();
        apart(async move { own.start_again().await })
            .await
            .expect("it starts again");
    }

    fn server(&self) -> Arc<Throwaway> {
        Arc::clone(
            self.own
                .as_ref()
                .expect("others need the shared server: use Postgres::own()"),
        )
    }
}

/// A schema, kept by a thread that ends with the handle and drops it.
#[derive(Debug)]
struct Schema {
    end: Option<oneshot::Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

impl Schema {
    /// Makes one, and says where it is.
    async fn make() -> (Self, String) {
        let (ready, made) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let keeper = std::thread::spawn(move || keep_schema(ready, ended));
        let schema = Self {
            end: Some(end),
            keeper: Some(keeper),
        };
        let url = made
            .await
            .expect("the thread has reported why there is none");
        (schema, url)
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(keeper) = self.keeper.take() {
            // It has printed why, should it have failed.
            drop(keeper.join());
        }
    }
}

/// Creates a schema, sends its URL, and drops the schema at the end.
fn keep_schema(ready: oneshot::Sender<String>, ended: oneshot::Receiver<()>) {
    let runtime = runtime();
    let server = Server::find(&runtime);
    runtime.block_on(async {
        let name = unheard_of();
        let client = connect(server.url()).await.unwrap_or_else(|error| {
            panic!(
                "the server that the tests share is not there: {:#}",
                anyhow::Error::new(error)
            )
        });
        sweep(&client).await;
        // Held as long as this session lives: it tells others that the schema is in use.
        let make = format!(
            "SELECT pg_advisory_lock(hashtext('{name}')); CREATE SCHEMA {name}; \
             SET lock_timeout = '5s'"
        );
        client
            .batch_execute(&make)
            .await
            .expect("the test's user may create schemas");
        // Nobody waits for it any more when the test was given up.
        drop(ready.send(with_search_path(server.url(), &name)));
        drop(ended.await);
        // What a session still uses is left to the sweep of a later test.
        drop(
            client
                .batch_execute(&format!("DROP SCHEMA {name} CASCADE"))
                .await,
        );
    });
}

/// Drops the schemas of tests that were killed.
async fn sweep(client: &Client) {
    let abandoned = format!(
        "SELECT nspname FROM pg_namespace \
         WHERE starts_with(nspname, '{PREFIX}') AND pg_try_advisory_lock(hashtext(nspname))"
    );
    for row in client
        .query(&abandoned, &[])
        .await
        .expect("the catalogue can be read")
    {
        let name: &str = row.get(0);
        // Its test may have dropped it in the meantime.
        let end = format!(
            "DROP SCHEMA IF EXISTS {name} CASCADE; SELECT pg_advisory_unlock(hashtext('{name}'))"
        );
        drop(client.batch_execute(&end).await);
    }
}

/// A name that no other test has, on any machine that shares the server.
fn unheard_of() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}{}_{}_{count}", now.as_nanos(), std::process::id())
}

/// The server that tests share.
enum Server {
    /// The URL may hold a password: it is not to be printed.
    Given(String),
    Throwaway(Arc<Throwaway>),
}

impl Server {
    fn find(runtime: &tokio::runtime::Runtime) -> Self {
        static SHARED: Mutex<Weak<Throwaway>> = Mutex::new(Weak::new());
        if let Ok(url) = std::env::var("TEST_DATABASE_URL") {
            return Self::Given(url);
        }
        // Others wait here for the server to start, rather than starting their own.
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let throwaway = shared.upgrade().unwrap_or_else(|| {
            let settings = [("max_connections", "500")];
            let started = runtime.block_on(Throwaway::start_with(&settings));
            Arc::new(started.unwrap_or_else(|error| no_postgres(error)))
        });
        *shared = Arc::downgrade(&throwaway);
        Self::Throwaway(throwaway)
    }

    fn url(&self) -> &str {
        match self {
            Self::Given(url) => url,
            Self::Throwaway(throwaway) => throwaway.url(),
        }
    }
}

/// The URL, or the words, with the schema as the search path.
pub(crate) fn with_search_path(url: &str, schema: &str) -> String {
    let is = if is_url(url) { "%3D" } else { "=" };
    with_setting(url, &format!("options=-csearch_path{is}{schema}"))
}

fn with_setting(url: &str, setting: &str) -> String {
    let separator = match (is_url(url), url.contains('?')) {
        (false, _) => ' ',
        (true, false) => '?',
        (true, true) => '&',
    };
    format!("{url}{separator}{setting}")
}

fn is_url(text: &str) -> bool {
    text.starts_with("postgres://") || text.starts_with("postgresql://")
}

pub(crate) async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Runs a future on a thread and a runtime of its own, whose clock is the real one.
async fn apart<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    let (done, result) = oneshot::channel();
    std::thread::spawn(move || done.send(runtime().block_on(pin!(future))).ok());
    result.await.expect("the thread has reported why it failed")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the system has room for a runtime")
}

/// Makes the system's German locale, which Postgres needs for its messages, where there is none.
fn install_german() {
    let output = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .output()
            .expect("the C library has it")
    };
    let known = output("locale", &["-a"]).stdout;
    let known = String::from_utf8_lossy(&known).to_lowercase();
    if known
        .lines()
        .any(|name| matches!(name, "de_de.utf8" | "de_de.utf-8"))
    {
        return;
    }
    let make = ["-i", "de_DE", "-f", "UTF-8", "de_DE.UTF-8"];
    let made = if nix::unistd::geteuid().is_root() {
        output("localedef", &make)
    } else {
        output("sudo", &[&["localedef"], &make[..]].concat())
    };
    assert!(
        made.status.success(),
        "a German locale (apt-get install -y locales): {}",
        String::from_utf8_lossy(&made.stderr)
    );
}

fn no_postgres(error: ThrowawayError) -> ! {
    panic!(
        "the tests need a Postgres: {:#}\n\n\
         either install one:  apt-get install -y postgresql   (macOS: brew install postgresql)\n\
         or point to one:     export TEST_DATABASE_URL=postgresql://user:password@host/database\n",
        anyhow::Error::new(error)
    )
}
