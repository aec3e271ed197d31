//! Matrices of a base that stays as it is, in fewer bits than f32. They are read back in f32 where products are made of them,
//! so that a policy with a narrow base computes what one with the rounded weights would, bit for bit.
use super::buffer::Buffer;
use half::bf16;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::{Deref, Range};

/// How the matrices of a base below an adapter lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BaseDtype {
    /// 4 bytes a weight.
    #[default]
    F32,
    /// 2 bytes: rounded to the nearest, ties to even.
    Bf16,
    /// 1 byte, and for every 64 of a row a scale in bf16, their largest magnitude divided by 127: rounded to the nearest multiple
    /// of that, ties to even (the absmax quantisation of arXiv:2208.07339, by block). Embedding, head and routers are bf16.
    /// What was rounded once stays as it is when it is rounded again.
    Int8,
}

/// Elements of a row that share a scale.
const BLOCK: usize = 64;
/// Rows that one task reads back.
const ROWS: usize = 16;

/// A matrix in fewer bits.
#[derive(Debug)]
pub struct Narrow {
    columns: usize,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Bf16(Vec<bf16>),
    /// Of each row a scale a block.
    Int8 {
        codes: Vec<i8>,
        scales: Vec<bf16>,
    },
}

impl Narrow {
    /// Rounds a row-major matrix to bf16.
    pub fn bf16(values: &[f32], columns: usize) -> Self {
        Self { columns, values: Values::Bf16(values.iter().map(|v| bf16::from_f32(*v)).collect()) }
    }

    /// Rounds a row-major matrix to 8 bits.
    pub fn int8(values: &[f32], columns: usize) -> Self {
        let blocks = || values.chunks(columns.max(1)).flat_map(|row| row.chunks(BLOCK));
        // Multiples of a scale of eight bits are exact in f32, and the largest of a block is always 127 of them.
        let scale =
            |block: &[f32]| bf16::from_f32(block.iter().fold(0f32, |most, v| most.max(v.abs())) / 127.0);
        let code = |v: f32, scale: f32| if scale > 0.0 { (v / scale).round_ties_even() as i8 } else { 0 };
        let codes = blocks().flat_map(|b| {
            let scale = scale(b).to_f32();
            b.iter().map(move |v| code(*v, scale))
        });
        Self {
            columns,
            values: Values::Int8 { codes: codes.collect(), scales: blocks().map(scale).collect() },
        }
    }

    /// Elements.
    pub fn elements(&self) -> usize {
        match &self.values {
            Values::Bf16(values) => values.len(),
            Values::Int8 { codes, .. } => codes.len(),
        }
    }

    /// Reads rows back.
    ///
    /// # Shapes
    /// out `[rows, columns]`.
    pub fn read(&self, rows: Range<usize>, out: &mut [f32]) {
        let columns = self.columns.max(1);
        out.par_chunks_mut(ROWS * columns).enumerate().for_each(|(i, out)| {
            for (j, out) in out.chunks_mut(columns).enumerate() {
                self.read_row(rows.start + i * ROWS + j, out);
            }
        });
    }

    /// Reads one row back.
    pub fn read_row(&self, row: usize, out: &mut [f32]) {
        let at = row * self.columns..(row + 1) * self.columns;
        match &self.values {
            Values::Bf16(values) => out.iter_mut().zip(&values[at]).for_each(|(out, v)| *out = v.to_f32()),
            Values::Int8 { codes, scales } => {
                let blocks = self.columns.div_ceil(BLOCK);
                let codes = codes[at].chunks(BLOCK).zip(&scales[row * blocks..]);
                for (out, (codes, scale)) in out.chunks_mut(BLOCK).zip(codes) {
                    let scale = scale.to_f32();
                    out.iter_mut().zip(codes).for_each(|(out, code)| *out = f32::from(*code) * scale);
                }
            }
        }
    }
}

/// A row-major matrix as it lies in memory.
#[derive(Clone, Copy)]
pub enum Matrix<'a> {
    /// In f32.
    Wide(&'a [f32]),
    /// In fewer bits.
    Narrow(&'a Narrow),
}

impl<'a> Matrix<'a> {
    /// Elements.
    pub fn elements(self) -> usize {
        match self {
            Self::Wide(values) => values.len(),
            Self::Narrow(narrow) => narrow.elements(),
        }
    }

    /// Some of its rows in f32.
    pub fn rows(self, rows: Range<usize>, columns: usize) -> InF32<'a> {
        match self {
            Self::Wide(values) => InF32::There(&values[rows.start * columns..rows.end * columns]),
            Self::Narrow(narrow) => {
                let mut values = Buffer::any(rows.len() * columns);
                narrow.read(rows, &mut values);
                InF32::Read(values)
            }
        }
    }

    /// All of it in f32.
    pub fn all(self, columns: usize) -> InF32<'a> {
        self.rows(0..self.elements() / columns.max(1), columns)
    }

    /// One row in f32.
    pub fn read_row(self, row: usize, out: &mut [f32]) {
        match self {
            Self::Wide(values) => out.copy_from_slice(&values[row * out.len()..(row + 1) * out.len()]),
            Self::Narrow(narrow) => narrow.read_row(row, out),
        }
    }
}

/// Rows in f32: where they lie, or read back.
pub enum InF32<'a> {
    /// Where they lie.
    There(&'a [f32]),
    /// Read back.
    Read(Buffer),
}

impl Deref for InF32<'_> {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        match self {
            Self::There(values) => values,
            Self::Read(values) => values,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Vec<f32> {
        (0..3 * 100).map(|i| ((i * 7919) % 1013) as f32 / 500.0 - 1.0).collect()
    }

    #[test]
    fn bf16_is_the_nearest_one_and_reads_back_by_rows() {
        let values = values();
        let narrow = Narrow::bf16(&values, 100);
        let mut read = vec![0.0; 200];
        narrow.read(1..3, &mut read);
        for (x, y) in values[100..].iter().zip(&read) {
            assert_eq!(bf16::from_f32(*x).to_f32(), *y);
        }
        assert_eq!(&*Matrix::Narrow(&narrow).rows(2..3, 100), &read[100..]);
    }

    /// Blocks end with rows: the last block of a row of 100 has 36 elements.
    #[test]
    fn int8_is_off_by_half_a_step_of_its_own_block() {
        let mut values = values();
        values[264..300].fill(0.0);
        let narrow = Narrow::int8(&values, 100);
        let read = Matrix::Narrow(&narrow).all(100);
        for (row, back) in values.chunks(100).zip(read.chunks(100)) {
            for (block, back) in row.chunks(64).zip(back.chunks(64)) {
                let step = block.iter().fold(0f32, |most, v| most.max(v.abs())) / 127.0;
                for (x, y) in block.iter().zip(back) {
                    assert!((x - y).abs() <= 0.505 * step, "{x} {y} {step}");
                }
                assert!(step == 0.0 || block.iter().zip(back).any(|(x, y)| x != y), "rounded");
            }
        }
        let mut row = vec![1.0; 100];
        Matrix::Narrow(&narrow).read_row(2, &mut row);
        assert_eq!(row, read[200..]);
        assert_eq!(*Matrix::Narrow(&Narrow::int8(&read, 100)).all(100), *read, "rounded again");
    }
}
