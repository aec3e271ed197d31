//! What is typed after `rlvr data`, without `generate`.

use super::EngineArgs;
use clap::Args;
use rlvr::config::{DeviceConfig, Dtype};
use rlvr::curate::filter::{Pattern, Values};
use rlvr::curate::pictures::{By, DISTANCE};
use rlvr::curate::shapes::Shape;
use rlvr::curate::solve::Pick;
use rlvr::curate::split::PartShare;
use rlvr::curate::tables::FileKind;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Where a step writes.
#[derive(Debug, Args)]
pub struct OutArgs {
    /// Write the rows here, - for stdout; FILE.manifest.json gets the history
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Write the rows that are left out here, with the reason for each
    #[arg(long, value_name = "FILE")]
    pub dropped: Option<PathBuf>,
    /// Replace files that exist
    #[arg(long)]
    pub force: bool,
    /// Write a file without rows when none stays, instead of failing
    #[arg(long)]
    pub allow_empty: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rlvr data import gsm8k/train.jsonl --licence MIT --out gsm8k.jsonl
  rlvr data import medmcqa.parquet pubmedqa.json --out medical.jsonl
  rlvr data import trivia.csv --question q --answer a --options a1,a2,a3,a4 --label-base 1 --out trivia.jsonl
  rlvr data import openai/gsm8k --hub-file main/train-00000-of-00001.parquet --out gsm8k.jsonl

Known shapes: gsm8k, math, medqa, medmcqa, pubmedqa, mmlu (as published or with \"options\" and a letter), task; each row's
is guessed unless --shape names it. Other fields of a row go to \"meta\". Rows without an id get a hash of their content.
Rows out: {\"id\", \"prompt\", \"question\", \"context\"?, \"reference\": {\"answer\", \"options\"?}, \"completion\"?, \"meta\"}.
\"prompt\" holds context, question and lettered options, and no instruction: add that in the data source's template.
Hashes of ids and contents are in memory, 20 to 60 bytes a row.")]
pub struct ImportArgs {
    /// Files: .jsonl, .json, .csv, .tsv, .parquet; with --hub-file one data set of the hub, owner/name
    #[arg(required = true, value_name = "FILE")]
    pub inputs: Vec<PathBuf>,
    /// Download this file of the data set owner/name and import it
    #[arg(long, value_name = "PATH")]
    pub hub_file: Option<String>,
    /// What the files are, where their names do not say
    #[arg(long, value_name = "KIND", value_parser = file_kind)]
    pub kind: Option<FileKind>,
    /// The shape of the rows
    #[arg(long, value_name = "NAME", value_parser = shape, conflicts_with = "question")]
    pub shape: Option<Shape>,
    /// Field of the question; dots lead into objects
    #[arg(long, value_name = "FIELD", requires = "answer")]
    pub question: Option<String>,
    /// Field of the answer: text, or the label, index or text of an option
    #[arg(long, value_name = "FIELD", requires = "question")]
    pub answer: Option<String>,
    /// Field with the options, or one field an option
    #[arg(long, value_name = "FIELD", value_delimiter = ',', requires = "question")]
    pub options: Vec<String>,
    /// Field of what is read before the question
    #[arg(long, value_name = "FIELD", requires = "question")]
    pub context: Option<String>,
    /// Field of a worked solution
    #[arg(long, value_name = "FIELD", requires = "question")]
    pub completion: Option<String>,
    /// Take what follows the last TEXT of the answer
    #[arg(long, value_name = "TEXT", requires = "question")]
    pub answer_after: Option<String>,
    /// Field of the id; '' makes ids from the content
    #[arg(long, value_name = "FIELD")]
    pub id: Option<String>,
    /// Index of the first option
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=1))]
    pub label_base: u8,
    /// Put this before every id
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub prefix: String,
    /// Licence of the files, for the manifest
    #[arg(long, value_name = "NAME")]
    pub licence: Option<String>,
    /// Leave out rows that cannot be read instead of stopping at the first
    #[arg(long)]
    pub skip: bool,
    #[command(flatten)]
    pub out: OutArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rlvr data validate tasks.jsonl
  rlvr data validate medical.jsonl --reward choice

Checks id, prompt, reference and completion of every row, that ids occur once, and with a reward that it can use every
reference and accepts it as an answer. Problems go to stdout as FILE:LINE: what; exit code 1 if there are any. Hashes of the
ids are in memory, 20 to 60 bytes a row.")]
pub struct ValidateArgs {
    /// JSON Lines file of tasks
    pub input: PathBuf,
    /// A reward with its defaults that must be able to judge every row
    #[arg(long, value_name = "KIND", conflicts_with = "config")]
    pub reward: Option<String>,
    /// The same from a TOML file with a reward table
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Problems to print
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rlvr data stats tasks.jsonl --by meta.subject
  rlvr data stats tasks.jsonl --json | jq .answers

Hashes of ids, questions and answers are in memory, 30 to 90 bytes a row.")]
pub struct StatsArgs {
    /// JSON Lines file
    pub input: PathBuf,
    /// Count the rows by the value of this field. May be repeated
    #[arg(long, value_name = "FIELD")]
    pub by: Vec<String>,
    /// Values of a field to print
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub top: usize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rlvr data dedup tasks.jsonl --out unique.jsonl --dropped duplicates.jsonl
  rlvr data dedup tasks.jsonl --exact --out unique.jsonl
  rlvr data dedup tasks.jsonl --on id --exact --out unique.jsonl

The first of equal rows stays, in order. Compared are context, question and options in normal form (lower case, single
spaces, no punctuation around words), or the fields of --on. Near-duplicates are proposed by MinHash and removed when the
Jaccard similarity of their runs of 5 characters is at least the threshold. Tasks that differ in a number only are
near-duplicates, too: use --exact for generated tasks. Rows with pictures are duplicates only of rows about the same
pictures (their pixels, with --exact, or nearly the same ones); --by image keeps one row of each picture.")]
pub struct DedupArgs {
    /// JSON Lines file
    pub input: PathBuf,
    #[command(flatten)]
    pub out: OutArgs,
    /// Similarity from which rows are near-duplicates, above 0, at most 1
    #[arg(long, value_name = "J", default_value_t = 0.8, conflicts_with = "exact")]
    pub threshold: f64,
    /// Remove exact duplicates only
    #[arg(long)]
    pub exact: bool,
    /// Compare this field. May be repeated [default: context, question, options]
    #[arg(long, value_name = "FIELD", value_delimiter = ',')]
    pub on: Vec<String>,
    /// Remove a row only if it has the same answer as the one that stays
    #[arg(long)]
    pub same_answer: bool,
    /// Compare rows by what they ask of which pictures, or by their pictures alone: row, image
    #[arg(long, value_name = "WHAT", default_value = "row", value_parser = by)]
    pub by: By,
    /// Bits of 256 in which pictures may differ that are nearly the same; at most 32
    #[arg(long, value_name = "BITS", default_value_t = DISTANCE)]
    pub image_distance: u32,
    /// Seed of the hash functions
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rlvr data decontaminate train.jsonl --against medqa/test.jsonl --against pubmedqa/pqal.jsonl \\
      --against-where \"split == 'test'\" --out clean.jsonl --dropped contaminated.jsonl
  rlvr data decontaminate vqa.jsonl --against vqa_test.jsonl --by image --out clean.jsonl

A row goes when a test item asks the same (question and options in any order, or equal fields --on), or when both have
the same run of --ngram words; with pictures only where these are the same, or nearly so, too. --by image leaves out every
row about a picture of the test items. Test files may be tasks or data sets as published. --dropped names the test items.")]
pub struct DecontaminateArgs {
    /// JSON Lines file
    pub input: PathBuf,
    /// JSON Lines file of test items. May be repeated
    #[arg(long, value_name = "FILE", required = true)]
    pub against: Vec<PathBuf>,
    /// Condition on the test items, such as split == 'test'
    #[arg(long, value_name = "EXPR")]
    pub against_where: Option<String>,
    #[command(flatten)]
    pub out: OutArgs,
    /// Words of a run; 0 compares exactly only
    #[arg(long, value_name = "N", default_value_t = 13)]
    pub ngram: usize,
    /// Ignore runs that more test items have than this
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub common: usize,
    /// Share of a test item's runs that a row must have; 0: one run is enough
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    pub min_share: f64,
    /// Compare this field exactly. May be repeated [default: question and options]
    #[arg(long, value_name = "FIELD", value_delimiter = ',')]
    pub on: Vec<String>,
    /// Compare rows by what they ask of which pictures, or by their pictures alone: row, image
    #[arg(long, value_name = "WHAT", default_value = "row", value_parser = by)]
    pub by: By,
    /// Bits of 256 in which pictures may differ that are nearly the same; at most 32
    #[arg(long, value_name = "BITS", default_value_t = DISTANCE)]
    pub image_distance: u32,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rlvr data filter tasks.jsonl --field meta.subject=Anatomy,Physiology --out some.jsonl
  rlvr data filter tasks.jsonl --where \"meta.split == 'train'\" --out train.jsonl
  rlvr data filter vqa.jsonl --min-side 84 --out large.jsonl
  rlvr data filter tasks.jsonl --not-match 'question=(?i)figure|image' --max-words 300 --min-options 4 --out some.jsonl

A row stays when every condition holds; the first that does not is its reason. Lengths are in words of context, question
and options; a field that a row lacks has the value null, and is an error in --where, unless it asks \"x is defined\".")]
pub struct FilterArgs {
    /// JSON Lines file
    pub input: PathBuf,
    #[command(flatten)]
    pub out: OutArgs,
    /// Values that a field may have. May be repeated
    #[arg(long, value_name = "FIELD=A,B", value_parser = values)]
    pub field: Vec<Values>,
    /// Values that a field may not have. May be repeated
    #[arg(long, value_name = "FIELD=A,B", value_parser = values)]
    pub not_field: Vec<Values>,
    /// A regular expression that must match in a field. May be repeated
    #[arg(long = "match", value_name = "FIELD=REGEX", value_parser = pattern)]
    pub matches: Vec<Pattern>,
    /// A regular expression that may not match in a field. May be repeated
    #[arg(long = "not-match", value_name = "FIELD=REGEX", value_parser = pattern)]
    pub not_matches: Vec<Pattern>,
    /// An expression over the fields, as `filter` of a data source
    #[arg(long = "where", value_name = "EXPR")]
    pub condition: Option<String>,
    /// Fewest words of what is asked
    #[arg(long, value_name = "N")]
    pub min_words: Option<usize>,
    /// Most words of what is asked
    #[arg(long, value_name = "N")]
    pub max_words: Option<usize>,
    /// Fewest words of the answer
    #[arg(long, value_name = "N")]
    pub min_answer_words: Option<usize>,
    /// Most words of the answer
    #[arg(long, value_name = "N")]
    pub max_answer_words: Option<usize>,
    /// Fewest options
    #[arg(long, value_name = "N")]
    pub min_options: Option<usize>,
    /// Most options
    #[arg(long, value_name = "N")]
    pub max_options: Option<usize>,
    /// Fewest pixels of the smaller side of each picture
    #[arg(long, value_name = "PIXELS")]
    pub min_side: Option<u32>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rlvr data balance tasks.jsonl --field meta.type --out balanced.jsonl
  rlvr data balance tasks.jsonl --field meta.subject --values Anatomy,Surgery --per-value 200 --out balanced.jsonl

A hash of the id decides which rows of a value stay; they keep their order.")]
pub struct BalanceArgs {
    /// JSON Lines file
    pub input: PathBuf,
    #[command(flatten)]
    pub out: OutArgs,
    /// The field
    #[arg(long, value_name = "FIELD")]
    pub field: String,
    /// Values that take part; the rows of others go [default: all]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub values: Vec<String>,
    /// Rows a value at most [default: as many as the rarest has]
    #[arg(long, value_name = "N")]
    pub per_value: Option<u64>,
    /// Seed of the choice
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rlvr data cap tasks.jsonl --field meta.type --values yes_no_maybe --max 5% --out capped.jsonl
  rlvr data cap tasks.jsonl --field meta.subject --max 500 --out capped.jsonl
  rlvr data cap tasks.jsonl --max 500 --seed 1 --out some.jsonl

A share is of the rows that are left. --values limits these values together and lets all others stay; without it each
value is limited by itself. Without --field all rows are limited together, a share being one of the rows read: a random
choice. A hash of the id, keyed by the seed, decides which rows stay; they keep their order.")]
pub struct CapArgs {
    /// JSON Lines file
    pub input: PathBuf,
    #[command(flatten)]
    pub out: OutArgs,
    /// The field [default: all rows are limited together]
    #[arg(long, value_name = "FIELD")]
    pub field: Option<String>,
    /// Values to limit, together [default: each by itself]
    #[arg(long, value_name = "A,B", value_delimiter = ',', requires = "field")]
    pub values: Vec<String>,
    /// Rows, or with % the share of the output (without --field: of the input)
    #[arg(long, value_name = "N|P%", value_parser = limit)]
    pub max: Limit,
    /// Seed of the choice
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// A number of rows or a share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    Rows(u64),
    Share(f64),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rlvr data split tasks.jsonl --parts train=0.9,heldout=0.1 --out-dir split
  rlvr data split vqa.jsonl --parts train=0.8,test=0.2 --group image --out-dir split

Writes DIR/train.jsonl and so on. A hash of the id, or of the group, decides: no group is in two parts, and rows that are
added later move nothing. Shares are met on average.")]
pub struct SplitArgs {
    /// JSON Lines file
    pub input: PathBuf,
    /// Parts with their shares, which add up to 1
    #[arg(long, value_name = "NAME=SHARE", value_delimiter = ',', required = true, value_parser = part)]
    pub parts: Vec<PartShare>,
    /// Field whose values stay together
    #[arg(long, value_name = "FIELD")]
    pub group: Option<String>,
    /// Directory of the parts
    #[arg(long, value_name = "DIR")]
    pub out_dir: PathBuf,
    /// Seed of the split
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Replace files that exist
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rlvr data choice-to-open medical.jsonl --out open.jsonl --dropped refused.jsonl
  rlvr data choice-to-open medical.jsonl --share 0.5 --keep-refused --out mixed.jsonl

The text of the right option becomes the reference, with aliases; kind = \"any_of\" or \"exact\" judges it. Refused are
questions whose options are part of them (all of the above, both A and B), whose stem is negated or compares the options
(except, which of the following, best), and whose answer is no word or phrase. Rows without options stay as they are.")]
pub struct ChoiceToOpenArgs {
    /// JSON Lines file of tasks
    pub input: PathBuf,
    #[command(flatten)]
    pub out: OutArgs,
    /// Most words of an answer
    #[arg(long, value_name = "N", default_value_t = 6)]
    pub max_answer_words: usize,
    /// Share of the suitable questions to rewrite; the others stay
    #[arg(long, value_name = "SHARE", default_value = "1", value_parser = share)]
    pub share: f64,
    /// Keep what is refused as it is
    #[arg(long)]
    pub keep_refused: bool,
    /// Seed of the choice
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// Where completions come from, and who judges them; the same keys in a step of `data run`.
#[derive(Debug, Args, Deserialize)]
#[serde(default)]
#[command(group = clap::ArgGroup::new("judge").required(true).args(["reward", "config"]))]
#[command(group = clap::ArgGroup::new("source").required(true).args(["policy", "completions"]))]
pub struct SolveArgs {
    /// Hugging Face folder, .gguf file, run directory, or hub id owner/name
    #[arg(long, value_name = "PATH")]
    pub policy: Option<String>,
    /// Completions that exist instead: rows {"id", "completion"}, several an id
    #[arg(long, value_name = "FILE")]
    pub completions: Option<PathBuf>,
    /// Keep what is sampled here and, when the file is there, go on where it ends
    #[arg(long, value_name = "FILE", conflicts_with = "completions")]
    pub journal: Option<PathBuf>,
    /// auto, cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: DeviceConfig,
    /// Type of the operands of matrix products: f32, bf16
    #[arg(long, value_name = "TYPE", default_value = "f32", value_parser = super::dtype)]
    pub dtype: Dtype,
    // A table in a file: flattened twice, its names would hide those around it.
    #[command(flatten)]
    pub engine: EngineArgs,
    /// A reward with its defaults
    #[arg(long, value_name = "KIND")]
    pub reward: Option<String>,
    /// TOML file that is a reward table or has a [rewards] table
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Completions a task
    #[arg(long, value_name = "K", default_value_t = SAMPLES, value_parser = clap::value_parser!(u32).range(1..))]
    pub samples: u32,
    /// Divides the logits, above 0
    #[arg(long, value_name = "T", default_value_t = TEMPERATURE)]
    pub temperature: f64,
    /// Longest completion in tokens
    #[arg(long, value_name = "N", default_value_t = MAX_TOKENS)]
    pub max_tokens: usize,
    /// A text that ends a completion and stays part of it. May be repeated
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub stop: Vec<String>,
    /// A system message before every prompt
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Text after every prompt
    #[arg(long, value_name = "TEXT")]
    pub instruction: Option<String>,
    /// Give prompts as they are, without the chat template
    #[arg(long)]
    pub raw: bool,
    /// Seed of the samples
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// Completions a task without `--samples`.
const SAMPLES: u32 = 8;
const TEMPERATURE: f64 = 1.0;
/// Tokens of a completion without `--max-tokens`.
const MAX_TOKENS: usize = 512;

impl Default for SolveArgs {
    fn default() -> Self {
        Self {
            policy: None,
            completions: None,
            journal: None,
            device: DeviceConfig::Auto,
            dtype: Dtype::default(),
            engine: EngineArgs::default(),
            reward: None,
            config: None,
            samples: SAMPLES,
            temperature: TEMPERATURE,
            max_tokens: MAX_TOKENS,
            stop: Vec::new(),
            system: None,
            instruction: None,
            raw: false,
            seed: 0,
        }
    }
}

impl SolveArgs {
    /// Resolves relative paths against the directory of the file that names them. A policy that is not there is a hub
    /// id.
    pub fn resolve_paths(&mut self, base: &Path) {
        for path in [&mut self.completions, &mut self.journal, &mut self.config].into_iter().flatten() {
            *path = base.join(&*path);
        }
        if let Some(policy) = &mut self.policy {
            let beside = base.join(&*policy);
            if beside.exists() {
                *policy = beside.display().to_string();
            }
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rlvr data pass-rate tasks.jsonl --policy model/ --reward choice --instruction 'End with \"The answer is X\".' \\
      --samples 8 --journal samples.jsonl --out learnable.jsonl
  rlvr data pass-rate tasks.jsonl --completions samples.jsonl --reward math --low 0.1 --high 0.9 --out learnable.jsonl

Keeps the tasks that are solved between --low and --high of the time; meta.pass_rate has the rate. What cannot be judged
does not count.")]
pub struct PassRateArgs {
    /// JSON Lines file of tasks
    pub input: PathBuf,
    #[command(flatten)]
    pub out: OutArgs,
    #[command(flatten)]
    pub step: PassRateStep,
}

/// What `pass-rate` does, on the command line and in a file.
#[derive(Debug, Args, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassRateStep {
    #[command(flatten)]
    #[serde(flatten)]
    pub solve: SolveArgs,
    /// Lowest share of correct completions
    #[arg(long, value_name = "SHARE", default_value = "20%", value_parser = share)]
    #[serde(default = "low")]
    pub low: f64,
    /// Highest share
    #[arg(long, value_name = "SHARE", default_value = "80%", value_parser = share)]
    #[serde(default = "high")]
    pub high: f64,
}

fn low() -> f64 {
    0.2
}

fn high() -> f64 {
    0.8
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  rlvr data rejection tasks.jsonl --policy model/ --config rewards.toml --samples 16 --per-task 2 --out sft.jsonl

Rows out: {\"id\", \"prompt\", \"completion\", \"reference\", \"meta\"}: a data source of kind \"jsonl\" with
completion = \"{{ completion }}\" gives them to a stage of kind \"sft\". Only completions whose verdict is correct and that
were not cut off become rows, equal ones once; prompts carry --system and --instruction.")]
pub struct RejectionArgs {
    /// JSON Lines file of tasks
    pub input: PathBuf,
    #[command(flatten)]
    pub out: OutArgs,
    #[command(flatten)]
    pub step: RejectionStep,
}

/// What `rejection` does, on the command line and in a file.
#[derive(Debug, Args, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RejectionStep {
    #[command(flatten)]
    #[serde(flatten)]
    pub solve: SolveArgs,
    /// Solutions a task at most
    #[arg(long, value_name = "M", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    #[serde(default = "per_task")]
    pub per_task: u32,
    /// Which of them: shortest, first or random
    #[arg(long, value_name = "WHICH", default_value = "shortest", value_parser = pick)]
    #[serde(default = "shortest")]
    pub pick: Pick,
}

fn per_task() -> u32 {
    1
}

fn shortest() -> Pick {
    Pick::Shortest
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  rlvr data run curation.toml

curation.toml, with paths relative to it:
  inputs = [\"medmcqa/dev.jsonl\", \"pubmedqa/pqal.jsonl\"]
  out_dir = \"curated\"
  [[step]]
  kind = \"import\"
  licence = \"MIT\"
  [[step]]
  kind = \"filter\"
  where = \"meta.split == 'train'\"
  [[step]]
  kind = \"decontaminate\"
  against = [\"medqa/test.jsonl\"]
  [[step]]
  kind = \"cap\"
  rows = 2000
  [[step]]
  kind = \"pass_rate\"
  policy = \"model\"
  reward = \"choice\"
  journal = \"curated/samples.jsonl\"
  [[step]]
  kind = \"split\"
  parts = [{ name = \"train\", share = 0.9 }, { name = \"heldout\", share = 0.1 }]
Kinds: import, filter, dedup, decontaminate, balance, cap, choice_to_open, pass_rate, rejection, split; their keys are the
options of the commands with underscores (cap: rows or share for --max; import: the fields in a table reading;
decontaminate: those of the comparison in a table settings). Step 2 writes out_dir/02-filter.jsonl and
02-filter.dropped.jsonl, and so on; with a journal, a step that asks a policy goes on where it was interrupted.")]
pub struct RunArgs {
    /// The TOML file
    pub config: PathBuf,
    /// Replace files that exist
    #[arg(long)]
    pub force: bool,
    /// Write files without rows, too
    #[arg(long)]
    pub allow_empty: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  rlvr data manifest clean.jsonl

Prints a line a step: rows in and out, what was dropped and why, and whether the file is still what was written.")]
pub struct ManifestArgs {
    /// A file that rlvr data wrote
    pub file: PathBuf,
}

fn file_kind(text: &str) -> Result<FileKind, String> {
    let known = FileKind::of(format!("x.{text}").as_ref());
    known.ok_or_else(|| "must be jsonl, json, csv, tsv or parquet".into())
}

fn shape(text: &str) -> Result<Shape, String> {
    let names: Vec<&str> = Shape::ALL.iter().map(|(name, _)| *name).collect();
    let found = Shape::ALL.iter().find(|(name, _)| *name == text).map(|(_, shape)| *shape);
    let near = crate::input::nearest(text, names.iter().copied());
    let near = near.map_or(String::new(), |near| format!(", did you mean {near}?"));
    found.ok_or_else(|| format!("no known shape{near} (known: {})", names.join(", ")))
}

fn pick(text: &str) -> Result<Pick, String> {
    match text {
        "shortest" => Ok(Pick::Shortest),
        "first" => Ok(Pick::First),
        "random" => Ok(Pick::Random),
        _ => Err("must be shortest, first or random".into()),
    }
}

/// `0.05` or `5%`.
fn share(text: &str) -> Result<f64, String> {
    let (number, factor) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 0.01));
    let number: f64 = number.trim().parse().map_err(|_| "must be a share such as 0.05 or 5%".to_owned())?;
    let share = number * factor;
    if (0.0..=1.0).contains(&share) {
        Ok(share)
    } else {
        Err("must lie between 0 and 1 (or 0% and 100%)".into())
    }
}

fn by(text: &str) -> Result<By, String> {
    match text {
        "row" => Ok(By::Row),
        "image" => Ok(By::Image),
        _ => Err("must be row or image".into()),
    }
}

fn limit(text: &str) -> Result<Limit, String> {
    match text.parse() {
        Ok(rows) => Ok(Limit::Rows(rows)),
        Err(_) if text.ends_with('%') => share(text).map(Limit::Share),
        Err(_) => Err("must be a number of rows, or a share such as 5%".into()),
    }
}

fn field_and<'a>(text: &'a str, example: &str) -> Result<(&'a str, &'a str), String> {
    text.split_once('=')
        .filter(|(field, _)| !field.is_empty())
        .ok_or_else(|| format!("must look like {example}"))
}

fn values(text: &str) -> Result<Values, String> {
    let (field, values) = field_and(text, "meta.subject=Anatomy,Surgery")?;
    Ok(Values { field: field.into(), values: values.split(',').map(str::to_owned).collect() })
}

fn pattern(text: &str) -> Result<Pattern, String> {
    let (field, pattern) = field_and(text, "question=(?i)figure")?;
    Ok(Pattern { field: field.into(), pattern: pattern.into() })
}

fn part(text: &str) -> Result<PartShare, String> {
    let (name, text) = field_and(text, "train=0.9")?;
    Ok(PartShare { name: name.into(), share: share(text)? })
}
