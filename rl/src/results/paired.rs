//! A task of two arms, item by item.

use super::{Item, ResultsError, TaskItems};
use crate::eval::{RESAMPLES, SEED};
use crate::stats::{Comparison, Pairs};
use std::collections::HashMap;

/// What two arms say about each other on one task.
#[derive(Debug)]
pub struct Paired {
    /// Of the mean over the samples of each item.
    pub comparison: Comparison,
    /// k and the comparison of maj@k, where every item of every evaluation has k > 1 samples.
    pub majority: Option<(u64, Comparison)>,
    /// Items of A and of B that some evaluation of either arm lacks: left out.
    pub only: (usize, usize),
}

/// Compares the items that all evaluations of both arms have. An arm is one task in one evaluation, or in several of
/// policies that differ in their seed; neither may be empty. `None` when they share no item.
///
/// # Errors
/// [`ResultsError::Comparison`].
pub fn compare(a: &[&TaskItems], b: &[&TaskItems]) -> Result<Option<Paired>, ResultsError> {
    let everywhere = |id: &str| a.iter().chain(b).all(|task| task.item(id).is_some());
    let ids: Vec<&str> = a[0].items.iter().map(|i| i.id.as_str()).filter(|id| everywhere(id)).collect();
    let most = |arm: &[&TaskItems]| arm.iter().map(|task| task.items.len()).max().unwrap_or(0) - ids.len();
    let only = (most(a), most(b));
    if ids.is_empty() {
        return Ok(None);
    }
    let mut names: HashMap<&str, usize> = HashMap::new();
    let clusters = (ids.iter().filter_map(|id| a[0].item(id)))
        .map(|item| {
            let next = names.len();
            *names.entry(&item.cluster).or_insert(next)
        })
        .collect();
    let scores = |arm: &[&TaskItems], score: &dyn Fn(&Item) -> f64| -> Vec<Vec<f64>> {
        ids.iter().map(|id| arm.iter().filter_map(|task| task.item(id)).map(score).collect()).collect()
    };
    let mut samples = ids.iter().flat_map(|id| a.iter().chain(b).filter_map(move |task| task.item(id)));
    let single = samples.clone().all(|item| item.samples.len() == 1);
    let mut pairs = Pairs { a: scores(a, &Item::mean), b: scores(b, &Item::mean), clusters, single };
    let comparison = pairs.compare(RESAMPLES, SEED)?;
    let k = samples.next().map_or(0, |item| item.samples.len());
    let majority = if k > 1 && samples.all(|item| item.samples.len() == k) {
        pairs.a = scores(a, &Item::majority);
        pairs.b = scores(b, &Item::majority);
        pairs.single = false;
        Some((k as u64, pairs.compare(RESAMPLES, SEED)?))
    } else {
        None
    };
    Ok(Some(Paired { comparison, majority, only }))
}
