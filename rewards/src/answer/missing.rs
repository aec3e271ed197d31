//! Why a response gives no answer.

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// `<think>` does not close.
    UnclosedThink,
    /// Nothing marks an answer.
    NotFound,
    /// The last answer is denied ("not 42").
    Negated,
    /// The last answer is taken back and no other is given.
    Retracted,
    /// The answer is longer than [`SPAN_BYTES`](super::extract::SPAN_BYTES).
    TooLong,
}

impl Missing {
    /// For people.
    pub fn reason(self) -> &'static str {
        match self {
            Self::UnclosedThink => "the think block does not close",
            Self::NotFound => "no explicit answer",
            Self::Negated => "the last answer is denied",
            Self::Retracted => "the last answer is taken back",
            Self::TooLong => "the answer is longer than 4 KiB",
        }
    }
}
