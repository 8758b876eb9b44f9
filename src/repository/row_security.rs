//! Finds the tables with row-level security that a statement reaches, and the roles that it does not apply to.
//!
//! To analyse a statement, Postgres locks every relation that it reads, and those behind its views. So the
//! locks of a transaction that has only prepared the statement say what it reaches, without running it and
//! whatever its arguments are. What functions read is not seen, nor what a materialized view was made from.

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::lease::Lease;
use super::{Description, RepositoryError};
use crate::plan::Endpoint;

/// A table with row-level security, as a role that reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProtectedTable {
    /// Its name, as it is written in SQL.
    pub table: String,
    /// The view that reads it with the rights of its owner; `None` if the statement does with those of the
    /// role.
    pub view: Option<String>,
    /// The role that reads it.
    pub role: String,
    /// Why the role's rows are not restricted.
    pub bypass: Option<Bypass>,
}

/// Why row-level security does not apply to a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bypass {
    /// It is a superuser.
    Superuser,
    /// It has BYPASSRLS.
    Attribute,
    /// It owns the table, or inherits the rights of its owner, and FORCE ROW LEVEL SECURITY is not set.
    Owner,
}

/// What a statement reaches.
#[derive(Debug, Default)]
pub struct Reached {
    /// The tables with row-level security.
    pub tables: Vec<ProtectedTable>,
    /// The tables without, whose partitions or children have it.
    pub parents: Vec<UnprotectedParent>,
}

/// A table without row-level security. Read through it, that of its partitions and children does not apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnprotectedParent {
    /// Its name, as it is written in SQL.
    pub parent: String,
    /// A table that is read through it, and has row-level security.
    pub child: String,
}

/// The relations that the transaction has locked.
const REACHED: &str = "
    WITH RECURSIVE reached AS (
        SELECT c.* FROM pg_catalog.pg_class AS c WHERE c.oid IN (
            SELECT relation FROM pg_catalog.pg_locks
            WHERE locktype = 'relation' AND pid = pg_catalog.pg_backend_pid() AND database = (
                SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()
            )
        )
    ),";

/// `$1`: the roles that run the statement; none for that of the session.
///
/// A view has the rights of its owner unless it has `security_invoker`. What such a view reads directly is read
/// with them; behind another view with `security_invoker`, those of the caller hold again.
const PROTECTED: &str = "
    protected AS (
        SELECT oid, relowner, relforcerowsecurity FROM reached WHERE relrowsecurity
    ),
    definer AS (
        SELECT oid, relowner FROM reached
        WHERE relkind = 'v' AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_options_to_table(reloptions)
            WHERE option_name = 'security_invoker' AND option_value::boolean
        )
    ),
    uses AS (
        SELECT p.oid AS relation, NULL::oid AS view, r.oid AS role
        FROM protected AS p, pg_catalog.pg_roles AS r
        WHERE r.rolname = ANY ($1) OR $1 = '{}' AND r.rolname = session_user
        UNION
        SELECT p.oid, v.oid, v.relowner
        FROM definer AS v
        JOIN pg_catalog.pg_rewrite AS w ON w.ev_class = v.oid
        JOIN pg_catalog.pg_depend AS d
            ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = w.oid
        JOIN protected AS p
            ON d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = p.oid
    )
    SELECT p.oid::pg_catalog.regclass::text, u.view::pg_catalog.regclass::text, r.rolname::text,
           r.rolsuper, r.rolbypassrls,
           NOT p.relforcerowsecurity AND pg_catalog.pg_has_role(r.oid, p.relowner, 'USAGE')
    FROM uses AS u
    JOIN protected AS p ON p.oid = u.relation
    JOIN pg_catalog.pg_roles AS r ON r.oid = u.role
    ORDER BY 1, 2 NULLS FIRST, 3";

/// Postgres applies the policies of the table that is named, and not those of its partitions or children, which
/// are locked only when the statement runs.
const PARENTS: &str = "
    below AS (
        SELECT r.oid AS parent, i.inhrelid AS child
        FROM reached AS r JOIN pg_catalog.pg_inherits AS i ON i.inhparent = r.oid
        WHERE NOT r.relrowsecurity
        UNION
        SELECT b.parent, i.inhrelid
        FROM below AS b JOIN pg_catalog.pg_inherits AS i ON i.inhparent = b.child
    )
    SELECT b.parent::pg_catalog.regclass::text, b.child::pg_catalog.regclass::text
    FROM below AS b JOIN pg_catalog.pg_class AS c ON c.oid = b.child
    WHERE c.relrowsecurity
    ORDER BY 1, 2";

/// In a transaction in which nothing ran before.
pub(super) async fn reached(
    lease: &Lease,
    endpoint: &Endpoint,
    description: &Description,
) -> Result<Reached, RepositoryError> {
    // Prepared again, since only that takes the locks.
    let sql = endpoint.statement.text();
    lease.prepare_typed(sql, description.types()).await?;
    let roles = endpoint.run_as.as_ref().map(|run_as| &run_as.roles[..]);
    let roles = roles.unwrap_or_default();
    let protected = format!("{REACHED}{PROTECTED}");
    let protected = lease
        .query_typed(&protected, &[(&roles, Type::TEXT_ARRAY)])
        .await?;
    let parents = format!("{REACHED}{PARENTS}");
    let parents = lease.query_typed(&parents, &[]).await?;
    let parents = parents.iter().map(|row| UnprotectedParent {
        parent: row.get(0),
        child: row.get(1),
    });
    Ok(Reached {
        tables: protected.iter().map(protected_table).collect(),
        parents: parents.collect(),
    })
}

fn protected_table(row: &Row) -> ProtectedTable {
    let reasons: [(bool, Bypass); 3] = [
        (row.get(3), Bypass::Superuser),
        (row.get(4), Bypass::Attribute),
        (row.get(5), Bypass::Owner),
    ];
    let bypass = reasons
        .into_iter()
        .find_map(|(is, reason)| is.then_some(reason));
    ProtectedTable {
        table: row.get(0),
        view: row.get(1),
        role: row.get(2),
        bypass,
    }
}

/// A role as the session's role sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleStatus {
    /// Its name.
    pub role: String,
    /// The role that Larder connects as.
    pub session_role: String,
    /// Whether there is such a role.
    pub exists: bool,
    /// Whether the session may become it.
    pub is_allowed: bool,
}

/// Since version 16, a membership says itself whether it allows SET ROLE.
const ROLES: &str = "
    SELECT name, session_user::text, r.oid IS NOT NULL,
           coalesce(pg_catalog.pg_has_role(session_user, r.oid, CASE
               WHEN pg_catalog.current_setting('server_version_num')::int >= 160000 THEN 'SET'
               ELSE 'MEMBER' END), false)
    FROM pg_catalog.unnest($1) WITH ORDINALITY AS t(name, place)
    LEFT JOIN pg_catalog.pg_roles AS r ON r.rolname = name
    ORDER BY place";

pub(super) async fn role_statuses(
    lease: &Lease,
    roles: &[&str],
) -> Result<Vec<RoleStatus>, RepositoryError> {
    let rows = lease
        .query_typed(ROLES, &[(&roles, Type::TEXT_ARRAY)])
        .await?;
    let statuses = rows.iter().map(|row| RoleStatus {
        role: row.get(0),
        session_role: row.get(1),
        exists: row.get(2),
        is_allowed: row.get(3),
    });
    Ok(statuses.collect())
}
