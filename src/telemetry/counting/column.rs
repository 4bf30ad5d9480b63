//! One series of one process over time, in few bytes and without losing any bit of a value.
//!
//! # Why not rounded
//! A counter that is read back a little lower than it was stands for a restart, so a value that is rounded could invent
//! traffic. Nearly all series are counts that stand still or rise by a few: those cost a byte for up to 64 readings, or a
//! byte for one. Other whole numbers cost their difference, and fractions the bytes that differ from the last value.
//!
//! # The code
//! `00` the series was not there; `01..6f` it rose by 0 to 110; `70..77` a difference of 1 to 8 bytes follows; `80..bf` it
//! stayed as it was for 1 to 64 readings; `c0..ff` the bytes that differ follow, by where they begin and how many.

use std::collections::VecDeque;

/// What stands for a series that was not there. No text reads as this value.
const ABSENT: u64 = u64::MAX;
const GONE: u8 = 0x00;
const ROSE: u8 = 0x01;
const ROSE_MAX: i64 = 110;
const DIFFERENCE: u8 = 0x70;
const RUN: u8 = 0x80;
const RUN_END: u8 = 0xbf;
const BYTES: u8 = 0xc0;
/// Above it not every whole number is a value, and differences would not be exact.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// The values of one series at readings in a row, which are numbered from 0.
#[derive(Clone, Debug)]
pub(in crate::telemetry) struct Column {
    /// The value before the first reading that is kept.
    base: u64,
    /// The value at the last reading.
    last: u64,
    /// The first reading that is kept, and the one after the last.
    first: u32,
    next: u32,
    /// Whether the last byte says how long it stayed as it was.
    is_run: bool,
    bytes: VecDeque<u8>,
}

impl Column {
    /// A series that was never there before reading `first`.
    pub(in crate::telemetry) fn starting_at(first: u32) -> Self {
        Self { base: ABSENT, last: ABSENT, first, next: first, is_run: false, bytes: VecDeque::new() }
    }

    /// The reading after the last that was put.
    pub(in crate::telemetry) fn next(&self) -> u32 {
        self.next
    }

    /// Takes in the value at a reading; the series was not there at those left out since the last one.
    pub(in crate::telemetry) fn put(&mut self, reading: u32, value: f64) {
        while self.next < reading {
            self.token(ABSENT);
        }
        self.token(value.to_bits());
    }

    fn token(&mut self, now: u64) {
        let before = std::mem::replace(&mut self.last, now);
        self.next = self.next.saturating_add(1);
        if now == before {
            match self.bytes.back_mut() {
                Some(run) if self.is_run && *run < RUN_END => *run += 1,
                Some(_) | None => self.bytes.push_back(RUN),
            }
            self.is_run = true;
            return;
        }
        self.is_run = false;
        if now == ABSENT {
            self.bytes.push_back(GONE);
            return;
        }
        let before = if before == ABSENT { 0 } else { before };
        match (whole(before), whole(now)) {
            (Some(before), Some(now)) if (0..=ROSE_MAX).contains(&(now - before)) => {
                self.bytes.push_back(ROSE + u8::try_from(now - before).unwrap_or_default());
            }
            (Some(before), Some(now)) => {
                let difference = now - before;
                // The sign goes to the lowest bit, so that small falls are short too.
                let folded = ((difference << 1) ^ (difference >> 63)).to_be_bytes();
                let zeros = folded.iter().take(7).take_while(|byte| **byte == 0).count();
                self.bytes.push_back(DIFFERENCE + u8::try_from(7 - zeros).unwrap_or_default());
                self.bytes.extend(folded.iter().skip(zeros));
            }
            (_, _) => {
                let differs = (before ^ now).to_be_bytes();
                let zeros = differs.iter().take(7).take_while(|byte| **byte == 0).count();
                let tail = differs.iter().rev().take(7 - zeros).take_while(|byte| **byte == 0).count();
                let length = 8 - zeros - tail;
                self.bytes.push_back(BYTES + u8::try_from((zeros << 3) | (length - 1)).unwrap_or_default());
                self.bytes.extend(differs.iter().skip(zeros).take(length));
            }
        }
    }

    /// Forgets the readings before this one.
    pub(in crate::telemetry) fn forget_before(&mut self, reading: u32) {
        while self.first < reading.min(self.next) {
            match self.bytes.front_mut() {
                Some(run) if (RUN + 1..=RUN_END).contains(run) => *run -= 1,
                Some(_) => {
                    let mut rest = std::iter::from_fn(|| self.bytes.pop_front());
                    if let Some((now, _)) = step(self.base, &mut rest) {
                        self.base = now;
                    }
                }
                None => {}
            }
            self.first += 1;
        }
        self.is_run &= !self.bytes.is_empty();
        if reading > self.next {
            // What was not put since is not there.
            *self = Self::starting_at(reading);
        }
        self.bytes.shrink_to_fit();
    }

    /// Whether it is there at none of the readings that are kept.
    pub(in crate::telemetry) fn is_empty(&self) -> bool {
        self.values().all(|(_, value)| value.is_none())
    }

