//! Holds the code to the map in `src/lib.rs`: which module may import which, where a vendor crate may be
//! named, how a file begins and how long it may get. Siblings form no import circles, and names do not
//! lie. It reads source text and runs nothing.

mod circles; // import circles between sibling modules
mod made_up; // shows that every check can fail
mod mentions; // what a source file names
mod predicates; // functions named `is_…` and `has_…`

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use circles::{Circle, ModulePath};
use mentions::Mentions;

/// Crates that every module may use: the runtime, its companions, and what the language lacks.
const COMMON: [&str; 6] = [
    "tokio",
    "tokio_util",
    "futures_util",
    "bytes",
    "thiserror",
    "serde_json",
];

/// The most lines of a file, without its tests. The usual limit is 400; this is where it stops being a
/// matter of taste.
const LINES_MAX: usize = 500;

/// Siblings that may import each other.
struct Recursion {
    parent: &'static str,
    members: &'static [&'static str],
    #[expect(dead_code, reason = "it is there to be read")]
    reason: &'static str,
}

const RECURSIONS: [Recursion; 1] = [Recursion {
    parent: "encode",
    members: &["array", "value"],
    reason: "an array's elements are values, and a value may be an array",
}];

#[test]
fn the_code_keeps_to_the_map() {
    let complaints = Package::read(Path::new(env!("CARGO_MANIFEST_DIR"))).complaints();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// What is checked.
struct Package {
    manifest: String,
    /// Source files, by their paths from the package's root.
    files: BTreeMap<PathBuf, String>,
    recursions: &'static [Recursion],
}

/// A row of the map.
struct Row {
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
        Self {
            manifest,
            files,
            recursions: &RECURSIONS,
        }
    }

    fn complaints(&self) -> Vec<String> {
        let lib = self.files.get(Path::new("src/lib.rs"));
        let map = lib.map(|lib| rows(lib)).unwrap_or_default();
        let rows: BTreeMap<&str, &Row> = map.iter().map(|(name, row)| (&**name, row)).collect();
        let modules = self.modules();
        let mut complaints = check_order(&map);
        complaints.extend(check_modules(&modules, &map));
        complaints.extend(self.check_dependencies(&map));
        complaints.extend(self.check_circles(&modules));
        for (path, source) in &self.files {
            complaints.extend(check_names(path, source));
            let module = module_of(path);
            let is_test = module.as_ref().is_some_and(|it| !modules.contains_key(it));
            complaints.extend(check_text(path, source, is_test));
            if let Some(mentions) = module.as_ref().and_then(|module| modules.get(module)) {
                let module = module.as_ref().and_then(|module| module.first());
                complaints.extend(check_imports(path, mentions, module, &rows));
            }
        }
        complaints
    }

    /// The library's modules and what they name, without those that are compiled for tests alone.
    fn modules(&self) -> BTreeMap<ModulePath, Mentions> {
        let files = self.files.iter();
        let modules = files.filter_map(|(path, source)| Some((module_of(path)?, source)));
        let mut modules: BTreeMap<ModulePath, Mentions> = modules
            .map(|(module, source)| {
                let mentions = Mentions::of(source, &module);
                (module, mentions)
            })
            .collect();
        let tests: Vec<ModulePath> = modules
            .iter()
            .flat_map(|(module, mentions)| {
                let tests = mentions.test_modules.iter();
                tests.map(|test| [module.as_slice(), std::slice::from_ref(test)].concat())
            })
            .collect();
        modules.retain(|module, _| !tests.iter().any(|test| module.starts_with(test)));
        modules
    }

    fn check_dependencies(&self, map: &[(String, Row)]) -> Vec<String> {
        let assigned: BTreeSet<String> = map
            .iter()
            .flat_map(|(_, row)| row.vendors.clone())
            .collect();
        let dependencies = dependencies(&self.manifest);
        let unassigned = dependencies
            .iter()
            .filter(|name| !assigned.contains(*name) && !COMMON.contains(&name.as_str()))
            .map(|name| format!("Cargo.toml: no row of the table in src/lib.rs names `{name}`"));
        let unknown = assigned
            .difference(&dependencies)
            .map(|name| format!("src/lib.rs: the table names `{name}`, which is not a dependency"));
        unassigned.chain(unknown).collect()
    }

    fn check_circles(&self, modules: &BTreeMap<ModulePath, Mentions>) -> Vec<String> {
        let is_listed = |circle: &Circle, listed: &Recursion| {
            circle.parent.join("::") == listed.parent
                && circle.members.iter().eq(listed.members.iter())
        };
        let circles = circles::find(modules);
        let unlisted = circles
            .iter()
            .filter(|circle| !self.recursions.iter().any(|it| is_listed(circle, it)))
            .map(|Circle { parent, members }| {
                let members: Vec<&str> = members.iter().map(String::as_str).collect();
                format!(
                    "src/{}: these import each other in a circle: {}",
                    parent.join("/"),
                    members.join(", ")
                )
            });
        let ended = self
            .recursions
            .iter()
            .filter(|listed| !circles.iter().any(|circle| is_listed(circle, listed)))
            .map(
                |Recursion {
                     parent, members, ..
                 }| {
                    format!(
                        "{parent}: listed as a recursion, but not one: {}",
                        members.join(", ")
                    )
                },
            );
        unlisted.chain(ended).collect()
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

/// The rows of the table in the crate's documentation.
fn rows(lib: &str) -> Vec<(String, Row)> {
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
            let row = Row {
                imports: list(cells.get(2)?),
                vendors: list(cells.get(3)?),
            };
            Some((name.to_owned(), row))
        })
        .collect()
}

