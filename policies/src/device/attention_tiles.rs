//! Kernels of attention over tiles: a cube has 32 rows (queries, or keys for their gradients) of one head and goes over
//! the tiles of the other side. A unit has 4 × 4 of a tile's products, and of every [`CHUNK`] columns of its 4 rows' result one
//! vector, all in registers; operands pass through shared memory, [`CHUNK`] vectors of a row at a time.
//!
//! `hd` counts vectors of `lanes` numbers. A row has the queries of all heads, then the keys, then the values.
use cubecl::prelude::*;

/// Rows of a tile.
pub const TILE: usize = 32;

/// Units of a cube: 8 × 8.
pub const UNITS: usize = 64;

/// Rows and columns of a tile that a unit has.
const PER_UNIT: usize = 4;

/// Units along one side of a tile.
const SIDE: usize = TILE / PER_UNIT;

/// Vectors of a row in shared memory at a time, one for each unit of a side.
const CHUNK: usize = SIDE;

/// Distance of two rows there: with one vector more than there are, neighbouring rows are in different banks.
const STRIDE: usize = CHUNK + 1;

/// Distance of two rows of numbers in shared memory.
const LINE: usize = TILE + 1;

/// Score of a key that is not seen.
const UNSEEN: f32 = -1.0e30;

/// Which keys a row sees.
#[derive(CubeType, Clone, Copy)]
struct Sight {
    row: u32,
    first: u32,
    prefix: u32,
    own: u32,
    window: u32,
}

#[cube]
impl Sight {
    /// Of row `row`; a row that does not exist sees nothing.
    fn new(firsts: &[u32], prefixes: &[u32], owns: &[u32], row: usize, rows: usize, window: u32) -> Sight {
        let mut first = 0u32;
        let mut prefix = 0u32;
        let mut own = row as u32 + 1;
        if row < rows {
            first = firsts[row];
            prefix = prefixes[row];
            own = owns[row];
        }
        Sight { row: row as u32, first, prefix, own, window }
    }

    fn sees(&self, key: u32) -> bool {
        let before = key >= self.first && key < self.first + self.prefix;
        let beside = key >= self.own && key <= self.row;
        // Positions between the two; nothing that counts where neither holds.
        let mut distance = self.row - key;
        if before {
            distance = self.prefix + self.row - self.own - (key - self.first);
        }
        (before || beside) && distance < self.window
    }
}

/// `tanh(x / cap)`, where it is still a number for large `x`.
#[cube]
pub(super) fn bounded(x: f32, cap: f32) -> f32 {
    let mut share = x / cap;
    if share > 15.0f32 {
        share = f32::new(15.0f32);
    }
    if share < -15.0f32 {
        share = f32::new(-15.0f32);
    }
    share.tanh()
}

/// Brings [`CHUNK`] vectors of each row from `first` on into shared memory, zeros where there are none.
#[cube]
fn load<N: Size>(
    from: &[Vector<f32, N>],
    to: &mut Shared<[Vector<f32, N>]>,
    first: usize,
    rows: usize,
    width: usize,
    offset: usize,
    #[comptime] chunk: usize,
    #[comptime] hd: usize,
) {
    let column = UNIT_POS as usize % CHUNK;
    let up = UNIT_POS as usize / CHUNK;
    #[unroll]
    for i in 0..PER_UNIT {
        let line = up + i * SIDE;
        let mut value = Vector::<f32, N>::new(0.0f32);
        if first + line < rows && chunk * CHUNK + column < hd {
            value = from[(first + line) * width + offset + chunk * CHUNK + column];
        }
        to[line * STRIDE + column] = value;
    }
}

/// Adds the products of the unit's rows of `a` with its rows of `b`: `products[i * 4 + j]` is of row `4 y + i` and `x + 8 j`.
#[cube]
fn multiply<N: Size>(
    a: &Shared<[Vector<f32, N>]>,
    b: &Shared<[Vector<f32, N>]>,
    products: &mut Array<f32>,
    #[comptime] lanes: usize,
) {
    let x = UNIT_POS as usize % SIDE;
    let y = UNIT_POS as usize / SIDE;
    for v in 0..CHUNK {
        let mut left = Array::<Vector<f32, N>>::new(PER_UNIT);
        let mut right = Array::<Vector<f32, N>>::new(PER_UNIT);
        #[unroll]
        for i in 0..PER_UNIT {
            left[i] = a[(y * PER_UNIT + i) * STRIDE + v];
            right[i] = b[(x + i * SIDE) * STRIDE + v];
        }
        #[unroll]
        for i in 0..PER_UNIT {
            #[unroll]
            for j in 0..PER_UNIT {
                #[unroll]
                for lane in 0..lanes {
                    products[i * PER_UNIT + j] += left[i].extract(lane) * right[j].extract(lane);
                }
            }
        }
    }
}

