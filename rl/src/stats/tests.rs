//! Simulations: errors of the first kind of the tests that `rlvr compare` makes, and coverage of the intervals.
//!
//! `cargo test --release --workspace --lib -- stats::tests --include-ignored --nocapture` prints the long table.
#![allow(clippy::print_stdout)] // Figures, shown with `-- --nocapture`.

use super::{
    Comparison, Pairs, Test, Z95, clustered_mean, holm, pass_at_k_over_questions, score_interval, wilson,
};
use crate::random::unit;
use rayon::prelude::*;

/// Repetitions, and resamples of each bootstrap.
#[derive(Clone, Copy)]
struct Size {
    repetitions: u64,
    resamples: u32,
}

const SHORT: Size = Size { repetitions: 500, resamples: 500 };
const LONG: Size = Size { repetitions: 10_000, resamples: 2000 };

/// Draws of one repetition of one simulation.
#[derive(Clone, Copy)]
struct Draws {
    simulation: u64,
    repetition: u64,
}

impl Draws {
    /// Uniform in [0, 1).
    fn unit(self, key: &[u64]) -> f64 {
        unit(&[&[0x5174, self.simulation, self.repetition], key].concat())
    }

    /// Share of rights among `samples` completions that are right with chance `p`.
    fn share(self, p: f64, samples: u64, key: &[u64]) -> f64 {
        let right = (0..samples).filter(|i| self.unit(&[key, &[*i]].concat()) < p).count();
        right as f64 / samples as f64
    }
}

/// Two arms without a difference.
#[derive(Clone, Copy)]
struct Null {
    clusters: u64,
    /// Questions of a cluster.
    size: u64,
    samples: u64,
    /// Of each arm; an arm with one does not shift by it.
    seeds: [u64; 2],
    /// Largest shift of an arm's chance on a cluster, and of a seed's on everything.
    cluster_shift: f64,
    seed_shift: f64,
}

const PLAIN: Null =
    Null { clusters: 300, size: 1, samples: 1, seeds: [1, 1], cluster_shift: 0.0, seed_shift: 0.0 };

impl Null {
    fn pairs(&self, draws: Draws) -> Pairs {
        let mut pairs = Pairs { single: self.samples == 1 && self.seeds == [1, 1], ..Pairs::default() };
        for cluster in 0..self.clusters {
            for question in 0..self.size {
                let place = cluster * self.size + question;
                let chance = draws.unit(&[1, place]);
                let arm = |arm: u64| -> Vec<f64> {
                    let of_cluster = self.cluster_shift * (2.0 * draws.unit(&[2, arm, cluster]) - 1.0);
                    let seeds = self.seeds[arm as usize];
                    let seed_shift = if seeds > 1 { self.seed_shift } else { 0.0 };
                    (0..seeds)
                        .map(|seed| {
                            let of_seed = seed_shift * (2.0 * draws.unit(&[3, arm, seed]) - 1.0);
                            let p = chance + of_cluster + of_seed;
                            draws.share(p, self.samples, &[4, arm, place, seed])
                        })
                        .collect()
                };
                pairs.a.push(arm(0));
                pairs.b.push(arm(1));
                pairs.clusters.push(cluster as usize);
            }
        }
        pairs
    }

    /// Share of null pairs whose p-value is below 5 %, after `change`.
    fn rejected(&self, simulation: u64, size: Size, test: Test, change: impl Fn(&mut Pairs) + Sync) -> f64 {
        share(size, |repetition| {
            let mut pairs = self.pairs(Draws { simulation, repetition });
            change(&mut pairs);
            let found: Comparison = pairs.compare(size.resamples, repetition).unwrap();
            assert_eq!(found.test, test);
            found.p_value < 0.05
        })
    }
}

fn share(size: Size, happens: impl Fn(u64) -> bool + Sync) -> f64 {
    let count = (0..size.repetitions).into_par_iter().filter(|r| happens(*r)).count();
    count as f64 / size.repetitions as f64
}

/// What a simulation found, and what it must.
struct Figure {
    name: &'static str,
    found: f64,
    low: f64,
    high: f64,
}

/// Prints the figures; those outside of their bounds, widened by three standard errors of the simulation, fail.
fn judge(figures: &[Figure], size: Size) {
    for f in figures {
        println!("| {} | {:.1} % |", f.name, 100.0 * f.found);
    }
    for Figure { name, found, low, high } in figures {
        let error = |p: f64| 3.0 * (p * (1.0 - p) / size.repetitions as f64).sqrt();
        assert!(*found >= low - error(*low) && *found <= high + error(*high), "{name}: {found}");
    }
}

