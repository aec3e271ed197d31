//! Tests of the loss against itself: gradients, additivity, masks, broken input.

use super::fixtures::{Owned, batch};
use super::*;

/// The objective of every kind, with settings that random batches reach.
fn objectives() -> [Objective; 9] {
    [
        Objective::Clip(Clip::default()),
        Objective::Gspo(Gspo { low: 0.2, high: 0.28, ..Gspo::default() }),
        Objective::Cispo(Cispo { cap: 1.3 }),
        Objective::Sapo(Sapo::default()),
        Objective::Gmpo(Gmpo::default()),
        Objective::DppoTv(DppoTv::default()),
        Objective::Topr(Topr {}),
        Objective::Vespo(Vespo::default()),
        Objective::Reinforce(Reinforce {}),
    ]
}

const AGGREGATES: [Aggregate; 4] = [
    Aggregate::TokenMean,
    Aggregate::SequenceMean,
    Aggregate::SequenceSum,
    Aggregate::Constant { max_tokens: Some(12.0) },
];

/// Every objective × importance × aggregate × KL, with further options that vary along.
fn configs() -> Vec<LossConfig> {
    let mut configs = Vec::new();
    for objective in objectives() {
        for importance in [Importance::Token, Importance::Sequence] {
            for aggregate in AGGREGATES {
                for kl in [None, Some(KlEstimator::K2), Some(KlEstimator::K3), Some(KlEstimator::K3Unbiased)]
                {
                    let round = configs.len();
                    let mut objective = objective;
                    if let Objective::Clip(Clip { delta, dual_clip, .. })
                    | Objective::Gspo(Gspo { delta, dual_clip, .. }) = &mut objective
                    {
                        *delta = (round % 3 == 1).then_some(1.4);
                        *dual_clip = (round % 3 == 2).then_some(1.5);
                    }
                    let config = LossConfig {
                        objective,
                        importance: Some(importance),
                        aggregate,
                        kl_coef: if kl.is_some() { 0.3 } else { 0.0 },
                        kl_estimator: kl.unwrap_or(KlEstimator::K3),
                        ..LossConfig::default()
                    };
                    if config.validate().is_ok() {
                        configs.push(config);
                    }
                }
            }
        }
    }
    configs
}

fn totals(batch: &[Owned]) -> StepTotals {
    StepTotals::of(batch.iter().map(|s| s.mask.as_slice()))
}

fn evaluate(batch: &[Owned], config: &LossConfig, totals: &StepTotals) -> LossOutput {
    let views: Vec<_> = batch.iter().map(Owned::view).collect();
    policy_loss(&views, config, totals).unwrap()
}

/// The loss as a function of `logprobs` whose derivative is the gradient: detached weights of `config` become
/// constants taken at `at`.
///
/// For cispo, topr and vespo that is `−[w]·A·lp`: the derivative of the full expression minus that of the weight. Here the
/// weight is frozen by moving `old` (and the sampler) along with `logprobs`, which leaves every ratio unchanged.
fn moved(batch: &[Owned], b: usize, t: usize, h: f64, freeze_ratio: bool) -> Vec<Owned> {
    let mut moved = batch.to_vec();
    moved[b].logprobs[t] += h;
    if freeze_ratio {
        moved[b].old[t] += h;
        moved[b].sampler[t] += h;
    }
    moved
}

