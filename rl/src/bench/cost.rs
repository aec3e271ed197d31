//! What phases cost: work counted from the shape, and time.

use super::{PhaseTime, ceiling};
use burn::tensor::Device;
use rlvr_policies::Decoder;
use std::time::Instant;

/// Work by the shape of a decoder.
pub(super) struct Cost {
    /// Weights of the blocks that are multiplied with every token.
    blocks: f64,
    /// Weights of the output layer.
    head: f64,
    /// Bytes of keys and values a token.
    kv_bytes: f64,
    /// Bytes of a weight.
    weight_bytes: f64,
}

impl Cost {
    pub(super) fn new(decoder: &Decoder) -> Self {
        let c = decoder.config();
        let head = (c.vocab_size * c.hidden_size) as f64;
        let attention = c.hidden_size * c.head_dim * 2 * (c.num_heads + c.num_kv_heads);
        let blocks = c.num_layers * (attention + 3 * c.hidden_size * c.intermediate_size);
        let (kv_bytes, weight_bytes) = (decoder.cache_bytes() as f64, decoder.operands().size() as f64);
        Self { blocks: blocks as f64, head, kv_bytes, weight_bytes }
    }

    pub(super) fn blocks(&self, tokens: usize) -> f64 {
        2.0 * self.blocks * tokens as f64
    }

    pub(super) fn head(&self, tokens: usize) -> f64 {
        2.0 * self.head * tokens as f64
    }

    /// Bytes that one decoding step reads: all weights once, and the cache of every row at this length.
    pub(super) fn decode_bytes(&self, rows: usize, length: usize) -> f64 {
        (self.blocks + self.head) * self.weight_bytes + self.kv_bytes * (rows * length) as f64
    }
}

/// Wall and processor time of a repetition, seconds.
#[derive(Clone, Copy)]
pub(super) struct Time {
    wall: f64,
    cpu: Option<f64>,
}

/// The repetition of median wall time, after one that does not count. What `work` leaves is dropped unmeasured.
pub(super) fn measure<S, T>(
    (device, repeat): (&Device, usize),
    mut setup: impl FnMut() -> S,
    mut work: impl FnMut(S) -> T,
) -> Time {
    // A device that fails here fails again where its results are read.
    let wait = || drop(device.sync());
    work(setup());
    let mut times: Vec<Time> = (0..repeat)
        .map(|_| {
            let prepared = setup();
            wait();
            let (cpu, start) = (processor_s(), Instant::now());
            let result = work(prepared);
            wait();
            let wall = start.elapsed().as_secs_f64();
            drop(result);
            Time { wall, cpu: processor_s().zip(cpu).map(|(after, before)| after - before) }
        })
        .collect();
    times.sort_by(|a, b| a.wall.total_cmp(&b.wall));
    times[repeat / 2]
}

/// A phase before the ceilings are known.
pub(super) struct Measured {
    pub(super) time: Time,
    pub(super) tokens: usize,
    pub(super) flops: f64,
    pub(super) bytes: Option<f64>,
}

impl Measured {
    pub(super) fn beside(&self, ceilings: &ceiling::Ceilings) -> PhaseTime {
        let wall_s = self.time.wall;
        PhaseTime {
            wall_s,
            cpu_s: self.time.cpu,
            tokens: self.tokens,
            tokens_per_s: self.tokens as f64 / wall_s,
            flop_share: self.flops / wall_s / (1e9 * ceilings.gflops),
            bandwidth_share: self.bytes.map(|b| b / wall_s / (1e9 * ceilings.gbytes_per_s)),
        }
    }
}

/// Processor time of this process so far, where `/proc` tells.
pub fn processor_s() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit(") ").next()?.split(' ').skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / 100.0)
}
