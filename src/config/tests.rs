//! What is read, what is reported, and that the shipped config.toml shows every key.

use std::collections::BTreeSet;

use super::*;

fn no_env(_: &str) -> Option<String> {
    None
}

fn parse(text: &str) -> Config {
    Config::parse("config.toml", text.to_owned(), Path::new(""), &no_env).expect("readable")
}

fn mistakes(text: &str) -> Vec<String> {
    let report = match Config::parse("config.toml", text.to_owned(), Path::new(""), &no_env) {
        Ok(config) => config.mistakes,
        Err(report) => report,
    };
    report
        .mistakes()
        .iter()
        .map(|m| format!("{}: {}", m.span().map_or(0, Span::line), m.message()))
        .collect()
}

#[test]
fn scalars_keep_their_text() {
    let config = parse(
        "[[endpoint]]\nparams.a = { default = 0x1F, minimum = -1_000, maximum = +1.5e3, values = [true, 2003-01-06, 07:30:00, 'x', 1979-05-27T07:32:00Z] }",
    );
    let endpoints = config.endpoints.expect("an array of tables");
    let param = &endpoints[0].params[0];
    let text = |field: &Field<String>| field.given().expect("given").value.clone();
    assert_eq!(text(&param.default), "31");
    assert_eq!(text(&param.minimum), "-1000");
    assert_eq!(text(&param.maximum), "1.5e3");
    let values = param
        .values
        .given()
        .expect("given")
        .value
        .iter()
        .map(|v| v.value.as_str());
    let values: Vec<_> = values.collect();
    assert_eq!(
        values,
        [
            "true",
            "2003-01-06",
            "07:30:00",
            "x",
            "1979-05-27T07:32:00Z"
        ]
    );
}

#[test]
fn named_keys_keep_their_order_and_their_texts() {
    let config = parse(
        "[[endpoint]]\nwarm = [{ b = 'x', a = 0x1F }, { c = 1.50, d = true, e = 2003-01-06 }, {}]",
    );
    let endpoints = config.endpoints.expect("an array of tables");
    let warm = endpoints[0].warm.given().expect("given");
    let texts: Vec<Vec<_>> = warm
        .value
        .iter()
        .map(|key| {
            key.value
                .iter()
                .map(|(name, text)| (name.value.as_str(), text.value.as_str()))
                .collect()
        })
        .collect();
    assert_eq!(
        texts,
        [
            vec![("b", "x"), ("a", "31")],
            vec![("c", "1.50"), ("d", "true"), ("e", "2003-01-06")],
            vec![],
        ]
    );
    assert_eq!(
        mistakes(
            "[[endpoint]]\nwarm = { a = 1 }\n[[endpoint]]\nwarm = [1, { a = [] }]\n\
             [[endpoint]]\nwarm = [{ a = 1, a = 2 }]\nrefresh.probe = 'x'\n\
             [[endpoint]]\nrefresh.probe = { sql = 1, evry = '1s' }\nwarm_sql = 1"
        ),
        [
            "6: duplicate key",
            "2: `warm` must be an array of tables",
            "4: `warm` must be an array of tables",
            "4: `a` must be a string, a number, a boolean, a date or a time",
            "7: `probe` must be a table",
            "9: `sql` must be a string",
            "9: unknown key `evry` in `probe`",
            "10: `warm_sql` must be a string",
        ]
    );
}

#[test]
fn variables_are_replaced_in_values_and_never_in_sql() {
    let env = |name: &str| (name == "WHO").then(|| "me".to_owned());
    let text = "[repository]\nurl = 'postgres://${WHO}@db'\n[[endpoint]]\nsql = \"select '${WHO}'\"\nsummary = '$${WHO}'";
    let config = Config::parse("c", text.to_owned(), Path::new(""), &env).expect("readable");
    assert!(config.mistakes.is_empty());
    let url = &config.repository.url.given().expect("given").value;
    assert_eq!(url.expose(), "postgres://me@db");
    let endpoint = &config.endpoints.as_ref().expect("an array of tables")[0];
    assert_eq!(
        endpoint.sql.given().expect("given").value,
        "select '${WHO}'"
    );
    assert_eq!(endpoint.summary.given().expect("given").value, "${WHO}");
    assert!(!format!("{config:?}").contains("postgres"));
}

