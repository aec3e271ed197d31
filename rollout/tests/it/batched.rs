//! The batched engine against the generator without batches.

use crate::toy::{Toy, prompts, reference};
use proptest::prelude::*;
use rlvr_rollout::{
    BatchSettings, BatchedEngine, Completion, FinishReason, GenerateStats, Progress, Prompt, RolloutEngine,
    SampleKey, SamplingParams,
};
use std::cell::{Cell, RefCell};

const VOCAB: u32 = 24;
const KEY: SampleKey = SampleKey { seed: 3, step: 5, first_prompt: 0, first_sample: 0 };

fn generate(
    toy: &Toy,
    settings: BatchSettings,
    prompts: &[Prompt],
    group_size: usize,
    params: &SamplingParams,
    key: SampleKey,
    eos: &[u32],
) -> (Vec<Vec<Completion>>, GenerateStats) {
    let mut engine = BatchedEngine::new(toy, settings).eos_token_ids(eos).policy_version(9);
    let completions = engine.generate(prompts, group_size, params, key).unwrap();
    (completions, engine.stats().clone())
}

prop_compose! {
    fn any_settings()(
        max_batch_rows in 1usize..30,
        max_batch_tokens in prop_oneof![1usize..400, Just(100_000)],
        compact_below in prop_oneof![Just(0.0), Just(0.75), Just(1.0), 0.0..1.0f64],
    ) -> BatchSettings {
        BatchSettings { max_batch_rows, max_batch_tokens, compact_below, ..BatchSettings::default() }
    }
}

prop_compose! {
    fn any_params()(
        temperature in prop_oneof![Just(0.0), 0.3..2.0f64],
        top_k in prop::option::of(1usize..30),
        top_p in prop::option::of(0.05..1.0f64),
        min_p in prop::option::of(0.0..0.5f64),
        max_tokens in 1usize..16,
        stop_sequences in prop::collection::vec(prop::collection::vec(0..VOCAB, 1..3), 0..3),
    ) -> SamplingParams {
        SamplingParams { temperature, top_k, top_p, min_p, max_tokens, stop_sequences }
    }
}

/// Prompts of 1 to 11 tokens over few ids, so that some occur twice.
fn any_prompts() -> impl Strategy<Value = Vec<Prompt>> {
    let ids = prop_oneof![prop::collection::vec(0..2u32, 1..3), prop::collection::vec(0..VOCAB, 1..12)];
    prop::collection::vec(ids.prop_map(Prompt::from), 0..9)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn equals_the_generator_without_batches(
        prompts in any_prompts(),
        group_size in 1usize..7,
        settings in any_settings(),
        params in any_params(),
        eos in prop::collection::vec(0..VOCAB, 0..3),
        context in 12usize..24,
        first_prompt in 0u64..3,
        first_sample in 0u64..3,
        draws: bool,
        reads_every in 1usize..6,
        appends: bool,
        copies: bool,
    ) {
        let toy = Toy { draws, reads_every, appends, copies, ..Toy::new(VOCAB as usize, context) };
        let key = SampleKey { first_prompt, first_sample, ..KEY };
        let (got, stats) = generate(&toy, settings.clone(), &prompts, group_size, &params, key, &eos);
        prop_assert_eq!(&got, &reference(&toy, &prompts, group_size, &params, key, &eos));
        for (rows, _) in toy.calls.borrow().iter() {
            prop_assert!(*rows <= settings.max_batch_rows);
        }
        prop_assert!(toy.most_slots.get() <= settings.max_batch_tokens);
        // Each distinct prompt is fed once, however many rows fit.
        let mut distinct: Vec<&[u32]> = prompts.iter().map(|p| &p.token_ids[..]).collect();
        distinct.sort_unstable();
        distinct.dedup();
        prop_assert_eq!(stats.prompt_tokens, distinct.iter().map(|p| p.len()).sum::<usize>());
        prop_assert!(appends || stats.refills == 0);
        let fed: usize = toy.calls.borrow().iter().map(|(_, tokens)| tokens).sum();
        prop_assert_eq!(fed, stats.prompt_tokens + stats.decode_rows);
        if !params.is_greedy() {
            let tokens: usize = got.iter().flatten().map(|c| c.token_ids.len()).sum();
            prop_assert_eq!(tokens, stats.completion_tokens);
        }
    }

    #[test]
    fn a_call_may_be_split_and_prompts_reordered(
        prompts in any_prompts(),
        cut in 0usize..9,
        settings in any_settings(),
        params in any_params(),
    ) {
        let toy = Toy::new(VOCAB as usize, 30);
        let run = |prompts: &[Prompt], group_size, first_prompt, first_sample| {
            let key = SampleKey { first_prompt, first_sample, ..KEY };
            generate(&toy, settings.clone(), prompts, group_size, &params, key, &[1]).0
        };
        let whole = run(&prompts, 4, 0, 0);
        let cut = cut.min(prompts.len());
        let mut parts = run(&prompts[..cut], 4, 0, 0);
        parts.extend(run(&prompts[cut..], 4, cut as u64, 0));
        prop_assert_eq!(&whole, &parts);
        // One prompt at a time from the last to the first, two samples and then the other two.
        for p in (0..prompts.len()).rev() {
            let mut group = run(&prompts[p..=p], 2, p as u64, 0).remove(0);
            group.extend(run(&prompts[p..=p], 2, p as u64, 2).remove(0));
            prop_assert_eq!(&whole[p], &group);
        }
    }
}

