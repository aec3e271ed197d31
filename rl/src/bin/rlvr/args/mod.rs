//! What is typed on the command line.

pub mod comparison;
pub mod data;
pub mod eval;

use clap::{Args, Parser, Subcommand};
use comparison::{CompareArgs, ReportArgs};
use eval::{EvalLsArgs, EvalRunArgs, EvalScoreArgs, EvalValidateArgs};
use rlvr::config::{DeviceConfig, Dtype, EngineConfig, EngineKind, OptimKind};
use rlvr::policies::{BaseDtype, SaveDtype};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Reinforcement learning with verifiable rewards.
#[derive(Debug, Parser)]
#[command(
    name = "rlvr",
    version,
    about,
    arg_required_else_help = true,
    after_help = "\
Examples:
  rlvr train examples/addition/config.toml       train a small policy on the CPU
  rlvr sample --policy runs/addition --prompt '12+34='
  rlvr score --reward math completions.jsonl     judge completions
Each command has its own examples: rlvr COMMAND --help"
)]
pub struct Cli {
    /// CPU threads to use [default: one a core]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant)] // Made once.
pub enum Command {
    /// Run the stages of a config: supervised warm-up, GRPO, evaluation
    Train(TrainArgs),
    /// Generate completions
    Sample(SampleArgs),
    /// Answer requests for completions over HTTP, as OpenAI's servers do
    Serve(ServeArgs),
    /// Log-probabilities of given completions
    Logprobs(LogprobsArgs),
    /// Merge an adapter into the weights of its base
    Merge(MergeArgs),
    /// Judge completions with a reward
    Score(ScoreArgs),
    /// Generate, import and curate tasks
    #[command(subcommand)]
    Data(DataCommand),
    /// Evaluate the training loss and its gradient on given vectors
    Loss(LossArgs),
    /// Measure accuracy on benchmarks
    #[command(subcommand)]
    Eval(EvalCommand),
    /// Compare evaluations item by item
    Compare(CompareArgs),
    /// One HTML page of a run: curves, sample completions with their verdicts, config
    Report(RunReportArgs),
    /// Time every phase of a step on this machine
    Bench(BenchArgs),
    /// Write and check rewards of your own, in any language
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Print a shell completion script
    Completions(CompletionsArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rlvr train examples/addition/config.toml
  rlvr train config.toml --set seed=2 --set stage.grpo.optim.lr=3e-6 --out runs/seed2
  rlvr train config.toml --dry-run     check everything and sample a few prompts, train nothing
  rlvr train config.toml --resume      go on after an interruption

Ctrl-C once finishes the step, writes a checkpoint and exits with 130; twice exits at once.")]
pub struct TrainArgs {
    /// The run config, a TOML file
    pub config: PathBuf,
    /// Override a field of the config; dotted, stages by name or index. May be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// The run directory [default: runs/<name>]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Continue the run in the directory from its newest checkpoint
    #[arg(long, conflicts_with = "force")]
    pub resume: bool,
    /// Replace the run in the directory
    #[arg(long)]
    pub force: bool,
    /// Check everything, run the pre-flight and train nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Which policy, and where it computes.
#[derive(Debug, Args)]
pub struct PolicyArgs {
    /// Hugging Face folder, .gguf file, run directory, or hub id owner/name
    #[arg(long, value_name = "PATH")]
    pub policy: String,
    /// auto, cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: DeviceConfig,
    /// Type of the operands of matrix products: f32, bf16
    #[arg(long, value_name = "TYPE", default_value = "f32", value_parser = dtype)]
    pub dtype: Dtype,
}

/// Who samples, if not rlvr itself.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineArgs {
    /// A server that samples instead of rlvr and holds the same policy, such as http://localhost:8000. May be repeated
    #[arg(long, value_name = "URL")]
    #[serde(rename = "url")]
    pub engine_url: Vec<String>,
    /// What servers speak: vllm or sglang
    #[arg(long, value_name = "KIND", default_value = "vllm", requires = "engine_url")]
    #[serde(rename = "kind")]
    pub engine_kind: ServerKind,
    /// The model that servers are asked for [default: the first that they name]
    #[arg(long, value_name = "NAME", requires = "engine_url")]
    #[serde(rename = "model")]
    pub engine_model: Option<String>,
    /// The environment variable that has their key
    #[arg(long, value_name = "NAME", requires = "engine_url")]
    #[serde(rename = "key_env")]
    pub engine_key_env: Option<String>,
}

/// What servers speak.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerKind {
    #[default]
    Vllm,
    Sglang,
}

impl EngineArgs {
    /// The config of servers that keep their weights, if any are named.
    pub fn config(&self) -> Option<EngineConfig> {
        let kind = match self.engine_kind {
            ServerKind::Vllm => EngineKind::Vllm,
            ServerKind::Sglang => EngineKind::Sglang,
        };
        (!self.engine_url.is_empty()).then(|| EngineConfig {
            model: self.engine_model.clone(),
            key_env: self.engine_key_env.clone(),
            ..EngineConfig::of(kind, self.engine_url.clone())
        })
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rlvr bench                                    SmolLM2-135M's shape with random weights
  rlvr bench --shape qwen2.5-0.5b --batch 16 --new-tokens 128
  rlvr bench --policy runs/addition --json
  rlvr bench --threads 1
  rlvr bench --trainable 'layers\\.2\\d' --optimizer adamw_8bit    only the last blocks
  rlvr bench --shape smolvlm-256m --images 2 --image-size 512

A step is: generate, score with the reference, forward and backward in micro-batches, the optimizer. Tokens are random.
Shares compare with the speeds of multiply-adds (large products on a GPU) and of memory that the same process measures.")]
pub struct BenchArgs {
    /// Shape of the policy, with random weights: tiny, smollm2-135m, qwen2.5-0.5b, qwen3-0.6b, qwen2.5-1.5b, and with towers
    /// smolvlm-256m, qwen2.5-vl-3b
    #[arg(long, value_name = "NAME", default_value = "smollm2-135m", conflicts_with = "policy")]
    pub shape: String,
    /// Size of the vocabulary instead of the shape's
    #[arg(long, value_name = "N", conflicts_with = "policy")]
    pub vocab: Option<usize>,
    /// A policy instead: Hugging Face folder, .gguf file, run directory, or hub id owner/name
    #[arg(long, value_name = "PATH")]
    pub policy: Option<String>,
    /// auto, cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: DeviceConfig,
    /// Type of the operands of matrix products: f32 or bf16
    #[arg(long, value_name = "TYPE", default_value = "f32", value_parser = dtype)]
    pub dtype: Dtype,
    /// Train an adapter of this rank on all linear layers instead of the weights
    #[arg(long, value_name = "RANK")]
    pub lora: Option<usize>,
    /// How the weights below the adapter lie in memory: f32, bf16 or int8
    #[arg(long, value_name = "TYPE", default_value = "f32", value_parser = base_dtype)]
    pub base_dtype: BaseDtype,
    /// Train only the parameters that this pattern names, as policy.trainable has them; several are possible
    #[arg(long, value_name = "PATTERN")]
    pub trainable: Vec<String>,
    /// Leave the parameters that this pattern names as they are; several are possible
    #[arg(long, value_name = "PATTERN")]
    pub frozen: Vec<String>,
    /// adamw, adamw_8bit or muon
    #[arg(long, value_name = "KIND", default_value = "adamw", value_parser = optimizer)]
    pub optimizer: OptimKind,
    /// Completions of a step
    #[arg(long, value_name = "B", default_value_t = 32)]
    pub batch: usize,
    /// Completions a prompt; divides the batch [default: 8, at most the batch]
    #[arg(long, value_name = "G")]
    pub group: Option<usize>,
    /// Tokens of a prompt
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub prompt_tokens: usize,
    /// Tokens of a completion
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub new_tokens: usize,
    /// Completions of a training pass
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub micro_batch: usize,
    /// Random pictures of a prompt, for policies that see [default: 1 for them, otherwise 0]
    #[arg(long, value_name = "N")]
    pub images: Option<usize>,
    /// Their side in pixels; what a family cuts into tiles is brought to this side
    #[arg(long, value_name = "PIXELS", default_value_t = 448, value_parser = image_size)]
    pub image_size: usize,
    /// Measured repetitions of each phase; the median counts
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub repeat: usize,
    /// One JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rlvr sample --policy runs/addition --prompt '12+34=' --temperature 0
  rlvr sample --policy model.gguf --prompt 'Name a prime number.' -n 4 --max-tokens 64
  rlvr sample --policy model/ --tasks prompts.jsonl --json > completions.jsonl

Rows of --tasks: {\"id\"?, \"prompt\": text or [{\"role\", \"content\"}, …]} (or \"question\": text),
with pictures in \"images\" or \"image\".
Rows of --json: {\"id\", \"sample\", \"text\", \"tokens\", \"logprobs\", \"finish_reason\"}.
A sample depends on the policy, the prompt and its number, the seed and the sample's number only.")]
#[command(group = clap::ArgGroup::new("what").required(true).args(["prompt", "tasks"]))]
pub struct SampleArgs {
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// The prompt, as a message of the user
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt: Option<String>,
    /// A picture of the prompt, for policies that see, in the next place `<image>` or before the text. May be repeated
    #[arg(long = "image", value_name = "FILE", requires = "prompt")]
    pub images: Vec<PathBuf>,
    /// JSON Lines file of prompts, - for stdin
    #[arg(long, value_name = "FILE")]
    pub tasks: Option<PathBuf>,
    /// Completions a prompt, at most a million
    #[arg(short, value_name = "K", default_value_t = 1, value_parser = samples)]
    pub n: usize,
    /// Divides the logits; 0 is greedy
    #[arg(long, value_name = "T", default_value_t = 1.0, allow_negative_numbers = true)]
    pub temperature: f64,
    /// Keep the K most probable tokens
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Keep the most probable tokens up to this probability
    #[arg(long, value_name = "P")]
    pub top_p: Option<f64>,
    /// Keep tokens of at least this share of the largest probability
    #[arg(long, value_name = "P")]
    pub min_p: Option<f64>,
    /// Longest completion in tokens
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub max_tokens: usize,
    /// Seed of the samples
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// A text that ends a completion and stays part of it. May be repeated
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub stop: Vec<String>,
    /// Give the prompt as it is, without the chat template
    #[arg(long)]
    pub raw: bool,
    /// Print JSON Lines
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rlvr serve --policy runs/addition
  rlvr serve --policy model/ --name policy --adapter tuned=adapters/tuned --listen 127.0.0.1:8080
  curl http://127.0.0.1:8000/v1/completions -d '{\"prompt\": \"12+34=\", \"temperature\": 0, \"max_tokens\": 8}'

GET  /v1/models, /health, /metrics (Prometheus)
POST /v1/completions, /v1/chat/completions: `n`, `seed`, `stop`, `temperature`, `top_p`, `top_k`, `min_p`, `max_tokens`,
     `logprobs`, `echo`, `stream`, `return_token_ids`, …; prompts are text, token ids, or lists of either.
A completion depends on the policy, the prompt, the settings and the seed as in `rlvr sample`, not on other requests.
Ctrl-C once answers the requests at work and exits; twice exits at once.")]
pub struct ServeArgs {
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Address and port; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    pub listen: SocketAddr,
    /// Name by which requests ask for the policy [default: that of its folder or file]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// A further name, that of an adapter over the policy, in a folder as PEFT writes it. May be repeated
    #[arg(long = "adapter", value_name = "NAME=PATH", value_parser = named_path)]
    pub adapters: Vec<(String, PathBuf)>,
    /// Environment variable with the key that requests must have
    #[arg(long, value_name = "VARIABLE")]
    pub api_key_env: Option<String>,
    /// Completions that may wait or be decoded; requests beyond get status 429
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = samples)]
    pub max_queue: usize,
    /// Longest completion in tokens, whatever requests say; less room is kept for each where this is less
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = positive)]
    pub max_tokens: usize,
    /// Completions decoded together [default: what suits the device]
    #[arg(long, value_name = "N", value_parser = samples)]
    pub max_batch_rows: Option<usize>,
    /// Tokens of keys and values that they have room for [default: what suits the device and its free memory]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub max_batch_tokens: Option<usize>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  rlvr logprobs --policy model/ rows.jsonl > logprobs.jsonl

Rows in:  {\"id\", \"prompt_tokens\": [ids], \"completion_tokens\": [ids]}
     or:  {\"id\", \"prompt\": text, \"completion\": text}   raw text, without the chat template
     or:  {\"id\", \"prompt\": [messages], \"completion\": text}   the prompt by the chat template
          With \"images\" (or \"image\"), a file or a list, text is a message of the user, by the chat template too.
Rows out: {\"id\", \"tokens\": [ids], \"logprobs\": [nats]}   one number a completion token")]
pub struct LogprobsArgs {
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Divides the logits
    #[arg(long, value_name = "T", default_value_t = 1.0, allow_negative_numbers = true)]
    pub temperature: f64,
    /// JSON Lines file, - for stdin
    pub input: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rlvr merge --policy runs/lora --out merged                     the adapter that a run left, into its base
  rlvr merge --policy models/base+adapters/mine --out merged     a PEFT adapter over a base that its config does not name

The result is W + alpha / rank · B A in f32, a Hugging Face folder that computes what base and adapter do.")]
pub struct MergeArgs {
    /// Folder of a PEFT adapter, a run directory, or BASE+ADAPTER; with --untied any policy
    #[arg(long, value_name = "PATH")]
    pub policy: String,
    /// Folder to write
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Number format of the weights: f32, bf16 or f16
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    pub dtype: StoredDtype,
    /// Write the head as a tensor of its own, for servers that read weights again while they run ([engine] sync = "folder")
    #[arg(long)]
    pub untied: bool,
    /// Write into a directory that holds something
    #[arg(long)]
    pub force: bool,
}

/// Number format of saved weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum StoredDtype {
    F32,
    Bf16,
    F16,
}

impl From<StoredDtype> for SaveDtype {
    fn from(dtype: StoredDtype) -> Self {
        match dtype {
            StoredDtype::F32 => Self::F32,
            StoredDtype::Bf16 => Self::BF16,
            StoredDtype::F16 => Self::F16,
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rlvr score --reward math completions.jsonl > verdicts.jsonl
  rlvr score --config rewards.toml completions.jsonl --out verdicts.jsonl
  rlvr score --reward math --self-check tasks.jsonl              does the reward accept every reference?
  rlvr score --reward math --against labels rows.jsonl           error rates against the rows' \"label\"
  rlvr score --reward math --against exact rows.jsonl            where two rewards disagree
  rlvr score --reward procedural --rescore runs/countdown        a run's rollouts under another reward
  echo '{\"id\":1,\"completion\":\"\\\\boxed{4}\",\"reference\":{\"answer\":\"4\"}}' | rlvr score --reward math -

Rows in:  {\"id\", \"completion\", \"reference\": {\"answer\", …}, \"prompt\"?}
Rows out: {\"id\", \"score\", \"verdict\", \"extracted\", \"reason\", …}, one a row, same order; a summary on stderr
--self-check reads {\"id\"?, \"reference\" or \"answer\"} and prints the rows whose reference is refused; exit code 1 if any.
--against prints a sample of the disagreements, with false-positive and false-negative rates (95 % Wilson intervals) and
a table by extraction rule on stderr. A \"label\" is true, false or a verdict; rows without one are left out.
--rescore adds \"step\", \"group\", \"sample\" and \"old\": {\"score\", \"verdict\"} to the rows.")]
#[command(group = clap::ArgGroup::new("what").required(true).args(["reward", "config"]))]
pub struct ScoreArgs {
    /// A reward with its defaults: math, numeric, exact, choice, format, …
    #[arg(long, value_name = "KIND")]
    pub reward: Option<String>,
    /// TOML file that is a reward table or has a [rewards] table
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// JSON Lines file, - for stdin
    #[arg(required_unless_present = "rescore")]
    pub input: Option<PathBuf>,
    /// Require the reward to accept the reference of every row as an answer
    #[arg(long, conflicts_with_all = ["against", "rescore", "out"])]
    pub self_check: bool,
    /// What the reward is measured against: another reward, a TOML file, or labels
    #[arg(long, value_name = "KIND|FILE|labels", conflicts_with = "rescore")]
    pub against: Option<String>,
    /// Disagreements to print
    #[arg(long, value_name = "N", default_value_t = 20, requires = "against")]
    pub sample: usize,
    /// Seed of that sample
    #[arg(long, value_name = "N", default_value_t = 0, requires = "against")]
    pub seed: u64,
    /// Write the rates and tables as JSON
    #[arg(long, value_name = "FILE", requires = "against")]
    pub report: Option<PathBuf>,
    /// Judge the recorded rollouts of a run again
    #[arg(long, value_name = "RUN", conflicts_with = "input")]
    pub rescore: Option<PathBuf>,
    /// Write here instead of stdout
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Replace files that exist
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  rlvr data generate --list
  rlvr data generate countdown --set numbers=4 --count 1000 --out countdown.jsonl
  rlvr data import medmcqa.parquet --licence MIT --out tasks.jsonl
  rlvr data dedup tasks.jsonl --out unique.jsonl
  rlvr data decontaminate unique.jsonl --against test.jsonl --out clean.jsonl
Steps of curation read and write JSON Lines; FILE.manifest.json beside each output has the whole history.")]
pub enum DataCommand {
    /// Generate tasks as JSON Lines
    Generate(DataGenerateArgs),
    /// Turn JSON Lines, JSON, CSV or parquet into tasks
    Import(data::ImportArgs),
    /// Check every row, its id and its reference
    Validate(data::ValidateArgs),
    /// Count rows, lengths, options, right answers, duplicates
    Stats(data::StatsArgs),
    /// Remove exact and near-duplicates
    Dedup(data::DedupArgs),
    /// Remove rows that occur in test sets
    Decontaminate(data::DecontaminateArgs),
    /// Keep rows by fields, lengths, patterns
    Filter(data::FilterArgs),
    /// Keep equally many rows of each value of a field
    Balance(data::BalanceArgs),
    /// Limit the rows of the values of a field
    Cap(data::CapArgs),
    /// Divide into parts, by a hash of the id or of a group
    Split(data::SplitArgs),
    /// Rewrite multiple-choice questions as open questions
    ChoiceToOpen(data::ChoiceToOpenArgs),
    /// Keep the tasks that a policy solves sometimes
    PassRate(data::PassRateArgs),
    /// Keep a policy's correct solutions, for supervised training
    Rejection(data::RejectionArgs),
    /// Run the steps of a TOML file
    Run(data::RunArgs),
    /// Print the history of a file
    Manifest(data::ManifestArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rlvr data generate --list                                      kinds, what they train, parameters
  rlvr data generate countdown --set numbers=4 --count 1000 --seed 1 --out train.jsonl
  rlvr data generate countdown --set numbers=4 --split heldout --out heldout.jsonl
  rlvr data generate sudoku | rlvr score --reward sudoku -       the completions are right answers

Rows out: {\"id\", \"prompt\", \"reference\", \"completion\"}, as data sources of kind \"jsonl\" (completion =
\"{{ completion }}\"), rlvr sample --tasks, rlvr score, and rlvr eval --reward procedural take them.
The same seed gives the same tasks; a hash of the task decides who is held out, whatever the seed.")]
pub struct DataGenerateArgs {
    /// Kind of the tasks
    #[arg(required_unless_present = "list")]
    pub kind: Option<String>,
    /// List the kinds with their parameters
    #[arg(long, conflicts_with_all = ["kind", "set", "count", "split", "out"])]
    pub list: bool,
    /// Set a parameter. May be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Number of tasks [default: 100]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub count: Option<usize>,
    /// Seed of the tasks
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Which part of all tasks to draw from [default: train]
    #[arg(long, value_name = "PART", value_parser = ["train", "heldout", "all"])]
    pub split: Option<String>,
    /// Write here instead of stdout
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Replace files that exist
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  rlvr loss vectors.json

In:  {\"arrays\": {\"logprobs\": [[…]], \"old_logprobs\", \"ref_logprobs\", \"sampler_logprobs\", \"loss_mask\",
      \"advantages\": […]}, \"cases\": {NAME: {the keys of [stage.loss]}}}
Out: {NAME: {\"loss\": x, \"grad\": [[…]]}}, the gradient with respect to logprobs")]
pub struct LossArgs {
    /// JSON file, - for stdin
    pub vectors: PathBuf,
}

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  rlvr eval ls --data-dir data
  rlvr eval validate --tasks gsm8k --data-dir data
  rlvr eval run --policy runs/addition --tasks gsm8k --data-dir data --limit 100 --out evals/after
  rlvr eval score --tasks gsm8k --data-dir data --completions completions.jsonl --out evals/other
  rlvr eval report evals/after evals/other")]
pub enum EvalCommand {
    /// Answer benchmarks with a policy and judge the answers
    Run(Box<EvalRunArgs>),
    /// List the built-in benchmarks
    Ls(EvalLsArgs),
    /// Check benchmarks and their data
    Validate(EvalValidateArgs),
    /// Judge completions made elsewhere, or those of an earlier evaluation again
    Score(EvalScoreArgs),
    /// Compare evaluations item by item; the same as rlvr compare
    Compare(CompareArgs),
    /// One table over many evaluations
    Report(ReportArgs),
}

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  rlvr plugin new --lang python my_reward      write a reward to start from
  rlvr plugin test python3 my_reward/reward.py check it")]
pub enum PluginCommand {
    /// Write a new reward into a folder
    New(PluginNewArgs),
    /// Check a reward: the protocol, and how easily it is gamed
    Test(PluginTestArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rlvr report runs/addition                        writes runs/addition/report.html
  rlvr report runs/addition --samples 100 --seed 2 --out addition.html
  rlvr report runs/addition --out - > page.html

The page needs no network and runs no scripts: curves of the metrics, held-out evaluations, counts of the verdicts, the
resolved config, and completions from the first, middle and last tenth of the steps, right, wrong and unjudged ones in
turn. A run may be reported while it is under way or after it was interrupted; a row that is being written is left out.
For a table over evaluations: rlvr eval report.")]
pub struct RunReportArgs {
    /// A run directory
    pub run: PathBuf,
    /// Write here instead, - for stdout [default: report.html in the run directory, made anew]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Replace a file named by --out that exists
    #[arg(long)]
    pub force: bool,
    /// Completions to show
    #[arg(long, value_name = "N", default_value_t = 24)]
    pub samples: usize,
    /// Seed of their choice
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rlvr plugin new --lang python my_reward
  rlvr plugin new --lang rust my_reward && cargo build --release --manifest-path my_reward/Cargo.toml

The folder gets a file with a function score, a runtime that speaks the protocol, and a README.md. Files that exist stay
without --force.")]
pub struct PluginNewArgs {
    /// The language
    #[arg(long, value_name = "LANG", value_enum)]
    pub lang: Language,
    /// The folder; made when it does not exist
    pub dir: PathBuf,
    /// Replace files that exist
    #[arg(long)]
    pub force: bool,
}

/// A language that `rlvr plugin new` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    /// Standard library only
    Python,
    /// Node.js, no packages
    Js,
    /// A cargo project with serde_json
    Rust,
    /// Needs jq
    Bash,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  rlvr plugin test python3 my_reward/reward.py
  rlvr plugin test --tasks tasks.jsonl --timeout-s 5 node my_reward/reward.mjs
  rlvr plugin test --config '{\"strict\": true}' ./target/release/reward
  rlvr plugin test reward.wasm                 a WebAssembly component; needs a build with --features wasm

Options stand before the command. The first table is the protocol: a line with FAIL breaks it and ends with exit code 1.
The second says how many answers of a kind get the full score; only the right ones should.
Rows of --tasks: {\"prompt\"?, \"reference\": {\"answer\", …}} (or \"answer\").")]
pub struct PluginTestArgs {
    /// JSON Lines file of tasks that the reward can judge [default: sums, and questions with options]
    #[arg(long, value_name = "FILE")]
    pub tasks: Option<PathBuf>,
    /// Seconds that a batch may take
    #[arg(long, value_name = "S", default_value_t = 30.0)]
    pub timeout_s: f64,
    /// The `config` that it gets, a JSON object
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub config: String,
    /// Name of an environment variable to pass on. May be repeated
    #[arg(long, value_name = "NAME")]
    pub env: Vec<String>,
    /// The program and its arguments, or a component that ends in .wasm
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  rlvr completions bash > ~/.local/share/bash-completion/completions/rlvr")]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

pub fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(number) => Ok(number),
        Err(_) => Err("must be a whole number".into()),
    }
}

/// The value of `--adapter`.
fn named_path(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok((name.to_owned(), path.into())),
        _ => Err("must be NAME=PATH".into()),
    }
}

/// A number of completions of one prompt, all of which are held in memory.
pub fn samples(text: &str) -> Result<usize, String> {
    positive(text).and_then(|n| if n <= 1_000_000 { Ok(n) } else { Err("must be at most 1000000".into()) })
}

/// The value of `--image-size`: pictures of more are not taken anywhere.
fn image_size(text: &str) -> Result<usize, String> {
    positive(text).and_then(|n| if n <= 16_384 { Ok(n) } else { Err("must be at most 16384".into()) })
}

/// The value of `--optimizer`.
fn optimizer(text: &str) -> Result<OptimKind, String> {
    match text {
        "adamw" => Ok(OptimKind::Adamw),
        "adamw_8bit" => Ok(OptimKind::Adamw8bit),
        "muon" => Ok(OptimKind::Muon),
        _ => Err("one of adamw, adamw_8bit, muon".to_owned()),
    }
}

/// The value of `--dtype`.
fn base_dtype(text: &str) -> Result<BaseDtype, String> {
    match text {
        "f32" => Ok(BaseDtype::F32),
        "bf16" => Ok(BaseDtype::Bf16),
        "int8" => Ok(BaseDtype::Int8),
        _ => Err("one of f32, bf16, int8".to_owned()),
    }
}

fn dtype(text: &str) -> Result<Dtype, String> {
    match text {
        "f32" => Ok(Dtype::F32),
        "bf16" => Ok(Dtype::Bf16),
        _ => Err("one of f32, bf16".to_owned()),
    }
}
