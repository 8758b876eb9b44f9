//! One `[[endpoint]]`: its path, SQL, parameters, refresh and policy, and whether they fit together.

use super::policy::{Limits, Policy, ResolvedPolicy};
use super::refresh::{Answers, Probes};
use super::triggers::Triggers;
use super::{access, parameters, refresh, run_as, statement, warm};
use crate::config::field::NamedTexts;
use crate::config::schema::EndpointSection;
use crate::config::{At, Field, Mistake, Report, Span};
use crate::plan::declaration::EndpointDeclaration;
use crate::plan::{
    Access, AccessSettings, Endpoint, EndpointId, Parameter, PathPattern, Refresh, RunAs,
    Statement, Warm,
};

/// What all endpoints share.
pub(super) struct Context<'c> {
    pub(super) defaults: &'c Policy,
    pub(super) limits: &'c Limits,
    pub(super) access: Option<&'c At<AccessSettings>>,
}

/// The parts of an endpoint that could be read.
pub(super) struct Parts {
    id: EndpointId,
    pub(super) path: Option<At<PathPattern>>,
    summary: Option<String>,
    sql: Option<At<String>>,
    statement: Option<Statement>,
    parameters: Option<Vec<Parameter>>,
    refresh: Refresh,
    policy: ResolvedPolicy,
    access: Access,
    run_as: Option<RunAs>,
    /// Where `run_as` is written.
    run_as_place: Option<Span>,
    /// The names under `params`, and where each is written.
    declared: Vec<(String, Span)>,
    warm: Warm,
    /// Where each key of `warm` is written.
    warm_places: Vec<Span>,
    warm_sql: Option<At<String>>,
}

impl Parts {
    pub(super) fn read(
        section: &EndpointSection,
        id: EndpointId,
        context: &Context<'_>,
        probes: &mut Probes,
        report: &mut Report,
    ) -> Self {
        let path = path(section, report);
        let sql = statement::written(section, report);
        let statement = sql.as_ref().and_then(|sql| statement::query(sql, report));
        let parameters = parameters::read(
            section,
            path.as_ref(),
            sql.as_ref().zip(statement.as_ref()),
            report,
        );
        let has_parameters = !section.params.is_empty()
            || section.wrong_params.is_some()
            || path
                .as_ref()
                .is_some_and(|path| path.value.parameters().next().is_some());
        let answers = if run_as::depends_on_caller(section) {
            Answers::ByCaller
        } else if has_parameters {
            Answers::ByArguments
        } else {
            Answers::One
        };
        let has_keys = answers != Answers::One;
        let (refresh, probe_every) = refresh::read(&section.refresh, answers, probes, report);
        let triggers = Triggers {
            section,
            refresh: &refresh,
            probe_every: probe_every.as_ref(),
            has_keys,
        };
        let mut policy = Policy::read(&section.policy, report).resolve(
            context.defaults,
            context.limits,
            &triggers,
            report,
        );
        let access = access::of_endpoint(&section.access, context.access, report);
        if access.needs_credential() {
            policy.keep_private(&section.policy, report);
        }
        access::check_claims(section, &access, context.access, report);
        let run_as = run_as::read(section, &access, context.access, report);
        let warm = if has_keys {
            warm::read(
                section,
                parameters.as_deref(),
                run_as.as_ref(),
                &policy,
                report,
            )
        } else {
            warm::check_absent(section, report);
            Warm::default()
        };
        let summary = section.summary.given().map(|summary| summary.value.clone());
        Self {
            id,
            path,
            summary,
            sql,
            statement,
            parameters,
            refresh,
            policy,
            access,
            run_as,
            run_as_place: section.run_as.given().map(|at| at.span.clone()),
            declared: declared(section),
            warm,
            warm_places: places(&section.warm),
            warm_sql: section.warm_sql.given().cloned(),
        }
    }

    /// The endpoint and where its parts are written, if no part is missing.
    pub(super) fn assemble(self) -> Option<(Endpoint, EndpointDeclaration)> {
        let policy = self.policy;
        let endpoint = Endpoint {
            id: self.id,
            path: self.path?.value,
            summary: self.summary,
            statement: self.statement?,
            parameters: self.parameters?,
            shape: policy.shape,
            freshness: policy.freshness,
            refresh: self.refresh,
            warm: self.warm,
            max_keys: policy.max_keys,
            on_miss: policy.on_miss,
            access: self.access,
            run_as: self.run_as,
            cache_control: policy.cache_control,
            cdn_cache_control: policy.cdn_cache_control,
            timeout: policy.timeout,
            max_rows: policy.max_rows,
            max_bytes: policy.max_bytes,
            unknown_parameters: policy.unknown_parameters,
        };
        let declaration = EndpointDeclaration {
            sql: self.sql?,
            parameters: self.declared,
            warm: self.warm_places,
            warm_sql: self.warm_sql,
            run_as: self.run_as_place,
        };
        Some((endpoint, declaration))
    }
}

fn declared(section: &EndpointSection) -> Vec<(String, Span)> {
    let names = section.params.iter().map(|param| &param.name);
    names
        .map(|name| (name.value.clone(), name.span.clone()))
        .collect()
}

fn places(warm: &Field<Vec<At<NamedTexts>>>) -> Vec<Span> {
    let keys = warm.given().map_or(&[][..], |keys| &keys.value);
    keys.iter().map(|key| key.span.clone()).collect()
}

fn path(section: &EndpointSection, report: &mut Report) -> Option<At<PathPattern>> {
    if section.path.is_absent() {
        report.push(
            Mistake::new("this endpoint has no `path`")
                .at(&section.span, "`path` is missing")
                .help("for example path = \"/sales/{country}\""),
        );
    }
    let written = section.path.given()?;
    match PathPattern::parse(&written.value) {
        Ok(pattern) => Some(At {
            value: pattern,
            span: written.span.clone(),
        }),
        Err(error) => {
            let span = error
                .at()
                .map_or_else(|| written.span.clone(), |at| written.span.within(at));
            report.push(
                Mistake::new(error.to_string())
                    .at(&span, "")
                    .help(error.help()),
            );
            None
        }
    }
}
