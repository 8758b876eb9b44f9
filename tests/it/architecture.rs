//! The code keeps to the map in `src/lib.rs`: who may import whom, where a vendor crate may be named,
//! what every file begins with and how long it may get. It reads source text and runs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Crates that belong to nobody: the runtime, its companions, and the language's missing parts.
const COMMON: [&str; 6] = [
    "tokio",
    "tokio_util",
    "futures_util",
    "bytes",
    "thiserror",
    "serde_json",
];

/// Lines without tests beyond which a file holds more than one thing. The house's own measure is
/// 400; this is where it stops being a matter of taste.
const LINES_MAX: usize = 600;

#[test]
fn the_code_keeps_to_the_map() {
    let complaints = Package::read(Path::new(env!("CARGO_MANIFEST_DIR"))).complaints();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// What there is to look at: paths from the package's root, and texts.
struct Package {
    manifest: String,
    files: BTreeMap<PathBuf, String>,
}

/// A row of the map.
struct Room {
    imports: Vec<String>,
    vendors: Vec<String>,
}

impl Package {
    fn read(root: &Path) -> Self {
        let mut files = BTreeMap::new();
        for folder in ["src", "tests", "examples", "benches"] {
            read_sources(root, &root.join(folder), &mut files);
        }
        let manifest = std::fs::read_to_string(root.join("Cargo.toml")).expect("it is a package");
        Self { manifest, files }
    }

    fn complaints(&self) -> Vec<String> {
        let map = self
            .files
            .get(Path::new("src/lib.rs"))
            .map(|lib| rows(lib))
            .unwrap_or_default();
        let mut complaints = about_the_map(&map);
        complaints.extend(self.about_modules(&map));
        complaints.extend(self.about_dependencies(&map));
        let rooms: BTreeMap<&str, &Room> = map.iter().map(|(name, room)| (&**name, room)).collect();
        for (path, source) in &self.files {
            complaints.extend(about_the_text(path, source));
            if let Some(module) = module_of(path) {
                complaints.extend(about_imports(path, source, &module, &rooms));
            }
        }
        complaints
    }

    fn about_modules(&self, map: &[(String, Room)]) -> Vec<String> {
        let rows: BTreeSet<String> = map.iter().map(|(name, _)| name.clone()).collect();
        let modules: BTreeSet<String> = self
            .files
            .keys()
            .filter_map(|path| Some(module_of(path)?.name))
            .collect();
        let without_row = modules
            .difference(&rows)
            .map(|module| format!("src/lib.rs: the table has no row for the module `{module}`"));
        let without_module = rows.difference(&modules).map(|row| {
            format!("src/lib.rs: the table has a row for `{row}`, and there is no such module")
        });
        without_row.chain(without_module).collect()
    }

    fn about_dependencies(&self, map: &[(String, Room)]) -> Vec<String> {
        let homed: BTreeSet<String> = map
            .iter()
            .flat_map(|(_, room)| room.vendors.clone())
            .collect();
        let dependencies = dependencies(&self.manifest);
        let homeless = dependencies
            .iter()
            .filter(|name| !homed.contains(*name) && !COMMON.contains(&name.as_str()))
            .map(|name| format!("Cargo.toml: no row of the table in src/lib.rs names `{name}`"));
        let unknown = homed
            .difference(&dependencies)
            .map(|name| format!("src/lib.rs: the table names `{name}`, which is no dependency"));
        homeless.chain(unknown).collect()
    }
}

fn read_sources(root: &Path, folder: &Path, files: &mut BTreeMap<PathBuf, String>) {
    let Ok(entries) = folder.read_dir() else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            read_sources(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = std::fs::read_to_string(&path).expect("a source file is UTF-8");
            let path = path
                .strip_prefix(root)
                .expect("it was found below the root");
            files.insert(path.to_owned(), source);
        }
    }
}

/// The rows of the table in the crate's own documentation.
fn rows(lib: &str) -> Vec<(String, Room)> {
    let list = |cell: &str| -> Vec<String> {
        cell.split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect()
    };
    lib.lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line
                .strip_prefix("//! |")?
                .split('|')
                .map(str::trim)
                .collect();
            let name = cells.first()?.strip_prefix('`')?.strip_suffix('`')?;
            let room = Room {
                imports: list(cells.get(2)?),
                vendors: list(cells.get(3)?),
            };
            Some((name.to_owned(), room))
        })
        .collect()
}

/// Rows come in the order in which they may import, so there are no cycles.
fn about_the_map(map: &[(String, Room)]) -> Vec<String> {
    let mut complaints = Vec::new();
    if map.is_empty() {
        complaints.push("src/lib.rs: there is no table of modules".to_owned());
    }
    let mut above = BTreeSet::new();
    for (name, room) in map {
        for import in room
            .imports
            .iter()
            .filter(|&import| !above.contains(import))
        {
            complaints.push(format!(
                "src/lib.rs: `{name}` may import `{import}`, which is not above it"
            ));
        }
        above.insert(name.clone());
    }
    complaints
}

