//! The plots, as SVG that takes its colours from the page.

use super::{Found, Row, percent};
use crate::eval::{
    calibration::{Rate, Standing},
    power::{Delay, TELLING},
    suite::Method,
};

/// A plot and what it shows.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub(super) struct Plot {
    title: String,
    svg: String,
}

/// A logarithmic scale from data to pixels.
struct Log {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Log {
    fn at(&self, value: f64) -> f64 {
        let part = (value.clamp(self.low, self.high) / self.low).ln() / (self.high / self.low).ln();
        self.from + part * (self.to - self.from)
    }

    /// Powers of ten inside.
    fn ticks(&self) -> impl Iterator<Item = f64> + '_ {
        (-6..=6).map(|power| 10_f64.powi(power)).filter(|tick| (self.low..=self.high).contains(tick))
    }
}

const LABELS: f64 = 150.0;
const WIDTH: f64 = 440.0;
const LINE: f64 = 17.0;
const TOP: f64 = 8.0;

/// False rollbacks: a plot a family, a line a method, a mark a case, on a logarithmic scale.
pub(super) fn false_rollbacks(found: &Found) -> Vec<Plot> {
    super::values(found.harmless.iter().map(|row| row.family))
        .into_iter()
        .map(|family| {
            let rows: Vec<_> = found.harmless.iter().filter(|row| row.family == family).collect();
            Plot { title: family.to_owned(), svg: family_plot(found, &rows) }
        })
        .collect()
}

fn family_plot(found: &Found, rows: &[&Row<Rate>]) -> String {
    let methods = &found.methods;
    let height = TOP + LINE * methods.len() as f64;
    let scale = Log { low: 1e-4, high: 1.0, from: LABELS + 16.0, to: WIDTH - 20.0 };
    let mut svg = open(WIDTH, height + 24.0);
    for tick in scale.ticks() {
        let x = scale.at(tick);
        svg += &format!("<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{height}\"/>");
        svg += &format!("<text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\">{}%</text>", height + 15.0, 100.0 * tick);
    }
    if let Some(promise) = methods.iter().find_map(|method| method.promise) {
        let x = scale.at(promise);
        svg += &format!("<line class=\"promise\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{height}\"/>");
    }
    for (at, method) in methods.iter().enumerate() {
        let y = TOP + LINE * (at as f64 + 0.5);
        let class = if method.is_ours { "ours" } else { "rival" };
        let name = escape(method.name);
        svg += &format!("<text class=\"label {class}\" x=\"{LABELS}\" y=\"{:.1}\">{name}</text>", y + 4.0);
        for row in rows {
            let Some(rate) = row.cells.get(at) else { continue };
            let told = escape(&format!(
                "{}: {} of {} = {}%, at most {}% ({})",
                method.name,
                rate.hits,
                rate.runs,
                percent(rate.share),
                percent(rate.upper),
                row.told()
            ));
            let broken = if found.standing(method, rate) == Some(Standing::Broken) { " broken" } else { "" };
            svg += &mark(&scale, rate, y, &format!("{class}{broken}"), &told);
        }
    }
    svg + "</svg>"
}

/// A dot with its bounds; without a hit, a ring at the left end and its upper bound.
fn mark(scale: &Log, rate: &Rate, y: f64, class: &str, told: &str) -> String {
    let (x, high) = (scale.at(rate.share.max(scale.low)), scale.at(rate.upper));
    let low = if rate.hits == 0 { scale.from } else { scale.at(rate.lower.max(scale.low)) };
    let kind = if rate.hits == 0 { "none" } else { "some" };
    format!(
        "<g class=\"{class} {kind}\"><title>{told}</title><line x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{y:.1}\" \
         y2=\"{y:.1}\"/><circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.2\"/></g>"
    )
}

const SIDE: f64 = 260.0;
const HIGH: f64 = 190.0;

/// Delay over the limit, against the limit: a plot a method, a mark a case.
pub(super) fn delays(found: &Found, table: &str) -> Vec<Plot> {
    let rows: Vec<_> = found.harmful.iter().filter(|row| row.table == table && row.limit_seconds.is_some()).collect();
    if rows.is_empty() {
        return Vec::new();
    }
    let plot =
        |(at, method): (usize, &Method)| Plot { title: method.name.to_owned(), svg: delay_plot(at, method, &rows) };
    found.methods.iter().enumerate().map(plot).collect()
}

