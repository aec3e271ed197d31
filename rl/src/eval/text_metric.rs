//! Metrics of texts: overlap of completions with what would be right.

use rlvr_rewards::{bleu, cider, extract, meteor, rouge, token_f1};
use serde::{Deserialize, Serialize};

/// A metric of texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextMetric {
    /// BLEU of single words, of the whole task.
    Bleu1,
    /// BLEU up to pairs of words.
    Bleu2,
    /// BLEU up to triples.
    Bleu3,
    /// BLEU up to four words.
    Bleu4,
    /// ROUGE-1 F1, mean over completions.
    Rouge1,
    /// ROUGE-2 F1.
    Rouge2,
    /// ROUGE-L F1.
    #[serde(rename = "rougeL")]
    RougeL,
    /// F1 of words, mean over completions.
    TokenF1,
    /// METEOR with exact and stem matches, mean over completions.
    Meteor,
    /// CIDEr-D, up to 10.
    Cider,
}

impl TextMetric {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bleu1 => "bleu1",
            Self::Bleu2 => "bleu2",
            Self::Bleu3 => "bleu3",
            Self::Bleu4 => "bleu4",
            Self::Rouge1 => "rouge1",
            Self::Rouge2 => "rouge2",
            Self::RougeL => "rougeL",
            Self::TokenF1 => "token_f1",
            Self::Meteor => "meteor",
            Self::Cider => "cider",
        }
    }

    /// Its value over completions, each with its references. What is still thinking when its tokens end has said nothing.
    pub fn value(self, pairs: &[(&str, &[String])]) -> f64 {
        let said = |text| extract::strip_think(text, false).unwrap_or_default();
        let pairs = || pairs.iter().map(|(text, wanted)| (said(text), *wanted));
        match self {
            Self::Bleu1 => bleu::corpus_bleu_orders(pairs())[0],
            Self::Bleu2 => bleu::corpus_bleu_orders(pairs())[1],
            Self::Bleu3 => bleu::corpus_bleu_orders(pairs())[2],
            Self::Bleu4 => bleu::corpus_bleu_orders(pairs())[3],
            Self::Rouge1 => rouge::corpus_rouge(pairs())[0],
            Self::Rouge2 => rouge::corpus_rouge(pairs())[1],
            Self::RougeL => rouge::corpus_rouge(pairs())[2],
            Self::TokenF1 => token_f1::corpus_token_f1(pairs()),
            Self::Meteor => meteor::corpus_meteor(pairs()),
            Self::Cider => cider::corpus_cider(pairs()).mean,
        }
    }
}
