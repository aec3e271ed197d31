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

/// Every kernel, every orientation of both sides, set and add, against sums in f64.
#[test]
fn agrees_with_f64() {
    for kernel in tile::kernels() {
        for (m, n, k) in SHAPES {
            let (a, b, old) = (noise(m * k, 1), noise(k * n, 2), noise(m * n, 3));
            let at: Vec<f32> = (0..k * m).map(|i| a[(i % m) * k + i / m]).collect();
            let bt: Vec<f32> = (0..n * k).map(|i| b[(i % k.max(1)) * n + i / k.max(1)]).collect();
            let dot = |i: usize, j: usize| -> f64 {
                (0..k).map(|p| f64::from(a[i * k + p]) * f64::from(b[p * n + j])).sum()
            };
            for a in [Mat::rows(&a, k), Mat::rows(&at, m).t()] {
                for b in [Mat::rows(&b, n), Mat::rows(&bt, k).t()] {
                    for (write, parallel) in [(Write::Set, true), (Write::Add, true), (Write::Add, false)] {
                        let mut c = old.clone();
                        Panels::with(kernel, n, k, b).multiply(
                            kernel,
                            [m, n, k],
                            a,
                            &mut c,
                            n,
                            write,
                            parallel,
                        );
                        for (at, c) in c.iter().enumerate() {
                            let base = if write == Write::Add { f64::from(old[at]) } else { 0.0 };
                            let error = (f64::from(*c) - base - dot(at / n, at % n)).abs();
                            assert!(error < 1e-6 * (k + 1) as f64, "{m} {n} {k} {write:?} at {at}: {error}");
                        }
                    }
                }
            }
        }
    }
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
        let panels = Panels::new(n, k, whole);
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
    for (n, k) in [(197, 100), (333, 579), (70, 2061)] {
        let (a, w, old) = (noise(M * k, 4), noise(n * k, 5), noise(M * n, 6));
        let b = Mat::rows(&w, k).t();
        let panels = Panels::new(n, k, b);
        let mut alone = old.clone();
        for (a, c) in a.chunks(k).zip(alone.chunks_mut(n)) {
            product(1, n, k, Mat::rows(a, k), b, c, Write::Add);
        }
        for threads in [1, 2] {
            within(threads, || {
                for m in [1, 2, 5, 11, 12, 13, 32, 63, 191, 192, 193, M] {
                    let mut c = old[..m * n].to_vec();
                    panels.product(m, Mat::rows(&a, k), &mut c, Write::Add);
                    let same = c.iter().zip(&alone).all(|(x, y)| x.to_bits() == y.to_bits());
                    assert!(same, "{m} {n} {k} by {threads}");
                }
            });
        }
    }
}
