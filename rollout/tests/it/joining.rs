//! Calls that come and go while others are decoded.

use crate::toy::{Toy, reference};
use proptest::prelude::*;
use rlvr_rollout::{
    Batch, BatchSettings, Call, Completion, New, Place, Prompt, SampleKey, SamplingParams, Sink, Stop,
};
use std::collections::BTreeMap;
use std::sync::Arc;

const VOCAB: usize = 24;

/// A call, the turn at which it comes, and how many turns later it is taken back, if it is.
#[derive(Debug, Clone)]
struct Visit {
    at: usize,
    leaves: Option<usize>,
    prompts: Vec<Prompt>,
    group_size: usize,
    sampling: SamplingParams,
    key: SampleKey,
    eos: Vec<u32>,
    longest: Option<usize>,
    alternatives: usize,
}

impl Visit {
    fn call(&self) -> Call<'_, 'static> {
        let stop = self
            .longest
            .map(|longest| -> Stop<'static> { Arc::new(move |ids: &[u32]| ids.len() >= longest) });
        Call {
            prompts: &self.prompts,
            group_size: self.group_size,
            sampling: self.sampling.clone(),
            key: self.key,
            eos_token_ids: self.eos.clone(),
            stop,
            alternatives: self.alternatives,
        }
    }
}

/// Call, prompt and sample.
type At = (u64, usize, usize);

/// Everything that was reported, and the tokens by which it was.
#[derive(Default)]
struct Heard {
    parts: BTreeMap<At, (Vec<u32>, Vec<f32>)>,
    whole: BTreeMap<At, Completion>,
}

impl Sink for Heard {
    fn sampled(&mut self, place: Place, new: New<'_>) {
        let part = self.parts.entry((place.call, place.prompt, place.sample)).or_default();
        part.0.extend(new.token_ids);
        part.1.extend(new.logprobs);
        for ((token, logprob), others) in new.token_ids.iter().zip(new.logprobs).zip(new.alternatives) {
            let found = others.iter().find(|other| other.token == *token);
            assert!(found.map_or(others.len() == 3, |found| found.logprob == *logprob));
        }
    }

