//! `instructions`: verifiable instructions on form and content, the 25 families of IFEval (arXiv:2311.07911 table 1).
//!
//! `reference.instructions` lists them: `[{"id": "punctuation:no_comma"}, {"id": "length_constraints:number_words",
//! "kwargs": {"relation": "at least", "num_words": 100}}]`. The score is 1 when all hold (the paper's strict accuracy on
//! prompts) and with `partial` the share that holds. Written from the paper's descriptions; think blocks are dropped before.
//!
//! | id | kwargs | holds when |
//! |---|---|---|
//! | `keywords:existence` | `keywords` | all occur as words |
//! | `keywords:frequency` | `keyword`, `frequency`, `relation` | it occurs so often |
//! | `keywords:forbidden_words` | `forbidden_words` | none occurs |
//! | `keywords:letter_frequency` | `letter`, `let_frequency`, `let_relation` | the letter occurs so often, in either case |
//! | `language:response_language` | `language` | most of it is in that language |
//! | `length_constraints:number_words` · `number_sentences` | `num_words` · `num_sentences`, `relation` | so many; an abbreviation ends no sentence, and a Chinese character is a word |
//! | `length_constraints:number_paragraphs` | `num_paragraphs` | so many, separated by `***` |
//! | `length_constraints:nth_paragraph_first_word` | `num_paragraphs`, `nth_paragraph`, `first_word` | so many, separated by blank lines, and the n-th starts so |
//! | `detectable_content:postscript` | `postscript_marker` | a line starts with the marker (`P.S.`) |
//! | `detectable_content:number_placeholders` | `num_placeholders` | at least so many `[…]` |
//! | `detectable_format:number_bullet_lists` | `num_bullets` | exactly so many lines start with `* ` or `- ` |
//! | `detectable_format:title` | | a line holds `<<title>>` |
//! | `detectable_format:constrained_response` | | it is one of "My answer is yes.", "… no.", "… maybe." |
//! | `detectable_format:number_highlighted_sections` | `num_highlights` | at least so many `*…*` |
//! | `detectable_format:multiple_sections` | `section_spliter`, `num_sections` | at least so many "SECTION 1" |
//! | `detectable_format:json_format` | | all of it is JSON, a code fence aside |
//! | `combination:repeat_prompt` | `prompt_to_repeat` | it begins with the prompt and goes on |
//! | `combination:two_responses` | | two different responses separated by `******` |
//! | `change_case:english_capital` · `english_lowercase` | | no lower (upper) case letter, and English |
//! | `change_case:capital_word_frequency` | `capital_frequency`, `capital_relation` | so many words in capitals |
//! | `startend:end_checker` · `startend:quotation` | `end_phrase` | it ends so · it stands in double quotes |
//! | `punctuation:no_comma` | | no comma |
//!
//! Relations are "at least" (the default), "less than", "at most", "more than", "exactly". The empty response satisfies
//! nothing, although it has no comma.

mod sentences;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use whatlang::Lang;

use self::sentences::sentence_count;
use crate::answer::extract::Think;
use crate::judges::contains::occurrences;
use crate::judges::language;
use crate::judges::token_f1::{body, is_dense};
use crate::reward::{Outcome, Reward, RewardError, TaskError, Verdict};
use crate::task::{Response, Task};

/// Settings of the `instructions` reward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InstructionsConfig {
    /// Share of the instructions that hold instead of all or nothing. Default false.
    pub partial: bool,
    /// Think tags. Default `strip`.
    pub think: Think,
}

/// The `instructions` reward; its score lies in [0, 1].
pub struct Instructions {
    config: InstructionsConfig,
}

/// The arguments of an instruction.
struct Kwargs<'a>(&'a Value);

