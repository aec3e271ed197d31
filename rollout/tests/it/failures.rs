//! Prompts that cannot be used, logits that cannot be sampled, and calls that are interrupted.

use crate::toy::{Toy, prompts, reference};
use rlvr_rollout::{
    BatchSettings, BatchedEngine, DecodeModel, LogitsProblem, LongPrompt, Prompt, RolloutEngine,
    RolloutError, SampleKey, SamplingParams, TruncatedPrompt,
};
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};

const KEY: SampleKey = SampleKey { seed: 3, step: 5, first_prompt: 0, first_sample: 0 };

fn params(max_tokens: usize) -> SamplingParams {
    SamplingParams { max_tokens, ..SamplingParams::default() }
}

fn settings(max_prompt_tokens: Option<usize>, long_prompt: LongPrompt) -> BatchSettings {
    BatchSettings { max_prompt_tokens, long_prompt, ..BatchSettings::default() }
}

fn error(toy: &Toy, settings: BatchSettings, prompts: &[Prompt]) -> RolloutError {
    BatchedEngine::new(toy, settings).generate(prompts, 2, &params(4), KEY).unwrap_err()
}

#[test]
fn no_prompts_give_no_completions() {
    let toy = Toy::new(8, 16);
    let mut engine = BatchedEngine::new(&toy, BatchSettings::default());
    assert!(engine.generate(&[], 4, &params(4), KEY).unwrap().is_empty());
    assert!(toy.calls.borrow().is_empty());
}

#[test]
fn long_prompts_fail_before_anything_is_decoded() {
    let toy = Toy::new(8, 6);
    let prompts = prompts(&[&[1], &[1, 2, 3, 4, 5, 6]]);
    let failure = error(&toy, BatchSettings::default(), &prompts);
    assert!(
        matches!(failure, RolloutError::PromptTooLong { prompt: 1, tokens: 6, limit: 5, context: 6 }),
        "{failure}"
    );
    assert!(toy.calls.borrow().is_empty());
}

#[test]
fn long_prompts_are_skipped() {
    let toy = Toy::new(8, 16);
    let prompts = prompts(&[&[1], &[1, 2, 3, 4], &[2, 3]]);
    let mut engine = BatchedEngine::new(&toy, settings(Some(3), LongPrompt::Skip)).policy_version(9);
    let got = engine.generate(&prompts, 2, &params(4), KEY).unwrap();
    let mut wanted = reference(&toy, &prompts, 2, &params(4), KEY, &[]);
    wanted[1].clear();
    assert_eq!(got, wanted);
    assert_eq!(engine.stats().skipped_prompts, [1]);
}

#[test]
fn long_prompts_lose_their_beginning() {
    let toy = Toy::new(8, 16);
    let given = prompts(&[&[1], &[7, 1, 2, 3, 4], &[2, 3, 4]]);
    let mut engine = BatchedEngine::new(&toy, settings(Some(3), LongPrompt::TruncateLeft)).policy_version(9);
    let got = engine.generate(&given, 2, &params(4), KEY).unwrap();
    let cut = prompts(&[&[1], &[2, 3, 4], &[2, 3, 4]]);
    assert_eq!(got, reference(&toy, &cut, 2, &params(4), KEY, &[]));
    assert_eq!(engine.stats().truncated_prompts, [TruncatedPrompt { prompt: 1, dropped_tokens: 2 }]);
    // The last two prompts are equal by now.
    assert_eq!(engine.stats().prompt_tokens, 4);
}

#[test]
fn unusable_arguments() {
    let toy = Toy::new(8, 16);
    let failure = error(&toy, BatchSettings::default(), &prompts(&[&[1], &[]]));
    assert!(matches!(failure, RolloutError::EmptyPrompt { prompt: 1 }), "{failure}");
    let failure = error(&toy, BatchSettings::default(), &prompts(&[&[7, 8]]));
    assert!(matches!(failure, RolloutError::TokenOutOfRange { prompt: 0, token: 8, vocab_size: 8 }));
    let failure = error(&toy, BatchSettings { max_batch_rows: 0, ..BatchSettings::default() }, &[]);
    assert!(failure.to_string().contains("max_batch_rows"), "{failure}");
    let mut engine = BatchedEngine::new(&toy, BatchSettings::default());
    let failure = engine.generate(&prompts(&[&[1]]), 0, &params(4), KEY).unwrap_err();
    assert!(matches!(failure, RolloutError::EmptyGroup));
    let failure = engine.generate(&prompts(&[&[1]]), 1, &params(0), KEY).unwrap_err();
    assert!(failure.to_string().contains("max_tokens"), "{failure}");
}

