//! Runs the architecture test on made-up packages: sound ones pass, and each kind of fault is found.

use super::*;

const LIB: &str = "//! A crate.
        \n//! | module | owns | may import | vendor |
//! |---|---|---|---|
//! | `plan` | plans | | regex |
//! | `store` | things | plan | moka, tokio_postgres |
//! | `cli` | words | plan | clap |
";

const MANIFEST: &str = "
        [dependencies]
        regex = '1'
        moka = { version = '1' }
        tokio = '1'
        clap = '1'
        [target.'cfg(unix)'.dependencies]
        tokio-postgres = '1'
        [dev-dependencies]
        proptest = '1'";

/// The complaints about a sound package to which the files are added.
fn check(files: &[(&str, &str)]) -> Vec<String> {
    check_with(LIB, MANIFEST, files)
}

fn check_with(lib: &str, manifest: &str, files: &[(&str, &str)]) -> Vec<String> {
    package(lib, manifest, files).complaints()
}

fn package(lib: &str, manifest: &str, files: &[(&str, &str)]) -> Package {
    let sound = [
        ("src/lib.rs", lib),
        ("src/plan.rs", "//! Plans.\nuse regex::Regex;"),
        (
            "src/store.rs",
            "//! Things.\nuse crate::plan::Plan;\nuse moka::sync::Cache;",
        ),
        ("src/cli.rs", "//! Words."),
    ];
    let files = sound.iter().chain(files);
    let files = files
        .map(|(path, source)| (PathBuf::from(path), (*source).to_owned()))
        .collect();
    Package {
        manifest: manifest.to_owned(),
        files,
        recursions: &[],
    }
}

fn assert_complaint(complaints: &[String], words: &str) {
    assert!(
        matches!(complaints, [one] if one.contains(words)),
        "expected one complaint with {words:?}: {complaints:#?}"
    );
}

#[test]
fn a_sound_package_passes() {
    assert_eq!(check(&[]), Vec::<String>::new());
}

#[test]
fn an_import_that_no_row_allows_is_found_however_it_is_written() {
    for code in [
        "use crate::store::Thing;",
        "use crate::{plan::Plan, store};",
        "use {crate::store, std::fmt};",
        "fn f() { crate::store::f() }",
        "fn f(x: &dyn crate::store::T) {}",
        "fn f() { println!(\"{}\", crate::store::f()); }",
        "use super::store;",
        "use super::{store, plan};",
        "use self::super::store::Thing;",
        "mod inner { use super::super::store; }",
        "pub use crate::store as other;",
        "#[derive(crate::store::Derive)] struct S;",
    ] {
        let source = format!("//! Plans.\n{code}");
        assert_complaint(
            &check(&[("src/plan.rs", &source)]),
            "not import `crate::store`",
        );
    }
    assert_complaint(
        &check(&[("src/plan.rs", "//! P.\nuse crate::*;")]),
        "`crate::*`",
    );
}

#[test]
fn super_is_resolved_from_its_own_module() {
    let inside = |code| check(&[("src/plan/sql.rs", code)]);
    assert_complaint(
        &inside("//! S.\nuse super::super::store::T;"),
        "`crate::store`",
    );
    assert_eq!(inside("//! S.\nuse super::store::T;"), Vec::<String>::new());
    assert_eq!(
        inside("//! S.\nmod inner { use super::super::store; }"),
        Vec::<String>::new()
    );
}

#[test]
fn a_vendor_crate_outside_its_module_is_found_however_it_is_written() {
    for code in [
        "use moka::sync::Cache;",
        "use moka as cache;",
        "use ::moka::Expiry;",
        "use {std::fmt, moka::Expiry};",
        "extern crate moka;",
        "fn f() -> moka::Entry { todo!() }",
        "fn f() -> Vec<::moka::Entry> { vec![] }",
        "fn f() { g!(moka::new()) }",
        "#[derive(moka::Cached)] struct S;",
    ] {
        let source = format!("//! Plans.\n{code}");
        assert_complaint(
            &check(&[("src/plan.rs", &source)]),
            "not use the crate `moka`",
        );
    }
}

#[test]
fn what_only_looks_like_an_import_is_ignored() {
    for code in [
        "// use crate::store;",
        "/// See [`crate::store`] and moka::sync.\nstruct S;",
        "const S: &str = \"crate::store moka::sync\";",
        "use crate::plan::{moka::X, store};",
        "fn f(moka: u8, store: u8) -> u8 { moka + store }",
        "#[cfg(test)]\nmod tests { use crate::store; use moka::sync; }",
        "#[cfg(test)]\nuse crate::store;",
    ] {
        let source = format!("//! Plans.\n{code}");
        assert_eq!(
            check(&[("src/plan.rs", &source)]),
            Vec::<String>::new(),
            "{code}"
        );
    }
}

#[test]
fn a_file_that_is_compiled_for_tests_alone_is_a_test() {
    let long = format!(
        "//! Long.\nuse crate::store;\n{}",
        "// line\n".repeat(LINES_MAX)
    );
    let with_declaration = |declaration: &str| {
        let plan = format!("//! Plans.\n{declaration}\nuse regex::Regex;");
        check(&[
            ("src/plan.rs", &plan),
            (
                "src/plan/simulation.rs",
                "//! Tests of plans.\nuse crate::store;",
            ),
            ("src/plan/simulation/story.rs", &long),
        ])
    };
    let tests = with_declaration("#[cfg(test)]\nmod simulation;");
    assert_eq!(tests, Vec::<String>::new());
    let code = with_declaration("mod simulation;");
    assert_eq!(code.len(), 3, "{code:#?}");
}

