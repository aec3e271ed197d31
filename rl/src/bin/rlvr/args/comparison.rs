//! What is typed after `rlvr compare` and `rlvr eval report`.

use clap::{Args, ValueEnum};
use rlvr::results;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rlvr compare evals/before evals/after
  rlvr compare evals/before warmup=evals/warmup-1,evals/warmup-2 rl=evals/rl-1,evals/rl-2      seeds behind commas
  rlvr compare --a evals/before-* --b evals/after-*                                            seeds by the shell
  rlvr eval compare evals/before evals/after --format markdown                                 the same command
  rlvr compare runs/a runs/b                                                                   training runs

Arms are directories that rlvr eval wrote, or several of them that differ in the seed only; the first arm is the base A,
every other one is compared with it over the items that both have.

The difference is B - A. For one completion an item and one seed an arm its interval is Tango's score interval and p is
McNemar's exact test; for several completions or with --cluster both are a bootstrap over questions or clusters. With
several seeds the means over seeds are compared in pairs of questions, and the spread of the seeds enters interval and p
(t-test, variance over questions and seeds); an arm with one seed counts as fixed. Where all items differ alike, often by
nothing, the interval is Tango's. With one seed an arm nothing is said about other seeds.

Training runs are compared by the last evaluation that each recorded. They keep no answers of single items, so the test is
the unpaired one of two proportions, with Newcombe's interval, which shows less than pairs: rlvr eval run for both policies
gives those.

p (Holm) is corrected for all rows of the table; the conclusion is \"no significant difference\" unless it is below 0.05.
Evaluations of different versions of a task or of a verifier are refused.")]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true).args(["arms", "a", "b"]))]
pub struct CompareArgs {
    /// The arms: the base, then one or more others
    #[arg(value_name = "[NAME=]DIR[,DIR…]", num_args = 2.., conflicts_with_all = ["a", "b"])]
    pub arms: Vec<String>,
    /// The seeds of the base
    #[arg(long, value_name = "DIR", num_args = 1.., requires = "b")]
    pub a: Vec<PathBuf>,
    /// The seeds of the other arm
    #[arg(long, value_name = "DIR", num_args = 1.., requires = "a")]
    pub b: Vec<PathBuf>,
    /// Field of the samples, or of their `meta`, whose values group questions that depend on each other, such as a passage
    #[arg(long, value_name = "FIELD")]
    pub cluster: Option<String>,
    /// Difference in accuracy for which the number of items needed is told
    #[arg(long, value_name = "X", default_value_t = 0.02, value_parser = share)]
    pub difference: f64,
    /// Compare evaluations of different versions of a task or verifier all the same
    #[arg(long)]
    pub force: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t = CompareFormat::Table)]
    pub format: CompareFormat,
    /// Print JSON, as --format json
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
}

/// How `rlvr compare` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CompareFormat {
    /// Aligned columns
    Table,
    /// A Markdown table
    Markdown,
    /// One JSON object
    Json,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rlvr eval report evals/before evals/warmup evals/rl
  rlvr eval report evals/* --format markdown --out report.md
  rlvr eval report evals/open --metrics bleu4,rougeL,cider --references answers.jsonl
  rlvr eval report evals/new --baseline evals/released --tolerance 0.02       exit code 1 on a regression

Intervals are Wilson's for one completion of independent questions, otherwise a bootstrap over questions or clusters. The
best accuracy of a task is marked with * only when it is significantly above every other one (paired tests as in rlvr
compare, Holm-corrected over the others). With --baseline a task has regressed when its accuracy is lower by more than
--tolerance and the paired test, Holm-corrected over all tasks and evaluations, gives p < 0.05, or when it is missing.

Text metrics compare each completion, after its think block, with the references: the sample's `gold`, or rows {\"id\",
\"task\"?, \"answer\": text or list} of --references. bleu1 … bleu4 and cider are those of the whole task (CIDEr-D, up to 10),
rouge1, rouge2, rougeL, token_f1 and meteor (exact and stem matches, without synonyms) means over completions.")]
pub struct ReportArgs {
    /// Directories that rlvr eval wrote; NAME=DIR gives one a name
    #[arg(value_name = "[NAME=]DIR", required = true)]
    pub evaluations: Vec<String>,
    /// Text metrics to add
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_enum)]
    pub metrics: Vec<TextMetric>,
    /// JSON Lines file with the references of --metrics
    #[arg(long, value_name = "FILE", requires = "metrics")]
    pub references: Option<PathBuf>,
    /// Fail when an evaluation is significantly worse than this one
    #[arg(long, value_name = "DIR")]
    pub baseline: Option<PathBuf>,
    /// Loss in accuracy that is no regression
    #[arg(long, value_name = "X", default_value_t = 0.0, value_parser = share_or_zero, requires = "baseline")]
    pub tolerance: f64,
    /// Field of the samples, or of their `meta`, whose values group questions that depend on each other, such as a passage
    #[arg(long, value_name = "FIELD")]
    pub cluster: Option<String>,
    /// Compare different versions of a task or verifier all the same, and replace a file that exists
    #[arg(long)]
    pub force: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
    pub format: ReportFormat,
    /// Write here instead of stdout
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// How `rlvr eval report` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// Aligned columns
    Table,
    /// Markdown tables
    Markdown,
    /// Comma-separated values, one row a task and evaluation
    Csv,
    /// One JSON object
    Json,
}

/// A metric of texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TextMetric {
    /// BLEU of single words
    Bleu1,
    /// BLEU up to pairs of words
    Bleu2,
    /// BLEU up to triples
    Bleu3,
    /// BLEU up to four words
    Bleu4,
    /// ROUGE-1 F1
    Rouge1,
    /// ROUGE-2 F1
    Rouge2,
    /// ROUGE-L F1
    #[value(name = "rougeL")]
    RougeL,
    /// F1 of words
    #[value(name = "token_f1")]
    TokenF1,
    /// Exact and stem matches with a penalty for order
    Meteor,
    /// CIDEr-D
    Cider,
}

impl From<TextMetric> for results::TextMetric {
    fn from(metric: TextMetric) -> Self {
        match metric {
            TextMetric::Bleu1 => Self::Bleu1,
            TextMetric::Bleu2 => Self::Bleu2,
            TextMetric::Bleu3 => Self::Bleu3,
            TextMetric::Bleu4 => Self::Bleu4,
            TextMetric::Rouge1 => Self::Rouge1,
            TextMetric::Rouge2 => Self::Rouge2,
            TextMetric::RougeL => Self::RougeL,
            TextMetric::TokenF1 => Self::TokenF1,
            TextMetric::Meteor => Self::Meteor,
            TextMetric::Cider => Self::Cider,
        }
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(x) if x > 0.0 && x <= 1.0 => Ok(x),
        Ok(_) => Err("must be above 0 and at most 1 (0.02 is two points)".into()),
        Err(_) => Err("must be a number".into()),
    }
}

/// A number from 0 to 1.
pub fn share_or_zero(text: &str) -> Result<f64, String> {
    if text.parse() == Ok(0.0) { Ok(0.0) } else { share(text) }
}