impl Kwargs<'_> {
    fn text(&self, name: &str) -> Result<&str, String> {
        let text = self.0.get(name).and_then(Value::as_str).filter(|s| !s.trim().is_empty());
        text.ok_or_else(|| format!("needs the text {name:?}"))
    }

    fn count(&self, name: &str) -> Result<usize, String> {
        let value = self.0.get(name).unwrap_or(&Value::Null);
        // Data sets write whole numbers as 3.0, too.
        let whole = value
            .as_u64()
            .or_else(|| value.as_f64().filter(|f| *f >= 0.0 && f.fract() == 0.0).map(|f| f as u64));
        whole.map(|n| n as usize).ok_or_else(|| format!("needs the number {name:?}"))
    }

    fn list(&self, name: &str) -> Result<Vec<String>, String> {
        let list =
            self.0.get(name).and_then(Value::as_array).ok_or_else(|| format!("needs the list {name:?}"))?;
        let list: Vec<String> =
            list.iter().filter_map(|v| v.as_str()).map(str::to_lowercase).filter(|s| !s.is_empty()).collect();
        if list.is_empty() { Err(format!("the list {name:?} is empty")) } else { Ok(list) }
    }

    fn relation(&self, name: &str, got: usize, want: usize) -> Result<bool, String> {
        match self.0.get(name).and_then(Value::as_str).unwrap_or("at least") {
            "at least" => Ok(got >= want),
            "less than" => Ok(got < want),
            "at most" => Ok(got <= want),
            "more than" => Ok(got > want),
            "exactly" => Ok(got == want),
            other => Err(format!("unknown relation {other:?}")),
        }
    }
}

/// Runs of letters, digits and `_`; a character of a script without spaces is a word.
fn word_count(text: &str) -> usize {
    let mut count = 0;
    let mut open = false;
    for c in text.chars() {
        let dense = is_dense(c);
        let solid = !dense && (c.is_alphanumeric() || c == '_');
        count += usize::from(dense || solid && !open);
        open = solid;
    }
    count
}

fn pieces<'a>(text: &'a str, mark: &str) -> Vec<&'a str> {
    text.split(mark).map(str::trim).filter(|p| !p.is_empty()).collect()
}

/// The texts between an opening and the next closing mark on one line, with something in between.
fn spans(text: &str, open: char, close: char) -> usize {
    let mut count = 0;
    for line in text.lines() {
        let mut rest = line;
        while let Some(at) = rest.find(open) {
            let inner = &rest[at + open.len_utf8()..];
            let Some(end) = inner.find(close) else { break };
            let held = !inner[..end].trim().is_empty();
            count += usize::from(held);
            // An empty pair ("**") opens a bold span: its second mark opens again.
            rest = if held { &inner[end + close.len_utf8()..] } else { &inner[end..] };
            if !held && open != close {
                rest = &rest[close.len_utf8()..];
            }
        }
    }
    count
}

/// Highlighted spans: `*…*`, or `**…**` counted once.
fn highlights(text: &str) -> usize {
    let text: Vec<String> =
        text.lines().map(|l| l.strip_prefix("* ").unwrap_or(l).replace("**", "\u{1}")).collect();
    let text = text.join("\n");
    spans(&text, '\u{1}', '\u{1}') + spans(&text, '*', '*')
}

fn is_english(text: &str) -> bool {
    // Detection works on usual case; too short a text is taken for English.
    language::detect(&text.to_lowercase()).is_none_or(|(lang, sure)| lang == Lang::Eng || sure < 0.5)
}

fn unfenced(text: &str) -> &str {
    let inner = text.trim().strip_prefix("```").and_then(|t| t.strip_suffix("```"));
    inner.map_or(text.trim(), |t| {
        t.strip_prefix("json").or_else(|| t.strip_prefix("JSON")).unwrap_or(t).trim()
    })
}

