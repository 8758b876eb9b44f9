//! Finds expressions whose value is that of the session: the role, and settings that an application defines.
//! They depend on the caller only where a role or a setting is set for each load.

/// Scans the tokens of a statement for such expressions.
#[derive(Debug, Default)]
pub(super) struct SessionValueFinder {
    previous: Previous,
}

/// What came before the next token.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Previous {
    #[default]
    Other,
    /// A dot, or AS: what follows is a name, even if it is a keyword.
    Name,
    /// `current_setting`
    Function,
    /// `current_setting(`
    Call,
    /// `current_setting('name'`, of a setting of Postgres itself.
    OwnSetting,
}

/// Settings of Postgres itself that depend on the role.
const SETTINGS: [&str; 3] = ["role", "session_authorization", "is_superuser"];

impl SessionValueFinder {
    /// Takes the next token that is not blank, and returns the expression that it completes.
    pub(super) fn next(&mut self, token: &str) -> Option<String> {
        let is = |word: &str| token.eq_ignore_ascii_case(word);
        let previous = self.previous;
        self.previous = match (previous, token) {
            (_, ".") => Previous::Name,
            (Previous::Function, "(") => Previous::Call,
            _ if is("as") => Previous::Name,
            _ if is("current_setting") => Previous::Function,
            _ => Previous::Other,
        };
        let of_call = || "current_setting()".to_owned();
        if previous == Previous::Call {
            if !is_own_setting(token) {
                return Some(of_call());
            }
            self.previous = Previous::OwnSetting;
            return None;
        }
        if previous == Previous::OwnSetting {
            // What follows may make it another name.
            return (!matches!(token, ")" | ",")).then(of_call);
        }
        let words = ["current_user", "session_user", "current_role", "user"];
        let is_value = previous != Previous::Name && words.into_iter().any(is);
        is_value.then(|| token.to_ascii_lowercase())
    }
}

/// Whether a token is the name of a setting that says nothing about the caller.
fn is_own_setting(token: &str) -> bool {
    let name = token.strip_prefix('\'');
    let name = name.and_then(|rest| rest.strip_suffix('\''));
    let is_of_caller = |name: &str| {
        let mut settings = SETTINGS.iter();
        name.contains('.') || settings.any(|setting| setting.eq_ignore_ascii_case(name))
    };
    name.is_some_and(|name| !is_of_caller(name))
}

#[cfg(test)]
mod tests {
    use super::super::Statement;

    #[test]
    fn values_of_the_session_are_found_outside_strings_and_names() {
        let found = |sql: &str| {
            let statement = Statement::parse(sql).unwrap();
            statement.session_value().map(str::to_owned)
        };
        for (sql, value) in [
            ("SELECT current_user", "current_user"),
            ("SELECT 1 WHERE Session_User = 'a'", "session_user"),
            ("SELECT user::text", "user"),
            ("SELECT current_role", "current_role"),
            ("SELECT current_setting('app.tenant')", "current_setting()"),
            ("SELECT current_setting ( :name )", "current_setting()"),
            (
                "SELECT pg_catalog.current_setting('app.tenant', true)",
                "current_setting()",
            ),
            ("SELECT current_setting('role')", "current_setting()"),
            ("SELECT current_setting(E'app.tenant')", "current_setting()"),
            (
                "SELECT current_setting('app' || '.tenant')",
                "current_setting()",
            ),
        ] {
            assert_eq!(found(sql).as_deref(), Some(value), "{sql}");
        }
        for sql in [
            "SELECT 'current_user', \"user\", t.user, 1 AS user -- session_user",
            "SELECT :user::text, users, current_users FROM t",
            "SELECT current_setting('server_version')",
            "SELECT current_setting FROM t",
            "SELECT $$ current_user $$ /* user */",
        ] {
            assert_eq!(found(sql), None, "{sql}");
        }
    }
}
