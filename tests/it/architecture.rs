//! The code keeps to the map in `src/lib.rs`: who may import whom, where a vendor crate may be named,
//! what every file begins with and how long it may get. It reads source text and runs nothing.

mod made_up; // that the test below can fail
mod mentions; // what a source text names

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use mentions::Mentions;

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
