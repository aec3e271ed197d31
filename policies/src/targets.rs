//! What the head says of targets, and the gradient of a loss with respect to it.

/// How the rows of passes went to the experts of a mixture, for the loss that balances them (arXiv:2101.03961, equations 4
/// to 6, over all layers with experts together). The loads of the micro-batches of an update add up to that of the update,
/// whatever its micro-batches are: a prompt that is computed once for several completions counts once for each of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Load {
    /// Rows that each expert got, and the sum of its probabilities, over all layers.
    experts: Vec<(f64, f64)>,
    /// Rows of all layers.
    rows: f64,
}

impl Load {
    /// Counts a layer: the rows of each expert, the probabilities `[rows, experts]`, and how often each row counts.
    pub(crate) fn count(&mut self, of_experts: &[Vec<usize>], probabilities: &[f32], times: &[f32]) {
        let count = of_experts.len();
        self.experts.resize(count.max(self.experts.len()), (0.0, 0.0));
        for (e, (rows, sum)) in self.experts.iter_mut().enumerate().take(count) {
            *rows += of_experts[e].iter().map(|row| f64::from(times[*row])).sum::<f64>();
            let column = probabilities.iter().skip(e).step_by(count).zip(times);
            *sum += column.map(|(p, times)| f64::from(*p) * f64::from(*times)).sum::<f64>();
        }
        self.rows += times.iter().map(|times| f64::from(*times)).sum::<f64>();
    }

    /// Whether there were no experts.
    pub fn is_empty(&self) -> bool {
        self.experts.is_empty()
    }

    /// Adds what other passes counted.
    pub fn merge(&mut self, other: &Self) {
        self.experts.resize(other.experts.len().max(self.experts.len()), (0.0, 0.0));
        for (own, more) in self.experts.iter_mut().zip(&other.experts) {
            *own = (own.0 + more.0, own.1 + more.1);
        }
        self.rows += other.rows;
    }

    /// As numbers that [`Self::from_numbers`] reads.
    pub fn numbers(&self) -> Vec<f64> {
        std::iter::once(self.rows).chain(self.experts.iter().flat_map(|(rows, sum)| [*rows, *sum])).collect()
    }

    /// What [`Self::numbers`] gave.
    pub fn from_numbers(numbers: &[f64]) -> Self {
        let (rows, experts) = numbers.split_first().map_or((0.0, &[][..]), |(rows, rest)| (*rows, rest));
        Self { experts: experts.as_chunks::<2>().0.iter().map(|[rows, sum]| (*rows, *sum)).collect(), rows }
    }

    /// The load-balancing loss, `E Σ f_e P_e`, f the share of rows that go to an expert, P its mean probability: with the
    /// top k of E experts k where every expert gets as much, more elsewhere; 0 without experts.
    pub fn balance(&self) -> f64 {
        let n = self.rows.max(1.0);
        self.experts.len() as f64 * self.experts.iter().map(|(f, p)| f / n * p / n).sum::<f64>()
    }

    /// The gradient of `weight ·` [`balance`](Self::balance) with respect to the probabilities of a row that counts once: a
    /// number an expert, nothing without experts. Which experts a row goes to has no gradient.
    pub fn slopes(&self, weight: f32) -> Vec<f32> {
        let (n, count) = (self.rows.max(1.0), self.experts.len() as f64);
        self.experts.iter().map(|(f, _)| (f64::from(weight) * count * f / (n * n)) as f32).collect()
    }
}

/// What the head says of each target.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TargetStats {
    /// Log-probability of each target, nats.
    pub logprobs: Vec<f32>,
    /// Entropy of the distribution that predicts it, nats.
    pub entropy: Vec<f32>,
    /// Log of the partition function, for the backward.
    pub(crate) log_sum: Vec<f32>,
    /// How the rows of the pass went to experts; empty without experts and in passes without gradient.
    pub load: Load,
}

impl TargetStats {
    /// Appends values of further targets.
    #[allow(dead_code)] // Of devices.
    pub(crate) fn extend(&mut self, logprobs: Vec<f32>, entropy: Vec<f32>, log_sum: Vec<f32>) {
        self.logprobs.extend(logprobs);
        self.entropy.extend(entropy);
        self.log_sum.extend(log_sum);
    }
}

/// The gradient of a loss with respect to what the head says of each target.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TargetGrads {
    /// With respect to its log-probability.
    pub logprobs: Vec<f32>,
    /// With respect to its entropy; none where the loss has no part of it.
    pub entropy: Option<Vec<f32>>,
    /// With respect to the probability of each expert in each row that counts once, as [`Load::slopes`] gives it; none
    /// where the loss does not balance experts.
    pub balance: Option<Vec<f32>>,
}

impl From<Vec<f32>> for TargetGrads {
    fn from(logprobs: Vec<f32>) -> Self {
        Self { logprobs, entropy: None, balance: None }
    }
}

impl TargetGrads {
    /// # Panics
    /// If there is not one gradient a target.
    pub(crate) fn check(&self, targets: usize) {
        let entropy = self.entropy.as_ref().map_or(targets, Vec::len);
        assert_eq!((self.logprobs.len(), entropy), (targets, targets), "one gradient a target");
    }
}