#[test]
fn broken_logits_are_an_error_and_never_a_token() {
    for vocab in [8, 40_000] {
        for (value, problem) in [
            (f32::NAN, LogitsProblem::Nan { token: vocab as u32 / 2 }),
            (f32::INFINITY, LogitsProblem::PositiveInfinity { token: vocab as u32 / 2 }),
        ] {
            let mut toy = Toy::new(vocab, 16);
            toy.poison = Some((5, value));
            let failure = error(&toy, BatchSettings::default(), &prompts(&[&[1], &[4, 5], &[5]]));
            let RolloutError::InvalidLogits { prompt: 1, sample: 0, position: 0, problem: found } = failure
            else {
                panic!("{failure}");
            };
            assert_eq!(found, problem);
            assert!(failure.source().unwrap().to_string().contains(&format!("token {}", vocab / 2)));
        }
    }
    // Found by a model that draws its tokens itself.
    let toy = Toy { poison: Some((5, f32::NAN)), draws: true, ..Toy::new(8, 16) };
    let failure = error(&toy, BatchSettings::default(), &prompts(&[&[1], &[4, 5], &[5]]));
    let no_softmax = LogitsProblem::NoSoftmax;
    assert!(
        matches!(&failure, RolloutError::InvalidLogits { prompt: 1, sample: 0, position: 0, problem } if *problem == no_softmax),
        "{failure}"
    );
    // In the middle of a completion.
    let mut toy = Toy::new(8, 64);
    toy.poison = Some((5, f32::NAN));
    let mut engine = BatchedEngine::new(&toy, BatchSettings::default());
    let failure = engine.generate(&prompts(&[&[1]]), 3, &params(60), KEY).unwrap_err();
    assert!(matches!(failure, RolloutError::InvalidLogits { position: 1.., .. }), "{failure}");
}

#[test]
fn cancellation_is_an_error_and_leaves_no_trace() {
    let toy = Toy::new(24, 64);
    let prompts = prompts(&[&[1, 2, 3]]);
    let flag = AtomicBool::new(false);
    let raise = |progress: rlvr_rollout::Progress| {
        if progress.completion_tokens >= 8 {
            flag.store(true, Ordering::Relaxed);
        }
    };
    let mut engine = BatchedEngine::new(&toy, BatchSettings::default())
        .cancel(&flag)
        .on_progress(&raise)
        .policy_version(9);
    let failure = engine.generate(&prompts, 4, &params(20), KEY).unwrap_err();
    assert!(matches!(failure, RolloutError::Cancelled { completion_tokens: 8 }), "{failure}");
    let mut engine = BatchedEngine::new(&toy, BatchSettings::default()).policy_version(9);
    let again = engine.generate(&prompts, 4, &params(20), KEY).unwrap();
    assert_eq!(again, reference(&toy, &prompts, 4, &params(20), KEY, &[]));
}

/// Fails, or returns too few logits.
struct Broken {
    fails: bool,
}

impl DecodeModel for Broken {
    type Cache = ();

    fn vocab_size(&self) -> usize {
        4
    }

    fn context_len(&self) -> usize {
        8
    }

    fn prefill(&self, _: &[&[u32]], _: usize) -> Result<((), Vec<f32>), RolloutError> {
        self.decode(&[], &mut ()).map(|logits| ((), logits))
    }

    fn decode(&self, _: &[u32], (): &mut ()) -> Result<Vec<f32>, RolloutError> {
        if self.fails { Err(RolloutError::model("device lost")) } else { Ok(vec![0.0; 3]) }
    }

    fn select_rows(&self, (): (), _: &[usize], _: usize) {}
}

#[test]
fn failures_of_the_model_are_passed_on() {
    let run = |fails| {
        let model = Broken { fails };
        let mut engine = BatchedEngine::new(&model, BatchSettings::default());
        engine.generate(&prompts(&[&[1], &[2]]), 1, &params(2), KEY).unwrap_err()
    };
    assert_eq!(run(true).source().unwrap().to_string(), "device lost");
    assert!(matches!(run(false), RolloutError::LogitsShape { found: 3, rows: 2, vocab_size: 4 }));
}
