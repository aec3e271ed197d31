//! How often a judge and the verifier say the same.

use serde::{Deserialize, Serialize};

/// Agreement of two judgements of the same answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Answers that both judged.
    pub both: usize,
    /// Share of them on which the two agree.
    pub agreement: f64,
    /// Cohen's kappa: `(p_o − p_e)/(1 − p_e)` with the observed agreement p_o and that of chance p_e
    /// (doi:10.1177/001316446002000104). None where chance alone makes both say the same always.
    pub kappa: Option<f64>,
}

/// Agreement over pairs (verifier, judge) of whether an answer is right; `None` without pairs.
pub fn agreement(pairs: &[(bool, bool)]) -> Option<Agreement> {
    if pairs.is_empty() {
        return None;
    }
    let n = pairs.len() as f64;
    let share = |f: &dyn Fn(&(bool, bool)) -> bool| pairs.iter().filter(|p| f(p)).count() as f64 / n;
    let observed = share(&|(a, b)| a == b);
    let (first, second) = (share(&|p| p.0), share(&|p| p.1));
    let chance = first * second + (1.0 - first) * (1.0 - second);
    let kappa = (chance < 1.0).then(|| (observed - chance) / (1.0 - chance));
    Some(Agreement { both: pairs.len(), agreement: observed, kappa })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kappa_of_a_known_table() {
        // 20 both yes, 15 both no, 5 and 10 apart: p_o = 0.7, p_e = 0.5, kappa = 0.4.
        let mut pairs = vec![(true, true); 20];
        pairs.extend([(false, false); 15]);
        pairs.extend([(true, false); 5]);
        pairs.extend([(false, true); 10]);
        let found = agreement(&pairs).unwrap();
        assert!((found.agreement - 0.7).abs() < 1e-12 && (found.kappa.unwrap() - 0.4).abs() < 1e-12);
        assert_eq!(agreement(&[(true, true); 3]).unwrap().kappa, None);
        assert_eq!(agreement(&[]), None);
    }
}
