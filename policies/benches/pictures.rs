//! Time of changing the sizes of pictures, as the processors of Qwen2.5-VL (bicubic) and SmolVLM (Lanczos) do it:
//! `cargo bench -p rlvr-policies --bench pictures`. Pillow's for the same sizes:
//! `python policies/benches/peer_pillow.py`.

use divan::counter::BytesCount;
use rlvr_policies::vision::Rgb;
use rlvr_policies::vision::resample::{Filter, resize};

fn main() {
    divan::main();
}

const SIZES: [(usize, usize, Filter); 3] =
    [(1024, 504, Filter::Bicubic), (2048, 512, Filter::Lanczos), (224, 448, Filter::Bicubic)];

/// A square of these many pixels a side to another one.
#[divan::bench(args = [0, 1, 2])]
fn resample(bencher: divan::Bencher<'_, '_>, case: usize) {
    let (from, to, filter) = SIZES[case];
    let pixels: Vec<u8> = (0..from * from * 3).map(|i| (i * 7919 % 251) as u8).collect();
    let picture = Rgb { width: from, height: from, pixels };
    let bytes = BytesCount::new(picture.pixels.len());
    bencher.counter(bytes).bench(|| resize(&picture, to, to, filter));
}
