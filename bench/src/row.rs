//! Rows of results: the table on the terminal and `target/bench/latest.jsonl`.

use anyhow::Context as _;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// What a value is held to.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Bar {
    AtLeast(f64),
    AtMost(f64),
}

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// Other figures of the same run, or published ones, in the same unit unless the name says another.
    pub(crate) beside: BTreeMap<String, f64>,
    /// Value over the first figure to compare with, where that says something.
    pub(crate) ratio: Option<f64>,
    #[serde(serialize_with = "number")]
    pub(crate) bar: Option<Bar>,
    pub(crate) holds: Option<bool>,
}

fn number<S: serde::Serializer>(bar: &Option<Bar>, serializer: S) -> Result<S::Ok, S::Error> {
    let value = bar.map(|bar| match bar {
        Bar::AtLeast(value) | Bar::AtMost(value) => value,
    });
    value.serialize(serializer)
}

impl Row {
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, beside: BTreeMap::new(), ratio: None, bar: None, holds: None }
    }

    pub(crate) fn beside(mut self, name: &str, value: f64) -> Self {
        self.beside.insert(name.to_owned(), value);
        self
    }

    pub(crate) fn ratio_to(mut self, other: f64) -> Self {
        self.ratio = Some(self.value / other);
        self
    }

    pub(crate) fn bar(mut self, bar: Bar) -> Self {
        self.holds = Some(match bar {
            Bar::AtLeast(least) => self.value >= least,
            Bar::AtMost(most) => self.value <= most,
        });
        self.bar = Some(bar);
        self
    }
}

/// Median; the upper one of two.
pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The value below which a share of the values lies.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = (share * sorted.len() as f64) as usize;
    sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

/// Where rows go.
pub(crate) struct Report {
    path: PathBuf,
    file: std::fs::File,
    rows: Vec<Row>,
}

impl Report {
    /// Begins `latest.jsonl` anew.
    pub(crate) fn create() -> anyhow::Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
        std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let path = folder.canonicalize().context("find the folder of results")?.join("latest.jsonl");
        let file = std::fs::File::create(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self { path, file, rows: Vec::new() })
    }

    /// Adds a row.
    pub(crate) fn add(&mut self, row: Row) -> anyhow::Result<()> {
        let line = serde_json::to_string(&row).context("serialise a row")?;
        writeln!(self.file, "{line}").with_context(|| format!("write {}", self.path.display()))?;
        println!("  {} {} {}", row.name, shown(row.value), row.unit);
        self.rows.push(row);
        Ok(())
    }

    /// Prints the table. Whether every bar holds.
    pub(crate) fn finish(self) -> bool {
        let headers = ["FIGURE", "VALUE", "UNIT", "RATIO", "BAR", "HOLDS", "BESIDE"];
        let mut lines = vec![headers.map(str::to_owned)];
        for row in &self.rows {
            let bar = row.bar.map(|bar| match bar {
                Bar::AtLeast(value) => format!(">= {}", shown(value)),
                Bar::AtMost(value) => format!("<= {}", shown(value)),
            });
            let holds = row.holds.map(|holds| if holds { "yes" } else { "NO" });
            let beside: Vec<String> =
                row.beside.iter().map(|(name, value)| format!("{name} {}", shown(*value))).collect();
            lines.push([
                row.name.clone(),
                shown(row.value),
                row.unit.to_owned(),
                row.ratio.map(shown).unwrap_or_default(),
                bar.unwrap_or_default(),
                holds.unwrap_or_default().to_owned(),
                beside.join(", "),
            ]);
        }
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 7] = std::array::from_fn(width);
        for line in &lines {
            let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
        println!("{}", self.path.display());
        self.rows.iter().all(|row| row.holds != Some(false))
    }
}

/// Three significant digits, more where a whole number has them.
fn shown(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
