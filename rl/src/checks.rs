//! What is wrong with a config, field by field.

pub use rlvr_rollout::Problem;

/// Collects problems; every check is one call.
#[derive(Default)]
pub(crate) struct Checks {
    problems: Vec<Problem>,
}

impl Checks {
    /// Notes `message` at `field` unless `ok`.
    pub(crate) fn require(&mut self, ok: bool, field: impl Into<String>, message: impl Into<String>) {
        if !ok {
            self.problems.push(Problem { field: field.into(), message: message.into() });
        }
    }

    /// What was noted.
    pub(crate) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }
}
