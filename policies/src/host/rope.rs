//! Rotary position embedding (arXiv:2104.09864), half-split as in Hugging Face files: dimension `i` is paired with
//! `i + head_dim / 2`.

/// Cosines and sines of every position.
#[derive(Debug, Clone)]
pub struct RopeTable {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RopeTable {
    /// Table of `positions` rows for the given inverse frequencies (radians a token; `head_dim / 2` of them).
    pub fn new(inverse_frequencies: &[f32], positions: usize) -> Self {
        let half = inverse_frequencies.len();
        let mut cos = Vec::with_capacity(positions * half);
        let mut sin = Vec::with_capacity(positions * half);
        for p in 0..positions {
            for f in inverse_frequencies {
                // The angle is rounded to f32 first, as the reference implementations do.
                let angle = f64::from(p as f32 * *f);
                cos.push(angle.cos() as f32);
                sin.push(angle.sin() as f32);
            }
        }
        Self { half, cos, sin }
    }

    /// Number of positions in the table.
    pub fn positions(&self) -> usize {
        self.cos.len().checked_div(self.half).unwrap_or(0)
    }

    /// Cosines of one position, `[head_dim / 2]`.
    #[inline(always)]
    pub fn cos(&self, position: usize) -> &[f32] {
        &self.cos[position * self.half..(position + 1) * self.half]
    }

    /// Sines of one position, `[head_dim / 2]`.
    #[inline(always)]
    pub fn sin(&self, position: usize) -> &[f32] {
        &self.sin[position * self.half..(position + 1) * self.half]
    }

    /// Rotates one head in place and multiplies it by `scale`.
    #[inline(always)]
    pub fn rotate(&self, x: &mut [f32], position: usize, scale: f32) {
        let (cos, sin) = (self.cos(position), self.sin(position));
        let (a, b) = x.split_at_mut(self.half);
        for (((a, b), c), s) in a.iter_mut().zip(b).zip(cos).zip(sin) {
            (*a, *b) = ((*a * c - *b * s) * scale, (*b * c + *a * s) * scale);
        }
    }

    /// The inverse rotation, which is also the backward of [`Self::rotate`] (same `scale`).
    #[inline(always)]
    pub fn rotate_back(&self, x: &mut [f32], position: usize, scale: f32) {
        let (cos, sin) = (self.cos(position), self.sin(position));
        let (a, b) = x.split_at_mut(self.half);
        for (((a, b), c), s) in a.iter_mut().zip(b).zip(cos).zip(sin) {
            (*a, *b) = ((*a * c + *b * s) * scale, (*b * c - *a * s) * scale);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotating_back_restores() {
        let table = RopeTable::new(&[1.0, 0.1], 16);
        let x = [1.0f32, -2.0, 0.5, 3.0];
        let mut y = x;
        table.rotate(&mut y, 7, 1.0);
        assert!((y[0] - (7f32.cos() * 1.0 - 7f32.sin() * 0.5)).abs() < 1e-6);
        table.rotate_back(&mut y, 7, 1.0);
        for (a, b) in x.iter().zip(y) {
            assert!((a - b).abs() < 1e-6);
        }
    }
}