/// Whether `text` follows the instruction.
fn follows(id: &str, kwargs: &Kwargs<'_>, text: &str) -> Result<bool, String> {
    let text = text.trim();
    let lower = text.to_lowercase();
    let has = |word: &String| occurrences(&lower, word, true) > 0;
    Ok(match id {
        "keywords:existence" => kwargs.list("keywords")?.iter().all(has),
        "keywords:forbidden_words" => !kwargs.list("forbidden_words")?.iter().any(has),
        "keywords:frequency" => {
            let count = occurrences(&lower, &kwargs.text("keyword")?.trim().to_lowercase(), true);
            kwargs.relation("relation", count, kwargs.count("frequency")?)?
        }
        "keywords:letter_frequency" => {
            let letter = kwargs.text("letter")?.trim().to_lowercase();
            kwargs.relation("let_relation", lower.matches(&letter).count(), kwargs.count("let_frequency")?)?
        }
        "language:response_language" => {
            let name = kwargs.text("language")?;
            let wanted = language::code(name).ok_or_else(|| format!("unknown language {name:?}"))?;
            let config = language::LanguageConfig { min_letters: 1, ..Default::default() };
            language::share_of(text, wanted, &config).is_some_and(|share| share >= config.min_share)
        }
        "length_constraints:number_words" => {
            kwargs.relation("relation", word_count(text), kwargs.count("num_words")?)?
        }
        "length_constraints:number_sentences" => {
            kwargs.relation("relation", sentence_count(text), kwargs.count("num_sentences")?)?
        }
        "length_constraints:number_paragraphs" => {
            pieces(text, "***").len() == kwargs.count("num_paragraphs")?
        }
        "length_constraints:nth_paragraph_first_word" => {
            let unix = text.replace("\r\n", "\n");
            let list = pieces(&unix, "\n\n");
            let nth = kwargs.count("nth_paragraph")?;
            let first = kwargs.text("first_word")?.trim().to_lowercase();
            let word = nth.checked_sub(1).and_then(|i| list.get(i)).and_then(|p| p.split_whitespace().next());
            let word = word.map(|w| w.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase());
            list.len() == kwargs.count("num_paragraphs")? && word.as_deref() == Some(&*first)
        }
        "detectable_content:postscript" => {
            let marker = kwargs.text("postscript_marker")?.trim().to_lowercase();
            lower.lines().any(|l| l.trim_start_matches(|c: char| !c.is_alphanumeric()).starts_with(&marker))
        }
        "detectable_content:number_placeholders" => {
            spans(text, '[', ']') >= kwargs.count("num_placeholders")?
        }
        "detectable_format:number_bullet_lists" => {
            let bullet = |l: &&str| matches!(l.trim_start().get(..2), Some("* " | "- "));
            text.lines().filter(bullet).count() == kwargs.count("num_bullets")?
        }
        "detectable_format:title" => text.lines().any(|l| {
            l.find("<<").is_some_and(|a| {
                l[a + 2..].find(">>").is_some_and(|b| l[a + 2..a + 2 + b].chars().any(char::is_alphanumeric))
            })
        }),
        "detectable_format:constrained_response" => {
            ["my answer is yes.", "my answer is no.", "my answer is maybe."].contains(&&*lower)
        }
        "detectable_format:number_highlighted_sections" => {
            highlights(text) >= kwargs.count("num_highlights")?
        }
        "detectable_format:multiple_sections" => {
            let mark = kwargs.text("section_spliter")?.trim().to_lowercase();
            let numbered = |l: &&str| {
                let l = l.trim_start_matches(|c: char| !c.is_alphanumeric());
                l.strip_prefix(&*mark)
                    .is_some_and(|r| r.trim_start().starts_with(|c: char| c.is_ascii_digit()))
            };
            lower.lines().filter(numbered).count() >= kwargs.count("num_sections")?
        }
        "detectable_format:json_format" => {
            serde_json::from_str::<serde::de::IgnoredAny>(unfenced(text)).is_ok()
        }
        "combination:repeat_prompt" => {
            let prompt = kwargs.text("prompt_to_repeat")?.trim().to_lowercase();
            lower.strip_prefix(&prompt).is_some_and(|rest| rest.chars().any(char::is_alphanumeric))
        }
        "combination:two_responses" => {
            let list = pieces(text, "******");
            list.len() == 2 && list[0] != list[1]
        }
        "change_case:english_capital" => !text.chars().any(char::is_lowercase) && is_english(text),
        "change_case:english_lowercase" => !text.chars().any(char::is_uppercase) && is_english(text),
        "change_case:capital_word_frequency" => {
            let capital = |w: &&str| w.chars().any(char::is_uppercase) && !w.chars().any(char::is_lowercase);
            let words = text.split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '-');
            kwargs.relation(
                "capital_relation",
                words.filter(capital).count(),
                kwargs.count("capital_frequency")?,
            )?
        }
        "startend:end_checker" => {
            let end = kwargs.text("end_phrase")?.trim().to_lowercase();
            lower
                .trim_end_matches(['"', '”', '*', ' ', '\n'])
                .ends_with(end.trim_end_matches(['"', '”', '*']))
        }
        "startend:quotation" => {
            text.len() > 2
                && (text.starts_with('"') && text.ends_with('"')
                    || text.starts_with('“') && text.ends_with('”'))
        }
        "punctuation:no_comma" => !text.contains([',', '，', '、', '،']),
        other => return Err(format!("unknown instruction {other:?}")),
    })
}

