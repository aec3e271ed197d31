//! The types of `rewards/wit/rlvr-reward.wit`. A component whose exports have other types is refused.

use wasmtime::component::{ComponentType, Lift, Lower};

use crate::outside::plugin::protocol::claimed;
use crate::reward::{Outcome, Verdict};
use crate::task::{Message, Response, Task};

/// The interface that a component exports.
pub(super) const JUDGE: &str = "rlvr:reward/judge@0.1.0";

#[derive(ComponentType, Lower)]
#[component(record)]
pub(super) struct PromptMessage<'a> {
    role: &'a str,
    content: &'a str,
}

impl<'a> PromptMessage<'a> {
    pub fn of(message: &'a Message) -> Self {
        Self { role: &message.role, content: &message.content }
    }
}

#[derive(ComponentType, Lower)]
#[component(record)]
pub(super) struct Item<'a> {
    id: &'a str,
    prompt: &'a [PromptMessage<'a>],
    completion: &'a str,
    truncated: bool,
    reference: &'a str,
    meta: &'a str,
}

impl<'a> Item<'a> {
    /// An item; `reference` and `meta` as JSON.
    pub fn new(
        task: &'a Task,
        response: Response<'a>,
        prompt: &'a [PromptMessage<'a>],
        [reference, meta]: [&'a str; 2],
    ) -> Self {
        let (completion, truncated) = (response.text, response.truncated);
        Self { id: &task.id, prompt, completion, truncated, reference, meta }
    }
}

#[derive(Clone, Copy, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "the derived Lift makes them of a byte")]
pub(super) enum Claim {
    #[component(name = "correct")]
    Correct,
    #[component(name = "incorrect")]
    Incorrect,
    #[component(name = "partial")]
    Partial,
    #[component(name = "no-answer")]
    NoAnswer,
    #[component(name = "ambiguous")]
    Ambiguous,
    #[component(name = "unverifiable")]
    Unverifiable,
}

impl From<Claim> for Verdict {
    fn from(claim: Claim) -> Self {
        match claim {
            Claim::Correct => Self::Correct,
            Claim::Incorrect => Self::Incorrect,
            Claim::Partial => Self::Partial,
            Claim::NoAnswer => Self::NoAnswer,
            Claim::Ambiguous => Self::Ambiguous,
            Claim::Unverifiable => Self::Unverifiable,
        }
    }
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct Judgement {
    score: Option<f64>,
    verdict: Option<Claim>,
    reason: String,
    extracted: Option<String>,
}

impl Judgement {
    /// The outcome, or how the judgement breaks the contract.
    pub fn outcome(self) -> Result<Outcome, String> {
        let verdict = self.verdict.map(Verdict::from);
        claimed("wasm", verdict, self.score, &self.reason, self.extracted.as_deref(), Some([0.0, 1.0]))
    }
}
