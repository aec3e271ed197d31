//! Pillow's `Image.resize` of RGB pictures, bit for bit: a pass an axis with weights of 22 bits, rounded to 8 bits between.
use super::image::Rgb;
use rayon::prelude::*;
use std::f64::consts::PI;

/// The kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Cubic convolution with a = −0.5.
    Bicubic,
    /// A windowed sinc over three lobes.
    Lanczos,
}

impl Filter {
    /// Half its width, where nothing shrinks.
    fn support(self) -> f64 {
        match self {
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn at(self, x: f64) -> f64 {
        let x = x.abs();
        match self {
            Self::Bicubic => {
                const A: f64 = -0.5;
                match x {
                    x if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
                    x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
                    _ => 0.0,
                }
            }
            Self::Lanczos => {
                let sinc = |x: f64| if x == 0.0 { 1.0 } else { (PI * x).sin() / (PI * x) };
                if x < 3.0 { sinc(x) * sinc(x / 3.0) } else { 0.0 }
            }
        }
    }
}

/// Bits of a weight behind the point.
const BITS: u32 = 22;

/// What one pixel of the result is made of.
struct Window {
    first: usize,
    weights: Vec<i32>,
}

/// The windows of an axis that goes from `from` to `to` pixels.
fn windows(filter: Filter, from: usize, to: usize) -> Vec<Window> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    let window = |i: usize| {
        let centre = (i as f64 + 0.5) * scale;
        // Cut towards zero, as an integer is made of a number in C.
        let first = ((centre - support + 0.5) as i64).max(0) as usize;
        let last = ((centre + support + 0.5) as i64).min(from as i64) as usize;
        let weight = |x: usize| filter.at((x as f64 - centre + 0.5) / stretch);
        let weights: Vec<f64> = (first..last).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        let whole = |w: &f64| {
            let w = w / sum * f64::from(1 << BITS);
            // Away from zero in the middle.
            (w + 0.5f64.copysign(w)) as i32
        };
        Window { first, weights: weights.iter().map(whole).collect() }
    };
    (0..to).map(window).collect()
}

fn rounded(sum: i32) -> u8 {
    ((sum + (1 << (BITS - 1))) >> BITS).clamp(0, 255) as u8
}

fn horizontal(x: &Rgb, width: usize, filter: Filter) -> Rgb {
    if width == x.width {
        return x.clone();
    }
    let windows = windows(filter, x.width, width);
    let mut out = Rgb::black(width, x.height);
    out.pixels.par_chunks_mut(width * 3).zip(x.pixels.par_chunks(x.width * 3)).for_each(|(to, from)| {
        for (to, window) in to.as_chunks_mut::<3>().0.iter_mut().zip(&windows) {
            let mut sum = [0i32; 3];
            for (p, w) in from[window.first * 3..].as_chunks::<3>().0.iter().zip(&window.weights) {
                for c in 0..3 {
                    sum[c] += i32::from(p[c]) * w;
                }
            }
            *to = sum.map(rounded);
        }
    });
    out
}

fn vertical(x: &Rgb, height: usize, filter: Filter) -> Rgb {
    if height == x.height {
        return x.clone();
    }
    let (windows, stride) = (windows(filter, x.height, height), x.width * 3);
    let mut out = Rgb::black(x.width, height);
    out.pixels.par_chunks_mut(stride).zip(&windows).for_each(|(to, window)| {
        let mut sums = vec![0i32; stride];
        for (row, w) in x.pixels[window.first * stride..].chunks(stride).zip(&window.weights) {
            sums.iter_mut().zip(row).for_each(|(sum, p)| *sum += i32::from(*p) * w);
        }
        to.iter_mut().zip(&sums).for_each(|(to, sum)| *to = rounded(*sum));
    });
    out
}

/// The picture at another size. Rows are made first where Pillow 13 does so: where the height shrinks by more than twice what
/// the width shrinks by.
pub fn resize(x: &Rgb, width: usize, height: usize, filter: Filter) -> Rgb {
    let (w, h, to_w, to_h) = (x.width as i64, x.height as i64, width as i64, height as i64);
    if h > to_h && h - to_h > 2 * (w - to_w) {
        horizontal(&vertical(x, height, filter), width, filter)
    } else {
        vertical(&horizontal(x, width, filter), height, filter)
    }
}
