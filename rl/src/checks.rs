//! What is wrong with a config, field by field.

/// Something wrong with a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field with the tables around it, as in `stage.0.group_size`.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

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
