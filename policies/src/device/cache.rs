//! Keys and values of a batch that is being decoded, and attention of one new token a row over them.
//!
//! A row holds its tokens from slot 0 on, without padding, so rows have lengths of their own. Room comes in buckets of
//! fixed shapes.
use super::attention::window;
use super::attention_tiles::bounded;
use super::mat::{Mat, cubes};
use super::ops::DeviceModel;
use super::sample::Sampling;
use super::step::{StepError, Stepper};
use crate::model::draw::{DrawAt, DrawnSteps};
use crate::spec::{Attention, Heads};
use burn::tensor::DType;
use cubecl::ir::ElemType;
use cubecl::prelude::*;

/// The smallest bucket of slots.
const BUCKET: usize = 128;

/// Units of a cube that attends for one key/value head of one row, and slots that it looks at together.
const UNITS: usize = 128;

/// Slots that `tokens` tokens get: a power of two, at least [`BUCKET`].
pub fn bucket(tokens: usize) -> usize {
    tokens.max(BUCKET).next_power_of_two()
}

/// Keys and values, one matrix a layer, a row of the batch in each row: `[kv_heads, capacity, head_dim]`.
///
/// A clone shares its memory, and the next token is written in place: before it, rows are selected, which copies them.
#[derive(Debug, Clone)]
pub struct KernelCache {
    k: Vec<Mat>,
    v: Vec<Mat>,
    lens: Vec<usize>,
    capacity: usize,
    steps: Steps,
}

/// What the steps of a cache share; a clone begins anew.
#[derive(Debug, Default)]
struct Steps(Option<Box<Stepper>>);

impl Clone for Steps {
    fn clone(&self) -> Self {
        Self::default()
    }
}

#[cube(launch)]
fn store_kernel<E: Float>(
    qkv: &[f32],
    rows: &[u32],
    slots: &[u32],
    k: &mut [E],
    v: &mut [E],
    total: usize,
    heads: usize,
    kv_heads: usize,
    hd: usize,
    capacity: usize,
    #[define(E)] _dtype: ElemType,
) {
    if ABSOLUTE_POS < total {
        let d = ABSOLUTE_POS % hd;
        let head = ABSOLUTE_POS / hd % kv_heads;
        let i = ABSOLUTE_POS / hd / kv_heads;
        let from = (i * (heads + 2 * kv_heads) + heads + head) * hd + d;
        let to = ((rows[i] as usize * kv_heads + head) * capacity + slots[i] as usize) * hd + d;
        k[to] = E::cast_from(qkv[from]);
        v[to] = E::cast_from(qkv[from + kv_heads * hd]);
    }
}

#[cube(launch)]
fn select_kernel<E: Float>(
    x: &[E],
    index: &[u32],
    out: &mut [E],
    total: usize,
    first: usize,
    kv_heads: usize,
    used: usize,
    hd: usize,
    old: usize,
    new: usize,
    #[define(E)] _dtype: ElemType,
) {
    if ABSOLUTE_POS < total {
        let inside = ABSOLUTE_POS % (used * hd);
        let head = ABSOLUTE_POS / (used * hd) % kv_heads;
        let row = ABSOLUTE_POS / (used * hd) / kv_heads;
        let from = (index[row] as usize * kv_heads + head) * old * hd + inside;
        out[((first + row) * kv_heads + head) * new * hd + inside] = x[from];
    }
}

/// Scores of a slot for each query of a group, of which one is `units` behind the other; a slot that is not seen has none.
#[cube]
fn score<E: Float>(
    q: &Shared<[f32]>,
    k: &[E],
    scores: &mut Shared<[f32]>,
    at: usize,
    seen: bool,
    cap: f32,
    #[comptime] capped: bool,
    #[comptime] group: usize,
    #[comptime] hd: usize,
    #[comptime] units: usize,
) {
    for g in 0..group {
        let mut s = f32::new(-1.0e30f32);
        if seen {
            s = 0.0f32;
            for d in 0..hd {
                s += q[g * hd + d] * f32::cast_from(k[at + d]);
            }
            if comptime!(capped) {
                s = cap * bounded(s, cap);
            }
        }
        scores[g * units + UNIT_POS as usize] = s;
    }
}

