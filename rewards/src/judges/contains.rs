//! `contains`: the response holds all, any or none of given strings.
//!
//! The strings come from the settings, or per task from `reference.all`, `reference.any`, `reference.none` (lists), which
//! take the place of the settings' lists. Case does not count unless asked; with `words` a string counts only where no
//! letter or digit continues it, so "art" is not found in "start". `graded` gives the share of the requirements that
//! hold: one for each string of `all` and `none`, one for `any`. Think blocks are dropped; a response with nothing but
//! thoughts is `no_answer`.
//!
//! Repeating a string or listing everything earns `all` and `any` alike: use `none`, a length, or `exact` beside it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::answer::extract::Think;
use crate::error::ConfigError;
use crate::judges::token_f1::{body, is_dense};
use crate::reward::{Outcome, Reward, RewardError, TaskError, Verdict};
use crate::task::{Response, Task};

/// Settings of the `contains` reward.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ContainsConfig {
    /// Strings that must all occur.
    pub all: Vec<String>,
    /// Strings of which one must occur.
    pub any: Vec<String>,
    /// Strings that must not occur.
    pub none: Vec<String>,
    /// Only whole words count. Default true.
    pub words: bool,
    /// Upper and lower case differ. Default false.
    pub case_sensitive: bool,
    /// Share of the requirements instead of all or nothing. Default false.
    pub graded: bool,
    /// Think tags. Default `strip`.
    pub think: Think,
}

impl Default for ContainsConfig {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            any: Vec::new(),
            none: Vec::new(),
            words: true,
            case_sensitive: false,
            graded: false,
            think: Think::Strip,
        }
    }
}

/// How often `needle` occurs in `text` as a whole word (or anywhere), without overlaps; both in the case to compare.
pub(crate) fn occurrences(text: &str, needle: &str, whole: bool) -> usize {
    if needle.is_empty() {
        return 0;
    }
    let solid = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() && !is_dense(c));
    let (first, last) = (solid(needle.chars().next()), solid(needle.chars().next_back()));
    (text.match_indices(needle))
        .filter(|(at, _)| {
            let before = solid(text[..*at].chars().next_back());
            let after = solid(text[at + needle.len()..].chars().next());
            !whole || !(first && before || last && after)
        })
        .count()
}

/// The `contains` reward.
pub struct Contains {
    config: ContainsConfig,
}

impl Contains {
    /// Checks the settings.
    ///
    /// # Errors
    /// When a string is empty.
    pub fn new(config: ContainsConfig) -> Result<Self, ConfigError> {
        let lists = [&config.all, &config.any, &config.none];
        if lists.iter().any(|l| l.iter().any(|s| s.trim().is_empty())) {
            return Err(ConfigError::Invalid { kind: "contains", reason: "a string is empty".into() });
        }
        Ok(Self { config })
    }

    /// The lists `all`, `any` and `none` for a task.
    fn lists(&self, task: &Task) -> [Vec<String>; 3] {
        let of = |name: &str, own: &[String]| match task.reference.get(name) {
            Some(Value::Array(list)) => {
                list.iter().filter_map(|v| v.as_str()).filter(|s| !s.is_empty()).map(str::to_string).collect()
            }
            Some(Value::String(one)) if !one.is_empty() => vec![one.clone()],
            _ => own.to_vec(),
        };
        [of("all", &self.config.all), of("any", &self.config.any), of("none", &self.config.none)]
    }
}

impl Reward for Contains {
    fn name(&self) -> &str {
        "contains"
    }

    fn score(&self, task: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        let lists = self.lists(task);
        if lists.iter().all(Vec::is_empty) {
            return Ok(Outcome::of(Verdict::Unverifiable, "contains", "no strings to look for"));
        }
        let body = match body(response.text, self.config.think, "contains") {
            Ok(body) => body,
            Err(outcome) => return Ok(*outcome),
        };
        let fold = |s: &str| if self.config.case_sensitive { s.to_string() } else { s.to_lowercase() };
        let text = fold(body);
        let has = |s: &String| occurrences(&text, &fold(s), self.config.words) > 0;
        let [all, any, none] = &lists;
        let mut held = 0;
        let mut missing = None;
        let mut check = |ok: bool, what: String| {
            held += usize::from(ok);
            if !ok && missing.is_none() {
                missing = Some(what);
            }
        };
        all.iter().for_each(|s| check(has(s), format!("lacks {s:?}")));
        none.iter().for_each(|s| check(!has(s), format!("has {s:?}")));
        if !any.is_empty() {
            check(any.iter().any(has), format!("lacks all of {any:?}"));
        }
        let total = all.len() + none.len() + usize::from(!any.is_empty());
        let work = response.text.len() as u64;
        let Some(reason) = missing else {
            return Ok(Outcome::of(Verdict::Correct, "contains", "all requirements hold").with_work(work));
        };
        let score = if self.config.graded { held as f64 / total as f64 } else { 0.0 };
        Ok(Outcome::graded(score, "contains", reason).with_work(work))
    }

    fn gold(&self, task: &Task) -> Option<String> {
        let [all, any, _] = self.lists(task);
        Some(all.into_iter().chain(any.into_iter().take(1)).collect::<Vec<_>>().join(" "))
            .filter(|s| !s.is_empty())
    }

    fn check_task(&self, task: &Task) -> Result<(), TaskError> {
        match self.lists(task).iter().all(Vec::is_empty) {
            true => Err(TaskError::MissingField { reward: "contains".into(), field: "all" }),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reward::score_one;
    use serde_json::json;

    #[test]
    fn words_lists_and_shares() {
        let check = |reference: Value, graded: bool, text: &str, want: f64| {
            let reward = Contains::new(ContainsConfig { graded, ..ContainsConfig::default() }).unwrap();
            let outcome = score_one(&reward, &Task::new("t", reference), Response::new(text));
            assert_eq!(outcome.score, Some(want), "{text:?} {}", outcome.reason);
        };
        check(json!({"all": ["art"]}), false, "Modern ART, they say", 1.0);
        check(json!({"all": ["art"]}), false, "a start", 0.0);
        check(json!({"all": ["北京"]}), false, "我在北京大学", 1.0);
        check(json!({"any": ["cat", "dog"]}), false, "a dog", 1.0);
        check(json!({"none": ["cat"]}), false, "a cat", 0.0);
        check(json!({"all": ["a", "b"], "none": ["c"]}), true, "b only", 2.0 / 3.0);
        check(json!({"all": ["b"]}), false, "<think>b</think> nothing", 0.0);
        assert!(
            Contains::new(ContainsConfig { all: vec![String::new()], ..ContainsConfig::default() }).is_err()
        );
    }
}
