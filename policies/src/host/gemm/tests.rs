use super::*;

fn noise(len: usize, mut seed: u64) -> Vec<f32> {
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((seed >> 40) as f32) / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn within<T: Send>(threads: usize, f: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

const SHAPES: [(usize, usize, usize); 9] = [
    (1, 5, 7),
    (3, 96, 64),
    (33, 200, 70),
    (300, 64, 48),
    (130, 500, 90),
    (2, 3, 0),
    (6, 35, 3000),
    (193, 33, 577),
    (5, 1, 1),
];

/// Every kernel of this machine, with the operands that it is for.
fn all_kernels() -> Vec<(Operands, tile::Kernel)> {
    let both = [Operands::F32, Operands::Bf16].map(|o| tile::kernels(o).map(move |kernel| (o, kernel)));
    both.into_iter().flatten().collect()
}

/// Every kernel, every orientation of both sides, set and add, against sums in f64 of the rounded operands.
#[test]
fn agrees_with_f64() {
    for (operands, kernel) in all_kernels() {
        let noise = |len: usize, seed: u64| -> (Vec<f32>, Vec<f64>) {
            let values = noise(len, seed);
            let round = |x: &f32| match operands {
                Operands::F32 => f64::from(*x),
                Operands::Bf16 => half::bf16::from_f32(*x).to_f64(),
            };
            let seen = values.iter().map(round).collect();
            (values, seen)
        };
        for (m, n, k) in SHAPES {
            let ((a, a_seen), (b, b_seen)) = (noise(m * k, 1), noise(k * n, 2));
            let old = noise(m * n, 3).0;
            let at: Vec<f32> = (0..k * m).map(|i| a[(i % m) * k + i / m]).collect();
            let bt: Vec<f32> = (0..n * k).map(|i| b[(i % k.max(1)) * n + i / k.max(1)]).collect();
            // Nothing behind the last row counts.
            let [a, at, b, bt] = [a, at, b, bt].map(|x| [x, vec![f32::NAN; n + k]].concat());
            let dot =
                |i: usize, j: usize| -> f64 { (0..k).map(|p| a_seen[i * k + p] * b_seen[p * n + j]).sum() };
            for a in [Mat::rows(&a, k), Mat::rows(&at, m).t()] {
                for b in [Mat::rows(&b, n), Mat::rows(&bt, k).t()] {
                    for (write, parallel) in [(Write::Set, true), (Write::Add, true), (Write::Add, false)] {
                        let mut c = old.clone();
                        Panels::with(kernel, n, k, b).multiply([m, n, k], a, &mut c, n, write, parallel);
                        for (at, c) in c.iter().enumerate() {
                            let base = if write == Write::Add { f64::from(old[at]) } else { 0.0 };
                            let error = (f64::from(*c) - base - dot(at / n, at % n)).abs();
                            let most = 1e-6 * (k + 1) as f64;
                            assert!(error < most, "{} {m} {n} {k} {write:?} at {at}: {error}", kernel.name);
                        }
                    }
                }
            }
        }
    }
}

/// Ties go to even, what is too large becomes infinite, and a NaN stays one, in every kernel.
#[test]
fn rounds_like_half() {
    let special = [0.0, -0.0, f32::MAX, f32::MIN, f32::INFINITY, f32::MIN_POSITIVE, 3.0e38];
    let ties = [0x3f80_8000, 0x3f81_8000, 0x3f80_7fff, 0x3f80_8001, 0xbf81_8000].map(f32::from_bits);
    let nans = [f32::NAN, f32::from_bits(0x7fff_ffff), f32::from_bits(0xff80_0001)];
    let values: Vec<f32> = special.into_iter().chain(ties).chain(nans).chain(noise(10_000, 9)).collect();
    let nearest = |x: f32| half::bf16::from_f32(x).to_f32();
    for x in values.iter().copied().chain([1e-40]) {
        let got = f32::from_bits(pack::rounded(x));
        assert!(got.to_bits() == nearest(x).to_bits() || got.is_nan() && x.is_nan(), "{x:e}");
    }
    // Times one, on either side.
    let count = values.len();
    for kernel in tile::kernels(Operands::Bf16) {
        let (mut left, mut right) = (vec![0.0; count], vec![0.0; count]);
        let (many, one) = (Mat::rows(&values, 1), Mat::rows(&[1.0], 1));
        Panels::with(kernel, 1, 1, one).product(count, many, &mut left, Write::Set);
        Panels::with(kernel, count, 1, many.t()).product(1, one, &mut right, Write::Set);
        for (x, got) in values.iter().zip(&left).chain(values.iter().zip(&right)) {
            assert!(*got == nearest(*x) || got.is_nan() && x.is_nan(), "{} {x:e}: {got:e}", kernel.name);
        }
    }
}

/// Products of rounded operands use AMX only where the system lists it; in f32 they never do.
#[test]
#[cfg(target_arch = "x86_64")]
fn amx_is_used_where_it_is() {
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let listed = ["amx_tile", "amx_bf16"].iter().all(|flag| processor.split_whitespace().any(|f| f == *flag));
    let found = Operands::Bf16.instructions() == "AMX";
    if !found {
        println!("this machine has no AMX, refuses it, or RLVR_AMX=0: its product is not tested");
    }
    assert!(!found || listed);
    assert_eq!(found, amx::available());
    assert!(tile::kernels(Operands::F32).all(|kernel| kernel.packing == pack::Packing::Plain));
}

#[test]
fn columns_beside_the_output_are_not_touched() {
    let (m, n, k, stride) = (5, 7, 9, 11);
    let mut c = vec![3.0; m * stride];
    product_serial(
        m,
        n,
        k,
        Mat::rows(&noise(m * k, 1), k),
        Mat::rows(&noise(k * n, 2), n),
        &mut c,
        stride,
        Write::Set,
    );
    assert!(
        c.chunks(stride).all(|row| row[n..].iter().all(|x| *x == 3.0) && row[..n].iter().all(|x| *x != 3.0))
    );
}

/// The first rows and columns of packed panels make the bits that they make when packed alone.
#[test]
fn a_part_of_packed_panels() {
    let (m, n, k) = (50, 130, 900);
    let (a, b) = (noise(m * k, 1), noise(k * n, 2));
    let bt: Vec<f32> = (0..n * k).map(|i| b[(i % k) * n + i / k]).collect();
    for whole in [Mat::rows(&b, n), Mat::rows(&bt, k).t()] {
        let panels = Panels::new(Operands::F32, n, k, whole);
        for (n, k) in [(130, 900), (97, 64), (1, 800), (64, 1)] {
            let (mut part, mut alone) = (vec![0.0; m * n], vec![0.0; m * n]);
            panels.product_of_part(m, n, k, Mat::rows(&a, k), &mut part, Write::Set);
            product_serial(m, n, k, Mat::rows(&a, k), whole, &mut alone, n, Write::Set);
            assert_eq!(part, alone, "{n} columns, {k} rows");
        }
    }
}

/// A row computed alone, among others, on one or two threads, by packed or fresh panels: the same bits.
#[test]
fn bits_do_not_depend_on_the_batch_or_the_threads() {
    const M: usize = 400;
    let shapes = [(197, 100), (333, 579), (70, 2061)];
    for ((operands, kernel), (n, k)) in all_kernels().into_iter().flat_map(|o| shapes.map(|s| (o, s))) {
        let (a, w, old) = (noise(M * k, 4), noise(n * k, 5), noise(M * n, 6));
        let b = Mat::rows(&w, k).t();
        let panels = Panels::with(kernel, n, k, b);
        let (mut added, mut set) = (old.clone(), vec![0.0; M * n]);
        for (alone, write) in [(&mut added, Write::Add), (&mut set, Write::Set)] {
            for (a, c) in a.chunks(k).zip(alone.chunks_mut(n)) {
                Panels::with(kernel, n, k, b).product(1, Mat::rows(a, k), c, write);
            }
        }
        for threads in [1, 2] {
            within(threads, || {
                for m in [1, 2, 5, 11, 12, 13, 16, 17, 32, 33, 63, 191, 192, 193, M] {
                    for (alone, write) in [(&added, Write::Add), (&set, Write::Set)] {
                        let mut c = old[..m * n].to_vec();
                        panels.product(m, Mat::rows(&a, k), &mut c, write);
                        let same = c.iter().zip(alone).all(|(x, y)| x.to_bits() == y.to_bits());
                        assert!(same, "{operands:?} {} {write:?} {m} {n} {k} by {threads}", kernel.name);
                    }
                }
            });
        }
    }
}
