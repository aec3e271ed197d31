//! What is typed after `rlvr eval`.

use crate::args::comparison::share_or_zero;
use crate::args::{EngineArgs, PolicyArgs, positive};
use clap::{Args, ValueEnum};
use rlvr::eval::{Continuation, ImageArm, OpenSettings};
use std::path::PathBuf;

/// Which benchmarks, and where their data is.
#[derive(Debug, Args)]
pub struct TaskArgs {
    /// Benchmarks: built-in names, definitions (.toml) or JSON Lines files
    #[arg(long, value_name = "NAME|FILE", required = true, value_delimiter = ',')]
    pub tasks: Vec<String>,
    /// Where the benchmarks find their files
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub data_dir: PathBuf,
    /// Fetch files that are not there, where the definition says from where
    #[arg(long)]
    pub download: bool,
    /// How JSON Lines files are judged, not definitions [default: choice where rows have options, else math]
    #[arg(long, value_name = "KIND")]
    pub reward: Option<String>,
    /// Only the first N items of each
    #[arg(long, value_name = "N", value_parser = positive)]
    pub limit: Option<usize>,
    #[command(flatten)]
    pub arms: ArmArgs,
}

/// What is changed about the items.
#[derive(Debug, Args)]
pub struct ArmArgs {
    /// Control: put the options in another order, by this seed
    #[arg(long, value_name = "SEED")]
    pub shuffle_options: Option<u64>,
    /// Control: leave out the context, or the question where there is no context
    #[arg(long)]
    pub no_context: bool,
    /// Solved examples before each question, instead of the definition's number
    #[arg(long, value_name = "N")]
    pub few_shot: Option<usize>,
    /// System message, instead of the definition's
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
}

impl TaskArgs {
    /// How definitions are opened.
    pub fn settings(&self, likelihood_of: Option<Continuation>) -> OpenSettings {
        OpenSettings {
            data_dir: self.data_dir.clone(),
            beside: None,
            limit: self.limit,
            shuffle_options: self.arms.shuffle_options,
            no_context: self.arms.no_context,
            few_shot: self.arms.few_shot,
            system: self.arms.system.clone(),
            likelihood_of,
        }
    }
}

/// How items are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Completions, judged by the verifier
    Generate,
    /// The most likely option after the prompt, plain and per character
    Likelihood,
    /// Both
    Both,
}

/// What items are asked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Images {
    /// Their pictures
    Real,
    /// Grey pictures of the same size
    Blank,
    /// Pictures of other items
    Shuffled,
    /// None, nor their places in the prompt
    None,
}

impl From<Images> for ImageArm {
    fn from(images: Images) -> Self {
        match images {
            Images::Real => Self::Real,
            Images::Blank => Self::Blank,
            Images::Shuffled => Self::Shuffled,
            Images::None => Self::None,
        }
    }
}

/// What of an option is scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Of {
    /// Its label
    Label,
    /// Its text
    Text,
}

impl From<Of> for Continuation {
    fn from(of: Of) -> Self {
        match of {
            Of::Label => Self::Label,
            Of::Text => Self::Text,
        }
    }
}

const ROWS: &str = "\
rlvr eval ls lists the built-in benchmarks. Rows of a JSON Lines file: {\"id\", \"prompt\" or \"question\", \"answer\" or
\"reference\": {…}, \"options\"?: […]}. A definition of your own is a TOML file like those in rl/src/eval/tasks.";

#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  rlvr eval run --policy model/ --tasks medqa,medmcqa --data-dir data --out evals/medical
  rlvr eval run --policy model/ --tasks medmcqa --mode likelihood --raw --data-dir data --out evals/ranked
  rlvr eval run --policy model/ --tasks my.jsonl --reward exact --samples 8 --temperature 0.7 --out evals/mine
  rlvr eval run --policy model/ --tasks pubmedqa --no-context --data-dir data --out evals/without-abstract
  rlvr eval run --policy model/ --tasks vqa_rad --images real,blank --data-dir data --out evals/seen
  rlvr eval run --policy model/ --tasks gsm8k --data-dir data --fail-under gsm8k=0.3 --out evals/check

