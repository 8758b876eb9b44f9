//! Finds expressions whose value is that of the session: the role, and settings that an application defines.
//! They depend on the caller only where a role or a setting is set for each load.

/// An expression whose value is that of the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionValue {
    /// The role, under the name that SQL has for it, such as `current_user`; or a setting that follows it.
    Role(String),
    /// A setting that an application defines, by its name.
    Setting(String),
    /// A setting whose name is computed.
    AnySetting,
}

/// Scans the tokens of a statement for such expressions.
#[derive(Debug, Default)]
pub(super) struct SessionValueFinder {
    previous: Previous,
}

/// What came before the next token.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
enum Previous {
    #[default]
    Other,
    /// A dot, or AS: what follows is a name, even if it is a keyword.
    Name,
    /// `current_setting`
    Function,
    /// `current_setting(`
    Call,
    /// `current_setting('name'`
    Setting(String),
}

/// Settings of Postgres itself that depend on the role.
const OF_ROLE: [&str; 3] = ["role", "session_authorization", "is_superuser"];

impl SessionValueFinder {
    /// Takes the next token that is not blank, and returns the expression that it completes.
    pub(super) fn next(&mut self, token: &str) -> Option<SessionValue> {
        let is = |word: &str| token.eq_ignore_ascii_case(word);
        let previous = std::mem::take(&mut self.previous);
        self.previous = match (&previous, token) {
            (_, ".") => Previous::Name,
            (Previous::Function, "(") => Previous::Call,
            _ if is("as") => Previous::Name,
            _ if is("current_setting") => Previous::Function,
            _ => Previous::Other,
        };
        match previous {
            Previous::Call => {
                let Some(name) = literal(token) else {
                    return Some(SessionValue::AnySetting);
                };
                self.previous = Previous::Setting(name.to_ascii_lowercase());
                None
            }
            // Anything else may make it another name.
            Previous::Setting(name) if matches!(token, ")" | ",") => {
                if OF_ROLE.contains(&&*name) {
                    Some(SessionValue::Role(format!("current_setting('{name}')")))
                } else {
                    name.contains('.').then_some(SessionValue::Setting(name))
                }
            }
            Previous::Setting(_) => Some(SessionValue::AnySetting),
            Previous::Name => None,
            Previous::Other | Previous::Function => {
                let words = ["current_user", "session_user", "current_role", "user"];
                let is_value = words.into_iter().any(is);
                is_value.then(|| SessionValue::Role(token.to_ascii_lowercase()))
            }
        }
    }
}

/// The text of a plain string.
fn literal(token: &str) -> Option<&str> {
    let text = token.strip_prefix('\'')?.strip_suffix('\'')?;
    (!text.contains('\'')).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::super::Statement;
    use super::SessionValue::{AnySetting, Role, Setting};

    #[test]
    fn values_of_the_session_are_found_outside_strings_and_names() {
        let role = |word: &str| Role(word.to_owned());
        let setting = |name: &str| Setting(name.to_owned());
        for (sql, expected) in [
            ("SELECT current_user", vec![role("current_user")]),
            (
                "SELECT user::text WHERE Session_User = 'a' OR current_role = 'b'",
                vec![role("user"), role("session_user"), role("current_role")],
            ),
            (
                "SELECT current_setting('app.Tenant'), pg_catalog.current_setting ( 'app.sub' , true)",
                vec![setting("app.tenant"), setting("app.sub")],
            ),
            ("SELECT current_setting(:name)", vec![AnySetting]),
            ("SELECT current_setting(E'app.tenant')", vec![AnySetting]),
            ("SELECT current_setting('a''.b')", vec![AnySetting]),
            (
                "SELECT current_setting('app' || '.tenant')",
                vec![AnySetting],
            ),
            (
                "SELECT current_setting('app.' || current_user)",
                vec![AnySetting, role("current_user")],
            ),
            (
                "SELECT current_setting('role')",
                vec![role("current_setting('role')")],
            ),
            (
                "SELECT 'current_user', \"user\", t.user, 1 AS user -- session_user",
                vec![],
            ),
            ("SELECT :user::text, users, current_users FROM t", vec![]),
            ("SELECT current_setting('server_version')", vec![]),
            ("SELECT current_setting FROM t", vec![]),
            ("SELECT $$ current_user $$ /* user */", vec![]),
        ] {
            let statement = Statement::parse(sql).unwrap();
            assert_eq!(statement.session_values(), expected, "{sql}");
        }
    }
}