/// Every crate that is linked into the library, spelt as in code.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let manifest: toml::Table = manifest.parse().expect("cargo has read it");
    let own = manifest.get("dependencies");
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    let of_targets = targets
        .into_iter()
        .flatten()
        .filter_map(|(_, it)| it.get("dependencies"));
    own.into_iter()
        .chain(of_targets)
        .filter_map(toml::Value::as_table)
        .flat_map(|table| table.keys().map(|name| name.replace('-', "_")))
        .collect()
}

/// Which module a file is part of.
struct Module {
    name: String,
    /// How many `super`s lead from the file to the crate's root.
    depth: usize,
}

/// None for the crate's root, for test files, and for what is not in the library. The binary's
/// `main.rs` is a part of `cli`.
fn module_of(path: &Path) -> Option<Module> {
    let inside = path.strip_prefix("src").ok()?.with_extension("");
    let parts: Vec<&str> = inside.iter().filter_map(|part| part.to_str()).collect();
    match parts[..] {
        ["lib"] | [.., "tests"] => None,
        ["main"] => Some(Module {
            name: "cli".to_owned(),
            depth: 0,
        }),
        [first, ..] => Some(Module {
            name: first.to_owned(),
            depth: parts.len(),
        }),
        [] => None,
    }
}

fn about_the_text(path: &Path, source: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let path = path.display();
    if !source.starts_with("//!") {
        complaints.push(format!(
            "{path}: does not say at its top, after `//!`, what it owns"
        ));
    }
    let lines = source
        .lines()
        .take_while(|line| *line != "#[cfg(test)]")
        .count();
    if lines > LINES_MAX {
        complaints.push(format!(
            "{path}: {lines} lines without tests; 400 are plenty, {LINES_MAX} the limit"
        ));
    }
    complaints
}

fn about_imports(
    path: &Path,
    source: &str,
    module: &Module,
    rooms: &BTreeMap<&str, &Room>,
) -> Vec<String> {
    let mentioned = Mentions::of(source, module.depth);
    let (path, name) = (path.display(), &module.name);
    let Some(room) = rooms.get(name.as_str()) else {
        return Vec::new();
    };
    let modules = mentioned
        .modules
        .iter()
        .filter(|other| *other != name && !room.imports.contains(other))
        // What the root itself declares, such as a constant, is everybody's.
        .filter(|other| *other == "*" || rooms.contains_key(other.as_str()))
        .map(|other| format!("{path}: `{name}` may not import `crate::{other}`"));
    let vendors: BTreeSet<&String> = rooms.values().flat_map(|room| &room.vendors).collect();
    let crates = mentioned
        .crates
        .iter()
        .filter(|other| vendors.contains(other) && !room.vendors.contains(other))
        .map(|other| format!("{path}: `{name}` may not use the crate `{other}`"));
    modules.chain(crates).collect()
}

/// What a source text names outside of its tests, in code and in macros' arguments alike.
#[derive(Default)]
struct Mentions {
    /// Children of the crate's root; `*` for all of them.
    modules: BTreeSet<String>,
    /// Everything that a path begins with: crates, and much else.
    crates: BTreeSet<String>,
}

impl Mentions {
    fn of(source: &str, depth: usize) -> Self {
        let tokens: TokenStream = source.parse().expect("rustc has read it");
        let mut mentions = Self::default();
        mentions.read(tokens, depth);
        mentions
    }

    fn read(&mut self, tokens: TokenStream, depth: usize) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            if is_test_attribute(&tokens[at..]) {
                at += item_length(&tokens[at..]);
                continue;
            }
            match token {
                TokenTree::Ident(ident) if begins_path(&tokens, at) => {
                    self.read_path(&ident.to_string(), &tokens, at, depth);
                }
                // The branches of a `use` were read with its stem.
                TokenTree::Group(_) if follows_colons(&tokens, at) => {}
                TokenTree::Group(group) => {
                    let inner = depth + usize::from(is_inline_module(&tokens, at));
                    self.read(group.stream(), inner);
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            at += 1;
        }
    }

    fn read_path(&mut self, first: &str, tokens: &[TokenTree], at: usize, depth: usize) {
        let is_used = at > 0 && is_word(&tokens[at - 1], "use") || is_extern(tokens, at);
        if !is_used && !leads_on(tokens, at + 1) {
            return;
        }
        let mut next = at;
        let mut ups = 0;
        loop {
            match tokens.get(next) {
                Some(TokenTree::Ident(ident)) if ident == "super" => ups += 1,
                Some(TokenTree::Ident(ident)) if ident == "self" => {}
                _ => break,
            }
            if !leads_on(tokens, next + 1) {
                return;
            }
            next += 3;
        }
        // `larder` is what the binary calls the crate.
        if matches!(first, "crate" | "larder") {
            self.modules.extend(children(tokens.get(at + 3)));
        } else if next == at {
            self.crates.insert(first.to_owned());
        } else if ups > 0 && ups >= depth {
            self.modules.extend(children(tokens.get(next)));
        }
    }
}

