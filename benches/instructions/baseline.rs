//! What a hit cost before, in a file beside this one, and how much more it may cost.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::callgrind::Counted;
use crate::hostile;

const FILE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/benches/instructions/baseline.toml"
);

/// So much more of the instructions than before is still the same.
const MARGIN: f64 = 0.03;

/// Allocations are whole; what tidies the cache has a few that come and go.
const ALLOCATIONS_MARGIN: f64 = 0.5;

/// Of one hit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) instructions: f64,
    pub(crate) allocations: f64,
}

impl Cost {
    pub(crate) fn per_hit(counted: &Counted, hits: usize) -> Self {
        let each = |count: u64| count as f64 / hits as f64;
        Self {
            instructions: each(counted.instructions),
            allocations: each(counted.allocations),
        }
    }
}

/// What was counted before.
pub(crate) struct Baseline(toml::Table);

impl Baseline {
    pub(crate) fn read() -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(FILE).context("there is no baseline; --write makes one")?;
        Ok(Self(text.parse()?))
    }

    pub(crate) fn write(costs: &[(String, Cost)]) -> anyhow::Result<()> {
        let mut text = format!(
            "# Instructions and allocations of a hit, as `cargo bench --bench instructions -- --write` counted\n\
             # them. What a compiler makes of the code differs between versions and architectures.\n\
             architecture = {:?}\ncompiler = {:?}\n\n[hits]\n",
            std::env::consts::ARCH,
            compiler()?
        );
        for (name, cost) in costs.iter().filter(|(name, _)| !hostile::is_one(name)) {
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

    /// Why instructions can not be compared, if they can not.
    pub(crate) fn is_of_another_machine(&self) -> anyhow::Result<Option<String>> {
        let said = |name| {
            self.0
                .get(name)
                .and_then(toml::Value::as_str)
                .unwrap_or("?")
        };
        let (architecture, compiler) = (std::env::consts::ARCH, compiler()?);
        let is_same = said("architecture") == architecture && said("compiler") == compiler;
        Ok((!is_same).then(|| {
            format!(
                "the baseline is of {} on {}, this is {compiler} on {architecture}",
                said("compiler"),
                said("architecture")
            )
        }))
    }

    /// What has become too dear. Floors are not Larder's, and only to be compared with. On the wire, where
    /// anything is allocated, some per cent of the instructions are the allocator's, and differ with how
    /// memory happens to lie.
    pub(crate) fn complaints(&self, costs: &[(String, Cost)]) -> anyhow::Result<Vec<String>> {
        let judges_instructions = self.is_of_another_machine()?.is_none();
        let mut complaints = Vec::new();
        let is_judged = |name: &str| !name.starts_with("floor") && !hostile::is_one(name);
        for (name, cost) in costs.iter().filter(|(name, _)| is_judged(name)) {
            let before = self.of(name);
            let before = before.with_context(|| format!("the baseline has no `{name}`"))?;
            let dearer = cost.instructions / before.instructions - 1.0;
            let is_steady = !name.starts_with("wire");
            if judges_instructions && is_steady && dearer > MARGIN {
                complaints.push(format!(
                    "`{name}` takes {:.0} instructions, {:.1} % more than before; {:.0} % are allowed",
                    cost.instructions,
                    dearer * 100.0,
                    MARGIN * 100.0
                ));
            }
            if cost.allocations > before.allocations + ALLOCATIONS_MARGIN {
                complaints.push(format!(
                    "`{name}` allocates {:.1} times, and did {:.1} times before",
                    cost.allocations, before.allocations
                ));
            }
        }
        Ok(complaints)
    }
}

/// The compiler's name and version, as cargo runs it.
fn compiler() -> anyhow::Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = Command::new(rustc).arg("--version").output();
    let said = said.context("can not run rustc")?;
    ensure!(said.status.success(), "rustc does not say its version");
    let said = String::from_utf8(said.stdout)?;
    // Without the commit and its date.
    Ok(said.split(' ').take(2).collect::<Vec<_>>().join(" "))
}