    fn finished(&mut self, place: Place, completion: &Completion) {
        let before = self.whole.insert((place.call, place.prompt, place.sample), completion.clone());
        assert!(before.is_none(), "twice");
    }
}

prop_compose! {
    fn any_visit()(
        at in 0usize..30,
        leaves in prop::option::weighted(0.2, 0usize..12),
        prompts in prop::collection::vec(prop::collection::vec(0..VOCAB as u32, 1..9), 1..4),
        group_size in 1usize..6,
        temperature in prop_oneof![Just(0.0), Just(1.0), 0.3..2.0f64],
        top_k in prop::option::of(1usize..30),
        max_tokens in 1usize..14,
        seed in 0u64..3,
        eos in prop::collection::vec(0..VOCAB as u32, 0..3),
        longest in prop::option::of(1usize..10),
        alternatives in prop_oneof![Just(0), Just(3)],
    ) -> Visit {
        let prompts = prompts.into_iter().map(Prompt::from).collect();
        let sampling = SamplingParams { temperature, top_k, max_tokens, ..SamplingParams::default() };
        Visit { at, leaves, prompts, group_size, sampling, key: SampleKey::new(seed, 0), eos, longest, alternatives }
    }
}

/// What a call gives by itself, without batches.
fn alone(toy: &Toy, visit: &Visit) -> Vec<Vec<Completion>> {
    let most = visit.longest.unwrap_or(usize::MAX).min(visit.sampling.max_tokens);
    let sampling = SamplingParams { max_tokens: most, ..visit.sampling.clone() };
    reference(toy, &visit.prompts, visit.group_size, &sampling, visit.key, &visit.eos)
}

fn run(toy: &Toy, settings: BatchSettings, visits: &[Visit]) -> Heard {
    let (mut batch, mut heard) = (Batch::new(toy, settings, 9).unwrap(), Heard::default());
    for turn in 0.. {
        for (id, visit) in visits.iter().enumerate() {
            if visit.at == turn {
                batch.submit(id as u64, visit.call()).unwrap();
            }
            if visit.leaves.is_some_and(|after| visit.at + after == turn) {
                batch.cancel(id as u64);
                heard.parts.retain(|place, _| place.0 != id as u64);
                heard.whole.retain(|place, _| place.0 != id as u64);
            }
        }
        if turn > 50 && !batch.has_work() {
            break;
        }
        batch.advance(&mut heard).unwrap();
        assert!(turn < 100_000, "it does not end");
    }
    assert_eq!((batch.running(), batch.waiting()), (0, 0));
    heard
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_runs_beside_a_call_changes_nothing_of_it(
        visits in prop::collection::vec(any_visit(), 1..8),
        max_batch_rows in 1usize..20,
        max_batch_tokens in prop_oneof![1usize..300, Just(100_000)],
        compact_below in prop_oneof![Just(0.0), Just(0.75), Just(1.0)],
        draws: bool,
        reads_every in 1usize..4,
        appends: bool,
        copies: bool,
    ) {
        let toy = Toy { draws, reads_every, appends, copies, ..Toy::new(VOCAB, 24) };
        let settings =
            BatchSettings { max_batch_rows, max_batch_tokens, compact_below, ..BatchSettings::default() };
        let heard = run(&toy, settings, &visits);
        prop_assert!(toy.most_slots.get() <= max_batch_tokens);
        for (id, visit) in visits.iter().enumerate().filter(|(_, visit)| visit.leaves.is_none()) {
            for (p, group) in alone(&toy, visit).iter().enumerate() {
                for (g, expected) in group.iter().enumerate() {
                    let got = &heard.whole[&(id as u64, p, g)];
                    prop_assert_eq!(&got.token_ids, &expected.token_ids);
                    prop_assert_eq!(&got.logprobs, &expected.logprobs);
                    let (ids, logprobs) = &heard.parts[&(id as u64, p, g)];
                    prop_assert_eq!((ids, logprobs), (&got.token_ids, &got.logprobs));
                }
            }
        }
        let left = |place: &At| visits[place.0 as usize].leaves.is_some();
        prop_assert!(heard.whole.keys().all(|place| !left(place)), "heard of a call that was taken back");
    }
}

#[test]
fn a_prompt_that_comes_while_others_run_joins_at_once() {
    let toy = Toy { copies: false, ..Toy::new(VOCAB, 200) };
    let (mut batch, mut heard) = (Batch::new(&toy, BatchSettings::default(), 0).unwrap(), Heard::default());
    let visit = |at, max_tokens| Visit {
        at,
        leaves: None,
        prompts: vec![vec![1, 2, at as u32].into()],
        group_size: 1,
        sampling: SamplingParams { max_tokens, ..SamplingParams::default() },
        key: SampleKey::default(),
        eos: vec![],
        longest: None,
        alternatives: 0,
    };
    batch.submit(0, visit(3, 100).call()).unwrap();
    for _ in 0..10 {
        batch.advance(&mut heard).unwrap();
    }
    batch.submit(1, visit(4, 5).call()).unwrap();
    batch.advance(&mut heard).unwrap();
    assert_eq!(heard.parts[&(1, 0, 0)].0.len(), 1, "its first token came with its prompt");
    assert_eq!(batch.running(), 2);
    for _ in 0..4 {
        batch.advance(&mut heard).unwrap();
    }
    assert!(heard.whole.contains_key(&(1, 0, 0)) && batch.running() == 1);
    assert_eq!(batch.stats().refills, 1);
    // What cannot be used is refused, and the others go on.
    let mut bad = visit(5, 5);
    bad.prompts = vec![vec![VOCAB as u32].into()];
    assert!(batch.submit(2, bad.call()).is_err());
    while batch.has_work() {
        batch.advance(&mut heard).unwrap();
    }
    assert_eq!(heard.whole.len(), 2);
}
