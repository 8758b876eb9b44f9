//! The program as an operator runs it: a process with arguments, an environment, two streams and an
//! exit code. Whatever it prints is searched for the password it was given.

use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

/// A command line that has not been run yet.
#[derive(Debug)]
pub(crate) struct Program {
    command: Command,
    password: Option<String>,
}

impl Program {
    /// `larder` with these arguments, without the settings of the user who runs the tests.
    pub(crate) fn larder(arguments: &[&str]) -> Self {
        Self::new(Command::new(env!("CARGO_BIN_EXE_larder")), arguments)
    }

    /// [`Program::larder`] as a script runs it in the background: deaf to the terminal's signals.
    pub(crate) fn larder_in_the_background(arguments: &[&str]) -> Self {
        Self::larder_after("trap '' INT QUIT", arguments)
    }

    /// [`Program::larder`] in a shell that does this first.
    pub(crate) fn larder_after(first: &str, arguments: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        shell
            .arg("-c")
            .arg(format!("{first}; exec \"$0\" \"$@\""))
            .arg(env!("CARGO_BIN_EXE_larder"));
        Self::new(shell, arguments)
    }

    /// [`Program::larder`] in a terminal of its own, in a shell that prints the id of the process and does this first.
    pub(crate) fn larder_in_a_terminal(first: &str, arguments: &[&str]) -> Self {
        let larder = env!("CARGO_BIN_EXE_larder");
        let script = format!("echo $$; {first}; exec {larder} {}", arguments.join(" "));
        let mut terminal = Command::new("script"); // of util-linux
        terminal.args(["--quiet", "--flush", "--command", &script, "/dev/null"]);
        Self::new(terminal, &[])
    }

    fn new(mut command: Command, arguments: &[&str]) -> Self {
        command
            .args(arguments)
            .env_remove("DATABASE_URL")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        Self {
            command,
            password: None,
        }
    }

    /// In this folder.
    pub(crate) fn within(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// With the content of this file as its input.
    pub(crate) fn reading(mut self, file: &Path) -> Self {
        let input = std::fs::File::open(file).expect("a test's own");
        self.command.stdin(input);
        self
    }

    /// With the URL as `DATABASE_URL`, whose password it must keep to itself.
    pub(crate) fn on(mut self, url: &str) -> Self {
        let credentials = url
            .split_once("://")
            .and_then(|(_, rest)| rest.split_once('@'));
        self.password = credentials
            .and_then(|(user, _)| user.split_once(':'))
            .map(|(_, password)| password.to_owned());
        self.env("DATABASE_URL", url)
    }

    /// Runs it.
    pub(crate) fn start(mut self) -> Running {
        let mut process = self.command.spawn().expect("it has been built");
        Running {
            stdout: hear(process.stdout.take().expect("it is piped")),
            stderr: hear(process.stderr.take().expect("it is piped")),
            process,
            password: self.password,
        }
    }

    /// Runs it to its end.
    pub(crate) async fn run(self) -> Ended {
        self.start().ended().await
    }
}

/// A process of the program, killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    process: Child,
    password: Option<String>,
    stdout: watch::Receiver<String>,
    stderr: watch::Receiver<String>,
}

impl Running {
    /// Waits until something is found in what it has written to stdout.
    pub(crate) async fn on_stdout<T>(&mut self, find: impl Fn(&str) -> Option<T>) -> T {
        wait_for(&mut self.stdout, find).await
    }

    /// Waits until something is found in what it has written to stderr.
    pub(crate) async fn on_stderr<T>(&mut self, find: impl Fn(&str) -> Option<T>) -> T {
        wait_for(&mut self.stderr, find).await
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let id = self.process.id().expect("it has not been waited for");
        let id = Pid::from_raw(id.try_into().expect("the system's numbers fit"));
        kill(id, signal).expect("it is a child of this process");
    }

    /// Whether its environment has this variable, which is also seen if it started itself again.
    #[cfg(target_os = "linux")]
    pub(crate) fn has_variable(&self, name: &str) -> bool {
        let id = self.process.id().expect("it has not been waited for");
        let environment = std::fs::read(format!("/proc/{id}/environ")).expect("it runs");
        let mut variables = environment.split(|byte| *byte == 0);
        let start = format!("{name}=");
        variables.any(|variable| variable.starts_with(start.as_bytes()))
    }

    /// Whether it has not ended yet.
    pub(crate) fn is_running(&mut self) -> bool {
        let ended = self.process.try_wait();
        ended.expect("it is a child of this process").is_none()
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(mut self) -> Ended {
        let status = self.process.wait().await.expect("it is waited for once");
        let ended = Ended {
            code: status.code(),
            stdout: to_its_end(self.stdout).await,
            stderr: to_its_end(self.stderr).await,
        };
        if let Some(password) = &self.password {
            ended.assert_is_silent_about(password);
        }
        ended
    }
}

/// How it ended, and its output.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The exit code; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    #[track_caller]
    pub(crate) fn assert_code(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "the exit code of {}", self.shown());
        self
    }

    /// All it says on stdout.
    #[track_caller]
    pub(crate) fn assert_stdout(&self, text: &str) -> &Self {
        assert_eq!(self.stdout, text, "stdout of {}", self.shown());
        self
    }

    /// All it says on stderr.
    #[track_caller]
    pub(crate) fn assert_stderr(&self, text: &str) -> &Self {
        assert_eq!(self.stderr, text, "stderr of {}", self.shown());
        self
    }

    /// What it says on stderr among other things.
    #[track_caller]
    pub(crate) fn assert_stderr_has(&self, part: &str) -> &Self {
        assert!(
            self.stderr.contains(part),
            "{part:?} is missing in {}",
            self.shown()
        );
        self
    }

    #[track_caller]
    fn assert_is_silent_about(&self, password: &str) {
        // A server that is given may have an everyday word for a password, which other texts hold.
        let secret = if password.len() < 12 {
            format!(":{password}@")
        } else {
            password.to_owned()
        };
        for stream in [&self.stdout, &self.stderr] {
            assert!(
                !stream.contains(&secret),
                "the password is in {}",
                self.shown()
            );
        }
    }

    fn shown(&self) -> String {
        let Self {
            code,
            stdout,
            stderr,
        } = self;
        format!("\nexit code {code:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}\n---")
    }
}

/// Reads a stream line by line, so that the process never waits for its reader.
fn hear(stream: impl AsyncRead + Unpin + Send + 'static) -> watch::Receiver<String> {
    let (sender, heard) = watch::channel(String::new());
    tokio::spawn(async move {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        while stream.read_line(&mut line).await.expect("it writes text") > 0 {
            sender.send_modify(|text| text.push_str(&line));
            line.clear();
        }
    });
    heard
}

async fn wait_for<T>(heard: &mut watch::Receiver<String>, find: impl Fn(&str) -> Option<T>) -> T {
    let mut found = None;
    let waited = heard.wait_for(|text| {
        found = find(text);
        found.is_some()
    });
    let is_over = waited.await.is_err();
    found.unwrap_or_else(|| {
        panic!(
            "it ended (over: {is_over}) without the expected words. Its output:\n{}",
            *heard.borrow()
        )
    })
}

async fn to_its_end(mut heard: watch::Receiver<String>) -> String {
    while heard.changed().await.is_ok() {}
    heard.borrow().clone()
}
