//! Describes a declared statement: Postgres determines the types of its parameters and columns. Columns of
//! types that Larder does not encode itself are wrapped in `to_json`.

use std::borrow::Cow;
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
    /// The parameters' types, in the order of `$1`…
    pub parameters: Vec<ParameterDescription>,
    /// The columns of each row.
    pub columns: Arc<[Column]>,
    /// The SQL that is sent: the statement, possibly with columns wrapped in `to_json`.
    query: String,
    types: Vec<Type>,
    result: Vec<ResultColumn>,
}

/// A parameter according to Postgres.
#[derive(Debug, PartialEq, Eq)]
pub struct ParameterDescription {
    /// Its type as Postgres names it.
    pub type_name: String,
    /// The labels of its type, if that is an enum. More may be added while Larder runs.
    pub labels: Vec<String>,
}

/// A column of the result, which must stay the same for [`Description::columns`] to be valid.
#[derive(Debug, PartialEq, Eq)]
struct ResultColumn {
    name: String,
    oid: u32,
}

impl Description {
    /// The statement, prepared in this session and as this role.
    pub(super) async fn prepare_on(
        &self,
        lease: &Lease,
        role: Option<&str>,
    ) -> Result<Statement, RepositoryError> {
        let query = self.query_as(role);
        let prepared = lease.prepare_typed_cached(&query, &self.types).await;
        // It could be prepared when it was described.
        prepared.map_err(|error| RepositoryError::from(error).or_outdated())
    }

    /// The types of the statement's parameters.
    pub(super) fn types(&self) -> &[Type] {
        &self.types
    }

    /// Whether another description of the same statement is equivalent.
    pub fn is_like(&self, other: &Self) -> bool {
        self.query == other.query
            && self.types == other.types
            && self.result == other.result
            && self.parameters == other.parameters
            && self.columns == other.columns
    }

    /// Whether Postgres alone can check some arguments, because of their type or a domain's constraints.
    pub(super) fn leaves_reading_to_postgres(&self) -> bool {
        self.types.iter().any(|type_| {
            matches!(type_.kind(), Kind::Domain(_))
                || matches!(
                    parameter_type(type_),
                    ParameterType::Other(_) | ParameterType::Json
                )
        })
    }

    /// Whether the arguments contain a label that their type did not have when it was described.
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
    pub(super) fn forget_on(&self, lease: &Lease, role: Option<&str>) {
        let query = self.query_as(role);
        lease.statement_cache.remove(&query, &self.types);
    }

    /// The SQL, which differs for each role of `run_as`: Postgres checks USAGE of schemas only while it prepares a
    /// statement, so a role must not run what another one has prepared.
    fn query_as(&self, role: Option<&str>) -> Cow<'_, str> {
        match role {
            None => Cow::Borrowed(&self.query),
            // Escaped, so that no line break of a name ends the comment.
            Some(role) => Cow::Owned(format!("{}\n-- as {role:?}", self.query)),
        }
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

/// Has Postgres prepare an endpoint's statement, and determines its types.
pub(super) async fn describe(
    lease: &Lease,
    endpoint: &Endpoint,
) -> Result<Description, RepositoryError> {
    // A session caches types, and would not notice new labels.
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
    // As a subquery, Postgres accepts only queries. So a statement that writes is refused here, and not only
    // by the read-only transaction when it runs.
    let wrapped = wrap(endpoint.statement.text(), &value_types);
    let subquery = lease.prepare_typed(&wrapped, &types).await;
    let subquery = subquery.map_err(|error| {
        RepositoryError::from(error).or_refused(|mut refusal| {
            // It refers to the wrapped SQL.
            refusal.position = None;
            RepositoryError::Refused { refusal }
        })
    })?;
    let (query, result) = if value_types.iter().all(Option::is_some) {
        (endpoint.statement.text().to_owned(), result(&statement))
    } else {
        (wrapped, result(&subquery))
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

/// The types to prepare with; `unknown` leaves the choice to Postgres.
async fn declared_types(lease: &Lease, endpoint: &Endpoint) -> Result<Vec<Type>, RepositoryError> {
    let mut types = Vec::with_capacity(endpoint.parameters.len());
    let mut mistakes = Vec::new();
    for parameter in &endpoint.parameters {
        let Some(declared) = &parameter.declared_type else {
            types.push(Type::UNKNOWN);
            continue;
        };
        // Postgres returns the name quoted as needed, so it is safe to use in SQL.
        let row = lease
            .query_one("SELECT to_regtype($1)::text", &[declared])
            .await?;
        let Some(name) = row.get::<_, Option<String>>(0) else {
            mistakes.push(Mismatch::of_parameter(
                &parameter.name,
                format!(
                    "`{declared}`, declared as the type of parameter `{}`, is not a type of this \
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

/// How the columns do not fit the shape.
fn shape_mistakes(shape: Shape, names: &[&str]) -> Vec<String> {
    let mut mistakes = Vec::new();
    if names.is_empty() {
        mistakes.push("the statement returns no columns; select at least one".to_owned());
    }
    match shape {
        Shape::Rows | Shape::Columns | Shape::Row => {
            let mut seen = HashSet::new();
            let mut reported = HashSet::new();
            for name in names {
                if !seen.insert(name) && reported.insert(name) {
                    mistakes.push(format!(
                        "two columns are named `{name}`, but shape \"{}\" needs unique names; rename one with \
                         AS, or use shape \"tuple\"",
                        shape.as_str()
                    ));
                }
            }
        }
        Shape::Value if names.len() > 1 => mistakes.push(format!(
            "shape \"value\" needs exactly one column, but the statement returns {}; select one, or use \
             shape \"tuple\"",
            names.len()
        )),
        Shape::Value | Shape::Tuple => {}
    }
    mistakes
}

/// The statement with every column that Larder does not encode converted to JSON by Postgres.
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

/// What the system catalog says about the statement's types.
struct Catalog {
    /// Each column's type, as formatted by `format_type`.
    columns: Vec<String>,
    /// Each parameter's type.
    parameters: Vec<String>,
    /// Types with their own cast to `json`, which `to_json` would use.
    with_json_cast: HashSet<u32>,
    /// Types with elements that are not sent like arrays, or not in binary at all, though the client library takes
    /// them for arrays.
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

    /// How to read values of this type; `None` leaves the column to Postgres.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "new types are left to Postgres"
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

/// The modifier of a type without a length or precision.
const NO_MODIFIER: i32 = -1;

/// How a parameter's text can be checked before Postgres sees it.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "new types are left to Postgres"
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
    fn only_columns_of_other_types_are_wrapped() {
        let wrapped = wrap("SELECT a, b FROM t -- all", &[Some(ValueType::Int4), None]);
        assert_eq!(
            wrapped,
            "SELECT c0, to_json(c1) AS c1 FROM (\nSELECT a, b FROM t -- all\n) AS larder(c0, c1)"
        );
    }

    #[test]
    fn each_shape_restricts_its_columns() {
        assert!(shape_mistakes(Shape::Rows, &["a", "b"]).is_empty());
        assert!(shape_mistakes(Shape::Tuple, &["a", "a"]).is_empty());
        assert!(shape_mistakes(Shape::Value, &["a"]).is_empty());
        assert_eq!(shape_mistakes(Shape::Rows, &["a", "a", "a"]).len(), 1);
        assert_eq!(shape_mistakes(Shape::Value, &["a", "b"]).len(), 1);
        assert_eq!(shape_mistakes(Shape::Tuple, &[]).len(), 1);
    }
}