#[test]
fn gradients_match_central_differences() {
    const H: f64 = 1e-6;
    // Second-order error and cancellation of a central difference of values near 1.
    const TOLERANCE: f64 = 2e-8;
    let mut compared = 0;
    for (round, config) in configs().into_iter().enumerate() {
        let batch = batch(round as u64 + 1, round % 2 == 1);
        let totals = totals(&batch);
        let detached =
            matches!(config.objective, Objective::Cispo(_) | Objective::Topr(_) | Objective::Vespo(_));
        // The two parts move differently when the weight is detached: difference them apart.
        let policy_only = LossConfig { kl_coef: 0.0, ..config.clone() };
        let kl_part = |batch: &[Owned]| evaluate(batch, &config, &totals).stats.kl_loss;
        let policy_part = |batch: &[Owned]| evaluate(batch, &policy_only, &totals).loss;
        let grads = evaluate(&batch, &config, &totals).grads;
        for (b, grads) in grads.iter().enumerate() {
            for (t, &grad) in grads.iter().enumerate() {
                let difference = |f: &dyn Fn(&[Owned]) -> f64, frozen: bool| {
                    (f(&moved(&batch, b, t, H, frozen)) - f(&moved(&batch, b, t, -H, frozen))) / (2.0 * H)
                };
                let expected = difference(&policy_part, detached) + difference(&kl_part, false);
                assert!(
                    (grad - expected).abs() < TOLERANCE,
                    "[{b}][{t}] {grad} and {expected} in round {round} with {config:?}"
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 5000, "{compared}");
}

#[test]
fn micro_batches_add_up_to_the_step() {
    for (round, config) in configs().into_iter().enumerate() {
        let batch = batch(round as u64 + 900, round % 2 == 0);
        let totals = totals(&batch);
        let whole = evaluate(&batch, &config, &totals);
        let (mut loss, mut grads, mut stats) = (0.0, Vec::new(), LossStats::default());
        for micro in [&batch[..1], &batch[1..4], &batch[4..]] {
            let part = evaluate(micro, &config, &totals);
            loss += part.loss;
            grads.extend(part.grads);
            stats.merge(&part.stats);
        }
        assert!((whole.loss - loss).abs() < 1e-12, "{config:?}");
        assert_eq!(whole.grads, grads, "{config:?}");
        assert_eq!((whole.stats.tokens, whole.stats.sequences), (stats.tokens, stats.sequences));
        assert_eq!(stats.tokens, totals.tokens);
        assert_eq!((whole.stats.ratio_max, whole.stats.ratio_min), (stats.ratio_max, stats.ratio_min));
        assert!((whole.loss - whole.stats.policy_loss - whole.stats.kl_loss).abs() < 1e-12);
    }
}

#[test]
fn masked_tokens_are_never_read_and_have_no_gradient() {
    for (round, config) in configs().into_iter().enumerate() {
        let clean = batch(round as u64 + 300, true);
        let mut dirty = clean.clone();
        for sequence in &mut dirty {
            for t in (0..sequence.mask.len()).filter(|&t| !sequence.mask[t]) {
                for array in [
                    &mut sequence.logprobs,
                    &mut sequence.old,
                    &mut sequence.reference,
                    &mut sequence.sampler,
                    sequence.token_advantages.as_mut().unwrap(),
                ] {
                    array[t] = f64::NAN;
                }
            }
        }
        let totals = totals(&clean);
        let (a, b) = (evaluate(&clean, &config, &totals), evaluate(&dirty, &config, &totals));
        assert_eq!((a.loss, &a.grads, &a.stats), (b.loss, &b.grads, &b.stats));
        for (sequence, grads) in clean.iter().zip(&a.grads) {
            for (mask, grad) in sequence.mask.iter().zip(grads) {
                assert!(*mask || grad.to_bits() == 0, "{grad}");
            }
        }
    }
}

#[test]
fn on_policy_every_ratio_objective_is_reinforce() {
    let mut on_policy = batch(5, false);
    for sequence in &mut on_policy {
        sequence.old = sequence.logprobs.clone();
        sequence.sampler = sequence.logprobs.clone();
    }
    let totals = totals(&on_policy);
    let reinforce = LossConfig { objective: Objective::Reinforce(Reinforce {}), ..LossConfig::default() };
    let expected = evaluate(&on_policy, &reinforce, &totals).grads;
    for objective in objectives() {
        let config = LossConfig { objective, ..LossConfig::default() };
        for (a, b) in
            evaluate(&on_policy, &config, &totals).grads.iter().flatten().zip(expected.iter().flatten())
        {
            assert!((a - b).abs() < 1e-12, "{objective:?}: {a} {b}");
        }
    }
}

#[test]
fn off_policy_mask_drops_only_negative_advantages_of_far_sequences() {
    let mut batch = batch(11, false);
    batch.truncate(1);
    batch[0].mask.fill(true);
    batch[0].sampler = batch[0].logprobs.iter().map(|lp| lp + 0.5).collect();
    let totals = totals(&batch);
    let with = |threshold| LossConfig { off_policy_mask_threshold: threshold, ..LossConfig::default() };
    for (advantage, threshold, dropped) in [(-1.0, 0.4, true), (-1.0, 0.6, false), (1.0, 0.4, false)] {
        batch[0].advantage = advantage;
        let masked = evaluate(&batch, &with(Some(threshold)), &totals);
        let plain = evaluate(&batch, &with(None), &totals);
        assert_eq!(masked.grads == plain.grads, !dropped);
        assert_eq!(masked.stats.dropped_tokens > 0.0, dropped);
        assert_eq!(masked.loss == 0.0, dropped);
    }
}

#[test]
fn nothing_to_train_is_a_loss_of_zero() {
    for config in configs() {
        let empty = evaluate(&[], &config, &StepTotals { sequences: 0.0, tokens: 0.0 });
        assert_eq!((empty.loss, empty.grads.len()), (0.0, 0));
        let untrained = &batch(3, false)[1..3];
        let output = evaluate(untrained, &config, &totals(untrained));
        assert_eq!(output.loss, 0.0);
        assert!(output.grads.iter().flatten().all(|g| *g == 0.0));
    }
}

#[test]
fn broken_input_is_an_error_that_names_it() {
    let whole = StepTotals { sequences: 1.0, tokens: 2.0 };
    let config = LossConfig { kl_coef: 0.1, ..LossConfig::default() };
    let base = Sequence {
        logprobs: &[-1.0, -2.0],
        old_logprobs: &[-1.0, -2.0],
        ref_logprobs: Some(&[-1.0, -2.0]),
        sampler_logprobs: None,
        entropy: None,
        loss_mask: &[true, true],
        policy_mask: None,
        advantage: Advantage::Sequence(1.0),
    };
    let check = |sequence: Sequence<'_>, config: &LossConfig, expected: &str| {
        let message = policy_loss(&[sequence], config, &whole).unwrap_err().to_string();
        assert_eq!(message, expected);
    };
    check(
        Sequence { logprobs: &[-1.0, f64::NEG_INFINITY], ..base },
        &config,
        "sequence 0, token 1: logprobs is -inf",
    );
    check(
        Sequence { advantage: Advantage::Sequence(f64::NAN), ..base },
        &config,
        "sequence 0, token 0: advantage is NaN",
    );
    check(
        Sequence { old_logprobs: &[-1.0], ..base },
        &config,
        "sequence 0: old_logprobs has 1 entries, logprobs has 2",
    );
    check(Sequence { ref_logprobs: None, ..base }, &config, "sequence 0: kl_coef needs ref_logprobs");
    let corrected = LossConfig {
        sampler_correction: SamplerCorrection::TokenTruncate(Cap::default()),
        ..LossConfig::default()
    };
    check(base, &corrected, "sequence 0: sampler_correction needs sampler_logprobs");
    check(
        Sequence {
            logprobs: &[-1.0, -0.5],
            old_logprobs: &[-1.0, -900.0],
            advantage: Advantage::Sequence(-1.0),
            ..base
        },
        &config,
        "sequence 0: the loss or its gradient overflows (largest log-ratio 899.5 nats)",
    );
}

#[test]
fn the_entropy_bonus_weighs_each_trained_token_as_the_policy_term_does() {
    for aggregate in AGGREGATES {
        let plain = LossConfig { aggregate, ..LossConfig::default() };
        let config = LossConfig { entropy_coef: 0.7, ..plain.clone() };
        let rows = batch(5, false);
        let totals = totals(&rows);
        let (without, with) = (evaluate(&rows, &plain, &totals), evaluate(&rows, &config, &totals));
        assert_eq!((&with.grads, &without.entropy_grads), (&without.grads, &None));
        let by_entropy = with.entropy_grads.clone().unwrap();
        for b in 0..rows.len() {
            for (t, found) in by_entropy[b].iter().enumerate() {
                let mut moved = rows.clone();
                moved[b].entropy[t] += 0.5;
                let slope = (evaluate(&moved, &config, &totals).loss - with.loss) / 0.5;
                assert!((slope - found).abs() < 1e-12, "{aggregate:?} {b} {t}");
                assert_eq!(*found < 0.0, rows[b].mask[t], "entropy lowers the loss where tokens are trained");
            }
        }
        let bonus: f64 = (rows.iter().zip(&by_entropy))
            .flat_map(|(r, g)| r.entropy.iter().zip(g))
            .map(|(h, g)| h * g)
            .sum();
        assert!((with.loss - without.loss - bonus).abs() < 1e-12);
    }
    let rows = batch(5, false);
    let lacking = Sequence { entropy: None, ..rows[0].view() };
    let config = LossConfig { entropy_coef: 0.7, ..LossConfig::default() };
    let error = policy_loss(&[lacking], &config, &StepTotals { sequences: 1.0, tokens: 2.0 }).unwrap_err();
    assert_eq!(error.to_string(), "sequence 0: entropy_coef needs entropy");
}