fn errors_of_the_first_kind(size: Size) -> Vec<Figure> {
    let figure = |name, found, low, high| Figure { name, found, low, high };
    let keep = |_: &mut Pairs| {};
    let resample = |pairs: &mut Pairs| pairs.single = false;
    let alone = |pairs: &mut Pairs| pairs.clusters = (0..pairs.clusters.len()).collect();
    let sampled = Null { samples: 4, clusters: 200, ..PLAIN };
    let clustered = Null { clusters: 60, size: 5, samples: 2, cluster_shift: 0.3, ..PLAIN };
    let few = Null { clusters: 10, ..clustered };
    let seeds = Null { clusters: 200, seeds: [3, 3], seed_shift: 0.1, ..PLAIN };
    let equal_seeds = Null { seed_shift: 0.0, ..seeds };
    let means = |pairs: &mut Pairs| {
        for question in pairs.a.iter_mut().chain(&mut pairs.b) {
            *question = vec![question.iter().sum::<f64>() / question.len() as f64];
        }
    };
    let family = share(size, |repetition| {
        let p_values: Vec<f64> = (0..8)
            .map(|task| {
                let draws = Draws { simulation: 100 + task, repetition };
                Null { clusters: 100, samples: 4, ..PLAIN }
                    .pairs(draws)
                    .compare(size.resamples, task)
                    .unwrap()
                    .p_value
            })
            .collect();
        holm(&p_values).iter().any(|p| *p < 0.05)
    });
    vec![
        // Conservative by its steps.
        figure("McNemar, 300 questions", PLAIN.rejected(1, size, Test::Mcnemar, keep), 0.02, 0.05),
        figure("bootstrap, 300 questions", PLAIN.rejected(1, size, Test::Bootstrap, resample), 0.035, 0.065),
        figure(
            "bootstrap, 200 questions of 4 samples",
            sampled.rejected(2, size, Test::Bootstrap, keep),
            0.035,
            0.065,
        ),
        figure(
            "clustered bootstrap, 60 clusters of 5",
            clustered.rejected(3, size, Test::ClusteredBootstrap, keep),
            0.035,
            0.065,
        ),
        figure(
            "clustered bootstrap, 10 clusters of 5",
            few.rejected(4, size, Test::ClusteredBootstrap, keep),
            0.035,
            0.065,
        ),
        // What ignoring the dependence would do.
        figure(
            "bootstrap that ignores 60 clusters",
            clustered.rejected(3, size, Test::Bootstrap, alone),
            0.08,
            0.3,
        ),
        figure(
            "3 seeds an arm that differ, 200 questions",
            seeds.rejected(5, size, Test::QuestionsAndSeeds, keep),
            0.035,
            0.065,
        ),
        figure(
            "3 seeds an arm that do not differ",
            equal_seeds.rejected(6, size, Test::QuestionsAndSeeds, keep),
            // Counts the noise of completions twice.
            0.005,
            0.065,
        ),
        figure(
            "2 seeds an arm that differ, 200 questions",
            Null { seeds: [2, 2], ..seeds }.rejected(7, size, Test::QuestionsAndSeeds, keep),
            0.035,
            0.09,
        ),
        figure(
            "one policy against 3 seeds that differ",
            Null { seeds: [1, 3], ..seeds }.rejected(8, size, Test::QuestionsAndSeeds, keep),
            0.035,
            0.065,
        ),
        figure(
            "one policy against 3 seeds that do not differ",
            Null { seeds: [1, 3], ..equal_seeds }.rejected(9, size, Test::QuestionsAndSeeds, keep),
            // Counts the noise of completions twice.
            0.005,
            0.065,
        ),
        figure("bootstrap that ignores the seeds", seeds.rejected(5, size, Test::Bootstrap, means), 0.1, 0.6),
        figure("Holm over 8 tasks, any rejected", family, 0.035, 0.065),
    ]
}