#[test]
fn all_mistakes_are_found_at_once() {
    assert_eq!(
        mistakes(
            "[server]\nlisten = 8080\nlisen = ''\nmax_connections = -1\nmax_connections = 3\n\
             [repository]\nurl = '${NONE}'\nstatement_timeout = 30\n[cache]\nmax_size = 1\n\
             [defaults]\nsql = ''\n[tls]\n[[endpoint]]\nsql = ['a']\nrefresh = '5s'\n\
             params.a = 'b'\nparams.c = { type = 1, default = [], values = 3, optional = 'yes' }"
        ),
        [
            "5: duplicate key",
            "2: `listen` must be a string",
            "4: `max_connections` is negative",
            "3: unknown key `lisen` in [server]",
            "7: the environment variable `NONE` is not set",
            "8: `statement_timeout` must be a duration",
            "10: `max_size` must be a size",
            "12: unknown key `sql` in [defaults]",
            "15: `sql` must be a string",
            "16: `refresh` must be a table",
            "17: `params.a` must be a table",
            "18: `type` must be a string",
            "18: `default` must be a string, a number, a boolean, a date or a time",
            "18: `optional` must be `true` or `false`",
            "18: `values` must be an array",
            "13: unknown key `tls`",
        ]
    );
    assert_eq!(
        mistakes("endpoint = 3"),
        ["1: `endpoint` must be an array of tables"]
    );
    assert_eq!(
        mistakes("[endpoint]\npath = ''"),
        ["1: `endpoint` must be an array of tables"]
    );
    assert_eq!(mistakes("server = 3"), ["1: `server` must be a table"]);
}

#[test]
fn invalid_toml_is_reported_once_for_each_line() {
    let found = mistakes("[server]\nlisten = \nmax_connections 3\n");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("2: "), "{found:?}");
    assert!(found[1].starts_with("3: "), "{found:?}");
}

#[test]
fn a_missing_file_is_named() {
    let report = Config::load(Path::new("no/such.toml"), &no_env).expect_err("missing");
    assert!(report.to_string().contains("no/such.toml"), "{report}");
    assert_eq!(
        mistakes("[[endpoint]]\nsql_file = 'no/such.sql'"),
        ["2: the file of `sql_file` cannot be read"]
    );
}

#[test]
fn byte_order_marks_and_crlf_are_not_seen() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config.toml");
    std::fs::write(folder.path().join("a.sql"), "\u{feff}SELECT 1\r\n, 2").expect("written");
    let text = "\u{feff}[server]\r\nlisten = 3\r\n[[endpoint]]\r\nsql_file = 'a.sql'\r\n";
    std::fs::write(&path, text).expect("written");
    for config in [
        Config::load(&path, &no_env),
        Config::parse("x", text.to_owned(), folder.path(), &no_env),
    ] {
        let config = config.expect("readable");
        let endpoint = &config.endpoints.as_ref().expect("an array of tables")[0];
        let sql = endpoint.sql_file.given().expect("given");
        assert_eq!(sql.value, "SELECT 1\n, 2");
        assert_eq!(config.mistakes.len(), 1);
        let report = config.mistakes.to_string();
        assert!(report.contains("2 | listen = 3\n"), "{report}");
    }
}

#[test]
fn only_a_regular_file_is_read_for_sql() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("there is a mkfifo").success());
    for name in [&*pipe, folder.path(), Path::new("/dev/zero")] {
        let text = format!("[[endpoint]]\nsql_file = '{}'", name.display());
        assert_eq!(
            mistakes(&text),
            ["2: the file of `sql_file` cannot be read"]
        );
    }
}

#[test]
fn a_file_that_is_not_utf_8_is_reported_as_such() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config.toml");
    std::fs::write(&path, b"[server]\n# caf\xe9").expect("written");
    let report = Config::load(&path, &no_env).expect_err("Latin-1");
    assert!(
        report.mistakes()[0]
            .message()
            .ends_with("it is not UTF-8 from line 2 on")
    );
    assert_eq!(report.mistakes()[0].advice(), Some("save it as UTF-8"));
}

#[test]
fn a_duplicate_key_is_shown_with_the_first_one() {
    for text in [
        "[server]\nlisten = 'a'\n[cache]\nmax_size = '1'\nmax_size = '2'",
        "[[endpoint]]\nmax_age = '1'\n[[endpoint]]\nmax_age = '1'\nparams.x = {}\nmax_age = '2'",
        "[server]\n[cache]\nmax_size = '1'\n[server]\nlisten = 'a'",
    ] {
        let report = match Config::parse("config.toml", text.to_owned(), Path::new(""), &no_env) {
            Ok(config) => config.mistakes,
            Err(report) => report,
        };
        let rendered = report.to_string();
        assert!(rendered.contains("- here\n"), "{rendered}");
        assert!(rendered.contains("help: remove one of them"), "{rendered}");
    }
}

#[test]
fn a_configuration_that_is_too_large_is_rejected() {
    let text = " ".repeat(files::CONFIG_BYTES_MAX as usize + 1);
    assert_eq!(
        mistakes(&text),
        ["0: the configuration is larger than 16 MiB"]
    );
}

