//! Means over questions and their errors.

use super::bootstrap::clustered_bootstrap;
use super::proportion::{Z95, wilson};
use std::collections::HashMap;

/// A mean over questions and its standard error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Its standard error; NaN with fewer than two clusters.
    pub standard_error: f64,
    /// Clusters: what counts as independent.
    pub clusters: usize,
}

/// Mean of the items' scores and its standard error, `s/√n` with the sample deviation s over items.
///
/// With several samples an item, pass each item's mean (mean@k): the samples of an item are not independent, so the
/// error is taken over items (arXiv:2411.00640). `None` without items; the error is NaN with one.
pub fn mean_and_standard_error(items: &[f64]) -> Option<(f64, f64)> {
    let clusters: Vec<usize> = (0..items.len()).collect();
    clustered_mean(items, &clusters).map(|e| (e.mean, e.standard_error))
}

/// Mean of `values` and its standard error when those of one cluster depend on each other: with mean m of all n values,
/// `√(G/(G−1) · Σ_clusters (Σ_values (v − m))²) / n` (arXiv:2411.00640, clustered standard errors; the factor with the number G of clusters
/// makes it `s/√n` where every value is its own cluster). `None` without values.
///
/// `clusters` names the cluster of each value by any number.
///
/// # Panics
/// When the two differ in length.
pub fn clustered_mean(values: &[f64], clusters: &[usize]) -> Option<Estimate> {
    assert_eq!(values.len(), clusters.len(), "every value has a cluster");
    if values.is_empty() {
        return None;
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let sums = cluster_sums(values.iter().map(|v| v - mean), clusters);
    let groups = sums.len() as f64;
    let squares: f64 = sums.iter().map(|(sum, _)| sum * sum).sum();
    let standard_error =
        if sums.len() < 2 { f64::NAN } else { (groups / (groups - 1.0) * squares).sqrt() / n };
    Some(Estimate { mean, standard_error, clusters: sums.len() })
}

/// Sum and number of the values of each cluster, in the order in which clusters come first.
pub(super) fn cluster_sums(values: impl Iterator<Item = f64>, clusters: &[usize]) -> Vec<(f64, f64)> {
    let mut place: HashMap<usize, usize> = HashMap::new();
    let mut sums: Vec<(f64, f64)> = Vec::new();
    for (value, cluster) in values.zip(clusters) {
        let at = *place.entry(*cluster).or_insert(sums.len());
        if at == sums.len() {
            sums.push((0.0, 0.0));
        }
        sums[at].0 += value;
        sums[at].1 += 1.0;
    }
    sums
}

/// How an interval came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Wilson's score interval: independent rights and wrongs.
    Wilson,
    /// Bootstrap over clusters, expanded percentile.
    ClusteredBootstrap,
    /// Tango's score interval of a difference of paired proportions.
    Tango,
    /// Newcombe's interval of a difference of independent proportions.
    Newcombe,
    /// Student's t.
    StudentT,
}

impl Method {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wilson => "wilson",
            Self::ClusteredBootstrap => "clustered bootstrap",
            Self::Tango => "tango",
            Self::Newcombe => "newcombe",
            Self::StudentT => "t",
        }
    }
}

/// 95 % interval of the mean of questions' scores in [0, 1].
///
/// Wilson's where each question is its own cluster and right or wrong; otherwise the clustered bootstrap's. Where all
/// clusters have the same score the bootstrap has nothing to vary and would claim certainty: then Wilson's, with
/// clusters for trials. `None` without questions.
///
/// # Panics
/// When the two differ in length.
pub fn score_interval(
    scores: &[f64],
    clusters: &[usize],
    resamples: u32,
    seed: u64,
) -> Option<((f64, f64), Method)> {
    let estimate = clustered_mean(scores, clusters)?;
    let whole = scores.iter().all(|s| *s == 0.0 || *s == 1.0);
    if whole && estimate.clusters == scores.len() {
        let right = scores.iter().filter(|s| **s == 1.0).count() as u64;
        return Some((wilson(right, scores.len() as u64, Z95), Method::Wilson));
    }
    if estimate.standard_error.is_nan() || estimate.standard_error == 0.0 {
        let trials = estimate.clusters as u64;
        let right = (estimate.mean * trials as f64).round().clamp(0.0, trials as f64) as u64;
        return Some((wilson(right, trials, Z95), Method::Wilson));
    }
    let found = clustered_bootstrap(scores, clusters, resamples, seed)?;
    Some(((found.low.max(0.0), found.high.min(1.0)), Method::ClusteredBootstrap))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_error_over_items() {
        let (mean, error) = mean_and_standard_error(&[1.0, 0.0, 1.0, 0.0]).unwrap();
        assert!((mean - 0.5).abs() < 1e-15);
        assert!((error - (1.0f64 / 3.0 / 4.0).sqrt()).abs() < 1e-15);
        assert_eq!(mean_and_standard_error(&[]), None);
        assert!(mean_and_standard_error(&[1.0]).unwrap().1.is_nan());
    }

    #[test]
    fn clusters_by_hand() {
        // Mean 0.5; the deviations of the clusters add up to 1, -1, 0: √(3/2 · 2)/5.
        let found = clustered_mean(&[1.0, 1.0, 0.0, 0.0, 0.5], &[7, 7, 2, 2, 9]).unwrap();
        assert_eq!((found.mean, found.clusters), (0.5, 3));
        assert!((found.standard_error - 3.0f64.sqrt() / 5.0).abs() < 1e-15);
        // Copies of a question bring no information: same error as once each.
        let once = clustered_mean(&[1.0, 0.0, 0.0], &[0, 1, 2]).unwrap();
        let twice = clustered_mean(&[1.0, 1.0, 0.0, 0.0, 0.0, 0.0], &[0, 0, 1, 1, 2, 2]).unwrap();
        assert!((once.standard_error - twice.standard_error).abs() < 1e-15);
    }

    #[test]
    fn the_interval_fits_the_data() {
        let own: Vec<usize> = (0..20).collect();
        let scores: Vec<f64> = (0..20).map(|i| f64::from(i % 2)).collect();
        assert_eq!(score_interval(&scores, &own, 500, 0), Some((wilson(10, 20, Z95), Method::Wilson)));
        let shared: Vec<usize> = (0..20).map(|i| i / 4).collect();
        assert_eq!(score_interval(&scores, &shared, 500, 0).unwrap().1, Method::Wilson);
        let blocks: Vec<f64> = (0..20).map(|i| f64::from(i32::from(i / 4 % 2 == 0))).collect();
        let ((low, high), method) = score_interval(&blocks, &shared, 2000, 0).unwrap();
        assert_eq!(method, Method::ClusteredBootstrap);
        assert!(low < 0.2 && high > 0.9, "{low} {high}");
        // All right in five clusters is no certainty.
        let ((low, high), _) = score_interval(&[1.0; 20], &shared, 500, 0).unwrap();
        assert!(low < 0.6 && high == 1.0, "{low} {high}");
        assert_eq!(score_interval(&[], &[], 500, 0), None);
    }
}