/// The names at the first level of what follows a path's stem: one, or those in braces.
fn children(token: Option<&TokenTree>) -> Vec<String> {
    match token {
        Some(TokenTree::Ident(ident)) => vec![ident.to_string()],
        Some(TokenTree::Punct(_)) => vec!["*".to_owned()],
        Some(TokenTree::Group(group)) => {
            let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
            let branches = tokens.split(|token| is_punct(token, ','));
            branches
                .flat_map(|branch| children(branch.first()))
                .filter(|name| name != "self")
                .collect()
        }
        Some(TokenTree::Literal(_)) | None => Vec::new(),
    }
}

fn begins_path(tokens: &[TokenTree], at: usize) -> bool {
    let is_keyword = |token: &TokenTree| {
        [
            "use", "as", "in", "dyn", "impl", "for", "return", "mut", "ref", "match", "if", "else",
        ]
        .iter()
        .any(|keyword| is_word(token, keyword))
    };
    if !follows_colons(tokens, at) {
        return true;
    }
    // `::vendor::x` begins a path; in `a::b`, `<T>::b` and `macro!()::b` the `b` does not.
    match at.checked_sub(3).map(|before| &tokens[before]) {
        None => true,
        Some(TokenTree::Punct(punct)) => punct.as_char() != '>',
        Some(TokenTree::Group(_) | TokenTree::Literal(_)) => false,
        Some(word @ TokenTree::Ident(_)) => is_keyword(word),
    }
}

fn follows_colons(tokens: &[TokenTree], at: usize) -> bool {
    at >= 2 && leads_on(tokens, at - 2)
}

fn leads_on(tokens: &[TokenTree], at: usize) -> bool {
    [at, at + 1]
        .iter()
        .all(|&at| tokens.get(at).is_some_and(|token| is_punct(token, ':')))
}

fn is_extern(tokens: &[TokenTree], at: usize) -> bool {
    at >= 2 && is_word(&tokens[at - 1], "crate") && is_word(&tokens[at - 2], "extern")
}

fn is_inline_module(tokens: &[TokenTree], at: usize) -> bool {
    at >= 2 && is_word(&tokens[at - 2], "mod") && matches!(tokens[at - 1], TokenTree::Ident(_))
}

fn is_test_attribute(tokens: &[TokenTree]) -> bool {
    let [hash, TokenTree::Group(attribute), ..] = tokens else {
        return false;
    };
    is_punct(hash, '#') && attribute.stream().to_string().replace(' ', "") == "cfg(test)"
}

/// How many tokens an item takes, attributes included: to its body or its semicolon.
fn item_length(tokens: &[TokenTree]) -> usize {
    let ends = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        TokenTree::Ident(_) | TokenTree::Literal(_) => false,
    };
    // A `use` with braces has a semicolon after them, which belongs to nobody and harms nothing.
    tokens
        .iter()
        .position(ends)
        .map_or(tokens.len(), |end| end + 1)
}

fn is_punct(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

fn is_word(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == word)
}

/// That the test above can fail.
mod on_made_up_sources {
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
        }
        .complaints()
    }

    fn assert_complaint(complaints: &[String], words: &str) {
        assert!(
            matches!(complaints, [one] if one.contains(words)),
            "expected one complaint with {words:?}: {complaints:#?}"
        );
    }

    #[test]
    fn a_sound_package_is_sound() {
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
    fn supers_are_counted_from_where_they_stand() {
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
    fn what_only_looks_like_an_import_is_none() {
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
        let tests = [(
            "src/plan/tests.rs",
            "//! Tests of plans.\nuse crate::store;",
        )];
        assert_eq!(check(&tests), Vec::<String>::new());
    }

    #[test]
    fn what_follows_a_test_is_looked_at_again() {
        let source = "//! Plans.\n#[cfg(test)]\nfn t() {}\nuse crate::store;";
        assert_complaint(&check(&[("src/plan.rs", source)]), "`crate::store`");
    }

    #[test]
    fn the_binary_is_part_of_the_command_line() {
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
            "`anyhow`, which is no dependency",
        );
        let manifest = MANIFEST.replace("tokio = '1'", "tokio = '1'\nlazy-static = '1'");
        assert_complaint(&check_with(LIB, &manifest, &[]), "names `lazy_static`");
    }

    #[test]
    fn a_file_begins_with_what_it_owns_and_ends_in_time() {
        assert_complaint(
            &check(&[("src/plan/sql.rs", "use std::fmt;")]),
            "at its top",
        );
        let long = format!("//! Long.\n{}", "// line\n".repeat(LINES_MAX));
        assert_complaint(&check(&[("tests/it/long.rs", &long)]), "601 lines");
        let tested = format!(
            "//! Tested.\n#[cfg(test)]\n{}",
            "// line\n".repeat(LINES_MAX)
        );
        assert_eq!(check(&[("src/plan/sql.rs", &tested)]), Vec::<String>::new());
    }
}