/// The keys that are read from a configuration with one of each section.
fn accepted_keys() -> BTreeSet<(String, &'static str)> {
    let text = "[server]\n[repository]\n[cache]\n[access]\nlimit = {}\nkeys = {}\n[[access.key]]\n[[access.jwt]]\nkeys = {}\n[defaults]\n[[endpoint]]\n\
                refresh.probe = {}\nparams.x = {}\naccess = {}";
    let (document, _) = DeTable::parse_recoverable(text);
    let mut context = ReadContext {
        source: Arc::new(Source::new("x", text.to_owned(), Language::Toml)),
        folder: Path::new(""),
        env: &no_env,
        report: Report::new(),
        files: HashMap::new(),
        hashes: HashMap::new(),
        accepted: BTreeSet::new(),
    };
    Config::read(&mut context, document.into_inner());
    context.accepted
}

#[test]
fn only_the_url_of_repository_is_secret() {
    let keys = accepted_keys();
    let shown: BTreeSet<_> = keys
        .iter()
        .filter(|(section, key)| section == "[repository]" && *key != "url")
        .map(|(_, key)| *key)
        .collect();
    assert_eq!(shown, BTreeSet::from(redact::SHOWN_KEYS));
}

/// The shipped configuration with the lines about access, which are comments because the demo is public.
fn with_access(shipped: &str) -> String {
    let lines = shipped.lines().scan(false, |is_within, line| {
        *is_within = line == "# [access]" || *is_within && line.starts_with('#');
        let keys = ["# access = ", "# params.", "# run_as = "];
        let is_shown = *is_within || keys.iter().any(|key| line.starts_with(key));
        Some(
            line.strip_prefix(if is_shown { "#" } else { "" })
                .unwrap_or(line),
        )
    });
    lines.map(str::trim_start).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_shipped_configuration_shows_every_key() {
    let shipped = include_str!("../../config.toml");
    // Keys that need a file that is not shipped, or that have no default, are shown in comments.
    let text = ["sql_file", "cdn_cache_control", "cors", "tls", "hosts"]
        .iter()
        .fold(shipped.to_owned(), |text, key| {
            text.replace(&format!("\n# {key} = "), &format!("\n{key} = "))
        });
    let text = with_access(&text);
    let document = DeTable::parse(&text)
        .expect("the shipped config.toml is TOML")
        .into_inner();
    let table = |name: &str| document.get(name).and_then(|t| t.get_ref().as_table());
    let endpoints = document["endpoint"]
        .get_ref()
        .as_array()
        .expect("endpoints");
    let endpoints = || {
        endpoints
            .iter()
            .filter_map(|endpoint| endpoint.get_ref().as_table())
    };
    let any = |mut tables: Box<dyn Iterator<Item = &DeTable<'_>> + '_>, key: &str| {
        tables.any(|table| table.contains_key(key))
    };
    fn inner<'t, 'd>(table: &'t DeTable<'d>, key: &str) -> Option<&'t DeTable<'d>> {
        table.get(key)?.get_ref().as_table()
    }
    for (section, key) in accepted_keys() {
        let shown = match section.trim_matches(['[', ']', '`']) {
            "" => document.contains_key(key),
            "endpoint" => any(Box::new(endpoints()), key),
            "refresh" => any(
                Box::new(endpoints().filter_map(|e| inner(e, "refresh"))),
                key,
            ),
            "probe" => any(
                Box::new(endpoints().filter_map(|e| inner(inner(e, "refresh")?, "probe"))),
                key,
            ),
            "params.x" => any(
                Box::new(
                    endpoints()
                        .filter_map(|e| e.get("params")?.get_ref().as_table())
                        .flat_map(|params| {
                            params.iter().filter_map(|(_, p)| p.get_ref().as_table())
                        }),
                ),
                key,
            ),
            "run_as" => any(
                Box::new(endpoints().filter_map(|e| inner(e, "run_as"))),
                key,
            ),
            "access" if ["scopes", "allow_from"].contains(&key) => any(
                Box::new(endpoints().filter_map(|e| inner(e, "access"))),
                key,
            ),
            "access.key" | "access.jwt" => {
                let name = section.trim_matches(['[', ']']).replace("access.", "");
                let tables = table("access")
                    .and_then(|access| access.get(name.as_str())?.get_ref().as_array());
                let tables = tables.into_iter().flatten();
                any(
                    Box::new(tables.filter_map(|table| table.get_ref().as_table())),
                    key,
                )
            }
            "limit" => table("access")
                .and_then(|access| inner(access, "limit"))
                .is_some_and(|limit| limit.contains_key(key)),
            "keys" if ["sql", "every", "limit"].contains(&key) => table("access")
                .and_then(|access| inner(access, "keys"))
                .is_some_and(|keys| keys.contains_key(key)),
            // An issuer has one of them.
            "keys" => text.contains(&format!("{{ {key} = ")),
            "cors" => table("server").is_some_and(|server| {
                inner(server, "cors").is_some_and(|cors| cors.contains_key(key))
            }),
            name => table(name).is_some_and(|table| table.contains_key(key)),
        };
        assert!(shown, "config.toml does not show `{key}` of {section}");
    }
}
