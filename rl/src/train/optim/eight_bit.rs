//! AdamW with moments in 8 bits (arXiv:2110.02861): blocks of 256 elements, each scaled by its largest magnitude, and numbers
//! that lie denser the smaller they are (dynamic quantisation, section 2.1 and appendix F.1 there).
//!
//! An update takes the moments as they are read back, changes the weights by the new ones in f32, and rounds these. The maps
//! are those of bitsandbytes, and so is the bound below which a tensor keeps moments in f32.
use super::adamw::Coefficients;
use rayon::prelude::*;
use std::sync::{Arc, LazyLock};

/// Elements of a block.
pub(super) const BLOCK: usize = 256;
/// Blocks that one task updates.
const BLOCKS: usize = 64;
/// Tensors with fewer elements than this have moments in f32.
pub(super) const SMALLEST: usize = 4096;
/// Bits of a number that are left out to find its place in a table of the first guesses.
const SHIFT: u32 = 17;
/// Decades of the dynamic map.
const DECADES: u32 = 7;

/// Numbers of 8 bits in [-1, 1] or [0, 1].
pub(super) struct Map {
    /// Ascending.
    values: Vec<f32>,
    /// Between each and the next.
    middles: Vec<f32>,
    /// Codes to begin the search at, by the leading bits of magnitudes: of positive numbers and of negative ones.
    guesses: [Vec<u8>; 2],
}

/// Of first moments, and of second ones.
static MAPS: LazyLock<[Map; 2]> = LazyLock::new(|| [Map::new(true), Map::new(false)]);

/// The map of first moments, or of second ones.
fn map(second: bool) -> &'static Map {
    &MAPS[usize::from(second)]
}

impl Map {
    /// Zero, one, and in each decade below one the middles of equal parts of its interval, twice as many in each decade as in the
    /// one below; signed, half as many for either sign.
    fn new(signed: bool) -> Self {
        let mut values = vec![0.0, 1.0];
        for decade in 0..DECADES {
            let parts = 1u32 << (decade + u32::from(!signed));
            // In f32, as the map that others have.
            let width = 0.9 / f64::from(parts);
            let edge = |i: u32| if i == parts { 1.0 } else { (0.1 + width * f64::from(i)) as f32 };
            let unit = 10f64.powi(decade as i32 + 1 - DECADES as i32);
            for i in 0..parts {
                let value = (unit * f64::from((edge(i) + edge(i + 1)) / 2.0)) as f32;
                values.push(value);
                values.extend(signed.then_some(-value));
            }
        }
        values.sort_by(f32::total_cmp);
        let middles: Vec<f32> = values.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).collect();
        let guess = |magnitude: f32| middles.partition_point(|middle| *middle < magnitude) as u8;
        let magnitude = |i: u32| f32::from_bits(i << SHIFT);
        let places = 0..=(1f32.to_bits() >> SHIFT);
        let guesses = [1.0, -1.0].map(|sign| places.clone().map(|i| guess(sign * magnitude(i))).collect());
        Self { values, middles, guesses }
    }

    /// The code of the nearest number, of two equally near ones the lower; for `x` in [-1, 1].
    fn code(&self, x: f32) -> u8 {
        let place = (x.abs().to_bits() >> SHIFT) as usize;
        let table = &self.guesses[usize::from(x.is_sign_negative())];
        let mut code = usize::from(table[place.min(table.len() - 1)]);
        while code < self.middles.len() && x > self.middles[code] {
            code += 1;
        }
        while code > 0 && x <= self.middles[code - 1] {
            code -= 1;
        }
        code as u8
    }

    fn write(&self, values: &[f32], codes: &mut [u8]) -> f32 {
        let largest = values.iter().fold(0f32, |most, x| most.max(x.abs()));
        let scale = if largest > 0.0 { largest } else { 1.0 };
        codes.iter_mut().zip(values).for_each(|(code, x)| *code = self.code(x / scale));
        largest
    }

    fn read(&self, codes: &[u8], largest: f32, values: &mut [f32]) {
        values.iter_mut().zip(codes).for_each(|(x, code)| *x = self.values[usize::from(*code)] * largest);
    }
}