/// Raises the maximum of query `g`, and leaves the factor for what was summed before.
#[cube]
fn raise(scores: &Shared<[f32]>, state: &mut Shared<[f32]>, g: usize, #[comptime] units: usize) {
    let mut max = state[g * 3];
    for i in 0..units {
        let s = scores[g * units + i];
        if s > max {
            max = s;
        }
    }
    state[g * 3 + 2] = (state[g * 3] - max).exp();
    state[g * 3] = max;
}

/// Turns the scores of a slot into weights.
#[cube]
fn weigh(
    scores: &mut Shared<[f32]>,
    state: &Shared<[f32]>,
    seen: bool,
    #[comptime] group: usize,
    #[comptime] units: usize,
) {
    for g in 0..group {
        let mut p = 0.0f32;
        if seen {
            p = (scores[g * units + UNIT_POS as usize] - state[g * 3]).exp();
        }
        scores[g * units + UNIT_POS as usize] = p;
    }
}

/// Adds the weights of query `g` to its sum.
#[cube]
fn add_weights(weights: &Shared<[f32]>, state: &mut Shared<[f32]>, g: usize, #[comptime] units: usize) {
    let mut sum = state[g * 3 + 1] * state[g * 3 + 2];
    for i in 0..units {
        sum += weights[g * units + i];
    }
    state[g * 3 + 1] = sum;
}

/// Adds weighted values of the slots from `first` to those that a unit has of the sums of all queries.
#[cube]
fn add_values<E: Float>(
    weights: &Shared<[f32]>,
    v: &[E],
    state: &Shared<[f32]>,
    acc: &mut Shared<[f32]>,
    base: usize,
    first: usize,
    len: usize,
    #[comptime] group: usize,
    #[comptime] hd: usize,
    #[comptime] units: usize,
) {
    let mut end = len;
    if len > first + units {
        end = first + units;
    }
    let mut i = UNIT_POS as usize;
    if len <= first {
        i = group * hd;
    }
    while i < group * hd {
        let g = i / hd;
        let mut sum = acc[i] * state[g * 3 + 2];
        for slot in first..end {
            let value = f32::cast_from(v[base + slot * hd + i % hd]);
            sum += weights[g * units + slot - first] * value;
        }
        acc[i] = sum;
        i += units;
    }
}

#[cube(launch)]
fn attend_kernel<E: Float>(
    qkv: &[f32],
    k: &[E],
    v: &[E],
    slots: &[u32],
    out: &mut [f32],
    total: usize,
    kv_heads: usize,
    capacity: usize,
    window: u32,
    cap: f32,
    #[comptime] capped: bool,
    #[comptime] group: usize,
    #[comptime] hd: usize,
    #[comptime] units: usize,
    #[define(E)] _dtype: ElemType,
) {
    if CUBE_POS < total {
        let unit = UNIT_POS as usize;
        let row = CUBE_POS / kv_heads;
        let kv = CUBE_POS % kv_heads;
        let heads = group * kv_heads;
        let base = CUBE_POS * capacity * hd;
        let len = slots[row] as usize + 1;
        let mut q = Shared::<[f32]>::new_slice(group * hd);
        // Scores of what is looked at together, then their weights.
        let mut scores = Shared::<[f32]>::new_slice(group * units);
        // Maximum, sum and factor for what was summed before, of each head.
        let mut state = Shared::<[f32]>::new_slice(group * 3);
        let mut acc = Shared::<[f32]>::new_slice(group * hd);
        let mut i = unit;
        while i < group * hd {
            q[i] = qkv[(row * (heads + 2 * kv_heads) + kv * group) * hd + i];
            acc[i] = 0.0f32;
            i += units;
        }
        if unit < group {
            state[unit * 3] = -1.0e30f32;
            state[unit * 3 + 1] = 0.0f32;
        }
        sync_cube();
        let mut first = 0usize;
        while first < capacity {
            // Every unit of a cube has the same `len`; the barriers stand outside because not every compiler sees it.
            let slot = first + unit;
            let seen = slot < len && (len - slot) as u32 <= window;
            score(&q, k, &mut scores, base + slot * hd, seen, cap, capped, group, hd, units);
            sync_cube();
            if unit < group && first < len {
                raise(&scores, &mut state, unit, units);
            }
            sync_cube();
            weigh(&mut scores, &state, seen, group, units);
            sync_cube();
            if unit < group && first < len {
                add_weights(&scores, &mut state, unit, units);
            }
            add_values(&scores, v, &state, &mut acc, base, first, len, group, hd, units);
            sync_cube();
            first += units;
        }
        let mut i = unit;
        while i < group * hd {
            out[(row * heads + kv * group) * hd + i] = acc[i] / state[i / hd * 3 + 1];
            i += units;
        }
    }
}

