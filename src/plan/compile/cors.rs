//! `cors = { … }`

use crate::config::schema::CorsSection;
use crate::config::{At, Field, Mistake, Report};
use crate::plan::Origins;

const HELP: &str =
    "for example cors = { origins = [\"https://dashboard.example\"] }, or [\"*\"] for every page";

/// The origins that are listed.
pub(super) fn origins(section: &Field<CorsSection>, report: &mut Report) -> Option<Origins> {
    let section = section.given()?;
    let origins = match &section.value.origins {
        Field::Given(origins) => origins,
        Field::Wrong => return None,
        Field::Absent => {
            let mistake = Mistake::new("`cors` has no `origins`");
            report.push(
                mistake
                    .at(&section.span, "no page would be allowed")
                    .help(HELP),
            );
            return None;
        }
    };
    if origins.value.is_empty() {
        let mistake =
            Mistake::new("`origins` is empty").at(&origins.span, "no page would be allowed");
        report.push(mistake.help("list some, or remove `cors`"));
        return None;
    }
    for origin in &origins.value {
        check(origin, origins.value.len(), report);
    }
    if origins.value.iter().any(|origin| origin.value == "*") {
        return Some(Origins::Any);
    }
    let named = origins.value.iter().map(|origin| origin.value.clone());
    Some(Origins::Named(named.collect()))
}

/// Origins are compared byte for byte with what browsers send, so an origin in another form would allow no
/// page.
fn check(origin: &At<String>, count: usize, report: &mut Report) {
    let text = origin.value.as_str();
    let wrong = |what: &str| {
        Mistake::new("this is not an origin")
            .at(&origin.span, what)
            .help(HELP)
    };
    let Some((scheme, host)) = text.split_once("://") else {
        match text {
            "*" if count == 1 => {}
            "*" => {
                let mistake = Mistake::new("`*` makes the other origins redundant");
                let help = "remove the others, or `*`";
                report.push(mistake.at(&origin.span, "allows every page").help(help));
            }
            _ => report.push(wrong("must begin with https:// or http://")),
        }
        return;
    };
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let own_port = match scheme {
        "https" => "443",
        "http" => "80",
        _ => "",
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok() && !port.starts_with('0');
    let is_host = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._[]:".contains(c);
    if host.contains(['/', '?', '#', '@']) {
        report.push(wrong("must end after the host and port"));
    } else if scheme.is_empty()
        || name.is_empty()
        || !(scheme.to_owned() + name).chars().all(is_host)
    {
        report.push(wrong(
            "must be lower case, with international names in Punycode",
        ));
    } else if port.is_some_and(|port| port == own_port) {
        report.push(wrong("browsers omit the default port of the scheme"));
    } else if port.is_some_and(|port| !is_port(port)) {
        report.push(wrong("the port must be a number from 1 to 65535"));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;
    use crate::plan::Plan;

    fn compile(origins: &str) -> Result<Option<Origins>, usize> {
        let text = format!(
            "[server]\ncors = {{ origins = {origins} }}\n[repository]\nurl = \"postgres://h/d\"\n\
             [[endpoint]]\npath = \"/a\"\nsql = \"SELECT 1\""
        );
        let config = Config::parse("config.toml", text, Path::new("."), &|_| None).unwrap();
        let plan = Plan::compile(config).map_err(|report| report.len())?;
        Ok(plan.server().cors.clone())
    }

    #[test]
    fn origins_must_be_as_browsers_send_them() {
        let named = [
            "https://a.example",
            "http://localhost:3000",
            "http://[::1]:8080",
        ];
        let expected = Origins::Named(named.map(str::to_owned).to_vec());
        assert_eq!(compile(&format!("{named:?}")), Ok(Some(expected)));
        assert_eq!(compile(r#"["*"]"#), Ok(Some(Origins::Any)));
        for origins in [
            "[]",
            r#"["a.example"]"#,
            r#"["https://a.example/"]"#,
            r#"["https://A.example"]"#,
            r#"["https://a.example:443"]"#,
            r#"["https://a.example:http"]"#,
            r#"["*", "https://a.example"]"#,
            r#"["https://"]"#,
            r#"["null"]"#,
        ] {
            assert_eq!(compile(origins), Err(1), "{origins}");
        }
    }
}