#[test]
fn seed_and_step_change_the_samples() {
    let toy = Toy::new(64, 64);
    let prompts = prompts(&[&[1, 2, 3]]);
    let params = SamplingParams { max_tokens: 12, ..SamplingParams::default() };
    let run = |key| generate(&toy, BatchSettings::default(), &prompts, 4, &params, key, &[]).0;
    let base = run(KEY);
    assert_eq!(base, run(KEY));
    assert_ne!(base, run(SampleKey { seed: 4, ..KEY }));
    assert_ne!(base, run(SampleKey { step: 6, ..KEY }));
    for (a, b) in [(0, 1), (0, 2), (1, 3)] {
        assert_ne!(base[0][a].token_ids, base[0][b].token_ids);
    }
}

#[test]
fn equal_prompts_share_a_prefill_and_draw_their_own_samples() {
    let toy = Toy::new(64, 64);
    let prompts = prompts(&[&[1, 2, 3], &[9], &[1, 2, 3], &[9], &[9]]);
    let params = SamplingParams { max_tokens: 8, ..SamplingParams::default() };
    let (got, stats) = generate(&toy, BatchSettings::default(), &prompts, 4, &params, KEY, &[]);
    assert_eq!(got, reference(&toy, &prompts, 4, &params, KEY, &[]));
    assert_eq!((stats.batches, stats.prompt_tokens), (1, 4));
    assert_eq!(toy.calls.borrow()[0], (2, 4));
    // Three prompt slots and seven of the eight sampled tokens.
    assert_eq!(toy.selections.borrow()[0], (20, 10));
    assert_ne!(got[0], got[2]);
}

#[test]
fn greedy_copies_instead_of_decoding_again() {
    let toy = Toy::new(64, 64);
    let prompts = prompts(&[&[1, 2], &[3], &[1, 2]]);
    let params = SamplingParams::greedy(6);
    let (got, stats) = generate(&toy, BatchSettings::default(), &prompts, 8, &params, KEY, &[]);
    assert_eq!(got, reference(&toy, &prompts, 8, &params, KEY, &[]));
    assert_eq!(got[0], got[2]);
    assert!(toy.calls.borrow().iter().all(|&(rows, _)| rows == 2));
    assert_eq!(stats.completion_tokens, 12);
}

#[test]
fn a_group_of_one_needs_no_copy() {
    let toy = Toy::new(64, 64);
    let prompts = prompts(&[&[1, 2], &[3]]);
    let params = SamplingParams { max_tokens: 6, ..SamplingParams::default() };
    let (got, _) = generate(&toy, BatchSettings::default(), &prompts, 1, &params, KEY, &[]);
    assert_eq!(got, reference(&toy, &prompts, 1, &params, KEY, &[]));
    assert!(toy.selections.borrow().is_empty());
}

