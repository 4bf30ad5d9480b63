//! The page: what the template needs, in the words and figures it prints.

use serde::Serialize;

use super::{
    Findings, Found, Row, percent,
    plots::{self, Plot},
    shortfalls::Shortfall,
    summary,
};
use crate::eval::{
    calibration::{Rate, Standing},
    power::Delay,
    suite::Words,
};

/// A table: its title, the columns' heads, and rows of cells.
#[derive(Serialize)]
struct Table {
    title: String,
    heads: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

/// A cell: its figure, what stands small beside it, and how it looks.
#[derive(Default, Serialize)]
struct Cell {
    figure: String,
    small: String,
    class: &'static str,
}

#[derive(Serialize)]
struct Section {
    name: &'static str,
    summary: &'static str,
    words: Words,
    runs: u64,
    power_runs: u64,
    /// What our first method promises, in percent.
    promise: String,
    has_limits: bool,
    columns: Vec<summary::Column>,
    lines: Vec<summary::Line>,
    shortfalls: Vec<Shortfall>,
    rollback_plots: Vec<Plot>,
    delay_plots: Vec<Plot>,
    rollback_tables: Vec<Table>,
    delay_tables: Vec<Table>,
}

/// The page as HTML.
pub(super) fn render(findings: &Findings) -> Result<String, tera::Error> {
    let mut places = tera::Context::new();
    places.insert("seed", &findings.seed);
    places.insert("version", env!("CARGO_PKG_VERSION"));
    places.insert("is_broken", &findings.is_broken());
    places.insert("sections", &findings.suites.iter().map(section).collect::<Vec<_>>());
    tera::Tera::one_off(include_str!("page.html"), &places, true)
}

fn section(found: &Found) -> Section {
    let first = found.harmful.first().map_or("", |row| row.table);
    Section {
        name: found.suite,
        summary: found.summary,
        words: found.words,
        runs: found.runs,
        power_runs: found.power_runs,
        promise: found.methods.iter().find_map(|method| method.promise).map_or(String::new(), percent),
        has_limits: found.has_limits(),
        columns: summary::columns(found),
        lines: summary::lines(found),
        shortfalls: found.shortfalls(),
        rollback_plots: plots::false_rollbacks(found),
        delay_plots: plots::delays(found, first),
        rollback_tables: tables(found, &found.harmless, "", |at, _, rate| rollback_cell(found, at, rate)),
        delay_tables: tables(found, &found.harmful, "limit, s", |at, row, delay| delay_cell(found, at, row, delay)),
    }
}

/// One table for each that the rows stand in; `limit` is the head of the limit's column, if there shall be one.
fn tables<T>(found: &Found, rows: &[Row<T>], limit: &str, cell: impl Fn(usize, &Row<T>, &T) -> Cell) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    for row in rows {
        if tables.last().is_none_or(|table| table.title != row.table) {
            let settings = row.setting.iter().map(|(name, _)| (*name).to_owned());
            let methods = found.methods.iter().map(|method| method.name.to_owned());
            let limit = (!limit.is_empty()).then(|| limit.to_owned());
            let heads = ["noise".to_owned()].into_iter().chain(settings).chain(limit).chain(methods).collect();
            tables.push(Table { title: row.table.to_owned(), heads, rows: Vec::new() });
        }
        let word = |word: &str, class| Cell { figure: word.to_owned(), small: String::new(), class };
        let mut cells = vec![word(row.family, "word")];
        cells.extend(row.setting.iter().map(|(_, value)| word(value, "")));
        if !limit.is_empty() {
            let seconds = row.limit_seconds.map_or(String::new(), |limit| format!("{limit:.0}"));
            cells.push(word(&seconds, "limit"));
        }
        cells.extend(row.cells.iter().enumerate().map(|(at, figure)| cell(at, row, figure)));
        if let Some(table) = tables.last_mut() {
            table.rows.push(cells);
        }
    }
    tables
}

fn rollback_cell(found: &Found, at: usize, rate: &Rate) -> Cell {
    let is_ours = found.methods.get(at).is_some_and(|method| method.is_ours);
    let class = match found.methods.get(at).and_then(|method| found.standing(method, rate)) {
        Some(Standing::Broken) => "ours broken",
        Some(Standing::Open) => "ours open",
        Some(Standing::Kept) => "ours kept",
        None if is_ours => "ours",
        None => "",
    };
    Cell { figure: percent(rate.share), small: format!("≤{}", percent(rate.upper)), class }
}

fn delay_cell(found: &Found, at: usize, row: &Row<Delay>, delay: &Delay) -> Cell {
    let seconds = |seconds: Option<u32>| seconds.map_or("–".to_owned(), |seconds| seconds.to_string());
    let is_ours = found.methods.get(at).is_some_and(|method| method.is_ours);
    let found_percent = percent(delay.found as f64 / delay.runs.max(1) as f64);
    let figure = if delay.median.is_some() { seconds(delay.median) } else { "not in time".to_owned() };
    let small = if delay.median.is_some() { seconds(delay.ninetieth) } else { format!("{found_percent}% found") };
    let is_slow = delay.median.is_none() && row.limit_seconds.is_none_or(|limit| limit <= 7200.0);
    let class = match (is_ours, is_slow) {
        (true, true) => "ours missed",
        (true, false) => "ours",
        (false, true) => "missed",
        (false, false) => "",
    };
    Cell { figure, small, class }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::report::testing::findings;

    #[test]
    fn every_figure_of_a_row_stands_in_the_page() {
        let page = render(&findings(10)).unwrap();
        for figure in ["1.0<small>≤1.7</small>", "30<small>≤32</small>", "3000<small>–</small>", "not in time"] {
            assert!(page.contains(figure), "{figure}");
        }
        let whole = ["</html>", "prefers-color-scheme: dark", "seed 1"];
        assert!(whole.iter().all(|part| page.contains(part)));
    }

    #[test]
    fn a_report_of_one_half_is_a_page_too() {
        for half in [0, 1] {
            let mut findings = findings(0);
            if half == 0 {
                findings.suites[0].harmful.clear()
            } else {
                findings.suites[0].harmless.clear()
            }
            assert!(render(&findings).unwrap().contains("</html>"));
        }
    }
}
