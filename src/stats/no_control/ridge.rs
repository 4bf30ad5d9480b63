//! Ridge regression by the normal equations, for few columns and many rows, some of them missing and some of them wild.
//!
//! Columns are standardised, so that the ridge weighs them alike; it also makes the normal equations solvable whatever the
//! columns are. The fit is done twice, the second time with residuals clipped, so that an outage does not bend it.
//!
//! Sources: Hoerl and Kennard, "Ridge regression" (1970); Huber, "Robust estimation of a location parameter" (1964);
//! Golub and Van Loan, "Matrix Computations", for Cholesky's factor.

use serde::{Deserialize, Serialize};

/// Only one minute of so many is fitted: those next to one another say much the same.
const FIT_STEP: usize = 5;
/// Fewer complete minutes than this, of those that are fitted, are no fit: nine tenths of a day.
const FIT_MIN: usize = 260;
/// Strength of the ridge, as a part of the number of minutes.
const RIDGE: f64 = 0.01;
/// Residuals beyond this many typical ones are clipped for the second fit.
const CLIP: f64 = 3.0;

/// A ridge regression on standardised columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Ridge {
    /// What is expected where every column is at its centre.
    pub(super) level: f64,
    /// For each column that is used: which one, its centre, and its slope in its own unit.
    terms: Vec<(usize, f64, f64)>,
}

impl Ridge {
    /// Fits the target from the columns on the minutes where all are there; twice, with the residuals of the first fit
    /// clipped, so that an outage does not bend it. A column that is mostly missing there is left out, as last week is
    /// in the first one.
    pub(super) fn fit(target: &[f64], columns: &[Vec<f64>], from: usize, to: usize) -> Option<Self> {
        let at = |column: &[f64], minute: usize| column.get(minute).copied().unwrap_or(f64::NAN);
        let minutes = || (from..to).step_by(FIT_STEP);
        let is_there = |column: &Vec<f64>| {
            let there = minutes().filter(|minute| at(column, *minute).is_finite()).count();
            2 * there > minutes().count()
        };
        let used: Vec<(usize, &Vec<f64>)> = columns.iter().enumerate().filter(|(_, column)| is_there(column)).collect();
        let is_complete = |minute: &usize| {
            at(target, *minute).is_finite() && used.iter().all(|(_, column)| at(column, *minute).is_finite())
        };
        let rows: Vec<usize> = minutes().filter(is_complete).collect();
        if used.is_empty() || rows.len() < FIT_MIN {
            return None;
        }
        let standard: Vec<Standard> = used.iter().map(|(_, column)| Standard::of(column, &rows)).collect();
        let table: Vec<Vec<f64>> = rows
            .iter()
            .map(|row| standard.iter().zip(&used).map(|(s, (_, column))| s.apply(at(column, *row))).collect())
            .collect();
        let gram = Gram::of(&table, used.len());
        let mut wanted: Vec<f64> = rows.iter().map(|row| at(target, *row)).collect();
        let (level, slopes) = gram.solve(&table, &wanted)?;
        clip(&mut wanted, &table, level, &slopes);
        let (level, slopes) = gram.solve(&table, &wanted)?;
        let terms = used.iter().zip(&standard).zip(slopes);
        let terms = terms.map(|(((which, _), s), slope)| (*which, s.centre, slope * s.scale)).collect();
        Some(Self { level, terms })
    }

    /// Whether all of its numbers are.
    pub(super) fn is_finite(&self) -> bool {
        self.level.is_finite() && self.terms.iter().all(|(_, centre, slope)| centre.is_finite() && slope.is_finite())
    }

    /// What is expected in a minute; NaN where a column is missing.
    pub(super) fn expected(&self, columns: &[Vec<f64>], minute: usize) -> f64 {
        let part = |(which, centre, slope): &(usize, f64, f64)| {
            slope * (columns.get(*which).and_then(|column| column.get(minute)).copied().unwrap_or(f64::NAN) - centre)
        };
        self.level + self.terms.iter().map(part).sum::<f64>()
    }
}

/// How a column is standardised.
struct Standard {
    centre: f64,
    /// One over the standard deviation; 0 for a column that stands still, which explains nothing.
    scale: f64,
}

impl Standard {
    fn of(column: &[f64], rows: &[usize]) -> Self {
        let values = || rows.iter().filter_map(|row| column.get(*row));
        let n = rows.len().max(1) as f64;
        let centre = values().sum::<f64>() / n;
        let spread = (values().map(|value| (value - centre).powi(2)).sum::<f64>() / n).sqrt();
        Self { centre, scale: if spread > 1e-9 { 1.0 / spread } else { 0.0 } }
    }

    fn apply(&self, value: f64) -> f64 {
        (value - self.centre) * self.scale
    }
}

