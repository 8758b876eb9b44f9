//! Made-up sales for the demo, with the columns and the size of the "Sample Sales Data" set known from
//! tutorials. Customers, products and figures are generated from one seed, so they are the same on every
//! machine.

mod catalog; // products
mod customers;
mod date;
mod places; // countries, and what customers there are made of
mod random; // a generator that never changes

use std::fmt::Write as _;

use crate::repository::throwaway::{Throwaway, ThrowawayError};
use catalog::{Product, products};
use customers::{Customer, customers};
use date::Date;
use random::Random;

/// How many sales [`rows`] makes.
pub const ROWS: usize = 2_823;

/// The statement that imports [`rows`].
pub const COPY: &str = r#"COPY "tk-bitio/Sales"."sales_data_sample" FROM STDIN"#;

const SCHEMA: &str = r#"CREATE SCHEMA "tk-bitio/Sales";
CREATE TABLE "tk-bitio/Sales"."sales_data_sample" (
    ordernumber      int NOT NULL,
    quantityordered  int NOT NULL,
    priceeach        numeric(10,2) NOT NULL,
    orderlinenumber  int NOT NULL,
    sales            numeric(12,2) NOT NULL,
    orderdate        timestamp NOT NULL,
    status           text NOT NULL,
    qtr_id           int NOT NULL,
    month_id         int NOT NULL,
    year_id          int NOT NULL,
    productline      text NOT NULL,
    msrp             int NOT NULL,
    productcode      text NOT NULL,
    customername     text NOT NULL,
    phone            text NOT NULL,
    addressline1     text NOT NULL,
    addressline2     text,
    city             text NOT NULL,
    state            text,
    postalcode       text,
    country          text NOT NULL,
    territory        text,
    contactlastname  text NOT NULL,
    contactfirstname text NOT NULL,
    dealsize         text NOT NULL,
    PRIMARY KEY (ordernumber, orderlinenumber)
);
CREATE INDEX ON "tk-bitio/Sales"."sales_data_sample" (country, orderdate);
CREATE INDEX ON "tk-bitio/Sales"."sales_data_sample" (productline);
CREATE INDEX ON "tk-bitio/Sales"."sales_data_sample" (orderdate);
"#;

/// The statements that make the schema, the table and its indexes.
pub fn schema() -> &'static str {
    SCHEMA
}

/// [`ROWS`] sales from January 2003 to May 2005, in the text format of `COPY`: tabs between columns,
/// `\N` for NULL.
pub fn rows() -> String {
    let mut random = Random(SEED);
    let customers = customers(SEED);
    let products = products(SEED);
    let mut text = String::with_capacity(ROWS * 240);
    let (mut written, mut number) = (0, FIRST_ORDER);
    while written < ROWS {
        let order = Order {
            number,
            // Dates ascend with the number of rows so far.
            date: Date::from_index(written * DAYS / ROWS),
            status: status(&mut random, written),
            customer: &customers[random.skewed(customers.len())],
        };
        let lines = (1 + random.below(14)).min(ROWS - written);
        let first = random.below(products.len());
        for line in 0..lines {
            // Neighbours in the catalog, so that no product is twice in an order.
            let sale = Sale::made(&mut random, &products[(first + line) % products.len()]);
            order.write_line(&mut text, line + 1, &sale);
        }
        written += lines;
        number += 1;
    }
    text
}

/// The statement that adds the `n`th sale after those of [`rows`], dated to when it runs.
pub fn another(n: u64) -> String {
    let mut random = Random(SEED ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let customers = customers(SEED);
    let products = products(SEED);
    let customer = &customers[random.skewed(customers.len())];
    let product = &products[random.below(products.len())];
    let sale = Sale::made(&mut random, product);
    let Sale {
        quantity,
        cents,
        product,
    } = &sale;
    let columns = customer
        .columns()
        .map(|column| column.map_or("NULL".to_owned(), quoted));
    format!(
        "INSERT INTO \"tk-bitio/Sales\".\"sales_data_sample\" \
         SELECT {order}, {quantity}, {price}, 1, {sales}, moment, 'In Process', \
         extract(quarter FROM moment), extract(month FROM moment), extract(year FROM moment), \
         {line}, {msrp}, {code}, {customer}, {size} \
         FROM (VALUES (date_trunc('second', localtimestamp))) AS today (moment)",
        order = ORDERS_ADDED_FROM + n,
        price = decimal(*cents),
        sales = decimal(sale.cents()),
        line = quoted(product.line),
        msrp = product.msrp,
        code = quoted(&product.code),
        customer = columns.join(", "),
        size = quoted(sale.size()),
    )
}

/// Makes the table and fills it.
///
/// # Errors
/// The server's error, for instance that the table exists.
pub async fn load(throwaway: &Throwaway) -> Result<(), ThrowawayError> {
    throwaway.execute(schema()).await?;
    throwaway.copy_in(COPY, &rows()).await?;
    throwaway
        .execute(r#"ANALYZE "tk-bitio/Sales"."sales_data_sample""#)
        .await
}

/// With this seed, every country and every status occurs.
const SEED: u64 = 2_823;
const FIRST_ORDER: usize = 40_001;
const ORDERS_ADDED_FROM: u64 = 90_001;

/// Days from 2003-01-01 to 2005-05-31.
const DAYS: usize = 882;

#[derive(Debug)]
struct Sale<'a> {
    quantity: u64,
    /// The price of one, in hundredths.
    cents: u64,
    product: &'a Product,
}

impl<'a> Sale<'a> {
    fn made(random: &mut Random, product: &'a Product) -> Self {
        // From a fifth below the recommended price to a tenth above it.
        let cents = product.msrp * (80 + random.below_u64(31));
        Self {
            quantity: 12 + random.below_u64(49),
            cents,
            product,
        }
    }

    /// The total, in hundredths.
    fn cents(&self) -> u64 {
        self.quantity * self.cents
    }

    fn size(&self) -> &'static str {
        match self.cents() {
            0..300_000 => "Small",
            300_000..700_000 => "Medium",
            _ => "Large",
        }
    }
}

