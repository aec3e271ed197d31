//! The one list of rewards: [`RewardConfig`], as it is written in TOML.
//!
//! ```toml
//! [rewards]
//! kind = "sum"
//! [[rewards.terms]]
//! weight = 1.0
//! reward = { kind = "math" }
//! [[rewards.terms]]
//! weight = 0.5
//! reward = { kind = "format", style = "think_answer" }
//! ```
//!
//! A kind is written once, in `kinds!`: its name, its settings, the rewards that it is made of, and how it is built.

pub(crate) mod cosine;
mod document;

use std::path::Path;

use serde::{Deserialize, Serialize};

use self::cosine::{CosineConfig, CosineLength};
use crate::compose::{AttemptCredit, ByReference, Combine, Composite, Constant, Gate, WeightedTerm};
use crate::error::ConfigError;
use crate::judges::bleu::{Bleu, BleuConfig};
use crate::judges::choice::{Choice, ChoiceConfig};
use crate::judges::contains::{Contains, ContainsConfig};
use crate::judges::exact::{Exact, ExactConfig};
use crate::judges::format::{Format, FormatConfig};
use crate::judges::instructions::{Instructions, InstructionsConfig};
use crate::judges::json_schema::{JsonSchema, JsonSchemaConfig};
use crate::judges::language::{Language, LanguageConfig};
use crate::judges::length::{Length, LengthConfig};
use crate::judges::math::{Math, MathConfig};
use crate::judges::numeric::{Numeric, NumericConfig};
use crate::judges::pattern::{Pattern, PatternConfig};
use crate::judges::procedural::{
    Countdown, CountdownConfig, Logic, LogicConfig, Procedural, ProceduralConfig, Sudoku, SudokuConfig,
};
use crate::judges::repetition::{Repetition, RepetitionConfig};
use crate::judges::rouge::{Rouge, RougeConfig};
use crate::judges::token_f1::{AnyOf, AnyOfConfig, TokenF1, TokenF1Config};
use crate::judges::yes_no::{YesNo, YesNoConfig};
use crate::noise::Noisy;
use crate::outside::code::{Code, CodeConfig};
use crate::outside::plugin::python::PythonConfig;
use crate::outside::plugin::{Plugin, PluginConfig};
use crate::outside::wasm::{Wasm, WasmConfig};
use crate::reward::Reward;

