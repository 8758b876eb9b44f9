//! The real PgBouncer in front of a Postgres.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// A running PgBouncer. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct PgBouncer {
    url: String,
    _process: Child,
    _folder: TempDir,
}

impl PgBouncer {
    /// Starts one in front of the Postgres at this URL, and waits until it takes connections. `settings` are
    /// lines of its configuration, such as `pool_mode = session`.
    pub(crate) async fn before(url: &str, settings: &str) -> Self {
        let folder = TempDir::new().unwrap();
        // Free until a moment before PgBouncer takes it.
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        drop(taken);
        let postgres: tokio_postgres::Config = url.parse().unwrap();
        let user = postgres.get_user().unwrap();
        let password = std::str::from_utf8(postgres.get_password().unwrap()).unwrap();
        let port = postgres.get_ports()[0];
        let users = folder.path().join("users.txt");
        std::fs::write(&users, format!("\"{user}\" \"{password}\"\n")).unwrap();
        let config = folder.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\nlarder = host=127.0.0.1 port={port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\n{settings}\n",
            address.port(),
            users.display()
        );
        std::fs::write(&config, text).unwrap();
        // It refuses to run as root, and its user must be able to read the file.
        let readable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), readable).unwrap();
        let mut process = command(&config);
        while TcpStream::connect(address).await.is_err() {
            let ended = process.try_wait().unwrap();
            assert!(ended.is_none(), "PgBouncer has ended: {ended:?}");
            tokio::task::yield_now().await;
        }
        Self {
            url: through(user, password, address),
            _process: process,
            _folder: folder,
        }
    }

    /// The Postgres's URL through it.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

fn command(config: &std::path::Path) -> Child {
    let mut command = Command::new("pgbouncer");
    if nix::unistd::geteuid().is_root() {
        command.args(["-u", "nobody"]);
    }
    // It is where only root's PATH has it.
    let paths = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
    command
        .arg("-q")
        .arg(config)
        .env("PATH", paths)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("PgBouncer is not installed: {error}; see tests/run"))
}

fn through(user: &str, password: &str, address: SocketAddr) -> String {
    format!("postgresql://{user}:{password}@{address}/larder")
}