    /// Each reading that is kept and the value at it, where the series was there.
    pub(in crate::telemetry) fn values(&self) -> impl Iterator<Item = (u32, Option<f64>)> + '_ {
        let mut bytes = self.bytes.iter().copied();
        let (mut now, mut repeats) = (self.base, 0_u32);
        (self.first..self.next).map(move |reading| {
            if repeats > 0 {
                repeats -= 1;
            } else if let Some((value, more)) = step(now, &mut bytes) {
                (now, repeats) = (value, more);
            }
            (reading, (now != ABSENT).then(|| f64::from_bits(now)))
        })
    }

    /// Bytes it takes up, itself included.
    pub(in crate::telemetry) fn size(&self) -> usize {
        size_of::<Self>() + self.bytes.capacity()
    }

    /// How many readings it covers.
    pub(in crate::telemetry) fn len(&self) -> usize {
        (self.next - self.first) as usize
    }
}

/// The next value, and how often it is repeated after that.
fn step(before: u64, bytes: &mut impl Iterator<Item = u8>) -> Option<(u64, u32)> {
    let code = bytes.next()?;
    let mut read = |count: u8| (0..count).try_fold(0_u64, |all, _| Some((all << 8) | u64::from(bytes.next()?)));
    let value = if before == ABSENT { 0 } else { before };
    let plus = |difference: i64| ((f64::from_bits(value) as i64 + difference) as f64).to_bits();
    let now = match code {
        GONE => ABSENT,
        ROSE..DIFFERENCE => plus(i64::from(code - ROSE)),
        DIFFERENCE..RUN => {
            let folded = read((code - DIFFERENCE) % 8 + 1)?;
            plus(((folded >> 1) as i64) ^ -((folded & 1) as i64))
        }
        RUN..BYTES => return Some((before, u32::from(code - RUN))),
        BYTES..=u8::MAX => {
            let (zeros, length) = ((code - BYTES) >> 3, (code & 7) + 1);
            let tail = 8_u8.saturating_sub(zeros + length);
            value ^ (read(length)? << (8 * u32::from(tail)))
        }
    };
    Some((now, 0))
}

/// The whole number that a value is, where differences of such are exact.
fn whole(bits: u64) -> Option<i64> {
    let value = f64::from_bits(bits);
    let is_whole = value.fract() == 0.0 && value.abs() <= WHOLE_MAX && bits != (-0.0_f64).to_bits();
    is_whole.then_some(value as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_value() -> impl Strategy<Value = Option<f64>> {
        prop_oneof![
            3 => Just(None),
            8 => (0..5_u32).prop_map(|n| Some(f64::from(n))),
            4 => (-2_000_000..2_000_000_i64).prop_map(|n| Some(n as f64)),
            3 => any::<f64>().prop_map(Some),
            2 => prop::sample::select(vec![
                -0.0, 0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, WHOLE_MAX, -WHOLE_MAX, WHOLE_MAX + 2.0, 0.1, 110.0,
                111.0, f64::MIN_POSITIVE,
            ])
            .prop_map(Some),
        ]
    }

    fn bits(values: impl Iterator<Item = (u32, Option<f64>)>) -> Vec<(u32, Option<u64>)> {
        values.map(|(reading, value)| (reading, value.map(f64::to_bits))).collect()
    }

    proptest! {
        #[test]
        fn every_bit_of_every_value_comes_back_whatever_was_forgotten(
            first in 0..9_u32,
            runs in prop::collection::vec((any_value(), 1..150_usize), 1..40),
            forgets in prop::collection::vec((0..400_usize, 0..300_u32), 0..6),
        ) {
            let truth: Vec<Option<f64>> = runs.into_iter().flat_map(|(value, n)| std::iter::repeat_n(value, n)).collect();
            let mut column = Column::starting_at(first);
            let mut kept = first;
            let mut end = first;
            for (at, value) in truth.iter().enumerate() {
                let reading = first + u32::try_from(at).unwrap();
                if let Some(value) = value {
                    column.put(reading, *value);
                    end = reading + 1;
                }
                for (when, before) in &forgets {
                    if *when == at {
                        // Only what has been read can be forgotten.
                        let before = (*before).min(reading + 1);
                        column.forget_before(before);
                        kept = kept.max(before);
                        end = end.max(kept);
                    }
                }
            }
            let expected = (kept..end).map(|reading| (reading, truth[(reading - first) as usize]));
            prop_assert_eq!(bits(column.values()), bits(expected));
            let is_empty = (kept..end).all(|reading| truth[(reading - first) as usize].is_none());
            prop_assert_eq!(column.is_empty(), is_empty);
        }
    }

    #[test]
    fn counts_cost_a_byte_at_most_and_what_stands_still_next_to_nothing() {
        let mut still = Column::starting_at(0);
        let mut rises = Column::starting_at(0);
        for reading in 0..640 {
            still.put(reading, 7.0);
            rises.put(reading, f64::from(reading * 100));
        }
        assert_eq!((still.bytes.len(), rises.bytes.len()), (1 + 10, 640));
    }
}
