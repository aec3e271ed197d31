//! METEOR without synonyms (Banerjee and Lavie, ACL 2005 workshop; a metric and no reward): the original score on exact
//! matches and matches of stems. The published METEOR also matches synonyms of WordNet and, from version 1.3, paraphrases
//! with other weights: its values are higher and not these.
//!
//! Words are those of [`crate::rouge`]; stems are Snowball's English ones (Porter2). Words are matched one to one, first equal
//! words, then the others by stems, each time from the last word of the response to the first, with the last free word of
//! the reference that fits. With m matches, precision `P = m/said` and recall `R = m/wanted` give `F = 10·P·R/(R + 9·P)`;
//! matches that are neighbours in the same order in both texts form a chunk; the score is `F · (1 − 0.5·(chunks/m)³)`.
//! The same as NLTK's `meteor_score` with this stemmer, these words and an empty WordNet.

use std::collections::HashMap;

use rust_stemmers::{Algorithm, Stemmer};

use crate::judges::rouge::tokens;

/// Score of one text against the best of its references, in [0, 1).
pub fn meteor(said: &str, wanted: &[String]) -> f64 {
    let said = tokens(said);
    wanted.iter().map(|w| against(&said, &tokens(w))).fold(0.0, f64::max)
}

/// Mean of [`meteor`] over texts with the references of each; 0 without texts.
pub fn corpus_meteor<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a [String])>) -> f64 {
    let each: Vec<f64> = pairs.into_iter().map(|(said, wanted)| meteor(said, wanted)).collect();
    if each.is_empty() { 0.0 } else { each.iter().sum::<f64>() / each.len() as f64 }
}

fn against(said: &[String], wanted: &[String]) -> f64 {
    let mut partner: Vec<Option<usize>> = vec![None; said.len()];
    let mut free = vec![true; wanted.len()];
    link(said, wanted, &mut partner, &mut free);
    let stemmer = Stemmer::create(Algorithm::English);
    let stems = |words: &[String]| words.iter().map(|w| stemmer.stem(w).into_owned()).collect::<Vec<_>>();
    link(&stems(said), &stems(wanted), &mut partner, &mut free);
    let links: Vec<(usize, usize)> =
        partner.iter().enumerate().filter_map(|(i, p)| p.map(|j| (i, j))).collect();
    if links.is_empty() {
        return 0.0;
    }
    let matches = links.len() as f64;
    let (precision, recall) = (matches / said.len() as f64, matches / wanted.len() as f64);
    let mean = 10.0 * precision * recall / (recall + 9.0 * precision);
    let breaks = links.windows(2).filter(|w| w[1].0 != w[0].0 + 1 || w[1].1 != w[0].1 + 1).count();
    let scattered = (breaks + 1) as f64 / matches;
    mean * (1.0 - 0.5 * scattered.powi(3))
}

/// Links words without partners to equal free ones, both from the end.
fn link(said: &[String], wanted: &[String], partner: &mut [Option<usize>], free: &mut [bool]) {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (j, word) in wanted.iter().enumerate().filter(|(j, _)| free[*j]) {
        places.entry(word).or_default().push(j);
    }
    for (i, word) in said.iter().enumerate().rev().filter(|(i, _)| partner[*i].is_none()).collect::<Vec<_>>()
    {
        if let Some(j) = places.get_mut(word.as_str()).and_then(Vec::pop) {
            partner[i] = Some(j);
            free[j] = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let score = |said: &str, wanted: &str| meteor(said, &[wanted.to_string()]);
        let close =
            |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        // Four matches in one chunk: 1 − 0.5/64.
        close(score("the cat sat here", "the cat sat here"), 1.0 - 0.5 / 64.0);
        // Stems: "runs" and "running"; two chunks of one.
        close(score("runs x cat", "running dog cat"), 20.0 / 30.0 * 0.5);
        // P = 2/2, R = 2/4: F = 5/9.5 in one chunk.
        close(score("a b", "a b c d"), 5.0 / 9.5 * (1.0 - 0.5 / 8.0));
        assert_eq!(score("x", "y"), 0.0);
        assert_eq!(score("", "y"), 0.0);
        assert_eq!(meteor("a", &[]), 0.0);
        let both = ["x y".to_string(), "a b".to_string()];
        close(meteor("a b", &both), 1.0 - 0.5 / 8.0);
    }
}
