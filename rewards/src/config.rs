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

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::bleu::{Bleu, BleuConfig};
use crate::choice::{Choice, ChoiceConfig};
use crate::code::{Code, CodeConfig};
use crate::compose::{AttemptCredit, ByReference, Combine, Composite, Constant, Gate, WeightedTerm};
use crate::contains::{Contains, ContainsConfig};
use crate::exact::{Exact, ExactConfig};
use crate::format::{Format, FormatConfig};
use crate::instructions::{Instructions, InstructionsConfig};
use crate::json_schema::{JsonSchema, JsonSchemaConfig};
use crate::language::{Language, LanguageConfig};
use crate::length::{CosineConfig, CosineLength, Length, LengthConfig};
use crate::math::{Math, MathConfig};
use crate::noise::Noisy;
use crate::numeric::{Numeric, NumericConfig};
use crate::pattern::{Pattern, PatternConfig};
use crate::plugin::{Plugin, PluginConfig};
use crate::procedural::{
    Countdown, CountdownConfig, Logic, LogicConfig, Procedural, ProceduralConfig, Sudoku, SudokuConfig,
};
use crate::repetition::{Repetition, RepetitionConfig};
use crate::reward::Reward;
use crate::rouge::{Rouge, RougeConfig};
use crate::token_f1::{AnyOf, AnyOfConfig, TokenF1, TokenF1Config};
use crate::wasm::{Wasm, WasmConfig};
use crate::yes_no::{YesNo, YesNoConfig};

/// A reward as configured; `kind` names the variant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum RewardConfig {
    /// Mathematical equality of the last explicit answer with `reference.answer`.
    Math(MathConfig),
    /// A number within a tolerance of `reference.answer`.
    Numeric(NumericConfig),
    /// The normalised answer string equals `reference.answer` or one of its aliases.
    Exact(ExactConfig),
    /// A letter or option of a multiple-choice question.
    Choice(ChoiceConfig),
    /// The response has the required shape.
    Format(FormatConfig),
    /// A regular expression matches; optionally its capture equals the reference.
    Regex(PatternConfig),
    /// A penalty in [-1, 0] for long responses.
    Length(LengthConfig),
    /// An expression over `reference.numbers` that equals `reference.target`.
    Countdown(CountdownConfig),
    /// A filled grid that fits `reference.puzzle`.
    Sudoku(SudokuConfig),
    /// A truth value, or an assignment that makes `reference.formula` true.
    Logic(LogicConfig),
    /// The checker that fits the shape of each task's reference.
    Procedural(ProceduralConfig),
    /// A program of your own, in any language.
    Plugin(Box<PluginConfig>),
    /// A WebAssembly component, for code that is not trusted; needs the cargo feature `wasm`.
    Wasm(Box<WasmConfig>),
    /// A program passes the tests of `reference`, run in a sandbox.
    Code(CodeConfig),
    /// A correct or wrong answer, worth more or less by its length.
    CosineLength(CosineConfig),
    /// A yes/no question.
    YesNo(YesNoConfig),
    /// A yes/no question to which "maybe" is an answer, too.
    YesNoMaybe(YesNoConfig),
    /// A short open answer that is one of the references, up to articles and punctuation.
    AnyOf(AnyOfConfig),
    /// All, any or none of given strings.
    Contains(ContainsConfig),
    /// The last JSON value is valid against a schema.
    JsonSchema(JsonSchemaConfig),
    /// Verifiable instructions on form and content.
    Instructions(InstructionsConfig),
    /// ROUGE-1, ROUGE-2 or ROUGE-L.
    Rouge(RougeConfig),
    /// BLEU of the response.
    Bleu(BleuConfig),
    /// F1 of words.
    TokenF1(TokenF1Config),
    /// A penalty in [-1, 0] for repeated n-grams.
    Repetition(RepetitionConfig),
    /// The response is in a given language.
    Language(LanguageConfig),
    /// Σ weight · score.
    Sum {
        /// The terms; at least one.
        terms: Vec<Term>,
    },
    /// `then` counts only where `if` is correct, otherwise `else` or 0.
    Gate {
        /// The condition.
        r#if: Box<RewardConfig>,
        /// Scored when the condition is correct.
        then: Box<RewardConfig>,
        /// Scored when it is not; 0 when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        r#else: Option<Box<RewardConfig>>,
    },
    /// The smallest score.
    All {
        /// At least one reward.
        of: Vec<RewardConfig>,
    },
    /// The largest score.
    Any {
        /// At least one reward.
        of: Vec<RewardConfig>,
    },
    /// The product of the scores.
    Product {
        /// At least one reward.
        of: Vec<RewardConfig>,
    },
    /// One reward for tasks whose reference has a field, another for the others.
    ByReference {
        /// Field of the reference; `options` when absent.
        #[serde(default = "options")]
        field: String,
        /// Judges the tasks that have it; `choice` when absent.
        #[serde(default = "choice")]
        present: Box<RewardConfig>,
        /// Judges the others; `any_of` when absent.
        #[serde(default = "any_of")]
        absent: Box<RewardConfig>,
    },
    /// A verifier that errs on purpose while a policy is trained; see [`crate::noise`].
    Noisy {
        /// Share of the correct and of the incorrect verdicts that are exchanged, in [0, 1].
        flip_frac: f64,
        /// The verifier.
        reward: Box<RewardConfig>,
        /// Chooses which; none switches the noise off.
        #[serde(skip)]
        seed: Option<u64>,
    },
    /// The same score for every response.
    Constant {
        /// The score, finite.
        value: f64,
    },
    /// Preset: 0.5 · strict think/answer format + 1.0 · answer (as in Lingshu's RL stage, arXiv:2506.07044).
    LingshuRl {
        /// Judges the answer; `choice` when absent.
        #[serde(default = "choice")]
        answer: Box<RewardConfig>,
    },
    /// Preset: strict think/answer format gates the answer.
    Medvlthinker {
        /// Judges the answer; `choice` when absent.
        #[serde(default = "choice")]
        answer: Box<RewardConfig>,
    },
    /// Preset: 1 right, 0.1 wrong but answered, 0 no answer (as in HuatuoGPT-o1, arXiv:2412.18925).
    HuatuoO1 {
        /// Judges the answer; `choice` when absent.
        #[serde(default = "choice")]
        answer: Box<RewardConfig>,
    },
    /// Preset: the think block must close, then the answer counts.
    ThinkThenAnswer {
        /// Judges the answer; `math` when absent.
        #[serde(default = "math")]
        answer: Box<RewardConfig>,
    },
    /// Preset: the answer alone.
    AnswerOnly {
        /// Judges the answer; `math` when absent.
        #[serde(default = "math")]
        answer: Box<RewardConfig>,
    },
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