fn delay_plot(at: usize, method: &Method, rows: &[&Row<Delay>]) -> String {
    let x = Log { low: 3.0, high: 10_000.0, from: 34.0, to: SIDE - 8.0 };
    let y = Log { low: 0.3, high: 100.0, from: HIGH - 30.0, to: 20.0 };
    let mut svg = open(SIDE, HIGH);
    let (least, most) = (x.at(*TELLING.start()), x.at(*TELLING.end()));
    let (top, bottom) = (y.to, y.from);
    svg += &format!(
        "<rect class=\"telling\" x=\"{least:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
        most - least,
        bottom - top
    );
    for tick in x.ticks() {
        let at = x.at(tick);
        svg += &format!("<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{top:.1}\" y2=\"{bottom:.1}\"/>");
        svg += &format!("<text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\">{tick}</text>", bottom + 13.0);
    }
    for (multiple, class) in [(1.0, "limit"), (2.0, "grid"), (10.0, "grid"), (100.0, "grid")] {
        let at = y.at(multiple);
        svg += &format!(
            "<line class=\"{class}\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"tick end\" x=\"{:.1}\" y=\"{:.1}\">{multiple}x</text>",
            x.from,
            x.to,
            x.from - 4.0,
            at + 3.5
        );
    }
    svg += &format!("<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\">limit, s</text>", (x.from + x.to) / 2.0, HIGH - 3.0);
    let class = if method.is_ours { "ours" } else { "rival" };
    for row in rows {
        let (Some(delay), Some(limit)) = (row.cells.get(at), row.limit_seconds) else { continue };
        if limit > *TELLING.end() && delay.median.is_none() {
            continue;
        }
        let few = if row.value("canary pods").is_some_and(|pods| pods != "5") { " few" } else { "" };
        let left = x.at(limit);
        let (shape, told) = match (delay.median, delay.over(limit)) {
            (Some(median), Some(over)) => (
                format!("<circle cx=\"{left:.1}\" cy=\"{:.1}\" r=\"2.8\"/>", y.at(over)),
                format!("{median} s, {over:.2} times the limit"),
            ),
            _ => {
                let (base, tip) = (y.to - 4.0, y.to - 11.0);
                (
                    format!("<path d=\"M{:.1} {base:.1}h7l-3.5 {:.1}z\"/>", left - 3.5, tip - base),
                    format!("{} of {} found", delay.found, delay.runs),
                )
            }
        };
        let told = escape(&format!("{told} ({}, limit {limit:.0} s)", row.told()));
        svg += &format!("<g class=\"{class}{few}\"><title>{told}</title>{shape}</g>");
    }
    svg + "</svg>"
}

fn open(width: f64, height: f64) -> String {
    format!("<svg viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\">")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::report::testing::findings;

    #[test]
    fn every_case_is_a_mark_and_the_words_are_escaped() {
        let found = findings(10).suites.remove(0);
        let plots = false_rollbacks(&found);
        assert_eq!(plots.len(), 3);
        for plot in &plots {
            assert_eq!(plot.svg.matches("<circle").count(), 2);
            assert!(plot.svg.contains("a &lt;rival&gt;") && plot.svg.contains("class=\"promise\""));
        }
        assert!(plots[1].svg.contains("ours broken some") && plots[0].svg.contains("ours none"));
        let plots = delays(&found, "grid");
        assert_eq!(plots.len(), 2);
        assert_eq!((plots[0].svg.matches("<circle").count(), plots[0].svg.matches("<path").count()), (3, 1));
        assert!(delays(&found, "another").is_empty());
    }

    #[test]
    fn a_scale_keeps_to_its_ends() {
        let scale = Log { low: 1.0, high: 100.0, from: 10.0, to: 30.0 };
        assert_eq!((scale.at(0.001), scale.at(10.0), scale.at(1e9)), (10.0, 20.0, 30.0));
        assert_eq!(scale.ticks().collect::<Vec<_>>(), [1.0, 10.0, 100.0]);
    }
}
