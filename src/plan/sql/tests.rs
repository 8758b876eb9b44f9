//! What is a placeholder and what is not, and positions in SQL.

use proptest::prelude::*;

use super::*;

fn check(sql: &str, text: &str, parameters: &[&str]) {
    let statement = Statement::parse(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert_eq!(statement.text(), text);
    assert_eq!(statement.parameters(), parameters);
}

fn unchanged(sql: &str) {
    check(sql, sql, &[]);
}

fn rejected(sql: &str, expected: &StatementError) {
    assert_eq!(&Statement::parse(sql).expect_err(sql), expected);
}

#[test]
fn a_name_has_one_number_however_often_it_is_used() {
    check("select :a, :b, :a", "select $1, $2, $1", &["a", "b"]);
    check("SELECT:a", "SELECT $1", &["a"]);
    check("select(:a)+:b*:c_1", "select($1)+$2*$3", &["a", "b", "c_1"]);
    check(
        "select :a::int, :a :: int",
        "select $1::int, $1 :: int",
        &["a"],
    );
    check("select x:::a", "select x::$1", &["a"]);
    check("select :ünder", "select $1", &["ünder"]);
}

#[test]
fn strings_hide_what_is_in_them() {
    unchanged("select ':a', 'it''s :a', ''':a'");
    unchanged(r"select '\', E'\':a', e'\\', E'a\\'':a', U&'\0061:a', B'01:a', X'ff:a', N':a'");
    check(r"select '\',:a,'\'", r"select '\',$1,'\'", &["a"]);
    check(r"select xe'\',:a,'\'", r"select xe'\',$1,'\'", &["a"]);
    unchanged("select E'a'\n'b\\':a'");
    unchanged("select E'a' -- rest :a\n -- 'more'\n 'b\\':a'");
    check(r"select E'a' 'b\', :a", r"select E'a' 'b\', $1", &["a"]);
}

#[test]
fn quoted_identifiers_hide_what_is_in_them() {
    unchanged(r#"select ":a", "x"":a", U&"d\0061:a""#);
    unchanged(r#"select count(*) from "tk-bitio/Sales"."sales:data""#);
    check(r#"select "\", :a, "\""#, r#"select "\", $1, "\""#, &["a"]);
}

#[test]
fn dollar_quotes_hide_what_is_in_them() {
    unchanged("select $$:a ' $x$ \" $$, $x$:a $$ $y$ :a$x$, $ü_1$:a$ü_1$, $x$ $xx$ :a $x$");
    check("select a$b$:c, a$b$", "select a$b$ $1, a$b$", &["c"]);
    check("select $$x$$:a", "select $$x$$ $1", &["a"]);
    check("select $ :a", "select $ $1", &["a"]);
}

#[test]
fn comments_hide_what_is_in_them() {
    unchanged("select 1 -- :a ' \n, 2");
    unchanged("select /* :a ' /* :b */ :c **/ 1");
    unchanged("-- :a\n/* :b */ select 1");
    check("select 1 -/:a", "select 1 -/$1", &["a"]);
    check("select 4/*:a*//:b", "select 4/*:a*//$1", &["b"]);
}

#[test]
fn what_only_looks_like_a_placeholder_is_left_alone() {
    unchanged("select a[1:2], a[:2], a[1:], f(x := 1), f(x:=y), '1'::text, a : b, 'x':'1', :\"z\"");
    check("select a[x:y]", "select a[x $1]", &["y"]);
    unchanged("select 10:30");
}

#[test]
fn a_statement_may_end_with_semicolons() {
    check("select 1;", "select 1", &[]);
    check("select 1 ; -- done :a\n /* :b */ ", "select 1", &[]);
    check("select 1 -- done\n", "select 1", &[]);
    rejected(
        "select 1; select 2",
        &StatementError::TwoStatements { at: 10..16 },
    );
    check("select 1;; -- done\n ;", "select 1", &[]);
    rejected(
        "select 1;; x",
        &StatementError::TwoStatements { at: 11..12 },
    );
    unchanged("select ';', \";\", $$;$$ /*;*/ as x");
}

#[test]
fn only_queries_are_accepted() {
    for sql in [
        "SELECT 1",
        "with x as (select 1) table x",
        "values (1)",
        "Table t",
        "((select 1))",
    ] {
        unchanged(sql);
    }
    for sql in ["", "  \n", "-- nothing\n", "/* x */", ";", "()", "( )"] {
        let error = Statement::parse(sql).expect_err(sql);
        assert!(
            matches!(
                error,
                StatementError::Empty | StatementError::NotAQuery { .. }
            ),
            "{sql}"
        );
    }
    rejected("delete from t", &StatementError::NotAQuery { at: 0..6 });
    rejected("/* x */ selects", &StatementError::NotAQuery { at: 8..15 });
    rejected(":a", &StatementError::NotAQuery { at: 0..2 });
}

#[test]
fn an_unclosed_text_is_reported_at_its_start() {
    let open = |what, at| StatementError::Unterminated { what, at };
    rejected("select 'abc", &open(Quoted::String, 7..8));
    rejected("select 'abc''", &open(Quoted::String, 7..8));
    rejected(r"select E'abc\'", &open(Quoted::String, 7..9));
    rejected("select E'a'\n'b\\'", &open(Quoted::String, 7..9));
    rejected("select \"abc", &open(Quoted::Identifier, 7..8));
    rejected("select $x$ abc $y$", &open(Quoted::Dollar, 7..10));
    rejected("select 1 /* /* */", &open(Quoted::Comment, 9..11));
    rejected("select 1; /*", &open(Quoted::Comment, 10..12));
}

#[test]
fn parameters_have_names_and_not_numbers() {
    rejected("select $1", &StatementError::Positional { at: 7..9 });
    rejected("select 1$12", &StatementError::Positional { at: 8..11 });
    rejected("select 'a', \0", &StatementError::Nul { at: 12..13 });
    for inside in ["'\0'", "\"\0\"", "e'\0'", "$$\0$$", "/*\0*/ 1", "1 --\0"] {
        let at = 7 + inside.find('\0').unwrap();
        let nul = StatementError::Nul { at: at..at + 1 };
        rejected(&format!("select {inside}"), &nul);
    }
}

#[test]
fn locking_clauses_are_rejected() {
    for (sql, clause) in [
        ("select 1 from t for update", "for update"),
        (
            "select 1 from t FOR\n-- all\nUpdate of t nowait;",
            "FOR\n-- all\nUpdate",
        ),
        (
            "select 1 from t for no key update limit 1",
            "for no key update",
        ),
        ("with x as (select 1 from t for share) table x", "for share"),
        ("((select 1 from t for key share))", "for key share"),
        (
            "select (select f(a for 2) from t for share), :x",
            "for share",
        ),
    ] {
        let at = sql.find(clause).expect("in the SQL");
        rejected(
            sql,
            &StatementError::Lock {
                at: at..at + clause.len(),
            },
        );
    }
    for sql in [
        "select substring(x for 3), substring(y from 1 for share), overlay(a placing b from 1 for update)",
        "select 'for update', \"for update\", $$for update$$ -- for update\n, 1 /* for share */ + 2",
        "select t.for update, for_update, x from \"for\" update",
        "select 1 for 3",
    ] {
        unchanged(sql);
    }
    rejected(
        "update t set x = 1 for update",
        &StatementError::NotAQuery { at: 0..6 },
    );
}

#[test]
fn unicode_spaces_in_words_are_reported() {
    for (sql, at) in [
        ("select\u{a0}1", 6..8),
        ("select a,\u{3000}:x", 9..12),
        ("select :x\u{200b}", 9..12),
    ] {
        let character = sql[at.clone()].chars().next().expect("there");
        rejected(sql, &StatementError::Space { character, at });
    }
    let error = Statement::parse("select\u{a0}1").expect_err("a letter");
    assert_eq!(
        error.to_string(),
        "U+00A0 looks like a space but is a letter to Postgres"
    );
    unchanged("select '\u{a0}', \"\u{a0}\", E'\u{a0}', $$\u{a0}$$ -- \u{a0}\n, ä");
}

#[test]
fn a_quoted_parameter_is_reported_unless_it_is_a_slice() {
    let name = "x".to_owned();
    rejected(
        "select :'x'",
        &StatementError::QuotedParameter { name, at: 7..11 },
    );
    unchanged("select a[:'1'], a['1':'2'], '::x'");
}

#[test]
fn a_position_is_mapped_to_its_word_or_placeholder() {
    let sql = "select ä, :first, :second::int, LIMIT:first missing from t";
    let statement = Statement::parse(sql).expect("a query");
    let at = |needle: &str| {
        let offset = statement.text().find(needle).expect("in the text");
        let position = statement.text()[..offset].chars().count() + 1;
        let range = statement.written_at(sql, u32::try_from(position).expect("short"));
        &sql[range.expect("in the text")]
    };
    assert_eq!(at("select"), "select");
    assert_eq!(at("ä"), "ä");
    assert_eq!(at("$1"), ":first");
    assert_eq!(at("$2"), ":second");
    assert_eq!(at("::int"), ":");
    assert_eq!(at("int"), "int");
    assert_eq!(at("missing"), "missing");
    assert_eq!(at("from t"), "from");
    let end = u32::try_from(statement.text().chars().count()).expect("short") + 1;
    assert_eq!(statement.written_at(sql, end), Some(sql.len()..sql.len()));
    assert_eq!(statement.written_at(sql, end + 1), None);
    assert_eq!(statement.written_at(sql, 0), None);
}

/// A placeholder, or a piece of SQL that hides its contents.
#[derive(Debug, Clone)]
enum Piece {
    Plain(String),
    Parameter(&'static str),
}

fn pieces() -> impl Strategy<Value = Vec<Piece>> {
    let hidden = r#"[a-z:;?"\\/*\n\-_$ ä0-9]{0,8}"#;
    let piece = prop_oneof![
        hidden.prop_map(|body| format!("'{}'", body.replace('\'', "''"))),
        hidden.prop_map(|body| format!("E'{}'", body.replace('\\', "\\\\").replace('"', "\\'"))),
        hidden.prop_map(|body| format!("\"{}\"", body.replace('"', "\"\""))),
        hidden.prop_map(|body| format!("U&'{body}'")),
        hidden.prop_map(|body| format!("$q1${}$q1$", body.replace("$q1", ""))),
        hidden.prop_map(|body| format!("$${}$$", body.replace('$', "'"))),
        hidden.prop_map(|body| format!("--{}\n", body.replace('\n', "'"))),
        hidden.prop_map(|body| {
            format!(
                "/*{}/* ' */ '*/",
                body.replace("/*", "").replace("*/", "").replace('*', ":")
            )
        }),
        prop::sample::select(vec![
            "::", "::text", ":=", " : ", "a$b$", "x1", "ä", "12", "1.5", "[1:2]", "(", ")", "->>",
            "<=", "@", " ", "\n", "\t", ",", "+", "-", "$", "?", "E", "e", "u&",
        ])
        .prop_map(str::to_owned),
    ]
    .prop_map(Piece::Plain);
    let parameter =
        prop::sample::select(vec!["a", "b", "long_name1", "ü"]).prop_map(Piece::Parameter);
    prop::collection::vec(prop_oneof![3 => piece, 1 => parameter], 0..12)
}

proptest! {
    #[test]
    fn exactly_the_placeholders_are_replaced(pieces in pieces()) {
        // Commas separate the pieces, since strings may continue after a line end.
        let mut sql = "select 0".to_owned();
        let mut expected = sql.clone();
        let mut names: Vec<&str> = Vec::new();
        for piece in &pieces {
            sql.push_str(" , ");
            expected.push_str(" , ");
            match piece {
                Piece::Plain(text) => {
                    sql.push_str(text);
                    expected.push_str(text);
                }
                Piece::Parameter(name) => {
                    let known = names.iter().position(|known| known == name);
                    let index = known.unwrap_or_else(|| {
                        names.push(name);
                        names.len() - 1
                    });
                    sql.push_str(&format!(":{name}"));
                    expected.push_str(&format!("${}", index + 1));
                }
            }
        }
        sql.push_str(" , 0");
        expected.push_str(" , 0");
        let statement = Statement::parse(&sql).expect("pieces are closed");
        prop_assert_eq!(statement.text(), expected);
        prop_assert_eq!(statement.parameters(), names);
    }

    #[test]
    fn no_text_panics(sql in r#"(select )?[a-zE:;'"\\/*\n$\- ä0\x00]{0,40}"#, position in 0u32..60) {
        if let Ok(statement) = Statement::parse(&sql) {
            let range = statement.written_at(&sql, position);
            prop_assert!(range.is_none_or(|range| sql.get(range).is_some()));
        }
    }
}