/// Writes [`RewardConfig`], [`KINDS`], and what goes through all kinds. A kind with settings of its own is
/// `"name" Variant(Settings): |settings| reward`, with `=> field` behind the settings where they hold another reward; one
/// that is made of rewards is `"name" Variant { fields }: rewards, reward`.
macro_rules! kinds {
    (
        judges { $(
            $(#[$doc:meta])*
            $name:literal $judge:ident($settings:ty $(=> $part:ident)?): |$c:ident| $built:expr
        ),+ $(,)? }
        made_of_rewards { $(
            $(#[$tree_doc:meta])*
            $tree_name:literal $tree:ident {
                $( $(#[$field_doc:meta])* $field:ident: $type:ty ),+ $(,)?
            }: $parts:expr, $tree_built:expr
        );+ $(;)? }
    ) => {
        /// A reward as configured; `kind` names the variant.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind", deny_unknown_fields)]
        #[non_exhaustive]
        pub enum RewardConfig {
            $( $(#[$doc])* #[serde(rename = $name)] $judge($settings), )+
            $( $(#[$tree_doc])* #[serde(rename = $tree_name)] $tree { $( $(#[$field_doc])* $field: $type ),+ }, )+
        }

        /// Every valid `kind`.
        pub const KINDS: &[&str] = &[$($name,)+ $($tree_name,)+];

        impl RewardConfig {
            /// The rewards that this one is made of.
            #[expect(unused_variables, reason = "what is no reward")]
            fn children(&mut self) -> Vec<&mut Self> {
                match self {
                    $( Self::$judge(settings) => vec![$( &mut *settings.$part )?], )+
                    $( Self::$tree { $($field),+ } => $parts, )+
                }
            }

            /// Checks the configuration and makes the reward.
            ///
            /// # Errors
            /// When a field has a value that makes no sense.
            pub fn build(self) -> Result<Box<dyn Reward>, ConfigError> {
                Ok(match self {
                    $( Self::$judge($c) => Box::new($built), )+
                    $( Self::$tree { $($field),+ } => $tree_built, )+
                })
            }
        }
    };
}

kinds! {
    judges {
        /// Mathematical equality of the last explicit answer with `reference.answer`.
        "math" Math(MathConfig): |c| Math::new(c)?,
        /// A number within a tolerance of `reference.answer`.
        "numeric" Numeric(NumericConfig): |c| Numeric::new(c)?,
        /// The normalised answer string equals `reference.answer` or one of its aliases.
        "exact" Exact(ExactConfig): |c| Exact::new(c),
        /// A letter or option of a multiple-choice question.
        "choice" Choice(ChoiceConfig): |c| Choice::new(c)?,
        /// The response has the required shape.
        "format" Format(FormatConfig): |c| Format::new(c)?,
        /// A regular expression matches; optionally its capture equals the reference.
        "regex" Regex(PatternConfig): |c| Pattern::new(c)?,
        /// A penalty in [-1, 0] for long responses.
        "length" Length(LengthConfig): |c| Length::new(c)?,
        /// An expression over `reference.numbers` that equals `reference.target`.
        "countdown" Countdown(CountdownConfig): |c| Countdown::new(c),
        /// A filled grid that fits `reference.puzzle`.
        "sudoku" Sudoku(SudokuConfig): |c| Sudoku::new(c),
        /// A truth value, or an assignment that makes `reference.formula` true.
        "logic" Logic(LogicConfig): |c| Logic::new(c),
        /// The checker that fits the shape of each task's reference.
        "procedural" Procedural(ProceduralConfig): |c| Procedural::new(c)?,
        /// A program of your own, in any language.
        "plugin" Plugin(Box<PluginConfig>): |c| Plugin::new(*c)?,
        /// A function of a Python file, as TRL's reward functions are.
        "python" Python(Box<PythonConfig>): |c| c.build()?,
        /// A WebAssembly component, for code that is not trusted; needs the cargo feature `wasm`.
        "wasm" Wasm(Box<WasmConfig>): |c| Wasm::new(*c)?,
        /// A program passes the tests of `reference`, run in a sandbox.
        "code" Code(CodeConfig): |c| Code::new(c)?,
        /// A correct or wrong answer, worth more or less by its length.
        "cosine_length" CosineLength(CosineConfig => answer): |c| CosineLength::new(c)?,
        /// A yes/no question.
        "yes_no" YesNo(YesNoConfig): |c| YesNo::new(c, "yes_no"),
        /// A yes/no question to which "maybe" is an answer, too.
        "yes_no_maybe" YesNoMaybe(YesNoConfig): |c| {
            YesNo::new(YesNoConfig { maybe: true, ..c }, "yes_no_maybe")
        },
        /// A short open answer that is one of the references, up to articles and punctuation.
        "any_of" AnyOf(AnyOfConfig): |c| AnyOf::new(c)?,
        /// All, any or none of given strings.
        "contains" Contains(ContainsConfig): |c| Contains::new(c)?,
        /// The last JSON value is valid against a schema.
        "json_schema" JsonSchema(JsonSchemaConfig): |c| JsonSchema::new(c)?,
        /// Verifiable instructions on form and content.
        "instructions" Instructions(InstructionsConfig): |c| Instructions::new(c),
        /// ROUGE-1, ROUGE-2 or ROUGE-L.
        "rouge" Rouge(RougeConfig): |c| Rouge::new(c),
        /// BLEU of the response.
        "bleu" Bleu(BleuConfig): |c| Bleu::new(c),
        /// F1 of words.
        "token_f1" TokenF1(TokenF1Config): |c| TokenF1::new(c),
        /// A penalty in [-1, 0] for repeated n-grams.
        "repetition" Repetition(RepetitionConfig): |c| Repetition::new(c)?,
        /// The response is in a given language.
        "language" Language(LanguageConfig): |c| Language::new(c)?,
    }
    made_of_rewards {
        /// Σ weight · score.
        "sum" Sum {
            /// The terms; at least one.
            terms: Vec<Term>,
        }: terms.iter_mut().map(|t| &mut t.reward).collect(), weighted_sum(terms)?;
        /// `then` counts only where `if` is correct, otherwise `else` or 0.
        "gate" Gate {
            /// The condition.
            r#if: Box<RewardConfig>,
            /// Scored when the condition is correct.
            then: Box<RewardConfig>,
            /// Scored when it is not; 0 when absent.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            r#else: Option<Box<RewardConfig>>,
        }: [Some(r#if), Some(then), r#else.as_mut()].into_iter().flatten().map(|r| &mut **r).collect(), {
            let otherwise = r#else.map(|r| r.build()).transpose()?;
            Box::new(Gate { condition: r#if.build()?, then: then.build()?, otherwise })
        };
        /// The smallest score.
        "all" All {
            /// At least one reward.
            of: Vec<RewardConfig>,
        }: of.iter_mut().collect(), combine("all", Combine::All, of)?;
        /// The largest score.
        "any" Any {
            /// At least one reward.
            of: Vec<RewardConfig>,
        }: of.iter_mut().collect(), combine("any", Combine::Any, of)?;
        /// The product of the scores.
        "product" Product {
            /// At least one reward.
            of: Vec<RewardConfig>,
        }: of.iter_mut().collect(), combine("product", Combine::Product, of)?;
        /// One reward for tasks whose reference has a field, another for the others.
        "by_reference" ByReference {
            /// Field of the reference; `options` when absent.
            #[serde(default = "options")]
            field: String,
            /// Judges the tasks that have it; `choice` when absent.
            #[serde(default = "choice")]
            present: Box<RewardConfig>,
            /// Judges the others; `any_of` when absent.
            #[serde(default = "any_of")]
            absent: Box<RewardConfig>,
        }: vec![present, absent], {
            Box::new(ByReference { field, present: present.build()?, absent: absent.build()? })
        };
        /// A verifier that errs on purpose while a policy is trained; see [`crate::noise`].
        "noisy" Noisy {
            /// Share of the correct and of the incorrect verdicts that are exchanged, in [0, 1].
            flip_frac: f64,
            /// The verifier.
            reward: Box<RewardConfig>,
            /// Chooses which; none switches the noise off.
            #[serde(skip)]
            seed: Option<u64>,
        }: vec![reward], noisy(flip_frac, *reward, seed)?;
        /// The same score for every response.
        "constant" Constant {
            /// The score, finite.
            value: f64,
        }: Vec::new(), constant(value)?;
        /// Preset: 0.5 · strict think/answer format + 1.0 · answer (as in Lingshu's RL stage, arXiv:2506.07044).
        "lingshu_rl" LingshuRl {
            /// Judges the answer; `choice` when absent.
            #[serde(default = "choice")]
            answer: Box<RewardConfig>,
        }: vec![answer], format_and_answer(*answer).build()?;
        /// Preset: strict think/answer format gates the answer.
        "medvlthinker" Medvlthinker {
            /// Judges the answer; `choice` when absent.
            #[serde(default = "choice")]
            answer: Box<RewardConfig>,
        }: vec![answer], gated(Self::Format(FormatConfig::default()), answer).build()?;
        /// Preset: 1 right, 0.1 wrong but answered, 0 no answer (as in HuatuoGPT-o1, arXiv:2412.18925).
        "huatuo_o1" HuatuoO1 {
            /// Judges the answer; `choice` when absent.
            #[serde(default = "choice")]
            answer: Box<RewardConfig>,
        }: vec![answer], Box::new(AttemptCredit { answer: answer.build()?, wrong: 0.1 });
        /// Preset: the think block must close, then the answer counts.
        "think_then_answer" ThinkThenAnswer {
            /// Judges the answer; `math` when absent.
            #[serde(default = "math")]
            answer: Box<RewardConfig>,
        }: vec![answer], gated(closed_thoughts(), answer).build()?;
        /// Preset: the answer alone.
        "answer_only" AnswerOnly {
            /// Judges the answer; `math` when absent.
            #[serde(default = "math")]
            answer: Box<RewardConfig>,
        }: vec![answer], answer.build()?;
    }
}

fn options() -> String {
    "options".to_string()
}

fn any_of() -> Box<RewardConfig> {
    Box::new(RewardConfig::AnyOf(AnyOfConfig::default()))
}

fn choice() -> Box<RewardConfig> {
    Box::new(RewardConfig::Choice(ChoiceConfig::default()))
}

fn math() -> Box<RewardConfig> {
    Box::new(RewardConfig::Math(MathConfig::default()))
}

/// One term of a weighted sum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Term {
    /// Factor of the raw score; 0 makes a metric. Default 1.
    #[serde(default = "one")]
    pub weight: f64,
    /// Name of the part; the reward's own name when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What is scored.
    pub reward: RewardConfig,
}

fn one() -> f64 {
    1.0
}

impl RewardConfig {
    /// The reward of this kind with its defaults, as `rlvr score --reward KIND` takes it.
    ///
    /// # Errors
    /// [`ConfigError::UnknownKind`] with the nearest valid name; [`ConfigError::NeedsFields`] for kinds such as `sum`
    /// that have fields without a default.
    pub fn from_kind(kind: &str) -> Result<Self, ConfigError> {
        if !KINDS.contains(&kind) {
            let nearest = KINDS.iter().min_by_key(|k| edit_distance(k, kind)).copied().unwrap_or("math");
            return Err(ConfigError::UnknownKind { kind: kind.into(), nearest, known: KINDS.join(", ") });
        }
        serde_json::from_value(serde_json::json!({ "kind": kind }))
            .map_err(|e| ConfigError::NeedsFields { kind: kind.into(), reason: e.to_string() })
    }

    /// Makes the paths of the whole tree absolute, from `base`: the folder of the file that it stands in.
    pub fn resolve_paths(&mut self, base: &Path) {
        match self {
            Self::Plugin(c) => c.resolve_paths(base),
            Self::Python(c) => c.resolve_paths(base),
            Self::Wasm(c) => c.resolve_paths(base),
            other => other.children().into_iter().for_each(|r| r.resolve_paths(base)),
        }
    }

    /// The same reward with the noise of every [`Noisy`](Self::Noisy) switched on, for training; none where nothing
    /// is flipped.
    pub fn with_noise(&self, seed: u64) -> Option<Self> {
        fn switch_on(config: &mut RewardConfig, to: u64) -> bool {
            let mut found = false;
            if let RewardConfig::Noisy { seed, flip_frac, .. } = config {
                *seed = Some(to);
                found = *flip_frac > 0.0;
            }
            config.children().into_iter().fold(found, |found, child| switch_on(child, to) || found)
        }
        let mut noisy = self.clone();
        switch_on(&mut noisy, seed).then_some(noisy)
    }
}

fn weighted_sum(terms: Vec<Term>) -> Result<Box<dyn Reward>, ConfigError> {
    if terms.is_empty() {
        return Err(ConfigError::Invalid { kind: "sum", reason: "terms is empty".into() });
    }
    let mut built = Vec::with_capacity(terms.len());
    for term in terms {
        if !term.weight.is_finite() {
            let reason = format!("weight {} is not finite", term.weight);
            return Err(ConfigError::Invalid { kind: "sum", reason });
        }
        let reward = term.reward.build()?;
        let name = term.name.unwrap_or_else(|| reward.name().to_string());
        built.push(WeightedTerm { name, weight: term.weight, reward });
    }
    Ok(Box::new(Composite::new("sum", Combine::Sum, built)))
}

fn noisy(flip_frac: f64, reward: RewardConfig, seed: Option<u64>) -> Result<Box<dyn Reward>, ConfigError> {
    if !(0.0..=1.0).contains(&flip_frac) {
        let reason = format!("flip_frac {flip_frac} does not lie in [0, 1]");
        return Err(ConfigError::Invalid { kind: "noisy", reason });
    }
    if matches!(
        reward,
        RewardConfig::Sum { .. } | RewardConfig::LingshuRl { .. } | RewardConfig::Noisy { .. }
    ) {
        let reason = "flips the verdicts of one verifier; put it around the answer's, inside of it";
        return Err(ConfigError::Invalid { kind: "noisy", reason: reason.into() });
    }
    let reward = reward.build()?;
    Ok(match seed {
        Some(seed) => Box::new(Noisy::new(reward, flip_frac, seed)),
        None => reward,
    })
}

fn constant(value: f64) -> Result<Box<dyn Reward>, ConfigError> {
    if !value.is_finite() {
        let reason = format!("value {value} is not finite");
        return Err(ConfigError::Invalid { kind: "constant", reason });
    }
    Ok(Box::new(Constant(value)))
}

/// 0.5 for the format and 1 for the answer.
fn format_and_answer(answer: RewardConfig) -> RewardConfig {
    let format = RewardConfig::Format(FormatConfig::default());
    let format = Term { weight: 0.5, name: Some("format".into()), reward: format };
    let answer = Term { weight: 1.0, name: Some("accuracy".into()), reward: answer };
    RewardConfig::Sum { terms: vec![format, answer] }
}

fn gated(condition: RewardConfig, then: Box<RewardConfig>) -> RewardConfig {
    RewardConfig::Gate { r#if: Box::new(condition), then, r#else: None }
}

/// The think block closes.
fn closed_thoughts() -> RewardConfig {
    let pattern = r"(?s)^(?:\s*<think>)?.*?</think>".into();
    RewardConfig::Regex(PatternConfig { pattern, capture: false })
}

fn combine(
    kind: &'static str,
    combine: Combine,
    of: Vec<RewardConfig>,
) -> Result<Box<dyn Reward>, ConfigError> {
    if of.is_empty() {
        return Err(ConfigError::Invalid { kind, reason: "of is empty".into() });
    }
    let mut terms = Vec::with_capacity(of.len());
    for config in of {
        let reward = config.build()?;
        terms.push(WeightedTerm { name: reward.name().to_string(), weight: 1.0, reward });
    }
    Ok(Box::new(Composite::new(kind, combine, terms)))
}

/// Levenshtein distance in characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replace = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