/// Moves what is far from its fit nearer to it.
fn clip(wanted: &mut [f64], rows: &[Vec<f64>], level: f64, slopes: &[f64]) {
    let fitted: Vec<f64> = rows.iter().map(|row| level + product(row, slopes)).collect();
    let mut sizes: Vec<f64> = wanted.iter().zip(&fitted).map(|(wanted, fitted)| (wanted - fitted).abs()).collect();
    sizes.sort_by(f64::total_cmp);
    // The median of sizes, in standard deviations of a normal law.
    let typical = 1.4826 * sizes.get(sizes.len() / 2).copied().unwrap_or(0.0);
    for (wanted, fitted) in wanted.iter_mut().zip(fitted) {
        *wanted = wanted.clamp(fitted - CLIP * typical, fitted + CLIP * typical);
    }
}

fn product(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}

/// The lower triangle of `L`, where `L L'` is the matrix of the normal equations with the ridge.
struct Gram {
    lower: Vec<Vec<f64>>,
}

impl Gram {
    fn of(rows: &[Vec<f64>], columns: usize) -> Self {
        let mut matrix = vec![vec![0.0; columns]; columns];
        for row in rows {
            for (line, a) in matrix.iter_mut().zip(row) {
                line.iter_mut().zip(row).for_each(|(cell, b)| *cell += a * b);
            }
        }
        let ridge = RIDGE * rows.len() as f64;
        matrix.iter_mut().enumerate().for_each(|(at, line)| line.iter_mut().skip(at).take(1).for_each(|x| *x += ridge));
        Self { lower: cholesky(&matrix) }
    }

    /// The level and the slopes that fit `wanted` best.
    fn solve(&self, rows: &[Vec<f64>], wanted: &[f64]) -> Option<(f64, Vec<f64>)> {
        let level = wanted.iter().sum::<f64>() / wanted.len().max(1) as f64;
        let mut right = vec![0.0; self.lower.len()];
        for (row, wanted) in rows.iter().zip(wanted) {
            right.iter_mut().zip(row).for_each(|(cell, value)| *cell += value * (wanted - level));
        }
        let mut forward: Vec<f64> = Vec::with_capacity(right.len());
        for (line, right) in self.lower.iter().zip(&right) {
            let diagonal = line.get(forward.len())?;
            forward.push((right - product(line, &forward)) / diagonal);
        }
        let mut slopes = vec![0.0; forward.len()];
        for at in (0..forward.len()).rev() {
            let below: f64 = (at + 1..forward.len())
                .map(|i| self.lower.get(i)?.get(at).zip(slopes.get(i)))
                .map(|both| both.map_or(0.0, |(a, b)| a * b))
                .sum();
            let diagonal = self.lower.get(at)?.get(at)?;
            *slopes.get_mut(at)? = (forward.get(at)? - below) / diagonal;
        }
        slopes.iter().all(|slope| slope.is_finite()).then_some((level, slopes))
    }
}

/// The Cholesky factor, line by line up to the diagonal. The matrix has a ridge; where rounding leaves a pivot that is
/// not above 0 all the same, it is replaced by a large one, so that its column explains nothing.
fn cholesky(matrix: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut lower: Vec<Vec<f64>> = Vec::with_capacity(matrix.len());
    for (at, line) in matrix.iter().enumerate() {
        let mut row: Vec<f64> = Vec::with_capacity(at + 1);
        for (above, cell) in lower.iter().zip(line) {
            let diagonal = above.get(row.len()).copied().unwrap_or(1.0);
            row.push((cell - product(above, &row)) / diagonal);
        }
        let left = line.get(at).copied().unwrap_or(0.0) - product(&row, &row);
        row.push(if left > 0.0 { left.sqrt() } else { 1e150 });
        lower.push(row);
    }
    lower
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_regression_finds_what_made_the_series() {
        let wave = |minute: usize, period: f64| (minute as f64 / period).sin();
        let columns: Vec<Vec<f64>> =
            vec![(0..4000).map(|m| wave(m, 50.0)).collect(), (0..4000).map(|m| wave(m, 17.0)).collect()];
        let mut target: Vec<f64> = (0..4000).map(|m| 1.0 + 2.0 * wave(m, 50.0) - 0.5 * wave(m, 17.0)).collect();
        target[500..520].fill(5.0);
        let model = Ridge::fit(&target, &columns, 0, 4000).unwrap();
        assert!((model.terms[0].2 - 2.0).abs() < 0.1 && (model.terms[1].2 + 0.5).abs() < 0.1, "{:?}", model.terms);
        assert!((model.expected(&columns, 30) - target[30]).abs() < 0.1);
    }

    /// Cholesky and both substitutions against a system solved by hand.
    #[test]
    fn the_normal_equations_are_solved() {
        let gram = Gram { lower: cholesky(&[vec![4.0, 2.0], vec![2.0, 3.0]]) };
        // The products of the columns with the centred target are 2 and 4: 4a + 2b = 2, 2a + 3b = 4.
        let (level, slopes) = gram.solve(&[vec![1.0, 4.0], vec![-1.0, 0.0]], &[3.0, 1.0]).unwrap();
        let (x, y) = (2.0, 4.0);
        assert_eq!(level, 2.0);
        assert!((4.0 * slopes[0] + 2.0 * slopes[1] - x).abs() < 1e-12, "{slopes:?}");
        assert!((2.0 * slopes[0] + 3.0 * slopes[1] - y).abs() < 1e-12, "{slopes:?}");
    }
}
