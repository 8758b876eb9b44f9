//! Settings that cannot change while Larder runs.

use super::Plan;
use crate::config::schema::{CacheSection, RepositorySection, ServerSection};
use crate::config::{Field, Mistake, Report, Span};

/// Where these settings are written.
#[derive(Debug)]
pub(super) struct FixedPlaces {
    file: String,
    places: Vec<(&'static str, Option<Span>)>,
}

impl FixedPlaces {
    pub(super) fn of(
        file: &str,
        server: &ServerSection,
        repository: &RepositorySection,
        cache: &CacheSection,
    ) -> Self {
        fn at<T>(field: &Field<T>) -> Option<Span> {
            field.given().map(|at| at.span.clone())
        }
        Self {
            file: file.to_owned(),
            places: vec![
                ("listen", at(&server.listen)),
                ("server.max_connections", at(&server.max_connections)),
                ("shutdown_timeout", at(&server.shutdown_timeout)),
                ("cors", at(&server.cors)),
                ("tls", at(&server.tls)),
                ("h2c", at(&server.h2c)),
                ("hosts", at(&server.hosts)),
                ("max_pending", at(&server.max_pending)),
                ("url", at(&repository.url)),
                (
                    "repository.max_connections",
                    at(&repository.max_connections),
                ),
                ("statement_timeout", at(&repository.statement_timeout)),
                ("max_loads_per_second", at(&repository.max_loads_per_second)),
                ("max_size", at(&cache.max_size)),
            ],
        }
    }

    fn mistake(&self, name: &'static str) -> Mistake {
        let key = name.rsplit_once('.').map_or(name, |(_, key)| key);
        let mistake = Mistake::new(format!("`{key}` cannot change while Larder runs"))
            .help("restart Larder to change it, or write what it was before");
        let place = self.places.iter().find(|(known, _)| *known == name);
        match place {
            Some((_, Some(span))) => mistake.at(span, "differs from the value in use"),
            _ => mistake
                .in_file(&self.file)
                .note("it is not written any more, and its default differs from the value in use"),
        }
    }
}

impl Plan {
    /// What keeps this plan from taking the place of `previous` without a restart.
    pub fn fixed_settings_changed(&self, previous: &Self) -> Report {
        let (server, before) = (&self.server, &previous.server);
        let files = |plan: &Self| {
            let tls = plan.server.tls.as_ref();
            tls.map(|tls| (tls.cert.value.clone(), tls.key.value.clone()))
        };
        let (repository, of_before) = (&self.repository, &previous.repository);
        let changed = [
            ("listen", server.listen != before.listen),
            (
                "server.max_connections",
                server.max_connections != before.max_connections,
            ),
            (
                "shutdown_timeout",
                server.shutdown_timeout != before.shutdown_timeout,
            ),
            ("cors", server.cors != before.cors),
            ("tls", files(self) != files(previous)),
            ("h2c", server.h2c != before.h2c),
            ("hosts", server.hosts != before.hosts),
            ("max_pending", server.max_pending != before.max_pending),
            ("url", repository.url != of_before.url),
            (
                "repository.max_connections",
                repository.max_connections != of_before.max_connections,
            ),
            (
                "statement_timeout",
                repository.statement_timeout != of_before.statement_timeout,
            ),
            (
                "max_loads_per_second",
                repository.max_loads_per_second != of_before.max_loads_per_second,
            ),
            ("max_size", self.cache.max_size != previous.cache.max_size),
        ];
        let mut report = Report::new();
        for (name, _) in changed.iter().filter(|(_, is_changed)| *is_changed) {
            report.push(self.fixed.mistake(name));
        }
        report
    }
}