fn coverage(size: Size) -> Vec<Figure> {
    let figure = |name, found, low| Figure { name, found, low, high: 0.98 };
    let own = |n: u64| (0..n as usize).collect::<Vec<_>>();
    let wilson_of = |simulation, n: u64, p: f64| {
        share(size, |repetition| {
            let right = Draws { simulation, repetition }.share(p, n, &[0]) * n as f64;
            let (low, high) = wilson(right.round() as u64, n, Z95);
            (low..=high).contains(&p)
        })
    };
    // Chances are uniform, so the mean is 1/2, and pass@4 is 1 - ∫(1-p)⁴ = 0.8.
    let questions = |simulation, repetition, n: u64, samples| -> Vec<f64> {
        let draws = Draws { simulation, repetition };
        (0..n).map(|q| draws.share(draws.unit(&[1, q]), samples, &[2, q])).collect()
    };
    let mean_at_4 = share(size, |repetition| {
        let found = clustered_mean(&questions(23, repetition, 100, 4), &own(100)).unwrap();
        (found.mean - 0.5).abs() <= Z95 * found.standard_error
    });
    let mean_bootstrap = share(size, |repetition| {
        let scores = questions(23, repetition, 100, 4);
        let ((low, high), _) = score_interval(&scores, &own(100), size.resamples, repetition).unwrap();
        (low..=high).contains(&0.5)
    });
    let pass_at_4 = share(size, |repetition| {
        let counts: Vec<(u64, u64)> =
            questions(24, repetition, 200, 8).iter().map(|s| (8, (s * 8.0).round() as u64)).collect();
        let found = pass_at_k_over_questions(&counts, 4, None).unwrap();
        (found.mean - 0.8).abs() <= Z95 * found.standard_error
    });
    let clustered = |simulation, clusters: u64| {
        share(size, |repetition| {
            let draws = Draws { simulation, repetition };
            let scores: Vec<f64> =
                (0..clusters * 5).map(|q| draws.share(draws.unit(&[1, q / 5]), 1, &[2, q])).collect();
            let groups: Vec<usize> = (0..scores.len()).map(|q| q / 5).collect();
            let ((low, high), _) = score_interval(&scores, &groups, size.resamples, repetition).unwrap();
            (low..=high).contains(&0.5)
        })
    };
    // B's chance is the root of A's: 2/3 against 1/2.
    let difference = |simulation, seeds: u64, single: bool| {
        share(size, |repetition| {
            let draws = Draws { simulation, repetition };
            let arm = |arm: u64, q: u64, p: f64| -> Vec<f64> {
                (0..seeds).map(|seed| draws.share(p, 1, &[2, arm, q, seed])).collect()
            };
            let chance = |q: u64| draws.unit(&[1, q]);
            let pairs = Pairs {
                a: (0..200).map(|q| arm(0, q, chance(q))).collect(),
                b: (0..200).map(|q| arm(1, q, chance(q).sqrt())).collect(),
                clusters: own(200),
                single,
            };
            let (low, high) = pairs.compare(size.resamples, repetition).unwrap().interval;
            (low..=high).contains(&(1.0 / 6.0))
        })
    };
    vec![
        figure("Wilson, n = 50, p = 0.1", wilson_of(20, 50, 0.1), 0.93),
        figure("Wilson, n = 100, p = 0.3", wilson_of(21, 100, 0.3), 0.93),
        figure("Wilson, n = 500, p = 0.9", wilson_of(22, 500, 0.9), 0.93),
        figure("mean@4 ± 1.96 SE, 100 questions", mean_at_4, 0.935),
        figure("bootstrap of mean@4, 100 questions", mean_bootstrap, 0.935),
        figure("pass@4 of 8 ± 1.96 SE, 200 questions", pass_at_4, 0.935),
        figure("clustered bootstrap, 40 clusters of 5", clustered(25, 40), 0.935),
        figure("clustered bootstrap, 10 clusters of 5", clustered(26, 10), 0.92),
        figure("difference of 1/6, bootstrap, 200 questions", difference(27, 1, false), 0.935),
        figure("difference of 1/6, Tango, 200 questions", difference(27, 1, true), 0.935),
        Figure {
            high: 0.999,
            ..figure("difference of 1/6, 3 seeds an arm that do not differ", difference(28, 3, false), 0.935)
        },
    ]
}

#[test]
fn tests_reject_at_their_level() {
    judge(&errors_of_the_first_kind(SHORT), SHORT);
}

#[test]
fn intervals_cover() {
    judge(&coverage(SHORT), SHORT);
}

/// The table of EXPERIMENTS.md.
#[test]
#[ignore = "takes minutes"]
fn long_simulations() {
    for size in [Size { repetitions: 1000, ..LONG }, LONG] {
        println!("{} repetitions, {} resamples", size.repetitions, size.resamples);
        judge(&errors_of_the_first_kind(size), size);
        judge(&coverage(size), size);
    }
}