#[test]
fn finished_rows_leave_the_batch() {
    let toy = Toy::new(24, 200);
    let prompts = prompts(&[&[1, 2], &[3]]);
    let params = SamplingParams { max_tokens: 100, ..SamplingParams::default() };
    let run = |compact_below| {
        let settings = BatchSettings { compact_below, ..BatchSettings::default() };
        generate(&toy, settings, &prompts, 16, &params, KEY, &[0])
    };
    let ((never, wasteful), (always, exact), (default, stats)) = (run(0.0), run(1.0), run(0.75));
    assert!(never == always && always == default);
    let free = Toy { copies: false, ..Toy::new(24, 200) };
    let settings = BatchSettings { compact_below: 0.0, ..BatchSettings::default() };
    let (same, stats_free) = generate(&free, settings, &prompts, 16, &params, KEY, &[0]);
    assert!(same == always && stats_free.decode_rows == exact.decode_rows);
    assert_eq!(exact.decode_rows, exact.completion_tokens - 32);
    assert_eq!(wasteful.compactions, 0);
    assert!(exact.decode_rows < stats.decode_rows && stats.decode_rows < wasteful.decode_rows);
    assert!(stats.compactions < exact.compactions && stats.compactions <= 12, "{}", stats.compactions);
}

#[test]
fn waiting_prompts_take_the_place_of_finished_rows() {
    let prompts: Vec<Prompt> = (0..64u32).map(|i| Prompt::from(vec![i % 24, i / 24, 3, 4, 5])).collect();
    let params = SamplingParams { max_tokens: 64, ..SamplingParams::default() };
    let run = |appends| {
        let toy = Toy { appends, copies: false, ..Toy::new(24, 100) };
        generate(&toy, BatchSettings::default(), &prompts, 8, &params, KEY, &[0])
    };
    let ((refilled, with), (planned, without)) = (run(true), run(false));
    assert_eq!(refilled, planned);
    assert_eq!((with.prompt_tokens, without.prompt_tokens), (320, 320));
    for (name, stats) in [("as they finish", &with), ("batch by batch", &without)] {
        let (steps, rows) = (stats.decode_steps, stats.decode_rows);
        println!("{name}: {steps} calls, {rows} rows, {} prefills, {} refills", stats.batches, stats.refills);
        // A row that has finished is never fed.
        assert_eq!(rows, stats.completion_tokens - 512);
    }
    assert!(with.refills > 12 && without.refills == 0);
    // The batch stays fuller, so fewer calls do.
    assert!(2 * with.decode_steps < without.decode_steps);
}

#[test]
fn a_group_larger_than_the_batch_is_prefilled_once() {
    let toy = Toy::new(24, 64);
    let prompts = prompts(&[&[1, 2, 3], &[4, 5]]);
    let params = SamplingParams { max_tokens: 12, ..SamplingParams::default() };
    let settings = BatchSettings { max_batch_rows: 3, ..BatchSettings::default() };
    let (got, stats) = generate(&toy, settings, &prompts, 10, &params, KEY, &[0]);
    assert_eq!(got, reference(&toy, &prompts, 10, &params, KEY, &[0]));
    assert_eq!(stats.prompt_tokens, 5);
}

#[test]
fn groups_are_reported_when_they_are_whole() {
    let toy = Toy::new(24, 64);
    let prompts = prompts(&[&[1, 2, 3], &[4], &[1, 2, 3], &[7, 8]]);
    let params = SamplingParams { max_tokens: 20, ..SamplingParams::default() };
    let (finished, reported) = (Cell::new(0), RefCell::new(Vec::new()));
    let progress = |p: Progress| finished.set(p.finished);
    let record = |p: usize, group: &[Completion]| {
        reported.borrow_mut().push((p, group.to_vec(), finished.get()));
    };
    let settings = BatchSettings { max_batch_rows: 6, ..BatchSettings::default() };
    let mut engine = BatchedEngine::new(&toy, settings)
        .eos_token_ids([0])
        .policy_version(9)
        .on_progress(&progress)
        .on_group(&record);
    let got = engine.generate(&prompts, 5, &params, KEY).unwrap();
    let mut reported = reported.into_inner();
    assert!(reported[0].2 < 19, "the first while others run");
    reported.sort_by_key(|(p, ..)| *p);
    let groups: Vec<_> = reported.into_iter().map(|(_, group, _)| group).collect();
    assert_eq!(groups, got);
}

