//! What a hit cost before, in baseline.toml, and how much more it may cost.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::cost::Cost;
use crate::hostile;

const FILE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/benches/instructions/baseline.toml"
);

/// A larger share of instructions than before is a regression.
const MARGIN: f64 = 0.03;

/// Allocations are whole numbers, but cache maintenance has a few that vary.
const ALLOCATIONS_MARGIN: f64 = 0.5;

/// What was counted before.
pub(crate) struct Baseline(toml::Table);

impl Baseline {
    pub(crate) fn read() -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(FILE).context("there is no baseline; --write creates it")?;
        Ok(Self(text.parse()?))
    }

    pub(crate) fn write(costs: &[(String, Cost)]) -> anyhow::Result<()> {
        let mut text = format!(
            "# Instructions and allocations of a hit, written by `cargo bench --bench instructions -- --write`.\n\
             # They differ between compiler versions and architectures.\n\
             architecture = {:?}\ncompiler = {:?}\n\n[hits]\n",
            std::env::consts::ARCH,
            compiler()?
        );
        for (name, cost) in costs.iter().filter(|(name, _)| !hostile::is_hostile(name)) {
            writeln!(
                text,
                "{name:?} = {{ instructions = {:.0}, allocations = {:.1} }}",
                cost.instructions, cost.allocations
            )?;
        }
        Ok(std::fs::write(Path::new(FILE), text)?)
    }

    pub(crate) fn of(&self, name: &str) -> Option<Cost> {
        let hit = self.0.get("hits")?.get(name)?;
        let number = |of: &toml::Value| of.as_float().or(of.as_integer().map(|it| it as f64));
        Some(Cost {
            instructions: number(hit.get("instructions")?)?,
            allocations: number(hit.get("allocations")?)?,
        })
    }

    /// Why instructions cannot be compared, if they cannot.
    pub(crate) fn incomparable(&self) -> anyhow::Result<Option<String>> {
        let recorded = |name| {
            self.0
                .get(name)
                .and_then(toml::Value::as_str)
                .unwrap_or("?")
        };
        let (architecture, compiler) = (std::env::consts::ARCH, compiler()?);
        let is_same = recorded("architecture") == architecture && recorded("compiler") == compiler;
        Ok((!is_same).then(|| {
            format!(
                "the baseline is from {} on {}, this is {compiler} on {architecture}",
                recorded("compiler"),
                recorded("architecture")
            )
        }))
    }

    /// What has become too expensive. Floors are not Larder's, and are only compared with. On the wire, some
    /// per cent of the instructions are the allocator's, and vary with the layout of memory.
    pub(crate) fn complaints(&self, costs: &[(String, Cost)]) -> anyhow::Result<Vec<String>> {
        let judges_instructions = self.incomparable()?.is_none();
        let mut complaints = Vec::new();
        let is_judged = |name: &str| !name.starts_with("floor") && !hostile::is_hostile(name);
        for (name, cost) in costs.iter().filter(|(name, _)| is_judged(name)) {
            let before = self.of(name);
            let before = before.with_context(|| format!("the baseline has no `{name}`"))?;
            let increase = cost.instructions / before.instructions - 1.0;
            let is_steady = !name.starts_with("wire");
            if judges_instructions && is_steady && increase > MARGIN {
                complaints.push(format!(
                    "`{name}` takes {:.0} instructions, {:.1} % more than before; {:.0} % are allowed",
                    cost.instructions,
                    increase * 100.0,
                    MARGIN * 100.0
                ));
            }
            if cost.allocations > before.allocations + ALLOCATIONS_MARGIN {
                complaints.push(format!(
                    "`{name}` allocates {:.1} times, before {:.1} times",
                    cost.allocations, before.allocations
                ));
            }
        }
        Ok(complaints)
    }
}

/// The name and version of Cargo's compiler.
fn compiler() -> anyhow::Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output();
    let output = output.context("cannot run rustc")?;
    ensure!(output.status.success(), "`rustc --version` fails");
    let version = String::from_utf8(output.stdout)?;
    // Without the commit and its date.
    Ok(version.split(' ').take(2).collect::<Vec<_>>().join(" "))
}
