//! Import circles between siblings: the modules in one folder, each with everything below it. A name that
//! the parent re-exports counts as an import from the sibling that defines it.

use std::collections::{BTreeMap, BTreeSet};

use super::mentions::Mentions;

/// The path of a module from the crate's root.
pub(super) type ModulePath = Vec<String>;

/// Siblings that import each other.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Circle {
    /// The module they are children of.
    pub(super) parent: ModulePath,
    /// Their names.
    pub(super) members: BTreeSet<String>,
}

/// Every circle below the crate's root; the map rules out those of the root's own children.
pub(super) fn find(modules: &BTreeMap<ModulePath, Mentions>) -> Vec<Circle> {
    let mut imports: BTreeMap<ModulePath, BTreeSet<(String, String)>> = BTreeMap::new();
    for (module, mentions) in modules {
        for path in &mentions.paths {
            let target = resolve(modules, path, 0);
            let shared = module.iter().zip(&target).take_while(|(a, b)| a == b);
            let shared = shared.count();
            if shared > 0 && shared < module.len().min(target.len()) {
                let edge = (module[shared].clone(), target[shared].clone());
                let siblings = imports.entry(module[..shared].to_vec()).or_default();
                siblings.insert(edge);
            }
        }
    }
    let circles = imports.into_iter().flat_map(|(parent, edges)| {
        let members = circles(&edges).into_iter();
        members.map(move |members| Circle {
            parent: parent.clone(),
            members,
        })
    });
    circles.collect()
}

/// The module that defines what a path names.
fn resolve(
    modules: &BTreeMap<ModulePath, Mentions>,
    path: &[String],
    followed: usize,
) -> ModulePath {
    /// More re-exports than lead to any name; imports that name each other would not end.
    const FOLLOWED_MAX: usize = 8;
    let depths = (0..=path.len()).rev();
    let mut prefixes = depths.map(|depth| path.split_at(depth));
    let known = prefixes.find(|(module, _)| modules.contains_key(*module));
    let Some((module, rest)) = known else {
        return Vec::new();
    };
    let import = rest
        .first()
        .and_then(|name| modules[module].imports.get(name));
    match import {
        Some(import) if followed < FOLLOWED_MAX && import.as_slice() != path => {
            let path = [import, &rest[1..]].concat();
            let target = resolve(modules, &path, followed + 1);
            // A vendor's name resolves to nothing below this module.
            if target.is_empty() {
                module.to_vec()
            } else {
                target
            }
        }
        _ => module.to_vec(),
    }
}

/// The sets of nodes that all reach each other, where they are more than one.
fn circles(edges: &BTreeSet<(String, String)>) -> BTreeSet<BTreeSet<String>> {
    let nodes: BTreeSet<&String> = edges.iter().flat_map(|(from, to)| [from, to]).collect();
    let reached: BTreeMap<&String, BTreeSet<&String>> = nodes
        .iter()
        .map(|node| (*node, reached_from(node, edges)))
        .collect();
    nodes
        .iter()
        .map(|node| {
            let others = nodes.iter();
            let mutual = others
                .filter(|other| reached[*node].contains(*other) && reached[*other].contains(*node));
            mutual.map(|it| (*it).clone()).collect::<BTreeSet<String>>()
        })
        .filter(|members| members.len() > 1)
        .collect()
}

fn reached_from<'a>(from: &String, edges: &'a BTreeSet<(String, String)>) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from];
    while let Some(node) = next.pop() {
        for (_, to) in edges.iter().filter(|(from, _)| from == node) {
            if reached.insert(to) {
                next.push(to);
            }
        }
    }
    reached
}