#[test]
fn every_end_of_a_completion() {
    let toy = Toy::new(24, 40);
    let prompts = prompts(&[&[1, 2, 3, 4]]);
    let params = |max_tokens| SamplingParams { max_tokens, ..SamplingParams::default() };
    let run = |params: &SamplingParams, eos: &[u32]| {
        generate(&toy, BatchSettings::default(), &prompts, 1, params, KEY, eos).0.remove(0).remove(0)
    };
    let free = run(&params(10), &[]);
    assert_eq!((free.token_ids.len(), free.finish_reason), (10, FinishReason::Length));
    assert_eq!(free.logprobs.len(), 10);

    // Any id of the list ends it, and stays.
    let end = |ids: &[u32]| free.token_ids.iter().position(|id| ids.contains(id)).unwrap() + 1;
    for eos in [vec![free.token_ids[4]], vec![free.token_ids[7], free.token_ids[5]]] {
        let got = run(&params(10), &eos);
        assert_eq!(got.token_ids, free.token_ids[..end(&eos)]);
        assert_eq!(got.logprobs, free.logprobs[..end(&eos)]);
        assert_eq!(got.finish_reason, FinishReason::Stop);
    }

    let pair = free.token_ids[5..7].to_vec();
    let at = free.token_ids.windows(2).position(|w| w == pair).unwrap() + 2;
    let got = run(&SamplingParams { stop_sequences: vec![vec![99; 3], pair], ..params(10) }, &[]);
    assert_eq!((got.token_ids.len(), got.finish_reason), (at, FinishReason::Stop));

    // A stop at the very last token is a stop.
    let eos = [free.token_ids[9]];
    let got = run(&params(end(&eos)), &eos);
    assert_eq!(got.finish_reason, FinishReason::Stop);

    let full = run(&params(1000), &[]);
    assert_eq!((full.token_ids.len(), full.finish_reason), (36, FinishReason::Context));
    assert_eq!(run(&params(36), &[]).finish_reason, FinishReason::Length);
}

#[test]
fn stop_check_sees_the_completion_token_by_token() {
    let toy = Toy::new(64, 64);
    let prompts = prompts(&[&[1, 2, 3], &[4]]);
    let params = SamplingParams { max_tokens: 20, ..SamplingParams::default() };
    let odd_sum = |ids: &[u32]| ids.len() >= 3 && ids.iter().sum::<u32>() % 2 == 1;
    let mut engine = BatchedEngine::new(&toy, BatchSettings::default()).stop(&odd_sum).policy_version(9);
    let got = engine.generate(&prompts, 6, &params, KEY).unwrap();
    let free = reference(&toy, &prompts, 6, &params, KEY, &[]);
    for (completion, free) in got.iter().flatten().zip(free.iter().flatten()) {
        let end = (1..=20).find(|&n| odd_sum(&free.token_ids[..n]));
        let reason = if end.is_some() { FinishReason::Stop } else { FinishReason::Length };
        assert_eq!(completion.token_ids, free.token_ids[..end.unwrap_or(20)]);
        assert_eq!(completion.finish_reason, reason);
    }
}

#[test]
fn progress_counts_up() {
    let toy = Toy::new(24, 64);
    let prompts = prompts(&[&[1, 2, 3], &[4]]);
    let params = SamplingParams { max_tokens: 20, ..SamplingParams::default() };
    let last = Cell::new(Progress { completion_tokens: 0, finished: 0, total: 12 });
    let record = |progress: Progress| {
        assert!(progress.completion_tokens > last.get().completion_tokens);
        assert!(progress.finished >= last.get().finished);
        last.set(progress);
    };
    let settings = BatchSettings { max_batch_rows: 5, ..BatchSettings::default() };
    let mut engine = BatchedEngine::new(&toy, settings).eos_token_ids([0]).on_progress(&record);
    engine.generate(&prompts, 6, &params, KEY).unwrap();
    let completion_tokens = engine.stats().completion_tokens;
    assert_eq!(last.get(), Progress { completion_tokens, finished: 12, total: 12 });
}
