//! Time of sampling one token for every row of a batch, at the vocabulary sizes of SmolLM2 and Qwen2.5.
//!
//! `cargo bench --bench sampling`

use rayon::prelude::*;
use rlvr_rollout::{CounterRng, SamplingParams, sample_token};

const ROWS: usize = 32;
const SMOLLM2: usize = 49_152;
const QWEN2: usize = 151_936;

fn main() {
    divan::main();
}

fn logits(vocab: usize) -> Vec<f32> {
    let rng = CounterRng::new(1, 0, 0, 0);
    (0..(ROWS * vocab) as u64).map(|i| (3.0 * rng.normal(i)) as f32).collect()
}

fn bench(bencher: divan::Bencher<'_, '_>, vocab: usize, params: SamplingParams) {
    let logits = logits(vocab);
    let rng = CounterRng::new(2, 0, 0, 0);
    bencher.counter(divan::counter::ItemsCount::new(ROWS)).bench(|| {
        let draw = |(r, row)| sample_token(row, &params, rng.uniform(r as u64)).map(|s| s.token);
        logits.par_chunks(vocab).enumerate().map(draw).collect::<Result<Vec<u32>, _>>()
    });
}

#[divan::bench(args = [SMOLLM2, QWEN2])]
fn temperature(bencher: divan::Bencher<'_, '_>, vocab: usize) {
    bench(bencher, vocab, SamplingParams { temperature: 0.7, ..SamplingParams::default() });
}

#[divan::bench(args = [SMOLLM2, QWEN2])]
fn top_k(bencher: divan::Bencher<'_, '_>, vocab: usize) {
    bench(bencher, vocab, SamplingParams { top_k: Some(50), ..SamplingParams::default() });
}

#[divan::bench(args = [SMOLLM2, QWEN2])]
fn top_p(bencher: divan::Bencher<'_, '_>, vocab: usize) {
    bench(bencher, vocab, SamplingParams { top_p: Some(0.95), ..SamplingParams::default() });
}

#[divan::bench(args = [SMOLLM2, QWEN2])]
fn min_p(bencher: divan::Bencher<'_, '_>, vocab: usize) {
    bench(bencher, vocab, SamplingParams { min_p: Some(0.05), ..SamplingParams::default() });
}

#[divan::bench(args = [SMOLLM2, QWEN2])]
fn greedy(bencher: divan::Bencher<'_, '_>, vocab: usize) {
    bench(bencher, vocab, SamplingParams::greedy(1));
}
