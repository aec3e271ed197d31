//! CIDEr-D of a corpus of texts (Vedantam, Zitnick, Parikh, arXiv:1411.5726), a metric and no reward: the weight
//! of a word depends on all references.
//!
//! With `g` the TF-IDF vector of the n-grams of a text (count times `ln N − ln max(1, d)`, for N items and d items in whose
//! references the n-gram occurs), the score of a text c with references r_1 … r_m is
//! `10/4 · Σ_{n=1..4} 1/m · Σ_j exp(−(l_c − l_r)²/(2·6²)) · min(g(c), g(r_j)) · g(r_j) / (|g(c)|·|g(r_j)|)`,
//! between 0 and 10. The formula and its constants are those of `pycocoevalcap`'s `Cider`, where the length l is the number
//! of pairs of words. Its words come from a tokenizer of their own in front; here they are those of [`crate::rouge`]: runs
//! of letters and digits in lower case.
//!
//! The weights need a corpus: of a single item every weight, and so the score, is 0.

use std::collections::HashMap;

use crate::judges::rouge::tokens;

const ORDER: usize = 4;
/// Width of the penalty on the difference in length.
const SIGMA: f64 = 6.0;

/// An n-gram as numbers of its words; 0 fills up shorter ones.
type Gram = [u32; ORDER];

/// CIDEr-D of a corpus.
#[derive(Clone, Debug, PartialEq)]
pub struct Cider {
    /// Mean over the items, in [0, 10]; 0 without items.
    pub mean: f64,
    /// Score of each item.
    pub each: Vec<f64>,
}

/// The n-grams of a text by order and how often each occurs, sorted.
struct Text {
    grams: [Vec<(Gram, f64)>; ORDER],
    /// Pairs of words.
    length: f64,
}

/// TF-IDF weights, sorted like the n-grams, and their norms.
struct Vector<'a> {
    text: &'a Text,
    weights: [Vec<f64>; ORDER],
    norms: [f64; ORDER],
}

#[derive(Default)]
struct Vocabulary(HashMap<String, u32>);

impl Vocabulary {
    fn text(&mut self, text: &str) -> Text {
        let words: Vec<u32> = (tokens(text).into_iter())
            .map(|word| {
                let next = self.0.len() as u32 + 1;
                *self.0.entry(word).or_insert(next)
            })
            .collect();
        let grams = std::array::from_fn(|i| {
            let mut all: Vec<Gram> = (words.windows(i + 1))
                .map(|window| {
                    let mut gram = [0; ORDER];
                    gram[..=i].copy_from_slice(window);
                    gram
                })
                .collect();
            all.sort_unstable();
            // In the order of the grams, so that sums have the same bits in every run.
            all.chunk_by(|a, b| a == b).map(|same| (same[0], same.len() as f64)).collect()
        });
        Text { grams, length: words.len().saturating_sub(1) as f64 }
    }
}

impl<'a> Vector<'a> {
    fn new(text: &'a Text, idf: impl Fn(&Gram) -> f64) -> Self {
        let weights: [Vec<f64>; ORDER] =
            std::array::from_fn(|i| text.grams[i].iter().map(|(gram, count)| count * idf(gram)).collect());
        let norms = std::array::from_fn(|i| weights[i].iter().map(|w| w * w).sum::<f64>().sqrt());
        Self { text, weights, norms }
    }

    /// Mean over the orders of the clipped cosine, with the penalty on length.
    fn similarity(&self, reference: &Self) -> f64 {
        let mut sum = 0.0;
        for i in 0..ORDER {
            let norm = self.norms[i] * reference.norms[i];
            if norm == 0.0 {
                continue;
            }
            let (said, wanted) = (&self.text.grams[i], &reference.text.grams[i]);
            let mut product = 0.0;
            let (mut a, mut b) = (0, 0);
            while a < said.len() && b < wanted.len() {
                match said[a].0.cmp(&wanted[b].0) {
                    std::cmp::Ordering::Less => a += 1,
                    std::cmp::Ordering::Greater => b += 1,
                    std::cmp::Ordering::Equal => {
                        product += self.weights[i][a].min(reference.weights[i][b]) * reference.weights[i][b];
                        a += 1;
                        b += 1;
                    }
                }
            }
            sum += product / norm;
        }
        let delta = self.text.length - reference.text.length;
        sum / ORDER as f64 * (-delta * delta / (2.0 * SIGMA * SIGMA)).exp()
    }
}

/// CIDEr-D of texts with the references of each.
pub fn corpus_cider<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a [String])>) -> Cider {
    let mut vocabulary = Vocabulary::default();
    let items: Vec<(Text, Vec<Text>)> = (pairs.into_iter())
        .map(|(said, wanted)| (vocabulary.text(said), wanted.iter().map(|w| vocabulary.text(w)).collect()))
        .collect();
    let mut found_in: HashMap<Gram, f64> = HashMap::new();
    for (_, references) in &items {
        let mut seen: Vec<Gram> =
            references.iter().flat_map(|r| r.grams.iter().flatten()).map(|(gram, _)| *gram).collect();
        seen.sort_unstable();
        seen.dedup();
        seen.into_iter().for_each(|gram| *found_in.entry(gram).or_default() += 1.0);
    }
    let all = (items.len() as f64).ln();
    let idf = |gram: &Gram| all - found_in.get(gram).copied().unwrap_or(1.0).ln();
    let each: Vec<f64> = (items.iter())
        .map(|(said, references)| {
            let said = Vector::new(said, idf);
            let sum: f64 = references.iter().map(|r| said.similarity(&Vector::new(r, idf))).sum();
            10.0 * sum / references.len().max(1) as f64
        })
        .collect();
    let mean = if each.is_empty() { 0.0 } else { each.iter().sum::<f64>() / each.len() as f64 };
    Cider { mean, each }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let refs = |texts: &[&str]| texts.iter().map(|t| (*t).to_string()).collect::<Vec<_>>();
        let (one, two) = (refs(&["the cat sat on a mat"]), refs(&["a dog ran over grass today"]));
        let found = corpus_cider([("the cat sat on a mat", &one[..]), ("nothing of it here", &two[..])]);
        // Equal texts have the cosine 1 in all orders.
        assert!((found.each[0] - 10.0).abs() < 1e-12, "{found:?}");
        assert_eq!(found.each[1], 0.0);
        assert!((found.mean - 5.0).abs() < 1e-12);
        // Single words only, of equal weight: 1/√2 in one of four orders; two words have one pair, one has none.
        let (one, two) = (refs(&["x"]), refs(&["q"]));
        let found = corpus_cider([("x y", &one[..]), ("z", &two[..])]);
        let expected = 10.0 / 4.0 / 2.0f64.sqrt() * (-1.0f64 / 72.0).exp();
        assert!((found.each[0] - expected).abs() < 1e-12, "{found:?}");
        assert_eq!(corpus_cider([("x", &one[..])]).mean, 0.0);
        assert_eq!(corpus_cider([]).mean, 0.0);
        assert_eq!(corpus_cider([("x", &[][..]), ("", &two[..])]).each, [0.0, 0.0]);
    }
}