/// Adds rows of `b`, weighted by the unit's rows of `weights`, to the vector of each row that the unit has of this chunk.
#[cube]
fn combine<N: Size>(
    weights: &Shared<[f32]>,
    b: &Shared<[Vector<f32, N>]>,
    sums: &mut Array<Vector<f32, N>>,
    #[comptime] chunk: usize,
) {
    let x = UNIT_POS as usize % SIDE;
    let y = UNIT_POS as usize / SIDE;
    for k in 0..TILE {
        let value = b[k * STRIDE + x];
        #[unroll]
        for i in 0..PER_UNIT {
            sums[chunk * PER_UNIT + i] += Vector::new(weights[(y * PER_UNIT + i) * LINE + k]) * value;
        }
    }
}

/// Writes the unit's vectors of its rows from `first` on.
#[cube]
fn store<N: Size>(
    sums: &Array<Vector<f32, N>>,
    to: &mut [Vector<f32, N>],
    first: usize,
    rows: usize,
    width: usize,
    offset: usize,
    #[comptime] hd: usize,
) {
    let x = UNIT_POS as usize % SIDE;
    let y = UNIT_POS as usize / SIDE;
    #[unroll]
    for chunk in 0..hd.div_ceil(CHUNK) {
        #[unroll]
        for i in 0..PER_UNIT {
            let row = first + y * PER_UNIT + i;
            if row < rows && chunk * CHUNK + x < hd {
                to[row * width + offset + chunk * CHUNK + x] = sums[chunk * PER_UNIT + i];
            }
        }
    }
}

#[cube]
fn zeros<N: Size>(#[comptime] count: usize) -> Array<Vector<f32, N>> {
    let mut array = Array::<Vector<f32, N>>::new(count);
    #[unroll]
    for i in 0..count {
        array[i] = Vector::new(0.0f32);
    }
    array
}

#[cube]
fn no_products() -> Array<f32> {
    let mut array = Array::<f32>::new(PER_UNIT * PER_UNIT);
    #[unroll]
    for i in 0..PER_UNIT * PER_UNIT {
        array[i] = 0.0f32;
    }
    array
}

/// Attention with a running softmax: `out`, `[rows, heads · hd]`, and the logarithms of the sums, `[rows, heads]`.
#[cube(launch)]
pub fn forward_kernel<N: Size>(
    qkv: &[Vector<f32, N>],
    firsts: &[u32],
    prefixes: &[u32],
    owns: &[u32],
    starts: &[u32],
    tiles: &[u32],
    out: &mut [Vector<f32, N>],
    log_sum: &mut [f32],
    rows: usize,
    heads: usize,
    kv_heads: usize,
    window: u32,
    cap: f32,
    #[comptime] capped: bool,
    #[comptime] hd: usize,
    #[comptime] lanes: usize,
) {
    let chunks = comptime!(hd.div_ceil(CHUNK));
    let tile = CUBE_POS_X as usize;
    let head = CUBE_POS_Y as usize;
    let x = UNIT_POS as usize % SIDE;
    let y = UNIT_POS as usize / SIDE;
    let first = tile * TILE;
    let width = (heads + 2 * kv_heads) * hd;
    let key = (heads + head / (heads / kv_heads)) * hd;
    let mut a = Shared::<[Vector<f32, N>]>::new_slice(TILE * STRIDE);
    let mut b = Shared::<[Vector<f32, N>]>::new_slice(TILE * STRIDE);
    let mut weights = Shared::<[f32]>::new_slice(TILE * LINE);
    let mut shared = Shared::<[f32]>::new_slice(TILE * SIDE);
    let mut max = Array::<f32>::new(PER_UNIT);
    let mut sum = Array::<f32>::new(PER_UNIT);
    let mut sums = zeros::<N>(chunks * PER_UNIT);
    #[unroll]
    for i in 0..PER_UNIT {
        max[i] = f32::new(UNSEEN);
        sum[i] = 0.0f32;
    }
    for t in starts[tile]..starts[tile + 1] {
        let other = tiles[t as usize] as usize * TILE;
        let mut scores = no_products();
        #[unroll]
        for chunk in 0..chunks {
            sync_cube();
            load(qkv, &mut a, first, rows, width, head * hd, chunk, hd);
            load(qkv, &mut b, other, rows, width, key, chunk, hd);
            sync_cube();
            multiply(&a, &b, &mut scores, lanes);
        }
        #[unroll]
        for i in 0..PER_UNIT {
            let sight = Sight::new(firsts, prefixes, owns, first + y * PER_UNIT + i, rows, window);
            let mut most = f32::new(UNSEEN);
            #[unroll]
            for j in 0..PER_UNIT {
                if comptime!(capped) {
                    scores[i * PER_UNIT + j] = cap * bounded(scores[i * PER_UNIT + j], cap);
                }
                if !sight.sees((other + x + j * SIDE) as u32) {
                    scores[i * PER_UNIT + j] = f32::new(UNSEEN);
                }
                most = most.max(scores[i * PER_UNIT + j]);
            }
            shared[(y * PER_UNIT + i) * SIDE + x] = most;
        }
        sync_cube();
        #[unroll]
        for i in 0..PER_UNIT {
            let line = y * PER_UNIT + i;
            let mut most = max[i];
            for unit in 0..SIDE {
                most = most.max(shared[line * SIDE + unit]);
            }
            let shrink = (max[i] - most).exp();
            max[i] = most;
            sum[i] *= shrink;
            #[unroll]
            for chunk in 0..chunks {
                sums[chunk * PER_UNIT + i] *= Vector::new(shrink);
            }
            #[unroll]
            for j in 0..PER_UNIT {
                let mut p = 0.0f32;
                if scores[i * PER_UNIT + j] > f32::new(UNSEEN) {
                    p = (scores[i * PER_UNIT + j] - most).exp();
                }
                sum[i] += p;
                weights[line * LINE + x + j * SIDE] = p;
            }
        }
        #[unroll]
        for chunk in 0..chunks {
            sync_cube();
            load(qkv, &mut b, other, rows, width, key + kv_heads * hd, chunk, hd);
            sync_cube();
            combine(&weights, &b, &mut sums, chunk);
        }
    }
    sync_cube();
    #[unroll]
    for i in 0..PER_UNIT {
        shared[(y * PER_UNIT + i) * SIDE + x] = sum[i];
    }
    sync_cube();
    #[unroll]
    for i in 0..PER_UNIT {
        let line = y * PER_UNIT + i;
        let mut total = 0.0f32;
        for unit in 0..SIDE {
            total += shared[line * SIDE + unit];
        }
        #[unroll]
        for chunk in 0..chunks {
            sums[chunk * PER_UNIT + i] /= Vector::new(total);
        }
        if x == 0 && first + line < rows {
            log_sum[(first + line) * heads + head] = max[i] + total.ln();
        }
    }
    store(&sums, out, first, rows, heads * hd, head * hd, hd);
}

