//! The register tile at its best.
use super::tile::{self, Kernel, Tile};
use super::{LINE, Operands, aligned};

/// Steps of the tile: both panels fit into the first-level cache.
const STEPS: usize = 128;

/// One tile of a type, again and again on the same operands.
#[derive(Debug)]
pub struct Peak {
    kernel: Kernel,
}

impl Peak {
    /// The tile that products of this type are made of here.
    pub fn new(operands: Operands) -> Self {
        Self { kernel: tile::best(operands) }
    }

    /// Floating-point operations of one tile.
    pub fn operations(&self) -> usize {
        2 * self.kernel.rows * self.kernel.width * STEPS * self.kernel.packing.values()
    }

    /// Computes it so many times on the calling thread.
    pub fn run(&self, times: usize) {
        let Kernel { rows, width, .. } = self.kernel;
        let panel = |lanes: usize| vec![0.0f32; lanes * STEPS + LINE];
        let (a, b, mut c) = (panel(rows), panel(width), vec![0.0f32; rows * width]);
        let (a, b) = (&a[aligned(&a)..], &b[aligned(&b)..]);
        let _ready = self.kernel.ready();
        for _ in 0..times {
            let tile = Tile {
                steps: STEPS,
                a: a.as_ptr(),
                a_step: rows,
                b: b.as_ptr(),
                b_step: width,
                c: c.as_mut_ptr(),
                c_stride: width,
                cols: width,
                add: false,
            };
            // SAFETY: the kernel is one that this machine has, and this thread is ready for it; the panels hold all steps of
            // all rows and columns, and so does `c`.
            unsafe { (self.kernel.run)(rows, tile) };
        }
        std::hint::black_box(&mut c);
    }
}