/// A reward configuration that cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No reward has this name.
    #[error("unknown reward {kind:?}; did you mean {nearest:?}? Known: {known}")]
    UnknownKind {
        /// As given.
        kind: String,
        /// The nearest valid one.
        nearest: &'static str,
        /// All of them.
        known: String,
    },
    /// This kind has no defaults for some of its fields.
    #[error("reward {kind:?} cannot be named alone: {reason}; write it in a config file")]
    NeedsFields {
        /// As given.
        kind: String,
        /// The first problem.
        reason: String,
    },
    /// A field has a value that makes no sense.
    #[error("reward {kind}: {reason}")]
    Invalid {
        /// Kind of the reward.
        kind: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// Every valid `kind`.
pub const KINDS: &[&str] = &[
    "math",
    "numeric",
    "exact",
    "choice",
    "format",
    "regex",
    "length",
    "countdown",
    "sudoku",
    "logic",
    "procedural",
    "plugin",
    "wasm",
    "code",
    "cosine_length",
    "yes_no",
    "yes_no_maybe",
    "any_of",
    "contains",
    "json_schema",
    "instructions",
    "rouge",
    "bleu",
    "token_f1",
    "repetition",
    "language",
    "sum",
    "gate",
    "all",
    "any",
    "product",
    "by_reference",
    "noisy",
    "constant",
    "lingshu_rl",
    "medvlthinker",
    "huatuo_o1",
    "think_then_answer",
    "answer_only",
];

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
            Self::Wasm(c) => c.resolve_paths(base),
            other => other.children().into_iter().for_each(|r| r.resolve_paths(base)),
        }
    }

    /// The rewards that this one is made of.
    fn children(&mut self) -> Vec<&mut Self> {
        match self {
            Self::Sum { terms } => terms.iter_mut().map(|t| &mut t.reward).collect(),
            Self::Gate { r#if, then, r#else } => {
                [Some(r#if), Some(then), r#else.as_mut()].into_iter().flatten().map(|r| &mut **r).collect()
            }
            Self::All { of } | Self::Any { of } | Self::Product { of } => of.iter_mut().collect(),
            Self::ByReference { present, absent, .. } => vec![present, absent],
            Self::Noisy { reward: answer, .. }
            | Self::LingshuRl { answer }
            | Self::Medvlthinker { answer }
            | Self::HuatuoO1 { answer }
            | Self::ThinkThenAnswer { answer }
            | Self::AnswerOnly { answer } => vec![answer],
            Self::CosineLength(c) => vec![&mut c.answer],
            Self::Math(_)
            | Self::Numeric(_)
            | Self::Exact(_)
            | Self::Choice(_)
            | Self::Format(_)
            | Self::Regex(_)
            | Self::Length(_)
            | Self::Countdown(_)
            | Self::Sudoku(_)
            | Self::Logic(_)
            | Self::Procedural(_)
            | Self::Plugin(_)
            | Self::Wasm(_)
            | Self::Code(_)
            | Self::YesNo(_)
            | Self::YesNoMaybe(_)
            | Self::AnyOf(_)
            | Self::Contains(_)
            | Self::JsonSchema(_)
            | Self::Instructions(_)
            | Self::Rouge(_)
            | Self::Bleu(_)
            | Self::TokenF1(_)
            | Self::Repetition(_)
            | Self::Language(_)
            | Self::Constant { .. } => Vec::new(),
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

    /// Checks the configuration and makes the reward.
    ///
    /// # Errors
    /// When a field has a value that makes no sense.
    pub fn build(self) -> Result<Box<dyn Reward>, ConfigError> {
        Ok(match self {
            Self::Math(c) => Box::new(Math::new(c)?),
            Self::Numeric(c) => Box::new(Numeric::new(c)?),
            Self::Exact(c) => Box::new(Exact::new(c)),
            Self::Choice(c) => Box::new(Choice::new(c)?),
            Self::Format(c) => Box::new(Format::new(c)?),
            Self::Regex(c) => Box::new(Pattern::new(c)?),
            Self::Length(c) => Box::new(Length::new(c)?),
            Self::Countdown(c) => Box::new(Countdown::new(c)),
            Self::Sudoku(c) => Box::new(Sudoku::new(c)),
            Self::Logic(c) => Box::new(Logic::new(c)),
            Self::Procedural(c) => Box::new(Procedural::new(c)?),
            Self::Plugin(c) => Box::new(Plugin::new(*c)?),
            Self::Wasm(c) => Box::new(Wasm::new(*c)?),
            Self::Code(c) => Box::new(Code::new(c)?),
            Self::CosineLength(c) => Box::new(CosineLength::new(c)?),
            Self::YesNo(c) => Box::new(YesNo::new(c, "yes_no")),
            Self::YesNoMaybe(c) => Box::new(YesNo::new(YesNoConfig { maybe: true, ..c }, "yes_no_maybe")),
            Self::AnyOf(c) => Box::new(AnyOf::new(c)?),
            Self::Contains(c) => Box::new(Contains::new(c)?),
            Self::JsonSchema(c) => Box::new(JsonSchema::new(c)?),
            Self::Instructions(c) => Box::new(Instructions::new(c)),
            Self::Rouge(c) => Box::new(Rouge::new(c)),
            Self::Bleu(c) => Box::new(Bleu::new(c)),
            Self::TokenF1(c) => Box::new(TokenF1::new(c)),
            Self::Repetition(c) => Box::new(Repetition::new(c)?),
            Self::Language(c) => Box::new(Language::new(c)?),
            Self::Sum { terms } => {
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
                Box::new(Composite::new("sum", Combine::Sum, built))
            }
            Self::Gate { r#if, then, r#else } => Box::new(Gate {
                condition: r#if.build()?,
                then: then.build()?,
                otherwise: r#else.map(|r| r.build()).transpose()?,
            }),
            Self::All { of } => combine("all", Combine::All, of)?,
            Self::Any { of } => combine("any", Combine::Any, of)?,
            Self::Product { of } => combine("product", Combine::Product, of)?,
            Self::ByReference { field, present, absent } => {
                Box::new(ByReference { field, present: present.build()?, absent: absent.build()? })
            }
            Self::Noisy { flip_frac, reward, seed } => {
                if !(0.0..=1.0).contains(&flip_frac) {
                    let reason = format!("flip_frac {flip_frac} does not lie in [0, 1]");
                    return Err(ConfigError::Invalid { kind: "noisy", reason });
                }
                if matches!(*reward, Self::Sum { .. } | Self::LingshuRl { .. } | Self::Noisy { .. }) {
                    let reason =
                        "flips the verdicts of one verifier; put it around the answer's, inside of it";
                    return Err(ConfigError::Invalid { kind: "noisy", reason: reason.into() });
                }
                let reward = reward.build()?;
                match seed {
                    Some(seed) => Box::new(Noisy::new(reward, flip_frac, seed)),
                    None => reward,
                }
            }
            Self::Constant { value } if value.is_finite() => Box::new(Constant(value)),
            Self::Constant { value } => {
                let reason = format!("value {value} is not finite");
                return Err(ConfigError::Invalid { kind: "constant", reason });
            }
            Self::LingshuRl { answer } => {
                let format = Self::Format(FormatConfig::default());
                let format = Term { weight: 0.5, name: Some("format".into()), reward: format };
                let answer = Term { weight: 1.0, name: Some("accuracy".into()), reward: *answer };
                return Self::Sum { terms: vec![format, answer] }.build();
            }
            Self::Medvlthinker { answer } => {
                let condition = Box::new(Self::Format(FormatConfig::default()));
                return Self::Gate { r#if: condition, then: answer, r#else: None }.build();
            }
            Self::HuatuoO1 { answer } => Box::new(AttemptCredit { answer: answer.build()?, wrong: 0.1 }),
            Self::ThinkThenAnswer { answer } => {
                let closed =
                    PatternConfig { pattern: r"(?s)^(?:\s*<think>)?.*?</think>".into(), capture: false };
                return Self::Gate { r#if: Box::new(Self::Regex(closed)), then: answer, r#else: None }
                    .build();
            }
            Self::AnswerOnly { answer } => return answer.build(),
        })
    }
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
mod tests {
    use super::*;
    use crate::reward::{Verdict, score_one};
    use crate::task::{Response, Task};

    #[derive(Deserialize)]
    struct Run {
        rewards: RewardConfig,
    }

    fn parse(text: &str) -> Result<RewardConfig, String> {
        toml::from_str::<Run>(text).map(|r| r.rewards).map_err(|e| e.to_string())
    }

    #[test]
    fn toml_reads_well() {
        let config = parse(
            r#"
            [rewards]
            kind = "sum"
            [[rewards.terms]]
            weight = 1.0
            reward = { kind = "math", extract = "lenient" }
            [[rewards.terms]]
            weight = 0.5
            name = "shape"
            reward = { kind = "format", style = "think_answer" }
            [[rewards.terms]]
            weight = 0.0
            reward = { kind = "length", max = 100, soft = 50, unit = "chars" }
            "#,
        )
        .unwrap();
        let reward = config.build().unwrap();
        let task = Task::new("1", serde_json::json!({"answer": "4"}));
        let text = "<think>2 + 2</think><answer>4</answer>";
        let outcome = score_one(&*reward, &task, Response::new(text));
        assert_eq!((outcome.score, outcome.verdict), (Some(1.5), Verdict::Correct));
        assert_eq!(outcome.parts.iter().map(|p| &*p.name).collect::<Vec<_>>(), ["math", "shape", "length"]);
        assert_eq!(outcome.extracted.as_deref(), Some("4"));
    }

    #[test]
    fn gate_and_nesting() {
        let config = parse(
            r#"
            [rewards]
            kind = "gate"
            if = { kind = "format" }
            then = { kind = "all", of = [{ kind = "exact" }, { kind = "numeric" }] }
            else = { kind = "constant", value = 0.1 }
            "#,
        );
        let reward = config.unwrap().build().unwrap();
        let task = Task::new("1", serde_json::json!({"answer": "4"}));
        let check = |text, want| {
            assert_eq!(score_one(&*reward, &task, Response::new(text)).score, Some(want), "{text}");
        };
        check("<think>a</think><answer>4</answer>", 1.0);
        check("<think>a</think><answer>5</answer>", 0.0);
        check("<answer>4</answer>", 0.1);
    }

    #[test]
    fn mistakes_are_named() {
        let check = |text: &str, want: &str| {
            let error =
                parse(text).and_then(|c| c.build().map(|_| ()).map_err(|e| e.to_string())).unwrap_err();
            assert!(error.contains(want), "{error}");
        };
        check("[rewards]\nkind = \"math\"\nfalback = \"last_number\"", "falback");
        check("[rewards]\nkind = \"maths\"", "maths");
        check("[rewards]\nkind = \"sum\"\nterms = []", "terms is empty");
        check("[rewards]\nkind = \"plugin\"\ncommand = []", "command is empty");
        check("[rewards]\nkind = \"plugin\"\ncommand = [\"x\"]\nworker = 2", "worker");
        check("[rewards]\nkind = \"plugin\"\ncommand = [\"x\"]\ntimeout_s = 0", "timeout_s 0");
        check("[rewards]\nkind = \"regex\"\npattern = \"(\"", "regex");
        check(
            "[rewards]\nkind = \"sum\"\nterms = [{ wieght = 1.0, reward = { kind = \"math\" } }]",
            "wieght",
        );
        let error = RewardConfig::from_kind("mth").unwrap_err();
        assert!(matches!(error, ConfigError::UnknownKind { nearest: "math", .. }), "{error}");
        assert!(RewardConfig::from_kind("sum").unwrap_err().to_string().contains("terms"));
    }

    #[test]
    fn plugins_run_beside_their_config_wherever_they_stand() {
        let plugin = r#"{ kind = "plugin", command = ["p"], cwd = "sub", config = { k = [1] } }"#;
        for text in [
            format!("rewards = {plugin}"),
            format!(r#"rewards = {{ kind = "sum", terms = [{{ reward = {plugin} }}] }}"#),
            format!(r#"rewards = {{ kind = "gate", if = {{ kind = "format" }}, then = {plugin} }}"#),
            format!(r#"rewards = {{ kind = "huatuo_o1", answer = {plugin} }}"#),
        ] {
            let mut config = parse(&text).unwrap();
            config.resolve_paths(Path::new("/conf"));
            let toml = toml::to_string(&config).unwrap();
            assert!(toml.contains(r#"cwd = "/conf/sub""#), "{toml}");
            assert_eq!(toml::from_str::<RewardConfig>(&toml).unwrap(), config);
        }
    }

    #[test]
    fn components_are_found_beside_their_config_and_need_the_feature() {
        let text = "[rewards]\nkind = \"wasm\"\npath = \"r.wasm\"\nconfig = { k = [1] }";
        let mut config = parse(text).unwrap();
        config.resolve_paths(Path::new("/conf"));
        let toml = toml::to_string(&config).unwrap();
        assert!(toml.contains(r#"path = "/conf/r.wasm""#) && toml.contains("memory_mb = 64"), "{toml}");
        assert_eq!(toml::from_str::<RewardConfig>(&toml).unwrap(), config);
        assert!(parse(&format!("{text}\nfule = 1")).unwrap_err().contains("fule"));
        let error = config.build().err().map(|e| e.to_string());
        match cfg!(feature = "wasm") {
            // The file is not read yet.
            true => assert_eq!(error, None),
            false => assert!(error.is_some_and(|e| e.contains("build it with `--features wasm`"))),
        }
    }

    #[test]
    fn every_listed_kind_exists() {
        for kind in KINDS {
            match RewardConfig::from_kind(kind) {
                Ok(config) => {
                    let json = serde_json::to_value(&config).unwrap();
                    assert_eq!(json["kind"], *kind);
                    assert_eq!(serde_json::from_value::<RewardConfig>(json).unwrap(), config);
                    config.build().map(|_| ()).unwrap();
                }
                Err(ConfigError::NeedsFields { .. }) => {}
                Err(other) => panic!("{kind}: {other}"),
            }
        }
    }
}