impl KernelCache {
    /// Keys and values of prompts, and the logits that follow each, `[prompts, vocab]`.
    pub fn prefill(model: &DeviceModel, prompts: &[&[u32]], capacity: usize) -> (Self, Mat) {
        let capacity = bucket(capacity.max(prompts.iter().map(|p| p.len()).max().unwrap_or(0)));
        let heads = &model.model().heads();
        let like = model.like();
        let width = heads.kv_heads * capacity * heads.head_dim;
        let make =
            || model.model().blocks.iter().map(|_| like.empty(prompts.len(), width, model.dtype())).collect();
        let cache = Self {
            k: make(),
            v: make(),
            lens: prompts.iter().map(|p| p.len()).collect(),
            capacity,
            steps: Steps::default(),
        };
        let rows: Vec<u32> = prompts.iter().enumerate().flat_map(|(b, p)| vec![b as u32; p.len()]).collect();
        let slots: Vec<u32> = prompts.iter().flat_map(|p| 0..p.len() as u32).collect();
        let (rows, slots) = (like.upload(&rows, 1, rows.len()), like.upload(&slots, 1, slots.len()));
        let logits = model.prefill(prompts, |layer, qkv| cache.store(layer, heads, qkv, &rows, &slots));
        (cache, logits)
    }

    /// All of its memory on the device.
    pub fn memory(&self) -> impl Iterator<Item = Mat> {
        self.k.iter().chain(&self.v).cloned()
    }

    /// Whether further [`steps`](Self::steps) replay a recording.
    pub fn is_recorded(&self) -> bool {
        self.steps.0.as_ref().is_some_and(|stepper| stepper.is_recorded())
    }

    /// The newest slots, after making room for `more` tokens a row.
    fn make_room(&mut self, heads: &Heads, more: usize) -> Vec<u32> {
        let longest = self.lens.iter().max().map_or(0, |l| l + more);
        if longest > self.capacity {
            let rows: Vec<usize> = (0..self.lens.len()).collect();
            self.regroup(heads, &rows, longest);
        }
        let slots = self.lens.iter().map(|l| *l as u32).collect();
        self.lens.iter_mut().for_each(|l| *l += more);
        slots
    }

    /// Feeds one token to every row; returns the logits that follow, `[rows, vocab]`.
    pub fn step(&mut self, model: &DeviceModel, tokens: &[u32]) -> Mat {
        assert_eq!(tokens.len(), self.lens.len(), "one token a row");
        let (heads, n) = (&model.model().heads(), tokens.len());
        let up = |values: &[u32]| model.like().upload(values, 1, n);
        let slots = up(&self.make_room(heads, 1));
        let rows = up(&(0..n as u32).collect::<Vec<_>>());
        model.step(&up(tokens), &slots, |layer, attention, qkv| {
            self.store(layer, heads, qkv, &rows, &slots);
            self.attend(layer, attention, qkv, &slots)
        })
    }

    /// Feeds one token to every row, draws, feeds what was drawn, and so on for `steps` draws a row, see [`Stepper::run`].
    pub fn steps(
        &mut self,
        model: &DeviceModel,
        tokens: &[u32],
        draws: &[DrawAt],
        steps: usize,
        sampling: Sampling,
    ) -> Result<DrawnSteps, StepError> {
        assert_eq!(tokens.len(), self.lens.len(), "one token a row");
        let slots = self.make_room(&model.model().heads(), steps);
        let kept = self.steps.0.take().filter(|stepper| stepper.draws(sampling));
        let mut stepper = kept.unwrap_or_else(|| Box::new(Stepper::new(model, tokens.len(), sampling)));
        let drawn = stepper.run(model, self, tokens, &slots, draws, steps)?;
        self.steps = Steps(Some(stepper));
        Ok(drawn)
    }

    /// The cache whose row i is row `indices[i]` of this one.
    pub fn select_rows(mut self, heads: &Heads, indices: &[usize], capacity: usize) -> Self {
        self.regroup(heads, indices, capacity);
        self
    }

