//! The configuration of a seed.

use std::fmt::Write;
use std::path::Path;

use fastrand::Rng;

use crate::config::Config;
use crate::plan::Plan;

/// The endpoints: the path without the parameter, whether there is a parameter, and the remaining keys.
fn endpoints(rng: &mut Rng) -> Vec<(&'static str, bool, String)> {
    let mut limits = |ages: &[&str]| {
        let age = ages[rng.usize(..ages.len())];
        let windows = ["0s", "1s", "3s", "1m"];
        let revalidate = rng.usize(..windows.len());
        let error = rng.usize(revalidate..windows.len());
        let timeout = ["500ms", "1s", "3s"][rng.usize(..3)];
        let mut text = format!(
            "timeout = \"{timeout}\"\nstale_while_revalidate = \"{}\"\nstale_if_error = \"{}\"\n",
            windows[revalidate], windows[error],
        );
        if !age.is_empty() {
            writeln!(text, "max_age = \"{age}\"").unwrap();
        }
        text
    };
    let short = ["1s", "2s", "5s"];
    let any = ["1s", "2s", "5s", "10m"];
    let every = "refresh = { every = \"2s\" }\n";
    let notify = "refresh = { notify = \"c\" }\n";
    let probe = "refresh = { probe = { sql = \"SELECT 1\", every = \"700ms\" } }\n";
    let ahead = "refresh = { ahead = true }\n";
    let refuse = "on_miss = \"refuse\"\n";
    vec![
        ("/scheduled", false, limits(&any) + every),
        ("/steady", false, limits(&[""]) + every),
        ("/notified", false, limits(&any) + notify),
        ("/probed", false, limits(&any) + probe),
        // Its entries must outlast the interval of its schedule.
        ("/refusing", false, limits(&["2s", "5s"]) + every + refuse),
        ("/keyed", true, limits(&any)),
        ("/notified-keys", true, limits(&any) + notify),
        ("/probed-keys", true, limits(&any) + probe),
        ("/ahead", true, limits(&short) + ahead),
        ("/few", true, limits(&short) + "max_keys = 2\n"),
        (
            "/warmed",
            true,
            limits(&any) + notify + refuse + "warm = [{ k = 0 }, { k = 1 }]\n",
        ),
    ]
}

pub(super) fn plan(rng: &mut Rng) -> Plan {
    let connections = rng.usize(1..=4);
    let loads = [3, 10, 50][rng.usize(..3)];
    // Room for about six keys, or for all of them.
    let room = ["5KiB", "1MiB"][rng.usize(..2)];
    let mut text = format!(
        "[repository]\nurl = \"postgres://localhost/d\"\nmax_connections = {connections}\n\
         max_loads_per_second = {loads}\n[cache]\nmax_size = \"{room}\"\n\
         [defaults]\nmax_bytes = \"1KiB\"\n"
    );
    for (path, has_parameter, rest) in endpoints(rng) {
        let (path, sql) = if has_parameter {
            (format!("{path}/{{k}}"), "SELECT :k::int")
        } else {
            (path.to_owned(), "SELECT 1")
        };
        write!(
            text,
            "[[endpoint]]\npath = \"{path}\"\nsql = \"{sql}\"\n{rest}"
        )
        .unwrap();
    }
    let config = Config::parse("config.toml", text, Path::new("."), &|_| None).unwrap();
    Plan::compile(config).unwrap_or_else(|report| panic!("{report:?}"))
}