impl Instructions {
    /// The reward with these settings.
    pub fn new(config: InstructionsConfig) -> Self {
        Self { config }
    }

    /// Each instruction with whether `text` follows it.
    fn check(task: &Task, text: &str) -> Result<Vec<(String, bool)>, TaskError> {
        let missing = || TaskError::MissingField { reward: "instructions".into(), field: "instructions" };
        let list = task.reference.get("instructions").and_then(Value::as_array).ok_or_else(missing)?;
        if list.is_empty() {
            return Err(missing());
        }
        let bad = |item: &Value, reason: String| TaskError::BadGold {
            reward: "instructions".into(),
            gold: item.to_string().chars().take(200).collect(),
            reason,
        };
        let mut out = Vec::with_capacity(list.len());
        for item in list.iter().take(64) {
            let id =
                item.get("id").and_then(Value::as_str).ok_or_else(|| bad(item, "it has no id".into()))?;
            let kwargs = Kwargs(item.get("kwargs").unwrap_or(&Value::Null));
            let held = follows(id, &kwargs, text).map_err(|reason| bad(item, reason))?;
            out.push((id.to_string(), held));
        }
        Ok(out)
    }
}

impl Reward for Instructions {
    fn name(&self) -> &str {
        "instructions"
    }

    fn score(&self, task: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        if let Err(error) = Self::check(task, "") {
            return Ok(Outcome::of(Verdict::Unverifiable, "instructions", error.to_string()));
        }
        let text = match body(response.text, self.config.think, "instructions") {
            Ok(text) => text,
            Err(outcome) => return Ok(*outcome),
        };
        let list = match Self::check(task, text) {
            Ok(list) => list,
            Err(error) => return Ok(Outcome::of(Verdict::Unverifiable, "instructions", error.to_string())),
        };
        let held = list.iter().filter(|(_, ok)| *ok).count();
        let reason = match list.iter().find(|(_, ok)| !ok) {
            Some((id, _)) => format!("{held} of {} hold; not {id}", list.len()),
            None => format!("all {held} hold"),
        };
        let share = held as f64 / list.len() as f64;
        let score = if self.config.partial || held == list.len() { share } else { 0.0 };
        let work = (response.text.len() * list.len()) as u64;
        Ok(Outcome::graded(score, "instructions", reason).with_work(work))
    }