/// Moments of a tensor in 8 bits.
#[derive(Debug, Clone)]
pub(super) struct Rounded {
    /// A number of the map each.
    pub(super) codes: Arc<Vec<u8>>,
    /// The largest magnitude of each block.
    pub(super) largest: Arc<Vec<f32>>,
}

impl Rounded {
    /// Zeros, of first moments or second ones.
    pub(super) fn zeros(len: usize, second: bool) -> Self {
        let zero = map(second).code(0.0);
        Self { codes: vec![zero; len].into(), largest: vec![0.0; len.div_ceil(BLOCK)].into() }
    }

    pub(super) fn bytes(&self) -> usize {
        self.codes.len() + self.largest.len() * size_of::<f32>()
    }
}

/// One update of a tensor.
pub(super) fn update(moments: &mut [Rounded; 2], k: &Coefficients, p: &mut [f32], g: &[f32]) {
    let [(m, m_largest), (v, v_largest)] =
        moments.each_mut().map(|r| (Arc::make_mut(&mut r.codes), Arc::make_mut(&mut r.largest)));
    let many = BLOCKS * BLOCK;
    (p.par_chunks_mut(many).zip(g.par_chunks(many)))
        .zip(m.par_chunks_mut(many).zip(v.par_chunks_mut(many)))
        .zip(m_largest.par_chunks_mut(BLOCKS).zip(v_largest.par_chunks_mut(BLOCKS)))
        .for_each(|(((p, g), (m, v)), (m_largest, v_largest))| {
            let blocks = p.chunks_mut(BLOCK).zip(g.chunks(BLOCK));
            let codes = m.chunks_mut(BLOCK).zip(v.chunks_mut(BLOCK));
            let scales = m_largest.iter_mut().zip(v_largest);
            for (((p, g), (m, v)), scales) in blocks.zip(codes).zip(scales) {
                block(k, (p, g), (m, v), scales);
            }
        });
}

