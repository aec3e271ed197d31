//! `rouge`: ROUGE-1, ROUGE-2 and ROUGE-L as F1 (Lin: ROUGE, a package for automatic evaluation of summaries, ACL 2004).
//!
//! Words are runs of letters and digits in lower case, without stemming; a character of a script without spaces is a
//! word. ROUGE-N counts shared n-grams with multiplicity, ROUGE-L the longest common subsequence of the whole texts.
//! The score is the F1 (β = 1) of the best reference; `variant = "mean"` is the mean of the three.
//!
//! Accepts any response with words (think blocks dropped); an empty one is `no_answer`. At most 4096 words of each text
//! are compared, counted from the beginning, so that the work is bounded. Repeating the reference lowers precision and
//! pays nothing; a response can still be rewarded for words in the wrong order (ROUGE-1), so gate it with a length.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::answer::extract::Think;
use crate::judges::token_f1::{MAX_WORDS, body, check_references, f1, is_dense, references, shared};
use crate::reward::{Outcome, Reward, RewardError, TaskError, Verdict};
use crate::task::{Response, Task};

/// Which ROUGE is the score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RougeVariant {
    /// Single words.
    Rouge1,
    /// Pairs of words.
    Rouge2,
    /// Longest common subsequence.
    #[default]
    RougeL,
    /// Mean of the three.
    Mean,
}

/// Settings of the `rouge` reward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RougeConfig {
    /// Which one is the score. Default `rouge_l`.
    pub variant: RougeVariant,
    /// Think tags. Default `strip`.
    pub think: Think,
}

/// The `rouge` reward; its score lies in [0, 1].
pub struct Rouge {
    config: RougeConfig,
}

/// Lower-case runs of letters and digits.
pub(crate) fn tokens(text: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut open = false;
    for c in text.chars() {
        if is_dense(c) {
            out.push(c.to_string());
            open = false;
        } else if c.is_alphanumeric() {
            if !open {
                out.push(String::new());
            }
            open = true;
            if let Some(word) = out.last_mut() {
                word.extend(c.to_lowercase());
            }
        } else {
            open = false;
        }
        if out.len() > MAX_WORDS {
            out.truncate(MAX_WORDS);
            break;
        }
    }
    out
}

fn rouge_n(said: &[String], wanted: &[String], n: usize) -> f64 {
    let a: Vec<&[String]> = said.windows(n).collect();
    let b: Vec<&[String]> = wanted.windows(n).collect();
    f1(shared(&a, &b), a.len(), b.len())
}

/// Length of the longest common subsequence, 64 words of `wanted` at a time (Hyyrö: Bit-parallel LCS-length computation
/// revisited, AWOCA 2004): a zero bit of `row` at j is where the table of lengths grows from column j to j + 1.
fn common_subsequence(said: &[String], wanted: &[String]) -> usize {
    let blocks = wanted.len().div_ceil(64);
    let mut places: HashMap<&str, Vec<u64>> = HashMap::new();
    for (j, word) in wanted.iter().enumerate() {
        places.entry(word).or_insert_with(|| vec![0; blocks])[j / 64] |= 1 << (j % 64);
    }
    let mut row = vec![u64::MAX; blocks];
    for word in said {
        let Some(places) = places.get(word.as_str()) else { continue };
        let mut carry = false;
        for (bits, found) in row.iter_mut().zip(places) {
            let both = *bits & found;
            let (sum, over) = bits.overflowing_add(both);
            let (sum, again) = sum.overflowing_add(u64::from(carry));
            carry = over || again;
            *bits = sum | (*bits & !found);
        }
    }
    (0..wanted.len()).filter(|j| row[j / 64] >> (j % 64) & 1 == 0).count()
}

fn rouge_l(said: &[String], wanted: &[String]) -> f64 {
    f1(common_subsequence(said, wanted), said.len(), wanted.len())
}

/// ROUGE-1, ROUGE-2 and ROUGE-L F1 of `said` against `wanted`, each in [0, 1].
pub fn rouge(said: &str, wanted: &str) -> [f64; 3] {
    let (said, wanted) = (tokens(said), tokens(wanted));
    [rouge_n(&said, &wanted, 1), rouge_n(&said, &wanted, 2), rouge_l(&said, &wanted)]
}

/// Mean over texts of ROUGE-1, ROUGE-2 and ROUGE-L F1, each against its best reference; 0 without texts.
pub fn corpus_rouge<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a [String])>) -> [f64; 3] {
    let (mut sum, mut count) = ([0.0; 3], 0.0f64);
    for (said, wanted) in pairs {
        let each: Vec<[f64; 3]> = wanted.iter().map(|w| rouge(said, w)).collect();
        (0..3).for_each(|i| sum[i] += each.iter().map(|e| e[i]).fold(0.0, f64::max));
        count += 1.0;
    }
    sum.map(|s| s / count.max(1.0))
}

impl Rouge {
    /// The reward with these settings.
    pub fn new(config: RougeConfig) -> Self {
        Self { config }
    }
}

impl Reward for Rouge {
    fn name(&self) -> &str {
        "rouge"
    }

    fn score(&self, task: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        if check_references("rouge", task).is_err() {
            return Ok(Outcome::of(Verdict::Unverifiable, "rouge", "the reference has no answer"));
        }
        let body = match body(response.text, self.config.think, "rouge") {
            Ok(body) => body,
            Err(outcome) => return Ok(*outcome),
        };
        let pick = |[one, two, long]: [f64; 3]| match self.config.variant {
            RougeVariant::Rouge1 => one,
            RougeVariant::Rouge2 => two,
            RougeVariant::RougeL => long,
            RougeVariant::Mean => (one + two + long) / 3.0,
        };
        let best = references(task).iter().map(|r| pick(rouge(body, r))).fold(0.0, f64::max);
        Ok(Outcome::graded(best, "rouge", format!("F1 {best:.3}")).with_work(response.text.len() as u64))
    }

    fn gold(&self, task: &Task) -> Option<String> {
        references(task).into_iter().next()
    }

    fn check_task(&self, task: &Task) -> Result<(), TaskError> {
        check_references("rouge", task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let [one, two, long] = rouge("the cat sat", "the cat lay down");
        assert!(
            (one - 4.0 / 7.0).abs() < 1e-12
                && (two - 2.0 / 5.0).abs() < 1e-12
                && (long - 4.0 / 7.0).abs() < 1e-12
        );
        assert_eq!(rouge("", "x"), [0.0; 3]);
        let [_, _, shuffled] = rouge("c b a", "a b c");
        assert!((shuffled - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn common_subsequences_are_those_of_the_table() {
        let mut state = 7u32;
        let mut words = |count: usize, kinds: u32| -> Vec<String> {
            let mut word = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((state >> 16) % kinds).to_string()
            };
            (0..count).map(|_| word()).collect()
        };
        for (said, wanted, kinds) in
            [(0, 5, 2), (5, 0, 2), (63, 64, 2), (64, 65, 3), (300, 129, 4), (200, 300, 50)]
        {
            let (said, wanted) = (words(said, kinds), words(wanted, kinds));
            let mut row = vec![0; wanted.len() + 1];
            for a in &said {
                let mut diagonal = 0;
                for (j, b) in wanted.iter().enumerate() {
                    let above = row[j + 1];
                    row[j + 1] = if a == b { diagonal + 1 } else { above.max(row[j]) };
                    diagonal = above;
                }
            }
            assert_eq!(common_subsequence(&said, &wanted), row[wanted.len()], "{said:?} {wanted:?}");
        }
    }
}
