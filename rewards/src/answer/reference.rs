//! The answer within a reference: data sets give a bare answer, or a whole solution with a marked one.
//!
//! A reference with a mark (`\boxed{…}`, `<answer>`, `#### …`) goes through the extraction that a response goes through;
//! one that is no value by itself also when a cue such as "the answer is" stands in it. JSON numbers that have lost
//! digits are no reference.

use std::borrow::Cow;

use serde_json::Value;

use crate::answer::extract::{self, ExtractPolicy, Rule};
use crate::answer::text;
use crate::answer::words;
use crate::task::Task;

/// Words of a reference without a mark that make it a text and no answer.
const MAX_WORDS: usize = 40;

/// A reference that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unusable {
    /// The reference as given.
    pub gold: String,
    /// Why.
    pub reason: String,
}

/// Whether something marks the answer beyond doubt.
fn is_marked(reference: &str) -> bool {
    ["\\boxed", "\\fbox", "<answer", "####", "</think>"].iter().any(|mark| reference.contains(mark))
}

/// The marked answer of a reference, or the reference itself.
///
/// # Errors
/// Why a marked answer cannot be read.
pub(crate) fn marked(reference: &str) -> Result<Cow<'_, str>, String> {
    if !is_marked(reference) {
        return Ok(Cow::Borrowed(reference));
    }
    match extract::answer(reference, ExtractPolicy::default()) {
        Ok(answer) if is_marked(&answer.text) => Err("nothing stands behind its mark".into()),
        Ok(answer) => Ok(Cow::Owned(answer.text)),
        Err(missing) => Err(format!("its answer cannot be read: {}", missing.reason())),
    }
}

/// Whether a reference begins with a word, or goes over several lines: it may be a sentence or a solution.
pub(crate) fn is_prose(reference: &str) -> bool {
    let trimmed = reference.trim();
    let word = trimmed.chars().take_while(|c| c.is_alphabetic()).count();
    let dense = trimmed.chars().next().is_some_and(words::is_dense);
    trimmed.contains('\n') || word > 2 && (dense || trimmed.contains(' ')) || trimmed.starts_with("**")
}

/// The answer behind a cue in a reference that is no value by itself.
///
/// # Errors
/// When it is a text that marks no answer.
pub(crate) fn behind_cue(reference: &str) -> Result<Cow<'_, str>, String> {
    if let Ok(answer) = extract::answer(reference, ExtractPolicy::default())
        && matches!(answer.rule, Rule::Cue | Rule::Json)
    {
        return Ok(Cow::Owned(answer.text));
    }
    let words = reference.split_whitespace().count();
    match words > MAX_WORDS || words > MAX_WORDS / 4 && reference.trim().contains('\n') {
        true => Err(format!("it is a text of {words} words in which nothing marks the answer")),
        false => Ok(Cow::Borrowed(reference)),
    }
}

/// The references of a task, each as its marked answer.
///
/// # Errors
/// The first one that cannot be used.
pub(crate) fn answers(task: &Task) -> Result<Vec<String>, Unusable> {
    check_digits(task)?;
    (task.answers().into_iter())
        .map(|gold| match marked(&text::visible(&gold)) {
            Ok(answer) => Ok(answer.into_owned()),
            Err(reason) => Err(Unusable { gold: gold.clone(), reason }),
        })
        .collect()
}

/// Whether the reference has all digits that were written.
///
/// # Errors
/// A number that may have lost some.
pub(crate) fn check_digits(task: &Task) -> Result<(), Unusable> {
    let reason = || "as a JSON number it may have lost digits: write it as a string".into();
    lossy_number(task).map_or(Ok(()), |gold| Err(Unusable { gold, reason: reason() }))
}

/// An integer beyond 2^53 that was read as a double: nobody knows its last digits any more.
fn lossy_number(task: &Task) -> Option<String> {
    let answer = match &task.reference {
        Value::Object(fields) => fields.get("answer")?,
        other => other,
    };
    let list = if let Value::Array(items) = answer { items.as_slice() } else { std::slice::from_ref(answer) };
    list.iter().find_map(|value| match value {
        Value::Number(n) if n.is_f64() => {
            n.as_f64().filter(|f| f.abs() >= 9_007_199_254_740_992.0).map(|_| n.to_string())
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solutions_become_answers() {
        let check = |text: &str, want: &str| assert_eq!(marked(text).as_deref(), Ok(want), "{text:?}");
        check("9", "9");
        check("<answer> 9 </answer>", "9");
        check("She has 4 + 5 = <<4+5=9>>9.\n#### 9", "9");
        check("Hence $x = \\boxed{\\frac12}$ metres.", "\\frac12");
        check("First \\boxed{1}, but no: it is \\boxed{2}.", "2");
        check("<think>\\boxed{8}?</think> \\boxed{9}", "9");
        check("The answer is 9", "The answer is 9");
        assert!(marked("\\boxed{9").is_err());
        assert!(marked("#### ").is_err());
    }

    #[test]
    fn prose_needs_a_cue() {
        assert_eq!(behind_cue("Adding both we see that the answer is 9.").as_deref(), Ok("9"));
        assert_eq!(behind_cue("the mitral valve").as_deref(), Ok("the mitral valve"));
        assert!(behind_cue(&"and so on ".repeat(20)).is_err());
        assert!(behind_cue("We add both numbers.\nThat gives what we were looking for in the end.").is_err());
    }

    #[test]
    fn digits_that_json_loses() {
        let task = |text: &str| Task::new("t", serde_json::from_str(text).unwrap());
        assert!(answers(&task(r#"{"answer": 123456789012345678901234567890}"#)).is_err());
        assert!(answers(&task(r#"{"answer": [1, 1e20]}"#)).is_err());
        assert_eq!(answers(&task(r#"{"answer": 18446744073709551615}"#)).unwrap(), ["18446744073709551615"]);
        assert_eq!(answers(&task(r#"{"answer": "123456789012345678901234567890"}"#)).unwrap().len(), 1);
        assert_eq!(answers(&task(r#"{"answer": 0.1}"#)).unwrap(), ["0.1"]);
    }
}
