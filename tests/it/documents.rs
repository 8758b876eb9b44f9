//! The documents say what the code does.

use larder::http::problem::Problem;

const README: &str = include_str!("../../README.md");

#[test]
fn the_readme_lists_every_problem_with_its_status() {
    let listed: Vec<(&str, u16)> = README
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