    fn check_task(&self, task: &Task) -> Result<(), TaskError> {
        Self::check(task, "").map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reward::score_one;
    use serde_json::json;

    fn check(id: &str, kwargs: Value, good: &[&str], bad: &[&str]) {
        let reward = Instructions::new(InstructionsConfig::default());
        let task = Task::new("t", json!({"instructions": [{"id": id, "kwargs": kwargs}]}));
        reward.check_task(&task).unwrap();
        for (list, want) in [(good, 1.0), (bad, 0.0)] {
            for text in list {
                let outcome = score_one(&reward, &task, Response::new(text));
                assert_eq!(outcome.score, Some(want), "{id} {text:?} {}", outcome.reason);
            }
        }
    }

    #[test]
    fn words_and_lengths() {
        check(
            "keywords:existence",
            json!({"keywords": ["cat", "dog"]}),
            &["A Dog, a cat."],
            &["cats and dogs", "cat"],
        );
        check(
            "keywords:frequency",
            json!({"keyword": "cat", "frequency": 2, "relation": "at least"}),
            &["cat cat"],
            &["cat"],
        );
        check(
            "keywords:frequency",
            json!({"keyword": "cat", "frequency": 2.0, "relation": "less than"}),
            &["cat"],
            &["cat cat"],
        );
        check("keywords:forbidden_words", json!({"forbidden_words": ["cat"]}), &["a catalog"], &["a Cat"]);
        check(
            "keywords:letter_frequency",
            json!({"letter": "a", "let_frequency": 2, "let_relation": "at least"}),
            &["An ant"],
            &["an"],
        );
        check(
            "length_constraints:number_words",
            json!({"num_words": 3, "relation": "at least"}),
            &["a b c", "我们算"],
            &["a b", "我们"],
        );
        check(
            "length_constraints:number_sentences",
            json!({"num_sentences": 2, "relation": "less than"}),
            &["One is 1.5 here."],
            &["One. Two!"],
        );
        check(
            "length_constraints:number_paragraphs",
            json!({"num_paragraphs": 2}),
            &["a\n***\nb"],
            &["a", "a\n***\n\n***\n"],
        );
        check(
            "length_constraints:nth_paragraph_first_word",
            json!({"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Weekend"}),
            &["a b\n\nweekend, then"],
            &["weekend\n\na", "a\n\nweekend\n\nc"],
        );
    }

    #[test]
    fn content_and_format() {
        check(
            "language:response_language",
            json!({"language": "de"}),
            &["Das ist ein ganz gewöhnlicher deutscher Satz über das Wetter."],
            &["This is a sentence about the weather."],
        );
        check(
            "detectable_content:postscript",
            json!({"postscript_marker": "P.S."}),
            &["Hi\nP.S. bye"],
            &["Hi P.S."],
        );
        check(
            "detectable_content:number_placeholders",
            json!({"num_placeholders": 2}),
            &["[name] at [place]"],
            &["[name] []"],
        );
        check(
            "detectable_format:number_bullet_lists",
            json!({"num_bullets": 2}),
            &["* a\n* b", "- a\n- b"],
            &["* a", "**a**\n* b", "* a\n* b\n* c"],
        );
        check("detectable_format:title", json!({}), &["<<Joy>>\ntext"], &["<< >> a", "<Joy>"]);
        check(
            "detectable_format:constrained_response",
            json!({}),
            &["My answer is yes."],
            &["yes", "My answer is yes. My answer is no."],
        );
        check(
            "detectable_format:number_highlighted_sections",
            json!({"num_highlights": 2}),
            &["*a* and *b*", "**a** and *b*"],
            &["*a*", "** ** and *a*"],
        );
        check(
            "detectable_format:multiple_sections",
            json!({"section_spliter": "SECTION", "num_sections": 2}),
            &["SECTION 1\na\nSECTION 2\nb"],
            &["SECTION 1\na", "section section"],
        );
        check(
            "detectable_format:json_format",
            json!({}),
            &["{\"a\": 1}", "```json\n{\"a\": 1}\n```"],
            &["{a: 1}", "so {\"a\": 1}"],
        );
        check(
            "combination:repeat_prompt",
            json!({"prompt_to_repeat": "Say hi."}),
            &["Say hi. Hi!"],
            &["Hi!", "Say hi."],
        );
        check(
            "combination:two_responses",
            json!({}),
            &["a\n******\nb"],
            &["a", "a\n******\na", "a******b******c"],
        );
        check(
            "change_case:english_capital",
            json!({}),
            &["THIS IS ALL IN CAPITAL LETTERS."],
            &["This is not."],
        );
        check(
            "change_case:english_lowercase",
            json!({}),
            &["this is all in small letters."],
            &["This is not."],
        );
        check(
            "change_case:capital_word_frequency",
            json!({"capital_frequency": 2, "capital_relation": "at least"}),
            &["NASA and ESA"],
            &["NASA and Esa"],
        );
        check(
            "startend:end_checker",
            json!({"end_phrase": "That is all."}),
            &["Well. That is all."],
            &["That is all. Or not"],
        );
        check("startend:quotation", json!({}), &["\"hi\""], &["hi", "\"hi"]);
        check("punctuation:no_comma", json!({}), &["a b"], &["a, b", "", "<think>a</think>"]);
    }

    #[test]
    fn shares_and_bad_instructions() {
        let task = Task::new(
            "t",
            json!({"instructions": [{"id": "punctuation:no_comma"}, {"id": "startend:quotation"}]}),
        );
        let partial =
            Instructions::new(InstructionsConfig { partial: true, ..InstructionsConfig::default() });
        assert_eq!(score_one(&partial, &task, Response::new("hi")).score, Some(0.5));
        for reference in [
            json!({}),
            json!({"instructions": []}),
            json!({"instructions": [{"id": "x"}]}),
            json!({"instructions": [{"id": "keywords:existence"}]}),
        ] {
            assert!(partial.check_task(&Task::new("t", reference)).is_err());
        }
    }
}
