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
    /// Rows and tokens of every call.
    pub calls: RefCell<Vec<(usize, usize)>>,
    /// (rows, room) of every selection.
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
    /// Most rows × room of a cache, where it has more than one row.
    pub most_slots: Cell<usize>,
}

#[derive(Clone)]
pub struct ToyCache {
    rows: Vec<Vec<u32>>,
    room: usize,
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

impl Toy {
    /// Logits after every row.
    fn logits_of(&self, cache: &ToyCache) -> Vec<f32> {
        if cache.rows.len() > 1 {
            self.most_slots.set(self.most_slots.get().max(cache.rows.len() * cache.room));
        }
        let logits = |row: &Vec<u32>| {
            assert!(!row.is_empty() && row.len() <= self.context, "position outside the context");
            assert!(row.len() <= cache.room, "{} tokens in {} slots", row.len(), cache.room);
            self.logits(row)
        };
        cache.rows.iter().flat_map(logits).collect()
    }

    fn drawn(&self, logits: &[f32], draws: &[Draw], later: u64, temperature: f64) -> Vec<Sampled> {
        let params = SamplingParams { temperature, ..SamplingParams::default() };
        let draw = |d: &Draw| {
            let uniform = d.rng.uniform(d.position + later);
            sample_token(&logits[d.row * self.vocab..][..self.vocab], &params, uniform)
                .unwrap_or(Sampled { token: 0, logprob: f32::NAN })
        };
        draws.iter().map(draw).collect()
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

    fn prefill(&self, prompts: &[&[u32]], room: usize) -> Result<(ToyCache, Vec<f32>), RolloutError> {
        assert!(!prompts.is_empty());
        self.calls.borrow_mut().push((prompts.len(), prompts.iter().map(|p| p.len()).sum()));
        let cache = ToyCache { rows: prompts.iter().map(|p| p.to_vec()).collect(), room };
        let logits = self.logits_of(&cache);
        Ok((cache, logits))
    }

    fn prefill_and_draw(
        &self,
        prompts: &[&[u32]],
        room: usize,
        draws: &[Draw],
        temperature: f64,
    ) -> Option<Result<(ToyCache, Vec<Sampled>), RolloutError>> {
        let drawn = |logits: Vec<f32>| self.drawn(&logits, draws, 0, temperature);
        self.draws.then(|| self.prefill(prompts, room).map(|(cache, logits)| (cache, drawn(logits))))
    }

    fn decode(&self, tokens: &[u32], cache: &mut ToyCache) -> Result<Vec<f32>, RolloutError> {
        assert!(!tokens.is_empty() && tokens.len() == cache.rows.len());
        self.calls.borrow_mut().push((tokens.len(), tokens.len()));
        cache.rows.iter_mut().zip(tokens).for_each(|(row, token)| row.push(*token));
        Ok(self.logits_of(cache))
    }

    fn decode_and_draw(
        &self,
        tokens: &[u32],
        cache: &mut ToyCache,
        draws: &[Draw],
        steps: usize,
        temperature: f64,
    ) -> Option<Result<Vec<Vec<Sampled>>, RolloutError>> {
        if !self.draws {
            return None;
        }
        assert!((1..=self.reads_every).contains(&steps));
        let mut tokens = tokens.to_vec();
        let mut drawn: Vec<Vec<Sampled>> = Vec::new();
        for step in 0..steps as u64 {
            let logits = match self.decode(&tokens, cache) {
                Ok(logits) => logits,
                Err(e) => return Some(Err(e)),
            };
            tokens.fill(0);
            drawn.push(self.drawn(&logits, draws, step, temperature));
            draws.iter().zip(&drawn[step as usize]).for_each(|(d, sampled)| tokens[d.row] = sampled.token);
        }
        Some(Ok(drawn))
    }

    fn steps_between_reads(&self) -> usize {
        self.reads_every
    }

    fn select_rows(&self, cache: ToyCache, indices: &[usize], room: usize) -> ToyCache {
        let rows: Vec<Vec<u32>> = indices.iter().map(|&i| cache.rows[i].clone()).collect();
        assert!(rows.iter().all(|row| row.len() <= room) && !rows.is_empty());
        self.selections.borrow_mut().push((rows.len(), room));
        ToyCache { rows, room }
    }

    fn copies_rows(&self) -> bool {
        self.copies
    }

    fn can_append(&self) -> bool {
        self.appends
    }

    fn append_rows(&self, cache: ToyCache, other: ToyCache, room: usize) -> ToyCache {
        let rows = [cache.rows, other.rows].concat();
        assert!(rows.iter().all(|row| row.len() <= room));
        ToyCache { rows, room }
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
