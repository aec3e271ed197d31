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

/// What the rows of a batch see.
#[derive(CubeType, Clone, Copy)]
struct Sights<'a> {
    firsts: &'a [u32],
    prefixes: &'a [u32],
    owns: &'a [u32],
    rows: usize,
    window: u32,
}

#[cube]
impl<'a> Sights<'a> {
    fn new(firsts: &'a [u32], prefixes: &'a [u32], owns: &'a [u32], rows: usize, window: u32) -> Sights<'a> {
        Sights::<'a> { firsts, prefixes, owns, rows, window }
    }
}

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
    fn new(of: &Sights<'_>, row: usize) -> Sight {
        let mut first = 0u32;
        let mut prefix = 0u32;
        let mut own = row as u32 + 1;
        if row < of.rows {
            first = of.firsts[row];
            prefix = of.prefixes[row];
            own = of.owns[row];
        }
        Sight { row: row as u32, first, prefix, own, window: of.window }
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

/// The rows and the head of a cube, and where in their tile a unit stands.
#[derive(CubeType, Clone, Copy)]
struct Place {
    x: usize,
    y: usize,
    /// First row, of how many.
    first: usize,
    rows: usize,
    head: usize,
    heads: usize,
    /// Vectors of a row of queries, keys and values, and where those of the head begin.
    width: usize,
    query: usize,
    key: usize,
    value: usize,
}

#[cube]
impl Place {
    fn new(rows: usize, heads: usize, kv_heads: usize, #[comptime] hd: usize) -> Place {
        let head = CUBE_POS_Y as usize;
        let key = (heads + head / (heads / kv_heads)) * hd;
        Place {
            x: UNIT_POS as usize % SIDE,
            y: UNIT_POS as usize / SIDE,
            first: CUBE_POS_X as usize * TILE,
            rows,
            head,
            heads,
            width: (heads + 2 * kv_heads) * hd,
            query: head * hd,
            key,
            value: key + kv_heads * hd,
        }
    }
}

/// The columns of a head in a matrix whose rows have `width` vectors.
#[derive(CubeType)]
struct Columns<'a, N: Size> {
    of: &'a [Vector<f32, N>],
    width: usize,
    offset: usize,
}

#[cube]
impl<'a, N: Size> Columns<'a, N> {
    fn new(of: &'a [Vector<f32, N>], width: usize, offset: usize) -> Columns<'a, N> {
        Columns::<'a, N> { of, width, offset }
    }
}

/// Brings [`CHUNK`] vectors of each row from `first` on into shared memory, zeros where there are none.
#[cube]
fn load<N: Size>(
    from: &Columns<'_, N>,
    to: &mut Shared<[Vector<f32, N>]>,
    first: usize,
    rows: usize,
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
            value = from.of[(first + line) * from.width + from.offset + chunk * CHUNK + column];
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

/// What [`multiply`] gives of all columns of the rows of `left` from `first` on and of `right` from `other` on.
#[cube]
fn products<N: Size>(
    left: &Columns<'_, N>,
    first: usize,
    right: &Columns<'_, N>,
    other: usize,
    rows: usize,
    a: &mut Shared<[Vector<f32, N>]>,
    b: &mut Shared<[Vector<f32, N>]>,
    #[comptime] hd: usize,
    #[comptime] lanes: usize,
) -> Array<f32> {
    let mut products = no_products();
    #[unroll]
    for chunk in 0..hd.div_ceil(CHUNK) {
        sync_cube();
        load(left, a, first, rows, chunk, hd);
        load(right, b, other, rows, chunk, hd);
        sync_cube();
        multiply(&*a, &*b, &mut products, lanes);
    }
    products
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

/// [`combine`] for all columns of the rows of `right` from `other` on.
#[cube]
fn combine_all<N: Size>(
    weights: &Shared<[f32]>,
    right: &Columns<'_, N>,
    other: usize,
    rows: usize,
    b: &mut Shared<[Vector<f32, N>]>,
    sums: &mut Array<Vector<f32, N>>,
    #[comptime] hd: usize,
) {
    #[unroll]
    for chunk in 0..hd.div_ceil(CHUNK) {
        sync_cube();
        load(right, b, other, rows, chunk, hd);
        sync_cube();
        combine(weights, &*b, sums, chunk);
    }
}

/// Writes the unit's vectors of its rows.
#[cube]
fn store<N: Size>(
    sums: &Array<Vector<f32, N>>,
    to: &mut [Vector<f32, N>],
    at: &Place,
    width: usize,
    offset: usize,
    #[comptime] hd: usize,
) {
    #[unroll]
    for chunk in 0..hd.div_ceil(CHUNK) {
        #[unroll]
        for i in 0..PER_UNIT {
            let row = at.first + at.y * PER_UNIT + i;
            if row < at.rows && chunk * CHUNK + at.x < hd {
                to[row * width + offset + chunk * CHUNK + at.x] = sums[chunk * PER_UNIT + i];
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

/// Bounds the scores of a tile, hides those of keys that are not seen, and leaves the unit's largest of each row in `most`.
#[cube]
fn mask(
    scores: &mut Array<f32>,
    most: &mut Shared<[f32]>,
    sights: &Sights<'_>,
    at: &Place,
    other: usize,
    cap: f32,
    #[comptime] capped: bool,
) {
    #[unroll]
    for i in 0..PER_UNIT {
        let line = at.y * PER_UNIT + i;
        let sight = Sight::new(sights, at.first + line);
        let mut largest = f32::new(UNSEEN);
        #[unroll]
        for j in 0..PER_UNIT {
            if comptime!(capped) {
                scores[i * PER_UNIT + j] = cap * bounded(scores[i * PER_UNIT + j], cap);
            }
            if !sight.sees((other + at.x + j * SIDE) as u32) {
                scores[i * PER_UNIT + j] = f32::new(UNSEEN);
            }
            largest = largest.max(scores[i * PER_UNIT + j]);
        }
        most[line * SIDE + at.x] = largest;
    }
}

/// Raises the maxima of the unit's rows to those of a tile, shrinks what was summed before accordingly, and turns scores
/// into weights.
#[cube]
fn weigh<N: Size>(
    scores: &Array<f32>,
    most: &Shared<[f32]>,
    weights: &mut Shared<[f32]>,
    max: &mut Array<f32>,
    sum: &mut Array<f32>,
    sums: &mut Array<Vector<f32, N>>,
    at: &Place,
    #[comptime] chunks: usize,
) {
    #[unroll]
    for i in 0..PER_UNIT {
        let line = at.y * PER_UNIT + i;
        let mut largest = max[i];
        for unit in 0..SIDE {
            largest = largest.max(most[line * SIDE + unit]);
        }
        let shrink = (max[i] - largest).exp();
        max[i] = largest;
        sum[i] *= shrink;
        #[unroll]
        for chunk in 0..chunks {
            sums[chunk * PER_UNIT + i] *= Vector::new(shrink);
        }
        #[unroll]
        for j in 0..PER_UNIT {
            let mut p = 0.0f32;
            if scores[i * PER_UNIT + j] > f32::new(UNSEEN) {
                p = (scores[i * PER_UNIT + j] - largest).exp();
            }
            sum[i] += p;
            weights[line * LINE + at.x + j * SIDE] = p;
        }
    }
}

/// Divides by the sums of the weights, which units have in parts, and writes their logarithms.
#[cube]
fn divide<N: Size>(
    parts: &mut Shared<[f32]>,
    max: &Array<f32>,
    sum: &Array<f32>,
    sums: &mut Array<Vector<f32, N>>,
    log_sum: &mut [f32],
    at: &Place,
    #[comptime] chunks: usize,
) {
    sync_cube();
    #[unroll]
    for i in 0..PER_UNIT {
        parts[(at.y * PER_UNIT + i) * SIDE + at.x] = sum[i];
    }
    sync_cube();
    #[unroll]
    for i in 0..PER_UNIT {
        let line = at.y * PER_UNIT + i;
        let mut total = 0.0f32;
        for unit in 0..SIDE {
            total += parts[line * SIDE + unit];
        }
        #[unroll]
        for chunk in 0..chunks {
            sums[chunk * PER_UNIT + i] /= Vector::new(total);
        }
        if at.x == 0 && at.first + line < at.rows {
            log_sum[(at.first + line) * at.heads + at.head] = max[i] + total.ln();
        }
    }
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
    let at = Place::new(rows, heads, kv_heads, hd);
    let sights = Sights::new(firsts, prefixes, owns, rows, window);
    let queries = Columns::new(qkv, at.width, at.query);
    let keys = Columns::new(qkv, at.width, at.key);
    let values = Columns::new(qkv, at.width, at.value);
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
    let tile = CUBE_POS_X as usize;
    for t in starts[tile]..starts[tile + 1] {
        let other = tiles[t as usize] as usize * TILE;
        let mut scores = products(&queries, at.first, &keys, other, rows, &mut a, &mut b, hd, lanes);
        mask(&mut scores, &mut shared, &sights, &at, other, cap, capped);
        sync_cube();
        weigh(&scores, &shared, &mut weights, &mut max, &mut sum, &mut sums, &at, chunks);
        combine_all(&weights, &values, other, rows, &mut b, &mut sums, hd);
    }
    divide(&mut shared, &max, &sum, &mut sums, log_sum, &at, chunks);
    store(&sums, out, &at, heads * hd, at.query, hd);
}

/// The weight of a query and a key that it sees, and the gradient of their score.
#[derive(CubeType, Clone, Copy)]
struct Pair {
    weight: f32,
    d_score: f32,
}

#[cube]
impl Pair {
    /// By their product and the gradient of their weight, for a query whose logarithm of the sum and whose `delta` are
    /// given.
    fn new(
        product: f32,
        d_weight: f32,
        log_sum: f32,
        delta: f32,
        cap: f32,
        #[comptime] capped: bool,
    ) -> Pair {
        let mut score = product;
        let mut slope = 1.0f32;
        if comptime!(capped) {
            let share = bounded(product, cap);
            score = cap * share;
            slope = 1.0f32 - share * share;
        }
        let weight = (score - log_sum).exp();
        Pair { weight, d_score: weight * (d_weight - delta) * slope }
    }
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
    let at = Place::new(rows, heads, kv_heads, hd);
    let sights = Sights::new(firsts, prefixes, owns, rows, window);
    let queries = Columns::new(qkv, at.width, at.query);
    let keys = Columns::new(qkv, at.width, at.key);
    let values = Columns::new(qkv, at.width, at.value);
    let d_outs = Columns::new(d_out, heads * hd, at.query);
    let mut a = Shared::<[Vector<f32, N>]>::new_slice(TILE * STRIDE);
    let mut b = Shared::<[Vector<f32, N>]>::new_slice(TILE * STRIDE);
    let mut d_scores = Shared::<[f32]>::new_slice(TILE * LINE);
    let mut dq = zeros::<N>(comptime!(hd.div_ceil(CHUNK)) * PER_UNIT);
    let tile = CUBE_POS_X as usize;
    for t in starts[tile]..starts[tile + 1] {
        let other = tiles[t as usize] as usize * TILE;
        let scores = products(&queries, at.first, &keys, other, rows, &mut a, &mut b, hd, lanes);
        let d_weights = products(&d_outs, at.first, &values, other, rows, &mut a, &mut b, hd, lanes);
        #[unroll]
        for i in 0..PER_UNIT {
            let line = at.y * PER_UNIT + i;
            let sight = Sight::new(&sights, at.first + line);
            #[unroll]
            for j in 0..PER_UNIT {
                let mut ds = 0.0f32;
                if sight.sees((other + at.x + j * SIDE) as u32) {
                    let of = (at.first + line) * heads + at.head;
                    let n = comptime!(i * PER_UNIT + j);
                    ds = Pair::new(scores[n], d_weights[n], log_sum[of], delta[of], cap, capped).d_score;
                }
                d_scores[line * LINE + at.x + j * SIDE] = ds;
            }
        }
        combine_all(&d_scores, &keys, other, rows, &mut b, &mut dq, hd);
    }
    store(&dq, grad, &at, at.width, at.query, hd);
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
    let at = Place::new(rows, heads, kv_heads, hd);
    let sights = Sights::new(firsts, prefixes, owns, rows, window);
    let queries = Columns::new(qkv, at.width, at.query);
    let keys = Columns::new(qkv, at.width, at.key);
    let values = Columns::new(qkv, at.width, at.value);
    let d_outs = Columns::new(d_out, heads * hd, at.query);
    let mut a = Shared::<[Vector<f32, N>]>::new_slice(TILE * STRIDE);
    let mut b = Shared::<[Vector<f32, N>]>::new_slice(TILE * STRIDE);
    let mut weights = Shared::<[f32]>::new_slice(TILE * LINE);
    let mut d_scores = Shared::<[f32]>::new_slice(TILE * LINE);
    let mut dk = zeros::<N>(chunks * PER_UNIT);
    let mut dv = zeros::<N>(chunks * PER_UNIT);
    let tile = CUBE_POS_X as usize;
    for t in starts[tile]..starts[tile + 1] {
        let other = tiles[t as usize] as usize * TILE;
        let scores = products(&keys, at.first, &queries, other, rows, &mut a, &mut b, hd, lanes);
        let d_weights = products(&values, at.first, &d_outs, other, rows, &mut a, &mut b, hd, lanes);
        #[unroll]
        for j in 0..PER_UNIT {
            let query = other + at.x + j * SIDE;
            let sight = Sight::new(&sights, query);
            #[unroll]
            for i in 0..PER_UNIT {
                let line = at.y * PER_UNIT + i;
                let mut p = 0.0f32;
                let mut ds = 0.0f32;
                if sight.sees((at.first + line) as u32) {
                    let of = query * heads + at.head;
                    let n = comptime!(i * PER_UNIT + j);
                    let pair = Pair::new(scores[n], d_weights[n], log_sum[of], delta[of], cap, capped);
                    p = pair.weight;
                    ds = pair.d_score;
                }
                weights[line * LINE + at.x + j * SIDE] = p;
                d_scores[line * LINE + at.x + j * SIDE] = ds;
            }
        }
        #[unroll]
        for chunk in 0..chunks {
            sync_cube();
            load(&queries, &mut a, other, rows, chunk, hd);
            load(&d_outs, &mut b, other, rows, chunk, hd);
            sync_cube();
            combine(&d_scores, &a, &mut dk, chunk);
            combine(&weights, &b, &mut dv, chunk);
        }
    }
    store(&dk, parts, &at, 2 * heads * hd, 2 * at.query, hd);
    store(&dv, parts, &at, 2 * heads * hd, 2 * at.query + hd, hd);
}
