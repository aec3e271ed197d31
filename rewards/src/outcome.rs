//! What a reward says of a response.

use serde::{Deserialize, Serialize};

/// How a response was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Right: full score.
    Correct,
    /// Wrong: an answer was found and it is not the reference.
    Incorrect,
    /// Something between.
    Partial,
    /// Nothing usable was extracted: score 0.
    NoAnswer,
    /// Conflicting or hedged answers: score 0.
    Ambiguous,
    /// The task cannot be judged (bad reference, or a budget ran out on it): no score, masked out of its group.
    Unverifiable,
    /// The reward itself broke: no score, counted, masked out of its group.
    Error,
}

impl Verdict {
    /// Whether an outcome with this verdict has no score.
    pub fn is_masked(self) -> bool {
        matches!(self, Self::Unverifiable | Self::Error)
    }
}

/// The judgement of one response.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Finite, or none when masked. In [0, 1] for every verifier; `length` lies in [-1, 0]; a weighted sum lies
    /// wherever its weights put it.
    pub score: Option<f64>,
    /// How it was judged.
    pub verdict: Verdict,
    /// The span of the response taken as the answer, as written.
    pub extracted: Option<String>,
    /// The reference in canonical form.
    pub gold: Option<String>,
    /// The extracted answer in canonical form.
    pub prediction: Option<String>,
    /// The rule that extracted and the rule that decided, as `boxed/rational`.
    pub method: String,
    /// One sentence for people.
    pub reason: String,
    /// The parts of a composition with their raw scores; empty for a single verifier.
    pub parts: Vec<Part>,
    /// Work spent, in steps of the verifier (tokens, nodes, comparisons); the same on every machine.
    pub work: u64,
}

/// One term of a composition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Name of the term; unique within its composition.
    pub name: String,
    /// Factor of the raw score in the total; 0 makes it a metric. 1 where the composition has no weights.
    pub weight: f64,
    /// Raw score before the weight; none when masked or not evaluated.
    pub score: Option<f64>,
    /// Verdict of this term alone.
    pub verdict: Verdict,
    /// Span this term took as the answer.
    pub extracted: Option<String>,
    /// Rule that decided.
    pub method: String,
    /// One sentence for people.
    pub reason: String,
    /// Parts of this term where it is a composition itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
}

impl Outcome {
    /// An outcome with the score that belongs to its verdict: 1 for correct, none when masked, 0 otherwise.
    pub fn of(verdict: Verdict, method: impl Into<String>, reason: impl Into<String>) -> Self {
        let score = match verdict {
            Verdict::Correct => Some(1.0),
            v if v.is_masked() => None,
            _ => Some(0.0),
        };
        Self {
            score,
            verdict,
            extracted: None,
            gold: None,
            prediction: None,
            method: method.into(),
            reason: reason.into(),
            parts: Vec::new(),
            work: 0,
        }
    }

    /// An outcome from a score in [0, 1]: correct at 1, incorrect at 0, partial between; an error when not finite.
    pub fn graded(score: f64, method: impl Into<String>, reason: impl Into<String>) -> Self {
        if !score.is_finite() {
            return Self::of(Verdict::Error, method, format!("score {score} is not finite"));
        }
        let verdict = match score {
            s if s >= 1.0 => Verdict::Correct,
            s if s <= 0.0 => Verdict::Incorrect,
            _ => Verdict::Partial,
        };
        Self { score: Some(score), ..Self::of(verdict, method, reason) }
    }

    /// The same outcome with the extracted span.
    pub fn with_extracted(mut self, span: impl Into<String>) -> Self {
        self.extracted = Some(span.into());
        self
    }

    /// The same outcome with the canonical reference.
    pub fn with_gold(mut self, gold: impl Into<String>) -> Self {
        self.gold = Some(gold.into());
        self
    }

    /// The same outcome with the canonical prediction.
    pub fn with_prediction(mut self, prediction: impl Into<String>) -> Self {
        self.prediction = Some(prediction.into());
        self
    }

    pub(crate) fn with_work(mut self, work: u64) -> Self {
        self.work = work;
        self
    }
}