/// Gradients of the queries, written to their places in `grad`, `[rows, width of qkv]`.
#[cube(launch)]
pub fn query_kernel<N: Size>(
    qkv: &[Vector<f32, N>],
    firsts: &[u32],
    prefixes: &[u32],
    owns: &[u32],
    starts: &[u32],
    tiles: &[u32],
    d_out: &[Vector<f32, N>],
    log_sum: &[f32],
    delta: &[f32],
    grad: &mut [Vector<f32, N>],
    rows: usize,
    heads: usize,
    kv_heads: usize,
    window: u32,
    cap: f32,
    #[comptime] capped: bool,
    #[comptime] hd: usize,
    #[comptime] lanes: usize,
) {
    let chunks = comptime!(hd.div_ceil(CHUNK));
    let tile = CUBE_POS_X as usize;
    let head = CUBE_POS_Y as usize;
    let x = UNIT_POS as usize % SIDE;
    let y = UNIT_POS as usize / SIDE;
    let first = tile * TILE;
    let width = (heads + 2 * kv_heads) * hd;
    let key = (heads + head / (heads / kv_heads)) * hd;
    let mut a = Shared::<[Vector<f32, N>]>::new_slice(TILE * STRIDE);
    let mut b = Shared::<[Vector<f32, N>]>::new_slice(TILE * STRIDE);
    let mut weights = Shared::<[f32]>::new_slice(TILE * LINE);
    let mut dq = zeros::<N>(chunks * PER_UNIT);
    for t in starts[tile]..starts[tile + 1] {
        let other = tiles[t as usize] as usize * TILE;
        let mut scores = no_products();
        let mut d_weights = no_products();
        #[unroll]
        for chunk in 0..chunks {
            sync_cube();
            load(qkv, &mut a, first, rows, width, head * hd, chunk, hd);
            load(qkv, &mut b, other, rows, width, key, chunk, hd);
            sync_cube();
            multiply(&a, &b, &mut scores, lanes);
            sync_cube();
            load(d_out, &mut a, first, rows, heads * hd, head * hd, chunk, hd);
            load(qkv, &mut b, other, rows, width, key + kv_heads * hd, chunk, hd);
            sync_cube();
            multiply(&a, &b, &mut d_weights, lanes);
        }
        #[unroll]
        for i in 0..PER_UNIT {
            let line = y * PER_UNIT + i;
            let sight = Sight::new(firsts, prefixes, owns, first + line, rows, window);
            #[unroll]
            for j in 0..PER_UNIT {
                let mut ds = 0.0f32;
                if sight.sees((other + x + j * SIDE) as u32) {
                    let at = (first + line) * heads + head;
                    let mut score = scores[i * PER_UNIT + j];
                    let mut slope = 1.0f32;
                    if comptime!(capped) {
                        let share = bounded(score, cap);
                        score = cap * share;
                        slope = 1.0f32 - share * share;
                    }
                    let p = (score - log_sum[at]).exp();
                    ds = p * (d_weights[i * PER_UNIT + j] - delta[at]) * slope;
                }
                weights[line * LINE + x + j * SIDE] = ds;
            }
        }
        #[unroll]
        for chunk in 0..chunks {
            sync_cube();
            load(qkv, &mut b, other, rows, width, key, chunk, hd);
            sync_cube();
            combine(&weights, &b, &mut dq, chunk);
        }
    }
    store(&dq, grad, first, rows, width, head * hd, hd);
}