/// A row may import only rows above it, so there are no circles.
fn check_order(map: &[(String, Row)]) -> Vec<String> {
    let mut complaints = Vec::new();
    if map.is_empty() {
        complaints.push("src/lib.rs: there is no table of modules".to_owned());
    }
    let mut above = BTreeSet::new();
    for (name, row) in map {
        for import in row.imports.iter().filter(|&import| !above.contains(import)) {
            complaints.push(format!(
                "src/lib.rs: `{name}` may import `{import}`, which is not above it"
            ));
        }
        above.insert(name.clone());
    }
    complaints
}

fn check_modules(modules: &BTreeMap<ModulePath, Mentions>, map: &[(String, Row)]) -> Vec<String> {
    let rows: BTreeSet<&String> = map.iter().map(|(name, _)| name).collect();
    let modules: BTreeSet<&String> = modules.keys().filter_map(|path| path.first()).collect();
    let without_row = modules
        .difference(&rows)
        .map(|module| format!("src/lib.rs: the table has no row for the module `{module}`"));
    let without_module = rows.difference(&modules).map(|row| {
        format!("src/lib.rs: the table has a row for `{row}`, but there is no such module")
    });
    without_row.chain(without_module).collect()
}

/// Every crate that is linked into the library, spelt as in code.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let manifest: toml::Table = manifest.parse().expect("cargo accepts it");
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

/// The module that a file of the library holds. The binary's `main.rs` is a part of `cli`.
fn module_of(path: &Path) -> Option<ModulePath> {
    let inside = path.strip_prefix("src").ok()?.with_extension("");
    let parts: Vec<&str> = inside.iter().filter_map(|part| part.to_str()).collect();
    match parts[..] {
        ["lib"] | [] => None,
        ["main"] => Some(vec!["cli".to_owned(), "main".to_owned()]),
        [..] => Some(parts.into_iter().map(str::to_owned).collect()),
    }
}

fn check_text(path: &Path, source: &str, is_test: bool) -> Vec<String> {
    let mut complaints = Vec::new();
    let path = path.display();
    if !source.starts_with("//!") {
        complaints.push(format!(
            "{path}: does not begin with `//!` and what the file holds"
        ));
    }
    let lines = source
        .lines()
        .take_while(|line| *line != "#[cfg(test)]")
        .count();
    if lines > LINES_MAX && !is_test {
        complaints.push(format!(
            "{path}: {lines} lines without tests; aim for 400, the limit is {LINES_MAX}"
        ));
    }
    complaints
}

fn check_names(path: &Path, source: &str) -> Vec<String> {
    let misnamed = predicates::misnamed(source).into_iter();
    misnamed
        .map(|name| {
            let path = path.display();
            format!("{path}: `{name}` is named like a question and does not return `bool`")
        })
        .collect()
}

fn check_imports(
    path: &Path,
    mentions: &Mentions,
    module: Option<&String>,
    rows: &BTreeMap<&str, &Row>,
) -> Vec<String> {
    let Some((name, row)) = module.and_then(|name| Some((name, rows.get(name.as_str())?))) else {
        return Vec::new();
    };
    let path = path.display();
    let imported: BTreeSet<&String> = mentions.paths.iter().filter_map(|it| it.first()).collect();
    let modules = imported
        .iter()
        .filter(|other| **other != name && !row.imports.contains(other))
        // What the root itself declares, such as a constant, belongs to every module.
        .filter(|other| **other == "*" || rows.contains_key(other.as_str()))
        .map(|other| format!("{path}: `{name}` may not import `crate::{other}`"));
    let vendors: BTreeSet<&String> = rows.values().flat_map(|row| &row.vendors).collect();
    let crates = mentions
        .crates
        .iter()
        .filter(|other| vendors.contains(other) && !row.vendors.contains(other))
        .map(|other| format!("{path}: `{name}` may not use the crate `{other}`"));
    modules.chain(crates).collect()
}