    /// The rows of this cache and then those of the other.
    pub fn append_rows(mut self, heads: &Heads, other: Self, capacity: usize) -> Self {
        let longest = self.lens.iter().chain(&other.lens).max().copied().unwrap_or(0);
        let new = bucket(capacity.max(longest));
        let rows = self.lens.len() + other.lens.len();
        let all = |cache: &Self| {
            let all: Vec<u32> = (0..cache.lens.len() as u32).collect();
            cache.k[0].upload(&all, 1, all.len())
        };
        let (own, more) = (all(&self), all(&other));
        let (from, old) = ((self.capacity, other.capacity), (self.k.iter_mut(), self.v.iter_mut()));
        for (x, y) in old.0.zip(&other.k).chain(old.1.zip(&other.v)) {
            let out = x.empty(rows, heads.kv_heads * new * heads.head_dim, x.dtype());
            copy_rows(x, heads, &own, longest.min(from.0), from.0, &out, 0, new);
            copy_rows(y, heads, &more, longest.min(from.1), from.1, &out, self.lens.len(), new);
            *x = out;
        }
        self.lens.extend(other.lens);
        (self.capacity, self.steps) = (new, Steps::default());
        self
    }

    fn regroup(&mut self, heads: &Heads, indices: &[usize], capacity: usize) {
        let used = self.lens.iter().max().copied().unwrap_or(0);
        let new = bucket(capacity.max(used));
        let index: Vec<u32> = indices.iter().map(|i| *i as u32).collect();
        let index = self.k[0].upload(&index, 1, indices.len());
        for x in self.k.iter_mut().chain(&mut self.v) {
            let out = x.empty(indices.len(), heads.kv_heads * new * heads.head_dim, x.dtype());
            copy_rows(x, heads, &index, used, self.capacity, &out, 0, new);
            *x = out;
        }
        self.lens = indices.iter().map(|i| self.lens[*i]).collect();
        (self.capacity, self.steps) = (new, Steps::default());
    }

    /// Keeps the keys and values of placed rows: row i goes to slot `slots[i]` of row `rows[i]`.
    pub fn store(&self, layer: usize, heads: &Heads, qkv: &Mat, rows: &Mat, slots: &Mat) {
        let total = qkv.rows() * heads.kv_heads * heads.head_dim;
        let (count, dim) = qkv.units(total);
        store_kernel::launch(
            qkv.client(),
            count,
            dim,
            qkv.arg(),
            rows.arg(),
            slots.arg(),
            self.k[layer].arg(),
            self.v[layer].arg(),
            total,
            heads.heads,
            heads.kv_heads,
            heads.head_dim,
            self.capacity,
            self.k[layer].elem(),
        );
    }

    /// Attention of one placed row for each row of the cache, over the slots up to its own one.
    pub fn attend(&self, layer: usize, attention: &Attention, qkv: &Mat, slots: &Mat) -> Mat {
        let heads = &attention.heads;
        let out = qkv.empty(qkv.rows(), heads.out_width(), DType::F32);
        let total = qkv.rows() * heads.kv_heads;
        attend_kernel::launch(
            qkv.client(),
            cubes(total),
            CubeDim::new_1d(UNITS as u32),
            qkv.arg(),
            self.k[layer].arg(),
            self.v[layer].arg(),
            slots.arg(),
            out.arg(),
            total,
            heads.kv_heads,
            self.capacity,
            window(attention),
            attention.cap.unwrap_or(1.0),
            attention.cap.is_some(),
            heads.group(),
            heads.head_dim,
            UNITS,
            self.k[layer].elem(),
        );
        out
    }
}

/// Copies the first `used` of `old` slots of the rows `index` of `x` to the rows from `first` of `out`, which have `new`.
#[allow(clippy::too_many_arguments)]
fn copy_rows(
    x: &Mat,
    heads: &Heads,
    index: &Mat,
    used: usize,
    old: usize,
    out: &Mat,
    first: usize,
    new: usize,
) {
    let rows = index.cols();
    let total = rows * heads.kv_heads * used * heads.head_dim;
    let (count, dim) = out.units(total);
    select_kernel::launch(
        x.client(),
        count,
        dim,
        x.arg(),
        index.arg(),
        out.arg(),
        total,
        first,
        heads.kv_heads,
        used,
        heads.head_dim,
        old,
        new,
        x.elem(),
    );
}