/// Gradients of the keys and values by one head of queries: `parts`, `[rows, heads, 2, hd]`.
#[cube(launch)]
pub fn key_kernel<N: Size>(
    qkv: &[Vector<f32, N>],
    firsts: &[u32],
    prefixes: &[u32],
    owns: &[u32],
    starts: &[u32],
    tiles: &[u32],
    d_out: &[Vector<f32, N>],
    log_sum: &[f32],
    delta: &[f32],
    parts: &mut [Vector<f32, N>],
    rows: usize,
    heads: usize,
    kv_heads: usize,
    window: u32,
    cap: f32,
    #[comptime] capped: bool,
    #[comptime] hd: usize,
    #[comptime] lanes: usize,
) {
    let chunks = comptime!(hd.div_ceil(CHUNK));
    let tile = CUBE_POS_X as usize;
    let head = CUBE_POS_Y as usize;
    let x = UNIT_POS as usize % SIDE;
    let y = UNIT_POS as usize / SIDE;
    let first = tile * TILE;
    let width = (heads + 2 * kv_heads) * hd;
    let key = (heads + head / (heads / kv_heads)) * hd;
    let mut a = Shared::<[Vector<f32, N>]>::new_slice(TILE * STRIDE);
    let mut b = Shared::<[Vector<f32, N>]>::new_slice(TILE * STRIDE);
    let mut weights = Shared::<[f32]>::new_slice(TILE * LINE);
    let mut d_scores = Shared::<[f32]>::new_slice(TILE * LINE);
    let mut dk = zeros::<N>(chunks * PER_UNIT);
    let mut dv = zeros::<N>(chunks * PER_UNIT);
    for t in starts[tile]..starts[tile + 1] {
        let other = tiles[t as usize] as usize * TILE;
        let mut scores = no_products();
        let mut d_weights = no_products();
        #[unroll]
        for chunk in 0..chunks {
            sync_cube();
            load(qkv, &mut a, first, rows, width, key, chunk, hd);
            load(qkv, &mut b, other, rows, width, head * hd, chunk, hd);
            sync_cube();
            multiply(&a, &b, &mut scores, lanes);
            sync_cube();
            load(qkv, &mut a, first, rows, width, key + kv_heads * hd, chunk, hd);
            load(d_out, &mut b, other, rows, heads * hd, head * hd, chunk, hd);
            sync_cube();
            multiply(&a, &b, &mut d_weights, lanes);
        }
        #[unroll]
        for j in 0..PER_UNIT {
            let query = other + x + j * SIDE;
            let sight = Sight::new(firsts, prefixes, owns, query, rows, window);
            #[unroll]
            for i in 0..PER_UNIT {
                let line = y * PER_UNIT + i;
                let mut p = 0.0f32;
                let mut ds = 0.0f32;
                if sight.sees((first + line) as u32) {
                    let at = query * heads + head;
                    let mut score = scores[i * PER_UNIT + j];
                    let mut slope = 1.0f32;
                    if comptime!(capped) {
                        let share = bounded(score, cap);
                        score = cap * share;
                        slope = 1.0f32 - share * share;
                    }
                    p = (score - log_sum[at]).exp();
                    ds = p * (d_weights[i * PER_UNIT + j] - delta[at]) * slope;
                }
                weights[line * LINE + x + j * SIDE] = p;
                d_scores[line * LINE + x + j * SIDE] = ds;
            }
        }
        #[unroll]
        for chunk in 0..chunks {
            sync_cube();
            load(qkv, &mut a, other, rows, width, head * hd, chunk, hd);
            load(d_out, &mut b, other, rows, heads * hd, head * hd, chunk, hd);
            sync_cube();
            combine(&d_scores, &a, &mut dk, chunk);
            combine(&weights, &b, &mut dv, chunk);
        }
    }
    store(&dk, parts, first, rows, 2 * heads * hd, 2 * head * hd, hd);
    store(&dv, parts, first, rows, 2 * heads * hd, (2 * head + 1) * hd, hd);
}
