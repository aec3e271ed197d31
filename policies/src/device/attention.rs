//! Causal grouped-query attention over packed rows, forward and backward, without a `T × T` matrix: squares of 32 queries
//! by 32 keys, of which only those are visited in which a query sees a key ([`super::attention_tiles`] has the kernels).
use super::attention_tiles::{TILE, UNITS, forward_kernel, key_kernel, query_kernel};
use super::mat::Mat;
use crate::packed::PackedBatch;
use crate::spec::{Attention, Heads};
use burn::tensor::DType;
use cubecl::prelude::*;
use std::ops::Range;

/// What each row attends to, on the device.
#[derive(Debug)]
pub struct Segments {
    /// Position in the sequence, `[1, rows]` of u32 like the three below.
    pub positions: Mat,
    /// First row and number of rows of the prompt before the row's own segment.
    prefix: (Mat, Mat),
    /// First row of its own segment.
    own: Mat,
    /// Of every tile of queries, the tiles of keys that it visits.
    keys: Lists,
    /// Of every tile of keys, the tiles of queries that visit it.
    queries: Lists,
}

/// Lists of tiles: those of tile `i` are `tiles[starts[i]..starts[i + 1]]`, ascending.
#[derive(Debug)]
struct Lists {
    starts: Mat,
    tiles: Mat,
}

impl Lists {
    /// From pairs in ascending order, `count` lists.
    fn new(pairs: &[(usize, usize)], count: usize, like: &Mat) -> Self {
        let starts: Vec<u32> = (0..=count).map(|i| pairs.partition_point(|&(of, _)| of < i) as u32).collect();
        let tiles: Vec<u32> = pairs.iter().map(|&(_, tile)| tile as u32).collect();
        Self { starts: like.upload(&starts, 1, count + 1), tiles: like.upload(&tiles, 1, tiles.len()) }
    }
}

/// Pairs of a tile of queries and a tile of keys of which a query sees a key, ascending.
fn visits(batch: &PackedBatch) -> Vec<(usize, usize)> {
    let tiles = |rows: &Range<usize>| rows.start / TILE..rows.end.div_ceil(TILE);
    let mut pairs = vec![];
    for group in &batch.groups {
        let own = std::iter::once(&group.prompt).chain(&group.completions).filter(|rows| !rows.is_empty());
        for rows in own.clone() {
            pairs.extend(tiles(rows).flat_map(|q| (rows.start / TILE..=q).map(move |k| (q, k))));
        }
        for rows in own.skip(1) {
            pairs.extend(tiles(rows).flat_map(|q| tiles(&group.prompt).map(move |k| (q, k))));
        }
    }
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}

impl Segments {
    /// The rows of a batch, on the device of `like`.
    pub fn new(batch: &PackedBatch, like: &Mat) -> Self {
        let n = batch.rows();
        let mut columns = [(); 3].map(|()| vec![0u32; n]);
        for group in &batch.groups {
            let mut fill = |rows: &Range<usize>, prefix: usize| {
                for row in rows.clone() {
                    let values = [group.prompt.start, prefix, rows.start];
                    columns.iter_mut().zip(values).for_each(|(c, v)| c[row] = v as u32);
                }
            };
            fill(&group.prompt, 0);
            group.completions.iter().for_each(|rows| fill(rows, group.prompt.len()));
        }
        let [first, prefix, own] = columns.map(|c| like.upload(&c, 1, n));
        let positions = like.upload(&batch.positions, 1, n);
        let mut pairs = visits(batch);
        let count = n.div_ceil(TILE);
        let keys = Lists::new(&pairs, count, like);
        pairs.iter_mut().for_each(|pair| *pair = (pair.1, pair.0));
        pairs.sort_unstable();
        let queries = Lists::new(&pairs, count, like);
        Self { positions, prefix: (first, prefix), own, keys, queries }
    }
}

#[cube(launch)]
fn delta_kernel(out: &[f32], d_out: &[f32], delta: &mut [f32], hd: usize) {
    if ABSOLUTE_POS < delta.len() {
        let mut sum = 0.0f32;
        for d in 0..hd {
            sum += out[ABSOLUTE_POS * hd + d] * d_out[ABSOLUTE_POS * hd + d];
        }
        delta[ABSOLUTE_POS] = sum;
    }
}

/// Adds up the query heads that share a key.
#[cube(launch)]
fn fold_kernel(parts: &[f32], grad: &mut [f32], total: usize, heads: usize, kv_heads: usize, hd: usize) {
    if ABSOLUTE_POS < total {
        let d = ABSOLUTE_POS % hd;
        let kv = ABSOLUTE_POS / hd % kv_heads;
        let row = ABSOLUTE_POS / hd / kv_heads;
        let group = heads / kv_heads;
        let mut dk = 0.0f32;
        let mut dv = 0.0f32;
        for h in kv * group..(kv + 1) * group {
            let part = (row * heads + h) * 2 * hd;
            dk += parts[part + d];
            dv += parts[part + hd + d];
        }
        let key = row * (heads + 2 * kv_heads) * hd + (heads + kv) * hd;
        grad[key + d] = dk;
        grad[key + kv_heads * hd + d] = dv;
    }
}

/// Tokens that a query sees, as kernels take it.
pub(super) fn window(attention: &Attention) -> u32 {
    attention.window.map_or(u32::MAX, |window| window as u32)
}