#[test]
fn import_circles_between_siblings_are_found() {
    let circle = |a: &str, b: &str, c: &str| {
        check(&[
            (
                "src/plan.rs",
                "//! Plans.\npub use c::{deep::Deep, Flat as Plane};",
            ),
            ("src/plan/a.rs", &format!("//! A.\n{a}")),
            ("src/plan/b.rs", &format!("//! B.\n{b}")),
            ("src/plan/c.rs", &format!("//! C.\n{c}")),
            ("src/plan/c/deep.rs", "//! D.\nuse super::Flat;"),
        ])
    };
    assert_eq!(
        circle("use super::b;", "", "use super::a;"),
        Vec::<String>::new()
    );
    for (a, b, c) in [
        ("use super::b::B;", "use super::c;", "use crate::plan::a;"),
        (
            "fn f() { super::b::f() }",
            "use super::Deep;",
            "use super::{a};",
        ),
        (
            "use super::b;",
            "use crate::plan::Plane as P;",
            "use super::a::A;",
        ),
    ] {
        assert_complaint(
            &circle(a, b, c),
            "src/plan: these import each other in a circle: a, b, c",
        );
    }
    let deep = [
        ("src/plan/a.rs", "//! A.\nuse super::b;"),
        ("src/plan/b.rs", "//! B."),
        ("src/plan/b/deep.rs", "//! D.\nuse super::super::a::A;"),
    ];
    assert_complaint(&check(&deep), "circle: a, b");
}

#[test]
fn a_recursion_is_listed_as_long_as_it_is_one() {
    const LISTED: [Recursion; 1] = [Recursion {
        parent: "plan",
        members: &["a", "b"],
        reason: "they are made up",
    }];
    let with_a = |a: &str| {
        let files = [
            ("src/lib.rs", LIB),
            ("src/plan.rs", "//! Plans.\nuse regex::Regex;"),
            ("src/plan/a.rs", a),
            ("src/plan/b.rs", "//! B.\nuse super::a;"),
        ];
        let mut package = package(LIB, MANIFEST, &files);
        package.recursions = &LISTED;
        package.complaints()
    };
    assert_eq!(with_a("//! A.\nuse super::b;"), Vec::<String>::new());
    assert_complaint(
        &with_a("//! A."),
        "plan: listed as a recursion, but not one: a, b",
    );
}

#[test]
fn a_function_that_is_named_like_a_question_returns_bool() {
    let with = |code: &str| check(&[("src/plan/sql.rs", &format!("//! S.\n{code}"))]);
    for sound in [
        "fn is_a() -> bool { true }",
        "fn is_a<T: Fn(u8) -> u8>(t: T) -> bool where T: Copy { true }",
        "trait T { fn has_a(&self) -> bool; }",
        "fn island() {}",
        "fn f() { let is_a = || 1; }",
    ] {
        assert_eq!(with(sound), Vec::<String>::new(), "{sound}");
    }
    for wrong in [
        "fn is_a() {}",
        "impl S { pub async fn is_a(&self) -> Option<bool> { None } }",
        "fn is_a<T>(f: impl Fn() -> bool) -> Vec<T> { vec![] }",
        "#[cfg(test)]\nmod tests { fn is_a(); }",
        "trait T { fn is_a(&self); }",
    ] {
        assert_complaint(&with(wrong), "`is_a` is named like a question");
    }
}

#[test]
fn code_after_a_test_is_checked_again() {
    let source = "//! Plans.\n#[cfg(test)]\nfn t() {}\nuse crate::store;";
    assert_complaint(&check(&[("src/plan.rs", source)]), "`crate::store`");
}

#[test]
fn the_binary_belongs_to_the_command_line() {
    assert_complaint(
        &check(&[("src/main.rs", "//! M.\nuse larder::store;")]),
        "`crate::store`",
    );
    assert_eq!(
        check(&[("src/main.rs", "//! M.\nuse larder::cli;")]),
        Vec::<String>::new()
    );
}

#[test]
fn table_modules_and_dependencies_agree() {
    let more = [("src/extra.rs", "//! Extra.")];
    assert_complaint(&check(&more), "no row for the module `extra`");
    let lib = format!("{LIB}//! | `ghost` | nothing | | |\n");
    assert_complaint(&check_with(&lib, MANIFEST, &[]), "a row for `ghost`");
    let lib = LIB.replace("plans | |", "plans | store |");
    assert_complaint(&check_with(&lib, MANIFEST, &[]), "not above it");
    let lib = LIB.replace("clap |", "clap, anyhow |");
    assert_complaint(
        &check_with(&lib, MANIFEST, &[]),
        "`anyhow`, which is not a dependency",
    );
    let manifest = MANIFEST.replace("tokio = '1'", "tokio = '1'\nlazy-static = '1'");
    assert_complaint(&check_with(LIB, &manifest, &[]), "names `lazy_static`");
}

#[test]
fn a_file_begins_with_its_purpose_and_has_a_limit() {
    assert_complaint(
        &check(&[("src/plan/sql.rs", "use std::fmt;")]),
        "does not begin with",
    );
    let long = format!("//! Long.\n{}", "// line\n".repeat(LINES_MAX));
    assert_complaint(&check(&[("tests/it/long.rs", &long)]), "501 lines");
    let tested = format!(
        "//! Tested.\n#[cfg(test)]\n{}",
        "// line\n".repeat(LINES_MAX)
    );
    assert_eq!(check(&[("src/plan/sql.rs", &tested)]), Vec::<String>::new());
}
