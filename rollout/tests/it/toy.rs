//! A model whose logits are a hash of everything its cache holds, and a generator without batches or a cache.

use rlvr_rollout::{
    Completion, CounterRng, DecodeModel, Draw, FinishReason, Prompt, RolloutError, SampleKey, Sampled,
    SamplingParams, sample_token,
};
use std::cell::{Cell, RefCell};

/// Logits depend on every token and its position, so a wrong row, slot or start changes everything that follows.
pub struct Toy {
    pub vocab: usize,
    pub context: usize,
    /// Rows and tokens a row of every call of `decode`.
    pub calls: RefCell<Vec<(usize, usize)>>,
    /// (rows, capacity) of every selection.
    pub selections: RefCell<Vec<(usize, usize)>>,
    /// A token after which the logits are broken in this way.
    pub poison: Option<(u32, f32)>,
    /// Draws its tokens itself where no truncation is asked for.
    pub draws: bool,
    /// Tokens a row that it draws at once.
    pub reads_every: usize,
    /// Whether caches can be joined.
    pub appends: bool,
    /// Whether selecting rows copies them.
    pub copies: bool,
    /// Most rows × capacity of a cache, where it has more than one row.
    pub most_slots: Cell<usize>,
}

#[derive(Clone)]
pub struct ToyCache {
    starts: Vec<usize>,
    rows: Vec<Vec<u32>>,
    filled: usize,
    capacity: usize,
}

impl Toy {
    pub fn new(vocab: usize, context: usize) -> Self {
        let (calls, selections) = (RefCell::default(), RefCell::default());
        Self {
            vocab,
            context,
            calls,
            selections,
            poison: None,
            draws: false,
            reads_every: 1,
            appends: true,
            copies: true,
            most_slots: Cell::new(0),
        }
    }

    /// Logits after a history of tokens at positions 0, 1, …: [V], spread over about ±3.
    pub fn logits(&self, history: &[u32]) -> Vec<f32> {
        let mut hash = 0u64;
        for (position, &token) in history.iter().enumerate() {
            let next = hash ^ ((position as u64) << 32 | u64::from(token));
            hash = next.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23);
        }
        let rng = CounterRng::new(hash, 0, 0, 0);
        let mut logits: Vec<f32> =
            (0..self.vocab as u64).map(|i| (6.0 * rng.uniform(i) - 3.0) as f32).collect();
        if let Some((token, value)) = self.poison
            && history.last() == Some(&token)
        {
            logits[self.vocab / 2] = value;
        }
        logits
    }
}

impl DecodeModel for Toy {
    type Cache = ToyCache;

    fn vocab_size(&self) -> usize {
        self.vocab
    }

    fn context_len(&self) -> usize {
        self.context
    }

    fn cache(&self, starts: &[usize], capacity: usize) -> ToyCache {
        ToyCache { starts: starts.to_vec(), rows: vec![Vec::new(); starts.len()], filled: 0, capacity }
    }

    fn decode(&self, tokens: &[u32], rows: usize, cache: &mut ToyCache) -> Result<Vec<f32>, RolloutError> {
        assert!(rows > 0 && rows == cache.rows.len() && tokens.len().is_multiple_of(rows));
        let new = tokens.len() / rows;
        self.calls.borrow_mut().push((rows, new));
        if rows > 1 {
            self.most_slots.set(self.most_slots.get().max(rows * cache.capacity));
        }
        cache.filled += new;
        assert!(cache.filled <= cache.capacity, "{} slots of {}", cache.filled, cache.capacity);
        let mut logits = Vec::new();
        for (r, row) in cache.rows.iter_mut().enumerate() {
            row.extend_from_slice(&tokens[r * new..][..new]);
            let history = &row[cache.starts[r]..];
            assert!(!history.is_empty() && history.len() <= self.context, "position outside the context");
            logits.extend(self.logits(history));
        }
        Ok(logits)
    }

