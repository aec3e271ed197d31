//! `bleu`: BLEU of a response (Papineni et al., ACL 2002), and of a corpus as a function.
//!
//! `BLEU = BP · exp(Σ log p_n / N)` with clipped n-gram precisions `p_n` up to N = 4 and the brevity penalty
//! `BP = exp(1 - r / c)` where the response (c words) is shorter than the reference nearest in length (r words).
//! Words are those of the tokenizer `13a` of WMT's mteval script, case kept; beyond it, each character and each sign of a
//! script without spaces (Chinese, Japanese, Thai) is a word.
//!
//! Smoothing is exponential (NIST): the k-th precision without a match counts as `1 / (2^k · candidates)`. For a single
//! response the order is effective: N is the longest n-gram that the response has at all. For a corpus it is not, so that
//! the values are those of `sacrebleu` in both cases, divided by 100. Without any matching word the score is 0.
//!
//! Accepts any response with words (think blocks dropped), refuses an empty one (`no_answer`); several references
//! (`reference.answer` as a list, `reference.aliases`) count together. At most 4096 words are compared.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::answer::extract::Think;
use crate::answer::text::fixed;
use crate::judges::token_f1::{MAX_WORDS, body, check_references, is_dense, references};
use crate::reward::{Outcome, Reward, RewardError, TaskError, Verdict};
use crate::task::{Response, Task};

/// Longest n-gram.
const ORDER: usize = 4;

/// Settings of the `bleu` reward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BleuConfig {
    /// Compare in lower case. Default false.
    pub lowercase: bool,
    /// Think tags. Default `strip`.
    pub think: Think,
}

/// The `bleu` reward; its score lies in [0, 1].
pub struct Bleu {
    config: BleuConfig,
}

/// The words of the tokenizer `13a`.
fn tokens(text: &str) -> Vec<String> {
    static SYMBOLS: LazyLock<Regex> = LazyLock::new(|| fixed(r"([\{-\~\[-\`\x20-\&\(-\+\:-\@/])"));
    static AFTER: LazyLock<Regex> = LazyLock::new(|| fixed(r"([^0-9])([.,])"));
    static BEFORE: LazyLock<Regex> = LazyLock::new(|| fixed(r"([.,])([^0-9])"));
    static DASH: LazyLock<Regex> = LazyLock::new(|| fixed(r"([0-9])(-)"));
    let plain = text.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    let plain = plain.replace("&quot;", "\"").replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">");
    let mut line = String::from(" ");
    for c in plain.chars() {
        if is_dense(c) || matches!(c as u32, 0x3000..=0x303F | 0xFF00..=0xFFEF) {
            line.extend([' ', c, ' ']);
        } else {
            line.push(c);
        }
    }
    line.push(' ');
    let line = SYMBOLS.replace_all(&line, " $1 ");
    let line = AFTER.replace_all(&line, "$1 $2 ");
    let line = BEFORE.replace_all(&line, " $1 $2");
    let line = DASH.replace_all(&line, "$1 $2 ");
    line.split_whitespace().take(MAX_WORDS).map(str::to_string).collect()
}

fn ngrams(words: &[String], n: usize) -> HashMap<&[String], usize> {
    let mut counts = HashMap::new();
    words.windows(n).for_each(|w| *counts.entry(w).or_default() += 1);
    counts
}

/// What a corpus adds up to: matches and candidates by order, and both lengths.
#[derive(Default)]
struct Counts {
    hits: [usize; ORDER],
    total: [usize; ORDER],
    said: usize,
    wanted: usize,
}

impl Counts {
    fn add(&mut self, said: &str, wanted: &[String]) {
        let said = tokens(said);
        let wanted: Vec<Vec<String>> = wanted.iter().map(|w| tokens(w)).collect();
        self.said += said.len();
        let nearest = wanted.iter().map(Vec::len).min_by_key(|n| (n.abs_diff(said.len()), *n));
        self.wanted += nearest.unwrap_or(0);
        for n in 1..=ORDER {
            let counts: Vec<_> = wanted.iter().map(|w| ngrams(w, n)).collect();
            for (gram, count) in ngrams(&said, n) {
                let most = counts.iter().filter_map(|c| c.get(gram)).max().copied().unwrap_or(0);
                self.hits[n - 1] += count.min(most);
            }
            self.total[n - 1] += (said.len() + 1).saturating_sub(n);
        }
    }