Writes results.json, results.md and samples.jsonl. The first Ctrl-C or SIGTERM finishes the items at work (up to 64) and
exits with 130; the same command again goes on there, also after a crash, and asks --judge again for what it failed on.
Other settings are refused. Likelihood gives NAME/likelihood and NAME/likelihood_norm beside NAME, controls of --images
NAME/blank, NAME/shuffled and NAME/none. Exit code 1 when a bound of --fail-under or --baseline is missed.
{ROWS}"))]
pub struct EvalRunArgs {
    #[command(flatten)]
    pub policy: PolicyArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
    #[command(flatten)]
    pub tasks: TaskArgs,
    /// Directory for results and samples
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Replace an evaluation with other settings in that directory
    #[arg(long)]
    pub force: bool,
    /// Pictures of the items, or controls; several are asked in one evaluation and compared item by item
    #[arg(long, value_enum, value_delimiter = ',', default_value = "real")]
    pub images: Vec<Images>,
    /// How --images shuffled exchanges pictures
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub images_seed: u64,
    /// How items are answered
    #[arg(long, value_enum, default_value_t = Mode::Generate)]
    pub mode: Mode,
    /// What of an option is scored by likelihood [default: the definition's]
    #[arg(long, value_enum)]
    pub likelihood_of: Option<Of>,
    /// Completions an item; above 1 gives pass@k
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = positive)]
    pub samples: usize,
    /// Divides the logits; 0 is greedy [default: 0 for one sample, 1 for several]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Longest completion in tokens [default: the definition's, else 512]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub max_tokens: Option<usize>,
    /// A text that ends a completion and stays part of it, instead of the definition's. May be repeated
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub stop: Vec<String>,
    /// Seed of the samples
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Give prompts as they are, without the chat template
    #[arg(long)]
    pub raw: bool,
    /// JSON Lines file of training data: report the items that occur in it, and accuracy without them
    #[arg(long, value_name = "FILE")]
    pub contamination: Option<PathBuf>,
    #[command(flatten)]
    pub judge: JudgeArgs,
    #[command(flatten)]
    pub bounds: BoundArgs,
}

/// A judge beside the verifier.
#[derive(Debug, Args)]
pub struct JudgeArgs {
    /// TOML file of a judge whose opinions are reported beside the verdicts: kind = "command" or "endpoint"
    #[arg(long = "judge", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Where its opinions are kept [default: judge.jsonl in --out]
    #[arg(long, value_name = "FILE", requires = "file")]
    pub judge_cache: Option<PathBuf>,
}

/// When an evaluation counts as failed.
#[derive(Debug, Args)]
pub struct BoundArgs {
    /// Exit with 1 when the accuracy of a task is below this. May be repeated
    #[arg(long, value_name = "TASK=X", value_delimiter = ',')]
    pub fail_under: Vec<String>,
    /// Exit with 1 when a task is significantly worse than in this earlier evaluation, or missing: the rule of rlvr eval
    /// report --baseline
    #[arg(long, value_name = "DIR|FILE")]
    pub baseline: Option<PathBuf>,
    /// Loss in accuracy that is no regression
    #[arg(long, alias = "max-drop", value_name = "X", default_value_t = 0.0, value_parser = share_or_zero, requires = "baseline")]
    pub tolerance: f64,
}

#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  rlvr eval score --tasks medqa --data-dir data --completions completions.jsonl --out evals/other
  rlvr eval score --tasks medqa --data-dir data --completions evals/medical/samples.jsonl --out evals/rescored

Rows of --completions: {{\"id\", \"completion\", \"task\"?}}, one or more an item; an item without a row counts as
unanswered. Ids are those of the data; items without one are called gsm8k-0, gsm8k-1, … in the order of the file. The same
completions may be judged again into the same directory; another evaluation there is replaced with --force only. Samples
of an evaluation keep its policy, template and seed in the settings of results.json.
{ROWS}"))]
pub struct EvalScoreArgs {
    #[command(flatten)]
    pub tasks: TaskArgs,
    /// Directory for results and samples
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Replace another evaluation in that directory
    #[arg(long)]
    pub force: bool,
    /// JSON Lines file, such as the samples.jsonl of an evaluation; - for stdin
    #[arg(long, value_name = "FILE")]
    pub completions: PathBuf,
    #[command(flatten)]
    pub judge: JudgeArgs,
    #[command(flatten)]
    pub bounds: BoundArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rlvr eval ls --data-dir data
  rlvr eval ls --json")]
pub struct EvalLsArgs {
    /// Where the benchmarks find their files
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub data_dir: PathBuf,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rlvr eval validate --tasks medqa,medmcqa,pubmedqa --data-dir data
  rlvr eval validate --tasks my.toml
  rlvr eval validate --tasks questions.jsonl --reward math

Checks rows against the schema, ids, references (the verifier must accept its own), and that an empty answer, a refusal
and \"not sure\" score 0; says what answering the same to every item scores. Exit code 1 when a check fails.")]
pub struct EvalValidateArgs {
    #[command(flatten)]
    pub tasks: TaskArgs,
    /// One JSON object a task
    #[arg(long)]
    pub json: bool,
}