#[derive(Debug)]
struct Order<'a> {
    number: usize,
    date: Date,
    status: &'static str,
    customer: &'a Customer,
}

impl Order<'_> {
    fn write_line(&self, text: &mut String, line: usize, sale: &Sale<'_>) {
        let Date { year, month, day } = self.date;
        let Sale {
            quantity,
            cents,
            product,
        } = sale;
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "{}\t{quantity}\t{}\t{line}\t{}\t{year}-{month:02}-{day:02} 00:00:00\t{}\t{}\t{month}\t{year}\t{}\t{}\t{}",
            self.number,
            decimal(*cents),
            decimal(sale.cents()),
            self.status,
            (month - 1) / 3 + 1,
            product.line,
            product.msrp,
            product.code,
        );
        for column in self.customer.columns() {
            text.push('\t');
            text.push_str(column.unwrap_or(r"\N"));
        }
        text.push('\t');
        text.push_str(sale.size());
        text.push('\n');
    }
}

/// Nearly every order has been shipped, except the last ones.
fn status(random: &mut Random, written: usize) -> &'static str {
    let recent = written * 20 > ROWS * 19;
    match (random.below(40), recent) {
        (0..20, true) => "In Process",
        (20..24, true) | (0, false) => "On Hold",
        (1, false) => "Cancelled",
        (2, false) => "Resolved",
        (3, false) => "Disputed",
        (_, true | false) => "Shipped",
    }
}

fn decimal(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn table() -> Vec<Vec<String>> {
        rows()
            .lines()
            .map(|line| line.split('\t').map(str::to_owned).collect())
            .collect()
    }

    fn cents(decimal: &str) -> u64 {
        decimal.replace('.', "").parse().unwrap()
    }

    #[test]
    fn the_rows_are_the_same_every_time() {
        assert_eq!(rows(), rows());
        assert_eq!(another(7), another(7));
        assert_ne!(another(7), another(8));
    }

    #[test]
    fn there_are_2823_rows_of_25_columns() {
        let table = table();
        assert_eq!(table.len(), 2_823);
        assert!(table.iter().all(|row| row.len() == 25));
    }

    #[test]
    fn derived_columns_match_the_others() {
        for row in table() {
            let quantity: u64 = row[1].parse().unwrap();
            assert_eq!(cents(&row[4]), quantity * cents(&row[2]), "{row:?}");
            let (month, quarter): (u64, u64) = (row[8].parse().unwrap(), row[7].parse().unwrap());
            assert_eq!(quarter, month.div_ceil(3), "{row:?}");
            assert!(
                row[5].starts_with(&format!("{}-{month:02}-", row[9])),
                "{row:?}"
            );
            let size = match cents(&row[4]) {
                0..300_000 => "Small",
                300_000..700_000 => "Medium",
                _ => "Large",
            };
            assert_eq!(row[24], size);
        }
    }

    #[test]
    fn orders_run_from_the_beginning_of_2003_to_the_end_of_may_2005() {
        let dates: Vec<String> = table().into_iter().map(|row| row[5].clone()).collect();
        assert!(dates.is_sorted());
        assert!(dates[0].starts_with("2003-01-01"));
        assert!(dates[ROWS - 1].starts_with("2005-05-"));
        let dated = Date::from_index(DAYS - 1);
        assert_eq!((dated.year, dated.month, dated.day), (2005, 5, 31));
    }

    #[test]
    fn every_country_size_and_status_occurs() {
        let table = table();
        let distinct = |column: usize| -> HashSet<&str> {
            table.iter().map(|row| row[column].as_str()).collect()
        };
        assert_eq!(distinct(20).len(), 19);
        for country in ["USA", "France", "Germany", "Spain", "Japan", "UK"] {
            assert!(distinct(20).contains(country), "{country}");
        }
        assert_eq!(distinct(24).len(), 3);
        assert_eq!(distinct(6).len(), 6);
        assert_eq!(distinct(10).len(), catalog::LINES.len());
        assert_eq!(distinct(9).len(), 3);
    }

    #[tokio::test]
    async fn postgres_accepts_them_and_more() {
        let throwaway = Throwaway::start().await.unwrap();
        load(&throwaway).await.unwrap();
        for n in 0..40 {
            throwaway.execute(&another(n)).await.unwrap();
        }
        // A division by zero unless the figures are right.
        let check = r#"
            SELECT 1 / (count(*) = 2863)::int,
                   1 / bool_and(sales = quantityordered * priceeach)::int,
                   1 / bool_and(qtr_id = extract(quarter FROM orderdate))::int,
                   1 / (count(*) FILTER (WHERE orderdate > now() - interval '1 hour') = 40)::int
            FROM "tk-bitio/Sales"."sales_data_sample""#;
        throwaway.execute(check).await.unwrap();
    }
}