    fn decode_and_draw(
        &self,
        tokens: &[u32],
        rows: usize,
        cache: &mut ToyCache,
        draws: &[Draw],
        steps: usize,
        temperature: f64,
    ) -> Option<Result<Vec<Vec<Sampled>>, RolloutError>> {
        if !self.draws {
            return None;
        }
        assert!((1..=self.reads_every).contains(&steps));
        let params = SamplingParams { temperature, ..SamplingParams::default() };
        let draw = |logits: &[f32], d: &Draw| {
            let uniform = d.rng.uniform(d.position);
            sample_token(&logits[d.row * self.vocab..][..self.vocab], &params, uniform)
                .unwrap_or(Sampled { token: 0, logprob: f32::NAN })
        };
        let mut tokens = tokens.to_vec();
        let mut drawn: Vec<Vec<Sampled>> = Vec::new();
        for step in 0..steps as u64 {
            let logits = match self.decode(&tokens, rows, cache) {
                Ok(logits) => logits,
                Err(e) => return Some(Err(e)),
            };
            tokens = vec![0; rows];
            let later = |d: &Draw| Draw { position: d.position + step, ..*d };
            drawn.push(draws.iter().map(|d| draw(&logits, &later(d))).collect());
            draws.iter().zip(&drawn[step as usize]).for_each(|(d, sampled)| tokens[d.row] = sampled.token);
        }
        Some(Ok(drawn))
    }

    fn steps_between_reads(&self) -> usize {
        self.reads_every
    }

    fn select_rows(&self, cache: ToyCache, indices: &[usize], capacity: usize) -> ToyCache {
        assert!(capacity >= cache.filled && !indices.is_empty());
        self.selections.borrow_mut().push((indices.len(), capacity));
        ToyCache {
            starts: indices.iter().map(|&i| cache.starts[i]).collect(),
            rows: indices.iter().map(|&i| cache.rows[i].clone()).collect(),
            filled: cache.filled,
            capacity,
        }
    }

    fn copies_rows(&self) -> bool {
        self.copies
    }

    fn can_append(&self) -> bool {
        self.appends
    }

    fn append_rows(&self, cache: ToyCache, other: ToyCache, capacity: usize) -> ToyCache {
        let all = [cache, other];
        let real = all.iter().flat_map(|c| c.rows.iter().zip(&c.starts)).map(|(row, &start)| &row[start..]);
        let rows: Vec<Vec<u32>> = real.map(<[u32]>::to_vec).collect();
        let filled = rows.iter().map(Vec::len).max().unwrap();
        assert!(filled <= capacity, "{filled} slots of {capacity}");
        let starts = rows.iter().map(|row| filled - row.len()).collect();
        let pad = |row: Vec<u32>| [vec![0; filled - row.len()], row].concat();
        ToyCache { starts, rows: rows.into_iter().map(pad).collect(), filled, capacity }
    }
}

/// What the engine should return, one completion at a time from the full history.
pub fn reference(
    toy: &Toy,
    prompts: &[Prompt],
    group_size: usize,
    params: &SamplingParams,
    key: SampleKey,
    eos: &[u32],
) -> Vec<Vec<Completion>> {
    let one = |p: usize, g: usize| {
        let rng =
            CounterRng::new(key.seed, key.step, key.first_prompt + p as u64, key.first_sample + g as u64);
        let mut history = prompts[p].token_ids.clone();
        let (mut token_ids, mut logprobs) = (Vec::new(), Vec::new());
        let finish_reason = loop {
            let sampled =
                sample_token(&toy.logits(&history), params, rng.uniform(token_ids.len() as u64)).unwrap();
            history.push(sampled.token);
            token_ids.push(sampled.token);
            logprobs.push(sampled.logprob);
            if eos.contains(&sampled.token) || params.stop_sequences.iter().any(|s| token_ids.ends_with(s)) {
                break FinishReason::Stop;
            } else if token_ids.len() == params.max_tokens {
                break FinishReason::Length;
            } else if history.len() == toy.context {
                break FinishReason::Context;
            }
        };
        Completion { token_ids, logprobs, finish_reason, policy_version: 9 }
    };
    (0..prompts.len()).map(|p| (0..group_size).map(|g| one(p, g)).collect()).collect()
}

pub fn prompts(token_ids: &[&[u32]]) -> Vec<Prompt> {
    token_ids.iter().map(|ids| Prompt::from(ids.to_vec())).collect()
}
