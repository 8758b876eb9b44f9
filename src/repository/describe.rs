//! What Postgres says of a declared statement: the types of its parameters and columns. Columns of
//! types that are not encoded here are left to Postgres, by wrapping them in `to_json`.

use std::collections::HashSet;
use std::fmt::Write;
use std::sync::Arc;

use tokio_postgres::Statement;
use tokio_postgres::types::{Kind, Type};

use super::lease::Lease;
use super::{Column, RepositoryError, ValueType};
use crate::plan::{Arguments, Endpoint, Mismatch, ParameterType, Shape, Signature};

/// A statement whose types are known.
#[derive(Debug)]
pub struct Description {
    /// The parameters, with the rules that read them from text.
    pub signature: Signature,
    /// What Postgres says of the parameters, in the order of `$1`…
    pub parameters: Vec<ParameterDescription>,
    /// What each row holds.
    pub columns: Arc<[Column]>,
    /// What is sent: the statement, perhaps with columns wrapped in `to_json`.
    query: String,
    types: Vec<Type>,
    result: Vec<ResultColumn>,
}

/// What Postgres says of a parameter.
#[derive(Debug, PartialEq, Eq)]
pub struct ParameterDescription {
    /// Its type as Postgres names it.
    pub type_name: String,
    /// The labels of its type, if that is an enum; more may be added while Larder runs.
    pub labels: Vec<String>,
}

/// What must stay as it was for [`Description::columns`] to be true.
#[derive(Debug, PartialEq, Eq)]
struct ResultColumn {
    name: String,
    oid: u32,
}

impl Description {
    /// The statement, prepared in this session.
    pub(super) async fn prepare_on(&self, lease: &Lease) -> Result<Statement, RepositoryError> {
        let prepared = lease.prepare_typed_cached(&self.query, &self.types).await;
        // It could be prepared when it was described.
        prepared.map_err(|error| RepositoryError::from(error).or_outdated())
    }

    /// Whether describing the same statement again found nothing new.
    pub fn is_like(&self, other: &Self) -> bool {
        self.query == other.query
            && self.types == other.types
            && self.result == other.result
            && self.parameters == other.parameters
            && self.columns == other.columns
    }

    /// Whether there are arguments that are read by Postgres alone, or held to a domain's constraints by it.
    pub(super) fn leaves_reading_to_postgres(&self) -> bool {
        self.types.iter().any(|type_| {
            matches!(type_.kind(), Kind::Domain(_))
                || matches!(
                    parameter_type(type_),
                    ParameterType::Other(_) | ParameterType::Json
                )
        })
    }

    /// Whether the arguments hold a label that their type did not have: it has been given more.
    pub fn lacks_labels_of(&self, arguments: &Arguments) -> bool {
        let mut given = self.parameters.iter().zip(arguments.iter());
        given.any(|(parameter, text)| {
            let is_label = |text| parameter.labels.iter().any(|label| label == text);
            !parameter.labels.is_empty() && !text.is_none_or(is_label)
        })
    }

    /// Whether the result still is what was described.
    pub(super) fn still_holds(&self, statement: &Statement) -> bool {
        self.result == result(statement)
    }

    /// Makes the session prepare it again next time.
    pub(super) fn forget_on(&self, lease: &Lease) {
        lease.statement_cache.remove(&self.query, &self.types);
    }
}

fn result(statement: &Statement) -> Vec<ResultColumn> {
    let columns = statement.columns().iter();
    columns
        .map(|c| ResultColumn {
            name: c.name().to_owned(),
            oid: c.type_().oid(),
        })
        .collect()
}

