//! Statements on a real Postgres, as rows or as a document.

use std::sync::Arc;

use anyhow::Context;
use larder::encode::{Body, Document, Encoder};
use larder::observe::Observer;
use larder::plan::{Arguments, Plan, Shape};
use larder::repository::throwaway::Throwaway;
use larder::repository::{Column, Description, Repository, Row};

use crate::site;

/// A statement for this many sale lines, of text and integers.
pub(crate) fn sales(rows: usize) -> String {
    format!(
        r#"SELECT ordernumber, quantityordered, productline, status, customername, country
           FROM "tk-bitio/Sales"."sales_data_sample", generate_series(1, 4) AS copy
           ORDER BY ordernumber, orderlinenumber, copy LIMIT {rows}"#
    )
}

/// Described statements, each of an endpoint.
pub(crate) struct Statements {
    plan: Plan,
    repository: Repository,
    descriptions: Vec<Arc<Description>>,
}

/// The same document, with no representation but its JSON.
pub(crate) fn json_only(columns: &Arc<[Column]>, document: &Document) -> Document {
    let json = document.json().bytes().to_vec();
    Document::new(Shape::Rows, Arc::clone(columns), Body::new(json))
}

/// All rows of a statement.
pub(crate) struct Fetched {
    pub(crate) columns: Arc<[Column]>,
    pub(crate) rows: Vec<Row>,
}

impl Fetched {
    /// Encodes the rows as a document.
    pub(crate) fn encode(&self, shape: Shape) -> anyhow::Result<Document> {
        let mut encoder = Encoder::new(shape, Arc::clone(&self.columns), u64::MAX);
        for row in &self.rows {
            encoder.push(row.values())?;
        }
        encoder.finish().context("the shape needs a row")
    }
}

impl Statements {
    /// Has Postgres describe statements, each with the shape of its answers.
    pub(crate) async fn describe(
        postgres: &Throwaway,
        statements: &[(Shape, String)],
    ) -> anyhow::Result<Self> {
        let mut config = "[repository]\nurl = \"${DATABASE_URL}\"\n".to_owned();
        for (number, (shape, sql)) in statements.iter().enumerate() {
            config += &format!(
                "[[endpoint]]\npath = \"/{number}\"\nshape = \"{}\"\nsql = '''{sql}'''\n",
                shape.as_str()
            );
        }
        let plan = site::plan(&config, postgres.url())?;
        let repository = Repository::new(plan.repository(), Observer::new(Vec::new()))?;
        let mut descriptions = Vec::new();
        for endpoint in plan.endpoints() {
            descriptions.push(Arc::new(repository.describe(endpoint).await?));
        }
        Ok(Self {
            plan,
            repository,
            descriptions,
        })
    }

    /// The columns of one of them.
    pub(crate) fn columns(&self, number: usize) -> Arc<[Column]> {
        Arc::clone(&self.descriptions[number].columns)
    }

    /// Runs one of them, by its number.
    pub(crate) async fn fetch(&self, number: usize) -> anyhow::Result<Fetched> {
        let (endpoint, description) = (&self.plan.endpoints()[number], &self.descriptions[number]);
        let none = Arguments::default();
        let mut stream = self.repository.fetch(endpoint, description, &none).await?;
        let mut rows = Vec::new();
        while let Some(row) = stream.next().await? {
            rows.push(row);
        }
        Ok(Fetched {
            columns: Arc::clone(stream.columns()),
            rows,
        })
    }

    /// Runs one of them, and encodes its document.
    pub(crate) async fn load(&self, number: usize) -> anyhow::Result<Document> {
        let shape = self.plan.endpoints()[number].shape;
        self.fetch(number).await?.encode(shape)
    }
}
