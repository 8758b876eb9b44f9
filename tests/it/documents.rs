//! The documents match the code and one another: codes, links, named files, and the limits of house style.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use larder::http::problem::Problem;

/// Longer lines wrap in a terminal and in side-by-side diffs.
const LINE_CHARS_MAX: usize = 110;

/// What a newcomer reads before deciding to try it.
const README_BYTES_MAX: u64 = 7 * 1024;

/// Folders without documents of our own.
const FOREIGN: [&str; 3] = ["target", "uplot", ".git"];

#[test]
fn every_problem_is_listed_with_its_status() {
    let listed: Vec<(&str, u16)> = include_str!("../../docs/http.md")
        .lines()
        .filter_map(|line| {
            let mut cells = line.split('|').map(str::trim).skip(1);
            let code = cells.next().filter(|code| code.starts_with("LRD-"))?;
            Some((code, cells.next()?.parse().ok()?))
        })
        .collect();
    let all = Problem::all();
    let known: Vec<(&str, u16)> = all
        .iter()
        .map(|problem| {
            let (code, status) = problem.code();
            (code, status.as_u16())
        })
        .collect();
    assert_eq!(listed, known);
}

#[test]
fn the_readme_is_short() {
    let bytes = fs::metadata(root().join("README.md")).unwrap().len();
    assert!(bytes <= README_BYTES_MAX, "{bytes} bytes");
}

#[test]
fn no_line_is_too_long() {
    let mut complaints = Vec::new();
    for (path, text) in documents() {
        for (number, line) in (1..).zip(text.lines()) {
            let length = line.chars().count();
            if length > LINE_CHARS_MAX {
                complaints.push(format!("{}:{number}: {length}", path.display()));
            }
        }
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn relative_links_resolve() {
    let documents = documents();
    let mut complaints = Vec::new();
    for (path, text) in &documents {
        for link in links(text).filter(|link| !link.contains(':')) {
            let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                path.clone()
            } else {
                normal(&path.parent().unwrap().join(file))
            };
            let resolves = match documents.iter().find(|(other, _)| *other == target) {
                Some((_, text)) => fragment.is_empty() || anchors(text).contains(fragment),
                None => root().join(&target).exists(),
            };
            if !resolves {
                complaints.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn named_source_files_exist() {
    let is_path = |word: &&str| {
        ["src/", "tests/", "benches/", "docs/", "grafana/"]
            .iter()
            .any(|folder| word.starts_with(folder))
            && !word.contains(' ')
    };
    let mut complaints = Vec::new();
    for (path, text) in documents() {
        for named in text.split('`').skip(1).step_by(2).filter(is_path) {
            if !root().join(named).exists() {
                complaints.push(format!("{}: {named}", path.display()));
            }
        }
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Markdown file of the repository, with its path from the root.
fn documents() -> Vec<(PathBuf, String)> {
    let mut documents = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for path in folder
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().path())
        {
            let name = path.file_name().unwrap_or_default();
            if path.is_dir() {
                if FOREIGN.iter().all(|foreign| name != *foreign) {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(&path).expect("a document is UTF-8");
                documents.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    assert!(documents.len() > 10, "{documents:?}");
    documents
}

/// The targets of `[text](target)`, outside of code blocks.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let prose = text.split("```").step_by(2);
    prose.flat_map(|text| {
        let targets = text.split("](").skip(1);
        targets.filter_map(|rest| Some(rest.split_once(')')?.0))
    })
}

/// The fragments that lead to a document's headings.
pub(crate) fn anchors(text: &str) -> BTreeSet<String> {
    let prose = text.split("```").step_by(2);
    let headings = prose.flat_map(|text| text.lines().filter(|line| line.starts_with('#')));
    headings
        .map(|line| anchor(line.trim_start_matches('#').trim()))
        .collect()
}

/// As GitHub derives it from a heading.
pub(crate) fn anchor(heading: &str) -> String {
    let is_kept = |c: &char| c.is_alphanumeric() || "-_ ".contains(*c);
    let lower = heading.to_lowercase();
    let kept: String = lower.chars().filter(is_kept).collect();
    kept.replace(' ', "-")
}

/// Without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir {
            normal.pop();
        } else {
            normal.push(part);
        }
    }
    normal
}