/// Has Postgres prepare the endpoint's statement and say its types.
pub(super) async fn describe(
    lease: &Lease,
    endpoint: &Endpoint,
) -> Result<Description, RepositoryError> {
    // A session remembers types, and would not hear of new labels.
    lease.clear_type_cache();
    let declared = declared_types(lease, endpoint).await?;
    let statement = lease
        .prepare_typed(endpoint.statement.text(), &declared)
        .await?;
    let names: Vec<&str> = statement
        .columns()
        .iter()
        .map(tokio_postgres::Column::name)
        .collect();
    let shape = shape_mistakes(endpoint.shape, &names).into_iter();
    let mut mistakes: Vec<Mismatch> = shape.map(Mismatch::of_statement).collect();

    let parameter_types = statement.params().iter().map(parameter_type).collect();
    let signature = match Signature::new(endpoint, parameter_types) {
        Ok(signature) => Some(signature),
        Err(more) => {
            mistakes.extend(more);
            None
        }
    };
    let signature = match signature {
        Some(signature) if mistakes.is_empty() => signature,
        _ => return Err(RepositoryError::Unusable { mistakes }),
    };

    let catalog = Catalog::read(lease, &statement).await?;
    let value_types: Vec<Option<ValueType>> = statement
        .columns()
        .iter()
        .map(|c| catalog.value_type(c.type_()))
        .collect();
    let types = statement.params().to_vec();
    // In brackets Postgres takes nothing but a query, so that what would write is refused here and
    // not by the read-only session when it runs.
    let wrapped = wrap(endpoint.statement.text(), &value_types);
    let in_brackets = lease.prepare_typed(&wrapped, &types).await;
    let in_brackets = in_brackets.map_err(|error| {
        RepositoryError::from(error).or_refused(|mut refusal| {
            // It counts in a text that nobody wrote.
            refusal.position = None;
            RepositoryError::Refused { refusal }
        })
    })?;
    let (query, result) = if value_types.iter().all(Option::is_some) {
        (endpoint.statement.text().to_owned(), result(&statement))
    } else {
        (wrapped, result(&in_brackets))
    };
    let columns = names
        .iter()
        .zip(catalog.columns)
        .zip(value_types)
        .map(|((name, type_name), value_type)| Column {
            name: (*name).to_owned(),
            type_name,
            value_type: value_type.unwrap_or(ValueType::Json),
        })
        .collect();
    let labels = types.iter().map(labels);
    let parameters = catalog.parameters.into_iter().zip(labels);
    let parameters = parameters
        .map(|(type_name, labels)| ParameterDescription { type_name, labels })
        .collect();
    Ok(Description {
        signature,
        parameters,
        columns,
        query,
        types,
        result,
    })
}

/// The types to prepare with: `unknown` leaves it to Postgres.
async fn declared_types(lease: &Lease, endpoint: &Endpoint) -> Result<Vec<Type>, RepositoryError> {
    let mut types = Vec::with_capacity(endpoint.parameters.len());
    let mut mistakes = Vec::new();
    for parameter in &endpoint.parameters {
        let Some(declared) = &parameter.declared_type else {
            types.push(Type::UNKNOWN);
            continue;
        };
        // The name comes back as Postgres itself writes and quotes it, so it may stand in SQL.
        let row = lease
            .query_one("SELECT to_regtype($1)::text", &[declared])
            .await?;
        let Some(name) = row.get::<_, Option<String>>(0) else {
            mistakes.push(Mismatch::of_parameter(
                &parameter.name,
                format!(
                    "`{declared}`, declared as the type of parameter `{}`, is no type of this \
                     database",
                    parameter.name
                ),
            ));
            continue;
        };
        let cast = lease.prepare(&format!("SELECT $1::{name}")).await?;
        types.push(cast.params().first().cloned().unwrap_or(Type::UNKNOWN));
    }
    if mistakes.is_empty() {
        Ok(types)
    } else {
        Err(RepositoryError::Unusable { mistakes })
    }
}

/// What is wrong between the shape and the columns.
fn shape_mistakes(shape: Shape, names: &[&str]) -> Vec<String> {
    let mut mistakes = Vec::new();
    if names.is_empty() {
        mistakes.push("the statement returns no columns; select at least one".to_owned());
    }
    match shape {
        Shape::Rows | Shape::Columns | Shape::Row => {
            let mut seen = HashSet::new();
            let mut told = HashSet::new();
            for name in names {
                if !seen.insert(name) && told.insert(name) {
                    mistakes.push(format!(
                        "two columns are named `{name}`, and shape \"{}\" has one place for each name; \
                         rename one with AS, or use shape \"tuple\"",
                        shape.as_str()
                    ));
                }
            }
        }
        Shape::Value if names.len() > 1 => mistakes.push(format!(
            "shape \"value\" is the one value of one column, and the statement returns {}; \
             select one, or use shape \"tuple\"",
            names.len()
        )),
        Shape::Value | Shape::Tuple => {}
    }
    mistakes
}

/// The statement with every column nobody here encodes turned into JSON by Postgres.
fn wrap(sql: &str, value_types: &[Option<ValueType>]) -> String {
    let mut outputs = String::new();
    let mut names = String::new();
    for (at, value_type) in value_types.iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        // Writing to a String does not fail.
        let _ = match value_type {
            Some(_) => write!(outputs, "{comma}c{at}"),
            None => write!(outputs, "{comma}to_json(c{at}) AS c{at}"),
        };
        let _ = write!(names, "{comma}c{at}");
    }
    // The line break ends a `--` comment at the statement's end.
    format!("SELECT {outputs} FROM (\n{sql}\n) AS larder({names})")
}

/// What the system catalog knows of the statement's types.
struct Catalog {
    /// Each column's type, in the words of `format_type`.
    columns: Vec<String>,
    /// Each parameter's.
    parameters: Vec<String>,
    /// Types with a cast to `json` of their own, which `to_json` would use.
    with_json_cast: HashSet<u32>,
    /// Types that have elements and are not sent as arrays are, or in binary not at all: the client's library
    /// takes them for arrays.
    not_arrays: HashSet<u32>,
}