fn block(
    k: &Coefficients,
    (p, g): (&mut [f32], &[f32]),
    (m, v): (&mut [u8], &mut [u8]),
    scales: (&mut f32, &mut f32),
) {
    let (mut first, mut second) = ([0f32; BLOCK], [0f32; BLOCK]);
    let (first, second) = (&mut first[..p.len()], &mut second[..p.len()]);
    map(false).read(m, *scales.0, first);
    map(true).read(v, *scales.1, second);
    k.update(p, first, second, g);
    *scales.0 = map(false).write(first, m);
    *scales.1 = map(true).write(second, v);
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::SafeTensors;

    fn golden() -> Vec<u8> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/optim_8bit.safetensors");
        std::fs::read(path).unwrap()
    }

    fn floats(file: &SafeTensors, name: &str) -> Vec<f32> {
        let bytes = file.tensor(name).unwrap().data().to_vec();
        bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    #[test]
    fn the_maps_are_those_of_bitsandbytes() {
        let bytes = golden();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        for (second, name) in [(false, "map1"), (true, "map2")] {
            let theirs = floats(&file, name);
            assert_eq!(map(second).values.len(), 256);
            for (a, b) in map(second).values.iter().zip(&theirs) {
                assert!((a - b).abs() <= 2e-7 * b.abs(), "{name}: {a} {b}");
            }
        }
    }

    /// Every number that is read back is the nearest one, and no further than half a gap.
    #[test]
    fn rounding_is_to_the_nearest() {
        for second in [false, true] {
            let map = map(second);
            for i in 0..40_000 {
                let exponent = (i % 97) as f32 / 12.0 - 8.0;
                let sign = if second || i % 2 == 0 { 1.0 } else { -1.0 };
                let x = sign * 10f32.powf(exponent).min(1.0);
                let near = |code: usize| (map.values[code] - x).abs();
                let code = usize::from(map.code(x));
                let best = (0..256).map(near).fold(f32::INFINITY, f32::min);
                assert!(near(code) <= best * (1.0 + 1e-5) + 1e-12, "{x}: {code} {} {best}", near(code));
            }
            for (code, value) in map.values.iter().enumerate() {
                assert_eq!(usize::from(map.code(*value)), code);
            }
        }
    }

    /// In the top decade of its block a moment is off by at most 1/284 of the block's largest magnitude (unsigned: 1/568).
    #[test]
    fn what_is_read_back_is_within_half_a_gap() {
        let values: Vec<f32> = (0..BLOCK).map(|i| ((i * 7919 % 509) as f32 / 254.0 - 1.0) * 3.5).collect();
        for (second, bound) in [(false, 0.9 / 64.0 / 2.0 + 0.008), (true, 0.9 / 128.0 / 2.0 + 0.004)] {
            let values: Vec<f32> = values.iter().map(|v| if second { v.abs() } else { *v }).collect();
            let (mut codes, mut back) = (vec![0u8; BLOCK], vec![0f32; BLOCK]);
            let largest = map(second).write(&values, &mut codes);
            map(second).read(&codes, largest, &mut back);
            let off = values.iter().zip(&back).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off <= bound * largest, "{off} {}", bound * largest);
            assert!(off > 0.0);
        }
        // Nothing but zeros stays so.
        let (mut codes, mut back) = (vec![1u8; BLOCK], vec![1f32; BLOCK]);
        assert_eq!(map(false).write(&[0.0; BLOCK], &mut codes), 0.0);
        map(false).read(&codes, 0.0, &mut back);
        assert!(back.iter().all(|x| *x == 0.0));
    }

    /// On the CPU bitsandbytes finds the nearest number by a coarse table: near the middle between two it may take the other one,
    /// and what is much smaller than the largest of its block is some number of that size. Nothing else differs.
    #[test]
    fn three_steps_are_those_of_bitsandbytes() {
        let bytes = golden();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut p = floats(&file, "start");
        let mut moments = [Rounded::zeros(p.len(), false), Rounded::zeros(p.len(), true)];
        for step in 0..3 {
            let k = Coefficients::new([0.9, 0.99], 1e-8, (0.01, 0.05), 1.0, step + 1);
            update(&mut moments, &k, &mut p, &floats(&file, &format!("grad{step}")));
        }
        // These never had a gradient.
        let zero = |i: usize| (512..900).contains(&i);
        let mut same = vec![true; p.len()];
        for (second, moment) in moments.iter().enumerate() {
            let name = |what: &str| format!("{what}{}", second + 1);
            let theirs = file.tensor(&name("codes")).unwrap().data().to_vec();
            let value = |code: u8| map(second == 1).values[usize::from(code)];
            let (mut differ, mut beyond) = (0, 0);
            for (i, (a, b)) in moment.codes.iter().zip(&theirs).enumerate() {
                let off = (value(*a) - value(*b)).abs();
                let small = value(*a).abs() < 1e-4 && off < 3e-5;
                let in_empty_block = moment.largest[i / BLOCK] == 0.0;
                // In three steps a difference may grow to a few codes.
                let near = a.abs_diff(*b) <= 4 || small || in_empty_block;
                assert!(near, "{} {i}: {a} {b}", name("codes"));
                beyond += usize::from(a.abs_diff(*b) > 1 && !small && !in_empty_block);
                differ += usize::from(a != b && !zero(i));
                same[i] &= a == b;
            }
            println!("moment {}: {differ} of {} codes differ", second + 1, theirs.len());
            assert!(differ < theirs.len() / 50 && beyond < 5, "{differ}, {beyond} of {}", theirs.len());
            for (a, b) in moment.largest.iter().zip(floats(&file, &name("largest"))) {
                assert!((a - b).abs() <= 1e-5 * b, "{a} {b}");
            }
        }
        let off = p.iter().zip(floats(&file, "params")).map(|(a, b)| (a - b).abs());
        let off: Vec<f32> = off.zip(&same).filter(|(_, same)| **same).map(|(off, _)| off).collect();
        let beyond = off.iter().filter(|off| **off > 2e-6).count();
        println!("{beyond} of {} weights differ", off.len());
        assert!(off.len() > 3500 && beyond < off.len() / 20, "{beyond} of {}", off.len());
        // No step goes further than the learning rate; a neighbouring number changes its size a little.
        assert!(off.iter().all(|off| *off < 0.01), "{:?}", off.iter().copied().fold(0.0, f32::max));
    }
}
