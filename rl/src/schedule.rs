//! Learning-rate schedules with a linear warm-up.
//!
//! With `w = warmup_steps`, `n = total` optimizer steps, `m = min_ratio` and `step` counted from 0, the learning rate
//! is `base · factor(step)`:
//!
//! - `step < w`: `factor = step / w`, so the very first step of a warm-up has a rate of 0, as in the
//!   `get_*_schedule_with_warmup` functions of transformers.
//! - after it, with `p = (step − w) / max(1, n − w)`, at most 1:
//!   `constant`: 1 · `linear`: `m + (1 − m)·(1 − p)` · `cosine`: `m + (1 − m)·(1 + cos(π·p))/2`
//!   (SGDR, arXiv:1608.03983, without restarts).
//!
//! Unlike transformers, the rate stays at its minimum beyond `n` (a cosine would rise again), and `linear` knows
//! `min_ratio` too.

use serde::{Deserialize, Serialize};

/// Shape of the learning rate after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// The base rate throughout.
    Constant,
    /// A straight line down to `min_ratio`.
    Linear,
    /// Half a cosine wave down to `min_ratio`.
    Cosine,
}

/// Learning-rate schedule.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleConfig {
    /// Shape after the warm-up. Default `constant`.
    pub kind: ScheduleKind,
    /// Optimizer steps of linear warm-up from 0. Default 0.
    pub warmup_steps: u64,
    /// The rate at the end as a share of the base rate, in [0, 1]; `linear` and `cosine`. Default 0.
    pub min_ratio: f64,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self { kind: ScheduleKind::Constant, warmup_steps: 0, min_ratio: 0.0 }
    }
}

/// A schedule that makes no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("min_ratio: {0} does not lie in [0, 1]")]
pub struct ScheduleError(f64);

impl ScheduleConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`ScheduleError`] when `min_ratio` is outside [0, 1].
    pub fn validate(&self) -> Result<(), ScheduleError> {
        if (0.0..=1.0).contains(&self.min_ratio) { Ok(()) } else { Err(ScheduleError(self.min_ratio)) }
    }

    /// Share of the base learning rate at `step`, counted from 0, of `total` optimizer steps.
    pub fn factor(&self, step: u64, total: u64) -> f64 {
        if step < self.warmup_steps {
            return step as f64 / self.warmup_steps as f64;
        }
        let after = (step - self.warmup_steps) as f64;
        let progress = (after / total.saturating_sub(self.warmup_steps).max(1) as f64).min(1.0);
        let shape = match self.kind {
            ScheduleKind::Constant => return 1.0,
            ScheduleKind::Linear => 1.0 - progress,
            ScheduleKind::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
        };
        self.min_ratio + (1.0 - self.min_ratio) * shape
    }

    /// Learning rate at `step`, counted from 0, of `total` optimizer steps.
    pub fn lr_at(&self, base: f64, step: u64, total: u64) -> f64 {
        base * self.factor(step, total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(config: ScheduleConfig, total: u64, expected: &[(u64, f64)]) {
        for &(step, rate) in expected {
            let found = config.lr_at(10.0, step, total);
            assert!((found - rate).abs() < 1e-12, "{config:?} at {step}: {found}, not {rate}");
        }
    }

    fn config(kind: ScheduleKind, warmup_steps: u64, min_ratio: f64) -> ScheduleConfig {
        ScheduleConfig { kind, warmup_steps, min_ratio }
    }

    #[test]
    fn constant() {
        check(config(ScheduleKind::Constant, 0, 0.0), 3, &[(0, 10.0), (2, 10.0), (9, 10.0)]);
        check(config(ScheduleKind::Constant, 4, 0.0), 3, &[(0, 0.0), (1, 2.5), (3, 7.5), (4, 10.0)]);
    }

    /// Values of the documentation of transformers: base 10, 2 warm-up steps of 10.
    #[test]
    fn linear_and_cosine_with_warmup() {
        let linear = [0.0, 5.0, 10.0, 8.75, 7.5, 6.25, 5.0, 3.75, 2.5, 1.25, 0.0, 0.0];
        let steps: Vec<_> = linear.iter().enumerate().map(|(s, r)| (s as u64, *r)).collect();
        check(config(ScheduleKind::Linear, 2, 0.0), 10, &steps);
        let half = 0.5f64.sqrt();
        let cosine = [
            (0, 0.0),
            (1, 5.0),
            (2, 10.0),
            (4, 5.0 + 5.0 * half),
            (6, 5.0),
            (8, 5.0 - 5.0 * half),
            (10, 0.0),
        ];
        check(config(ScheduleKind::Cosine, 2, 0.0), 10, &cosine);
    }

    #[test]
    fn ends_at_the_minimum_and_stays_there() {
        for kind in [ScheduleKind::Linear, ScheduleKind::Cosine] {
            check(config(kind, 0, 0.1), 4, &[(0, 10.0), (2, 5.5), (4, 1.0), (6, 1.0)]);
            check(config(kind, 5, 0.1), 5, &[(5, 10.0), (6, 1.0)]);
            check(config(kind, 0, 0.1), 0, &[(0, 10.0), (1, 1.0)]);
        }
    }

    #[test]
    fn a_minimum_above_the_base_is_refused() {
        assert!(config(ScheduleKind::Linear, 0, 1.5).validate().is_err());
        assert!(config(ScheduleKind::Linear, 0, f64::NAN).validate().is_err());
        assert!(ScheduleConfig::default().validate().is_ok());
    }
}