impl Catalog {
    async fn read(lease: &Lease, statement: &Statement) -> Result<Self, RepositoryError> {
        let columns = statement.columns().iter();
        let columns = columns.map(|c| (c.type_().oid(), c.type_modifier()));
        let parameters = statement.params().iter().map(|t| (t.oid(), NO_MODIFIER));
        let (oids, modifiers): (Vec<u32>, Vec<i32>) = columns.chain(parameters).unzip();
        let rows = lease
            .query(
                "SELECT format_type(oid, modifier) FROM \
                 unnest($1::oid[], $2::int4[]) WITH ORDINALITY AS t(oid, modifier, place) ORDER BY place",
                &[&oids, &modifiers],
            )
            .await?;
        let mut columns: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let parameters = columns.split_off(statement.columns().len());
        let rows = lease
            .query(
                "SELECT castsource FROM pg_cast WHERE casttarget = 'json'::regtype",
                &[],
            )
            .await?;
        let with_json_cast = rows.iter().map(|row| row.get(0)).collect();
        let rows = lease
            .query(
                "SELECT oid FROM pg_type \
                 WHERE typelem <> 0 AND typsend <> 'pg_catalog.array_send'::regproc",
                &[],
            )
            .await?;
        let not_arrays = rows.iter().map(|row| row.get(0)).collect();
        Ok(Self {
            columns,
            parameters,
            with_json_cast,
            not_arrays,
        })
    }

    /// How values of this type are read; `None` leaves it to Postgres.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "whatever Postgres adds is left to it"
    )]
    fn value_type(&self, type_: &Type) -> Option<ValueType> {
        if let Some(known) = ValueType::from_oid(type_.oid()) {
            return Some(known);
        }
        match type_.kind() {
            Kind::Enum(_) if !self.with_json_cast.contains(&type_.oid()) => Some(ValueType::Text),
            Kind::Domain(base) => self.value_type(base),
            Kind::Array(element) if !self.not_arrays.contains(&type_.oid()) => self
                .value_type(element)
                .map(|element| ValueType::Array(Box::new(element))),
            _ => None,
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "no other kind has labels")]
fn labels(type_: &Type) -> Vec<String> {
    match type_.kind() {
        Kind::Enum(labels) => labels.clone(),
        Kind::Domain(base) => labels(base),
        _ => Vec::new(),
    }
}

/// `format_type`'s word for a type without a length or precision.
const NO_MODIFIER: i32 = -1;

/// How a parameter's text can be checked before Postgres sees it.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever Postgres adds is left to it"
)]
fn parameter_type(type_: &Type) -> ParameterType {
    match *type_ {
        Type::BOOL => ParameterType::Bool,
        Type::INT2 => ParameterType::Int2,
        Type::INT4 => ParameterType::Int4,
        Type::INT8 => ParameterType::Int8,
        Type::FLOAT4 => ParameterType::Float4,
        Type::FLOAT8 => ParameterType::Float8,
        Type::NUMERIC => ParameterType::Numeric,
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME => ParameterType::Text,
        Type::UUID => ParameterType::Uuid,
        Type::DATE => ParameterType::Date,
        Type::TIME => ParameterType::Time,
        Type::TIMESTAMP => ParameterType::Timestamp,
        Type::TIMESTAMPTZ => ParameterType::TimestampTz,
        Type::JSON | Type::JSONB => ParameterType::Json,
        _ => match type_.kind() {
            Kind::Domain(base) => parameter_type(base),
            _ => ParameterType::Other(type_.name().to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_columns_of_foreign_types_are_wrapped() {
        let wrapped = wrap("SELECT a, b FROM t -- all", &[Some(ValueType::Int4), None]);
        assert_eq!(
            wrapped,
            "SELECT c0, to_json(c1) AS c1 FROM (\nSELECT a, b FROM t -- all\n) AS larder(c0, c1)"
        );
    }

    #[test]
    fn each_shape_says_which_columns_it_can_hold() {
        assert!(shape_mistakes(Shape::Rows, &["a", "b"]).is_empty());
        assert!(shape_mistakes(Shape::Tuple, &["a", "a"]).is_empty());
        assert!(shape_mistakes(Shape::Value, &["a"]).is_empty());
        assert_eq!(shape_mistakes(Shape::Rows, &["a", "a", "a"]).len(), 1);
        assert_eq!(shape_mistakes(Shape::Value, &["a", "b"]).len(), 1);
        assert_eq!(shape_mistakes(Shape::Tuple, &[]).len(), 1);
    }
}