/// Numbers that are read together.
fn lanes(heads: &Heads) -> usize {
    if heads.head_dim.is_multiple_of(4) { 4 } else { 2 }
}

fn grid(rows: usize, heads: &Heads) -> (CubeCount, CubeDim) {
    let cubes = rows.div_ceil(TILE) as u32;
    (CubeCount::Static(cubes, heads.heads as u32, 1), CubeDim::new_1d(UNITS as u32))
}

/// Attention of every row to its prompt and the earlier rows of its segment, and the logarithms of the sums of the
/// softmaxes, for the backward.
///
/// # Shapes
/// qkv, as placed, `[rows, qkv_width]`; returns `[rows, heads · head_dim]` and `[rows, heads]`.
pub fn forward(qkv: &Mat, segments: &Segments, attention: &Attention) -> (Mat, Mat) {
    let heads = &attention.heads;
    let rows = qkv.rows();
    let out = qkv.empty(rows, heads.out_width(), DType::F32);
    let log_sum = qkv.empty(rows, heads.heads, DType::F32);
    let (count, dim) = grid(rows, heads);
    let n = lanes(heads);
    forward_kernel::launch(
        qkv.client(),
        count,
        dim,
        n,
        qkv.arg(),
        segments.prefix.0.arg(),
        segments.prefix.1.arg(),
        segments.own.arg(),
        segments.keys.starts.arg(),
        segments.keys.tiles.arg(),
        out.arg(),
        log_sum.arg(),
        rows,
        heads.heads,
        heads.kv_heads,
        window(attention),
        attention.cap.unwrap_or(1.0),
        attention.cap.is_some(),
        heads.head_dim / n,
        n,
    );
    (out, log_sum)
}

/// Backward of [`forward`] for the gradient `d_out` of its result; returns that of the placed rows.
pub fn backward(
    qkv: &Mat,
    segments: &Segments,
    attention: &Attention,
    (out, log_sum): (&Mat, &Mat),
    d_out: &Mat,
) -> Mat {
    let heads = &attention.heads;
    let (rows, hd) = (qkv.rows(), heads.head_dim);
    let (h, kv, n) = (heads.heads, heads.kv_heads, lanes(heads));
    let delta = qkv.empty(rows, h, DType::F32);
    let (count, dim) = delta.units(rows * h);
    delta_kernel::launch(qkv.client(), count, dim, out.arg(), d_out.arg(), delta.arg(), hd);
    let grad = qkv.empty(rows, qkv.cols(), DType::F32);
    let (count, dim) = grid(rows, heads);
    query_kernel::launch(
        qkv.client(),
        count,
        dim,
        n,
        qkv.arg(),
        segments.prefix.0.arg(),
        segments.prefix.1.arg(),
        segments.own.arg(),
        segments.keys.starts.arg(),
        segments.keys.tiles.arg(),
        d_out.arg(),
        log_sum.arg(),
        delta.arg(),
        grad.arg(),
        rows,
        h,
        kv,
        window(attention),
        attention.cap.unwrap_or(1.0),
        attention.cap.is_some(),
        hd / n,
        n,
    );
    let parts = qkv.empty(rows, 2 * heads.out_width(), DType::F32);
    let (count, dim) = grid(rows, heads);
    key_kernel::launch(
        qkv.client(),
        count,
        dim,
        n,
        qkv.arg(),
        segments.prefix.0.arg(),
        segments.prefix.1.arg(),
        segments.own.arg(),
        segments.queries.starts.arg(),
        segments.queries.tiles.arg(),
        d_out.arg(),
        log_sum.arg(),
        delta.arg(),
        parts.arg(),
        rows,
        h,
        kv,
        window(attention),
        attention.cap.unwrap_or(1.0),
        attention.cap.is_some(),
        hd / n,
        n,
    );
    let total = rows * kv * hd;
    let (count, dim) = grad.units(total);
    fold_kernel::launch(qkv.client(), count, dim, parts.arg(), grad.arg(), total, h, kv, hd);
    grad
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packed::PromptGroup;

    #[test]
    fn every_pair_that_sees_each_other_is_visited_and_no_tile_in_vain() {
        let ids = |n: usize| vec![3u32; n];
        let lengths =
            [(40, vec![100, 1, 0, 31]), (3, vec![70]), (64, vec![]), (1, vec![1, 1]), (33, vec![0, 200])];
        let groups: Vec<_> =
            lengths.iter().map(|(p, c)| (ids(*p), c.iter().map(|n| ids(*n)).collect::<Vec<_>>())).collect();
        let refs = groups
            .iter()
            .map(|(p, c)| PromptGroup { prompt: p, completions: c.iter().map(Vec::as_slice).collect() });
        let batch = PackedBatch::new(&refs.collect::<Vec<_>>());
        let mut seen = std::collections::BTreeSet::new();
        for group in &batch.groups {
            for rows in std::iter::once(&group.prompt).chain(&group.completions) {
                for row in rows.clone() {
                    for key in group.prompt.clone().chain(rows.clone()).filter(|key| *key <= row) {
                        seen.insert((row / TILE, key / TILE));
                    }
                }
            }
        }
        assert_eq!(visits(&batch), seen.into_iter().collect::<Vec<_>>());
    }
}