    /// BLEU of n-grams up to `longest`.
    fn score(&self, longest: usize, effective: bool) -> f64 {
        if self.hits[..longest].iter().all(|h| *h == 0) {
            return 0.0;
        }
        let (mut logs, mut order, mut smooth) = (0.0, 0, 1.0);
        for (hits, total) in self.hits[..longest].iter().zip(&self.total) {
            if *total == 0 {
                break;
            }
            order += 1;
            let precision = if *hits == 0 {
                smooth *= 2.0;
                1.0 / (smooth * *total as f64)
            } else {
                *hits as f64 / *total as f64
            };
            logs += precision.ln();
        }
        if !effective && order < longest {
            return 0.0;
        }
        let brevity =
            if self.said < self.wanted { (1.0 - self.wanted as f64 / self.said as f64).exp() } else { 1.0 };
        (brevity * (logs / order as f64).exp()).clamp(0.0, 1.0)
    }
}

/// BLEU of one text against its references, in [0, 1]; effective order.
pub fn sentence_bleu(said: &str, wanted: &[String]) -> f64 {
    let mut counts = Counts::default();
    counts.add(said, wanted);
    counts.score(ORDER, true)
}

/// BLEU of a corpus of texts with the references of each, in [0, 1].
pub fn corpus_bleu<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a [String])>) -> f64 {
    corpus_bleu_orders(pairs)[ORDER - 1]
}

/// BLEU-1 to BLEU-4 of a corpus: with n-grams up to 1, 2, 3 and 4 words.
pub fn corpus_bleu_orders<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a [String])>) -> [f64; ORDER] {
    let mut counts = Counts::default();
    pairs.into_iter().for_each(|(said, wanted)| counts.add(said, wanted));
    std::array::from_fn(|i| counts.score(i + 1, false))
}

impl Bleu {
    /// The reward with these settings.
    pub fn new(config: BleuConfig) -> Self {
        Self { config }
    }
}

impl Reward for Bleu {
    fn name(&self) -> &str {
        "bleu"
    }

    fn score(&self, task: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        if check_references("bleu", task).is_err() {
            return Ok(Outcome::of(Verdict::Unverifiable, "bleu", "the reference has no answer"));
        }
        let body = match body(response.text, self.config.think, "bleu") {
            Ok(body) => body,
            Err(outcome) => return Ok(*outcome),
        };
        let fold = |s: &str| if self.config.lowercase { s.to_lowercase() } else { s.to_string() };
        let wanted: Vec<String> = references(task).iter().map(|r| fold(r)).collect();
        let score = sentence_bleu(&fold(body.trim()), &wanted);
        // The mean of logarithms of 1 may miss 1 by a rounding.
        let score = if score > 1.0 - 1e-12 { 1.0 } else { score };
        Ok(Outcome::graded(score, "bleu", format!("BLEU {score:.3}")).with_work(response.text.len() as u64))
    }

    fn gold(&self, task: &Task) -> Option<String> {
        references(task).into_iter().next()
    }

    fn check_task(&self, task: &Task) -> Result<(), TaskError> {
        check_references("bleu", task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let refs = |s: &str| vec![s.to_string()];
        assert!((sentence_bleu("the cat sat here", &refs("the cat sat here")) - 1.0).abs() < 1e-12);
        assert_eq!(sentence_bleu("x y", &refs("a b")), 0.0);
        // p = 2/2, 1/1 and a brevity penalty of exp(1 - 4/2).
        assert!((sentence_bleu("a b", &refs("a b c d")) - (-1.0f64).exp()).abs() < 1e-12);
        // p = 5/7, 3/6, 2/5, 1/4 of characters.
        let chinese = sentence_bleu("我喜欢吃香蕉。", &refs("我喜欢吃苹果。"));
        assert!((chinese - (5.0f64 / 7.0 * 0.5 * 0.4 * 0.25).powf(0.25)).abs() < 1e-12);
        assert_eq!(tokens("用Python 3写，好"), ["用", "Python", "3", "写", "，", "好"]);
        assert_eq!(
            tokens("Hi, you: 3.5-4 (ok)."),
            ["Hi", ",", "you", ":", "3.5", "-", "4", "(", "ok", ")", "."]
        );
    }
}
