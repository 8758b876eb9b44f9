//! Mistakes that only Postgres, or a file, can reveal, shown where the configuration causes them.

use super::{EndpointId, IssuerId, JwtKeys, Plan, ProbeId, Statement, TlsFile};
use crate::config::{At, Mistake, Report};

/// The part of a configuration that a mistake is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// An endpoint's statement.
    Statement(EndpointId),
    /// The types of the parameters in an endpoint's statement.
    ParameterTypes(EndpointId),
    /// An endpoint's parameter, by its index in [`Endpoint::parameters`](super::Endpoint::parameters).
    Parameter(EndpointId, usize),
    /// A probe's statement.
    Probe(ProbeId),
    /// An endpoint's `warm_sql`.
    WarmStatement(EndpointId),
    /// A key in an endpoint's `warm`, by its index in [`Warm::arguments`](super::Warm::arguments).
    WarmArguments(EndpointId, usize),
    /// An endpoint's `run_as`.
    RunAs(EndpointId),
    /// A file that `tls` names.
    TlsFile(TlsFile),
    /// The statement of `[access.keys]`.
    StoredKeys,
    /// The file with the keys of an issuer of tokens.
    IssuerKeys(IssuerId),
}

/// What is wrong with a [`Subject`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finding {
    /// The mistake in one line.
    pub message: String,
    /// More about it, shown as a note.
    pub detail: Option<String>,
    /// The character of the statement's text that is wrong, counted from 1 as Postgres does. Without it,
    /// the first parameter that the message names is shown, or else the whole statement.
    pub position: Option<u32>,
    /// How to put it right.
    pub help: Option<String>,
}

impl Finding {
    /// A finding that is its message alone.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            ..Self::default()
        }
    }
}

impl Plan {
    /// Shows a finding where the configuration file declares its subject.
    pub fn mistake(&self, subject: Subject, finding: &Finding) -> Report {
        let mistake = match subject {
            Subject::Statement(id) => self.in_statement(id, finding),
            Subject::ParameterTypes(id) => self.in_parameter_types(id, finding),
            Subject::Parameter(id, index) => self.in_parameter(id, index, finding),
            Subject::Probe(id) => {
                let declared = self.probe_declaration(id);
                let label = "in the SQL of this probe";
                in_sql(&declared.sql, &declared.statement, label, finding)
            }
            Subject::WarmStatement(id) => self.in_warm_statement(id, finding),
            Subject::WarmArguments(id, index) => {
                let declared = self.declaration(id);
                let place = declared.warm.get(index).unwrap_or(&declared.sql.span);
                let label = format!("a key of {} to load at startup", self.path(id));
                Mistake::new(&finding.message).at(place, label)
            }
            Subject::RunAs(id) => {
                let declared = self.declaration(id);
                let place = declared.run_as.as_ref().unwrap_or(&declared.sql.span);
                Mistake::new(&finding.message).at(place, format!("of {}", self.path(id)))
            }
            Subject::TlsFile(file) => self.in_tls_file(file, finding),
            Subject::StoredKeys => self.in_stored_keys(finding),
            Subject::IssuerKeys(id) => self.in_issuer_keys(id, finding),
        };
        match &finding.help {
            Some(help) => mistake.help(help).into(),
            None => mistake.into(),
        }
    }

    fn in_statement(&self, id: EndpointId, finding: &Finding) -> Mistake {
        let sql = &self.declaration(id).sql;
        let label = format!("in the SQL of {}", self.path(id));
        in_sql(sql, &self.endpoint(id).statement, &label, finding)
    }

    fn in_parameter_types(&self, id: EndpointId, finding: &Finding) -> Mistake {
        let mistake = self.in_statement(id, finding);
        let statement = &self.endpoint(id).statement;
        match statement.first_mentioned(&finding.message) {
            Some(name) => mistake.help(format!(
                "declare its type: `params.{name} = {{ type = \"integer\" }}`, or `:{name}::integer` in \
                 the SQL"
            )),
            None => mistake,
        }
    }

    /// A parameter may be declared by its use in the statement alone.
    fn in_parameter(&self, id: EndpointId, index: usize, finding: &Finding) -> Mistake {
        let name = &self.endpoint(id).parameters[index].name;
        let mut declared = self.declaration(id).parameters.iter();
        match declared.find(|(declared, _)| declared == name) {
            Some((_, span)) => Mistake::new(&finding.message).at(span, "declared here"),
            None => self.in_statement(id, finding),
        }
    }

    fn in_warm_statement(&self, id: EndpointId, finding: &Finding) -> Mistake {
        let sql = &self.declaration(id).warm_sql;
        match (sql, &self.endpoint(id).warm.statement) {
            (Some(sql), Some(statement)) => {
                let label = format!("in the `warm_sql` of {}", self.path(id));
                in_sql(sql, statement, &label, finding)
            }
            // The position is one in a statement that this endpoint does not have.
            _ => self.in_statement(
                id,
                &Finding {
                    position: None,
                    ..finding.clone()
                },
            ),
        }
    }

    fn in_tls_file(&self, file: TlsFile, finding: &Finding) -> Mistake {
        let mistake = Mistake::new(&finding.message);
        match &self.server.tls {
            Some(tls) => {
                let named = tls.named(file);
                mistake.at(&named.span, named.value.display().to_string())
            }
            None => mistake,
        }
    }

    fn in_stored_keys(&self, finding: &Finding) -> Mistake {
        let keys = self
            .access
            .as_ref()
            .and_then(|access| access.stored_keys.as_ref());
        match keys {
            Some(keys) => in_sql(
                &keys.sql,
                &keys.statement,
                "in the SQL of [access.keys]",
                finding,
            ),
            None => Mistake::new(&finding.message),
        }
    }

    fn in_issuer_keys(&self, id: IssuerId, finding: &Finding) -> Mistake {
        let mistake = Mistake::new(&finding.message);
        let issuers = self.access.as_ref().map(|access| &access.issuers);
        match issuers
            .and_then(|issuers| issuers.get(id.index()))
            .map(|issuer| &issuer.keys)
        {
            Some(JwtKeys::File(file)) => mistake.at(&file.span, file.value.display().to_string()),
            Some(JwtKeys::Url(_) | JwtKeys::Secret(_)) | None => mistake,
        }
    }

    fn path(&self, id: EndpointId) -> &str {
        self.endpoint(id).path.as_str()
    }
}

/// A mistake in `statement`, which the configuration writes as `sql`.
fn in_sql(sql: &At<String>, statement: &Statement, label: &str, finding: &Finding) -> Mistake {
    let place = match finding.position {
        Some(position) => statement.written_at(&sql.value, position),
        None => statement
            .first_mentioned(&finding.message)
            .and_then(|name| statement.first_use(name)),
    };
    let mistake = Mistake::new(statement.with_names(&finding.message));
    let mistake = match place {
        Some(range) => mistake.at(&sql.span.within(range), ""),
        None => mistake.at(&sql.span, label),
    };
    match &finding.detail {
        Some(detail) => mistake.note(statement.with_names(detail)),
        None => mistake,
    }
}
