//! Decoding and training of a SmolLM2-135M-shaped decoder with random weights: `cargo bench --bench decoder`.
//! `rl/benches/peer_torch.py` does the same work with PyTorch. With `-- steps N` it trains N steps, with `-- decodes N ROWS`
//! it decodes N times, and prints a line after each, for `rl/benches/in_turn.py`. With `DTYPE=bf16` in the environment the
//! operands of products are bf16.
#![allow(missing_docs, clippy::print_stdout)]
use burn::tensor::{DType, Device};
use divan::counter::ItemsCount;
use rayon::prelude::*;
use rlvr::bench::processor_s;
use rlvr::run::record::peak_rss_mb;
use rlvr_policies::Decoder;
use rlvr_policies::packed::{PackedBatch, PromptGroup};
use std::sync::OnceLock;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |i: usize| args.get(i).and_then(|n| n.parse::<usize>().ok());
    let begin = args.iter().position(|a| a == "steps" || a == "decodes").unwrap_or(args.len());
    if let Some(count) = number(begin + 1) {
        return rayon::scope(|_| match number(begin + 2) {
            Some(rows) => (0..count).for_each(|_| {
                greedy(rows);
                println!("decoded");
            }),
            None => {
                let mut step = training();
                (0..count).for_each(|_| {
                    step();
                    println!("step");
                });
            }
        });
    }
    if std::env::args().all(|a| a != "--list") {
        cores_used();
    }
    // On a thread of the pool, as the command line does.
    rayon::scope(|_| divan::main());
    println!("peak memory: {:.0} MiB", peak_rss_mb());
}

fn smollm2() -> &'static Decoder {
    static DECODER: OnceLock<Decoder> = OnceLock::new();
    DECODER.get_or_init(|| {
        let config = rlvr::bench::shape("smollm2-135m").expect("a known shape");
        let rng = rlvr_rollout::CounterRng::new(1, 0, 0, 0);
        let decoder = Decoder::random(config, &Device::flex(), |param, i| {
            rng.normal(((param as u64) << 32) | i as u64) as f32
        });
        let bf16 = std::env::var("DTYPE").is_ok_and(|d| d == "bf16");
        decoder.with_operands(if bf16 { DType::BF16 } else { DType::F32 }).expect("the CPU computes in both")
    })
}

/// Prints how many cores decoding at batch 32 keeps busy: processor time over wall time of ten repetitions.
fn cores_used() {
    rayon::scope(|_| {
        greedy(32);
        let (start, before) = (std::time::Instant::now(), processor_s().unwrap_or(f64::NAN));
        (0..10).for_each(|_| drop(greedy(32)));
        let (wall, cpu) = (start.elapsed().as_secs_f64(), processor_s().unwrap_or(f64::NAN) - before);
        println!("decode at batch 32: {cpu:.1} processor seconds in {wall:.1} s, {:.2} cores", cpu / wall);
        println!("peak memory so far: {:.0} MiB", peak_rss_mb());
    });
}

const NEW: usize = 32;

fn greedy(rows: usize) -> Vec<u32> {
    let decoder = smollm2();
    let vocab = decoder.config().vocab_size;
    let best = |row: &[f32]| (0..vocab).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap_or(0) as u32;
    let prompts: Vec<u32> = (0..rows as u32).collect();
    let (mut cache, mut logits) = decoder.prefill(&prompts.chunks(1).collect::<Vec<_>>(), NEW + 1);
    let mut tokens = vec![];
    for step in 0..NEW {
        tokens = logits.par_chunks(vocab).map(best).collect();
        if step + 1 < NEW {
            logits = cache.step(decoder, &tokens);
        }
    }
    tokens
}

/// Greedy decoding from one token, 32 tokens a row; items are tokens.
#[divan::bench(args = [1, 8, 32, 64], sample_count = 5, sample_size = 1)]
fn decode(bencher: divan::Bencher, rows: usize) {
    smollm2();
    bencher.counter(ItemsCount::new(rows * NEW)).bench_local(|| greedy(rows));
}

/// Forward, backward and AdamW on 8 sequences of 256 tokens; items are tokens. The first step, which takes its memory from
/// the system and copies the weights, is not measured.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn train_8x256(bencher: divan::Bencher) {
    let mut step = training();
    step();
    bencher.counter(ItemsCount::new(8usize * 256)).bench_local(step);
}

/// One training step after the other.
fn training() -> impl FnMut() -> f64 {
    let mut decoder = smollm2().clone();
    let sequences: Vec<Vec<u32>> =
        (0..8u32).map(|i| (0..257u32).map(|j| (i * 977 + j * 31) % 49152).collect()).collect();
    let groups: Vec<_> =
        sequences.iter().map(|s| PromptGroup { prompt: &s[..1], completions: vec![&s[1..]] }).collect();
    let batch = PackedBatch::new(&groups);
    let mut optim = rlvr::train::optim::Optimizer::new(&rlvr::config::OptimConfig::default(), 1, &decoder);
    let mut grads = decoder.zero_gradients();
    move || {
        grads.clear();
        let pass = decoder.forward(batch.clone(), 1.0, false);
        let slopes = vec![-1.0 / 2048.0; pass.targets().logprobs.len()];
        pass.backward(&slopes.into(), &mut grads);
        optim.step(&mut decoder, &grads, 1e-4).expect("finite weights")
    }
}
