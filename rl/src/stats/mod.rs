//! Statistics of evaluations: intervals, several samples a question, paired comparisons, power. Pure functions on f64;
//! what resamples does so by a seed.
//!
//! Questions are the unit of chance: the samples of a question, and the questions of a group (one passage, one patient),
//! are not independent, so every error is taken over questions or groups (arXiv:2411.00640, "Adding error bars to evals").

mod bootstrap;
mod comparison;
mod distribution;
mod error_bars;
mod multiple;
mod paired;
mod power;
mod proportion;
mod sampled;
#[cfg(test)]
mod tests;
mod unpaired;

pub use bootstrap::{Bootstrap, clustered_bootstrap, paired_bootstrap};
pub use comparison::{Comparison, ComparisonError, Pairs, Test};
pub use distribution::{normal_cdf, normal_quantile, student_t_cdf, student_t_quantile};
pub use error_bars::{Estimate, Method, clustered_mean, mean_and_standard_error, score_interval};
pub use multiple::holm;
pub use paired::{mcnemar_exact, tango};
pub use power::{
    detectable_difference, items_needed, paired_detectable, paired_items_needed, unpaired_detectable,
    unpaired_items_needed,
};
pub use proportion::{Z95, newcombe, two_proportions, wilson};
pub use sampled::{majority_vote, pass_at_k, pass_at_k_over_questions};
pub use unpaired::{Recorded, unpaired};
