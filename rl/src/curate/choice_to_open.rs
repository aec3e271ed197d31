//! `choice-to-open`: multiple-choice questions as open questions, where that can be done without their options.
//!
//! The text of the right option becomes the answer, shorter forms of it become aliases. A question is refused when its
//! options are part of it ("all of the above", "both A and B"), when its stem asks to compare or exclude options ("which
//! of the following is true", "except", "the best next step") or leaves the end open ("is associated with:"), or when its
//! answer is no word or phrase. Rules of words cannot see everything: a sample of the result should be read.

use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::error::CurateError;
use super::output::Output;
use super::scan::{Input, Watch, scan};
use crate::random;
use crate::rows::{self, Row};

const OPEN_STREAM: u64 = 0x6f70_656e;

/// Which questions are rewritten, and what becomes of the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OpenSettings {
    /// Most words of an answer. Default 6.
    pub max_answer_words: usize,
    /// Share of the suitable questions that is rewritten, in (0, 1]; the others stay as they are. A keyed hash of the
    /// id decides. Default 1.
    pub share: f64,
    /// Keep the questions that cannot be rewritten as they are. Default false: they go.
    pub keep_refused: bool,
    /// Seed of the choice. Default 0.
    pub seed: u64,
}

impl Default for OpenSettings {
    fn default() -> Self {
        Self { max_answer_words: 6, share: 1.0, keep_refused: false, seed: 0 }
    }
}

/// What becomes of a row.
enum Fate {
    /// It is no multiple-choice question.
    Other,
    /// It could be rewritten and is not, by its hash.
    Stays,
    Open(Value),
    Refused(&'static str),
}

/// Rewrites multiple-choice questions as open ones.
///
/// # Errors
/// [`CurateError`]: settings, rows or files that cannot be used.
pub fn choice_to_open(
    input: &Path,
    out: &mut Output,
    settings: &OpenSettings,
    watch: &dyn Watch,
) -> Result<Input, CurateError> {
    if !(settings.share > 0.0 && settings.share <= 1.0) {
        return Err(CurateError::Setting(format!(
            "the share {} must lie above 0 and at most at 1",
            settings.share
        )));
    }
    out.comes_from(input);
    let done = scan(input, "rewrite", watch, &|row| fate(row, settings), &mut |row, fate| match fate {
        Fate::Other => {
            out.count("no multiple choice: unchanged");
            out.keep(&row)
        }
        Fate::Stays => {
            out.count("suitable, left as choice by --share");
            out.keep(&row)
        }
        Fate::Open(open) => {
            out.count("rewritten");
            out.write(&open)
        }
        Fate::Refused(why) if settings.keep_refused => {
            out.count(&format!("refused, unchanged: {why}"));
            out.keep(&row)
        }
        Fate::Refused(why) => out.drop(&row, why, Value::Null),
    })?;
    Ok(done)
}

fn fate(row: &Row, settings: &OpenSettings) -> Result<Fate, String> {
    let options = rows::options(&row.fields);
    if options.is_empty() || row.fields.get("reference").is_some_and(|r| r.get("letters").is_some()) {
        return Ok(Fate::Other);
    }
    let Some(question) = rows::question(&row.fields) else {
        return Err(
            "a multiple-choice row needs its `question` without the options; rlvr data import keeps it"
                .into(),
        );
    };
    let Some(answer) = rows::answer(&row.fields) else {
        return Err("the row has no `reference.answer`".into());
    };
    if !options.contains(&answer) {
        return Err(format!("the answer {answer:?} is no label and no text of an option"));
    }
    Ok(match open(question, &options, &answer, settings.max_answer_words) {
        Err(why) => Fate::Refused(why),
        Ok(_) if draw(row, settings) >= settings.share => Fate::Stays,
        Ok(stem) => Fate::Open(Value::Object(rewritten(row, &stem, &options, &answer))),
    })
}

fn draw(row: &Row, settings: &OpenSettings) -> f64 {
    random::unit(&[settings.seed, OPEN_STREAM, random::hash_bytes(row.id().as_bytes())])
}

fn fixed(pattern: &str) -> Option<Regex> {
    Regex::new(pattern).ok()
}

fn matches(regex: &Option<Regex>, text: &str) -> bool {
    regex.as_ref().is_some_and(|regex| regex.is_match(text))
}

/// Options that speak of other options.
static REFERS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    fixed(
        r"(?ix)
        \b(?:all|none|any|both|either|neither|some|two|three)\s+(?:of\s+)?(?:the\s+|these\s+|them\b)?
            (?:above|below|these|those|them|following|options?|statements?|choices?|mentioned)\b
        | \b(?:of|from)\s+(?:the\s+)?(?:above|below|these|them|options?)\b
        | ^\W*(?:all|none|both|neither|any|either|nil|all\s+correct|all\s+true|none\s+correct|all\s+are\s+(?:true|correct))\W*$
        | \b(?:both|either|neither)\b.{0,40}\b(?:and|or|nor|&)\b
        | ^\W*(?:option\s+)?[\(\[]?[a-e1-5][\)\].]?(?:\s*(?:,|&|\+|and|or|/)\s*(?:option\s+)?[\(\[]?[a-e1-5][\)\].]?)+(?:\s+only)?\W*$
        | ^\W*(?:i{1,3}|iv|v)(?:\s*(?:,|&|and)\s*(?:i{1,3}|iv|v))+(?:\s+only)?\W*$
        | \bonly\s+[a-e]\b | \b[a-e]\s+only\b
        | \b(?:above|below)\s+(?:all|mentioned)\b | \ball\s+are\b",
    )
});

/// Stems that say what is not, or name an exception.
static NEGATED: LazyLock<Option<Regex>> = LazyLock::new(|| {
    fixed(
        r"(?i)\b(?:except|excepting|excluding|not|never|cannot|can't|isn't|aren't|doesn't|don't|won't|false|incorrect|wrong|untrue|unlikely|least|other than|without exception|contraindicated|odd one|inappropriate|mismatch(?:ed)?|unrelated|exclude[sd]?|incorrectly)\b",
    )
});

/// Stems that ask to judge statements or to rank what is offered.
static COMPARES: LazyLock<Option<Regex>> = LazyLock::new(|| {
    fixed(
        r"(?ix)
        \b(?:true|correct|best|better|worse|worst|appropriate|preferable|preferred|suitable|reasonable|accurate|helpful|useful)\b
        | \bnext\b.{0,40}\b(?:step|management|investigation|action|test|approach|be\s+done)\b
        | \b(?:which|what)\s+(?:one\s+)?(?:of\s+)?(?:these|the\s+(?:above|below|given|options|statements|two|four|five))\b
        | \b(?:statements?|combinations?|matched|match|pairs?|sequence|options?|arrange|assertion)\b
        | \b(?:more|less|greater|higher|lower|larger|smaller|faster|slower)\b.{0,40}\bthan\b
        | \b(?:following|below|above)\b",
    )
});

/// Stems that end where many things could follow: "is seen in:", "has:", "what are the features".
static MANY: LazyLock<Option<Regex>> = LazyLock::new(|| {
    fixed(
        r"(?i)(?:\b(?:associated with|(?:seen|found|noted|present) (?:in|with|on|as)|used (?:in|for|as|to)|include[sd]?|including|causes?|caused by|has|have|contains?|shows?|reveals?|produces?|results? in|leads? to|characteri[sz]ed by|resembles?|can be|may be|due to|an? example of|features? of|used))\W*$|\bwhat (?:are|were) (?:the|other|some)\b|\b(?:features?|examples?|disadvantages?|advantages?|functions?|uses)\b",
    )
});

/// The one use of "the following" that needs no options: a vignette that asks for what is most likely.
static VIGNETTE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    fixed(
        r"(?i)\bwhich (?:one )?of the following (is|was) (the (?:most (?:likely|probable) )(?:(?:underlying|primary|causative|initial) )?(?:diagnosis|cause|causative agent|causal organism|organism|pathogen|etiology|aetiology)\b)",
    )
});

/// What makes one of many the only one.
static ONE: LazyLock<Option<Regex>> =
    LazyLock::new(|| fixed(r"(?i)\b(?:most|commonest|diagnosis|of choice|only|called|known as)\b"));

/// Answers that judge the question instead of answering it.
static JUDGES: LazyLock<Option<Regex>> = LazyLock::new(|| {
    fixed(
        r"(?i)^\W*(?:yes|no|true|false|correct|incorrect|maybe|present|absent|increased?|decreased?|increases|decreases|unchanged|no change|same|normal|positive|negative|[a-e]|i{1,3}|iv)\W*$",
    )
});

/// The stem of the open question, or why there is none.
fn open(question: &str, options: &[String], answer: &str, max_words: usize) -> Result<String, &'static str> {
    let mut forms: Vec<String> = options.iter().map(|o| rows::normal_form(o)).collect();
    if options.iter().any(|o| matches(&REFERS, o)) {
        return Err("an option speaks of other options");
    }
    forms.sort_unstable();
    if forms.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("two options are the same");
    }
    if matches(&JUDGES, answer) {
        return Err("the answer only judges (yes, true, increased)");
    }
    let stem = match &*VIGNETTE {
        Some(regex) => regex.replace(question, ask).into_owned(),
        None => question.to_owned(),
    };
    // The last sentence asks; those before it tell, and may say "not" as they like.
    let last = last_sentence(&stem);
    if matches(&NEGATED, last) {
        return Err("the stem is negated");
    }
    if matches(&COMPARES, last) {
        return Err("the stem compares the options");
    }
    if matches(&MANY, last) && !matches(&ONE, last) {
        return Err("the stem has many right ends");
    }
    if question.split_whitespace().count() < 3 {
        return Err("the stem is too short to ask something");
    }
    let words = answer.split_whitespace().count();
    if words == 0 || !answer.chars().any(char::is_alphanumeric) {
        return Err("the answer has no words");
    }
    if words > max_words {
        return Err("the answer is longer than a phrase");
    }
    if format!(" {} ", rows::normal_form(&stem)).contains(&format!(" {} ", rows::normal_form(answer))) {
        return Err("the stem contains the answer");
    }
    Ok(stem)
}

/// "Which of the following is the most likely cause" without the options.
fn ask(found: &regex::Captures) -> String {
    let what = if found[0].starts_with('W') { "What" } else { "what" };
    format!("{what} {} {}", &found[1], &found[2])
}

/// What follows the last full stop inside the text.
fn last_sentence(text: &str) -> &str {
    let body = text.trim_end().trim_end_matches(['.', '?', ':', '!', '-', ' ', '_']);
    let ends = body.char_indices().filter(|(i, c)| {
        ".?!\n".contains(*c) && body[i + c.len_utf8()..].starts_with(char::is_whitespace) || *c == '\n'
    });
    // A stop after a single letter or inside "E. coli" ends nothing.
    let mut ends = ends.filter(|(i, c)| {
        *c != '.' || body[..*i].chars().rev().take_while(|c| c.is_alphanumeric()).count() > 1
    });
    ends.next_back().map_or(text, |(i, c)| &text[i + c.len_utf8()..])
}

/// Other forms of an answer that are as right: without a remark in brackets, the remark where it is an abbreviation,
/// without an article or a final stop.
fn aliases(answer: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let bare = answer.trim().trim_end_matches('.').trim();
    let mut add = |text: &str| {
        let text = text.trim().trim_end_matches(['.', ',']).trim();
        let new = text.chars().any(char::is_alphanumeric) && text != answer.trim();
        if new && !found.iter().any(|f| f == text) {
            found.push(text.to_owned());
        }
    };
    add(bare);
    if let (Some(open), true) = (bare.find(" ("), bare.ends_with(')')) {
        let (before, inside) = (&bare[..open], &bare[open + 2..bare.len() - 1]);
        add(before);
        let capitals = |text: &str| {
            text.len() > 1 && text.chars().filter(|c| c.is_uppercase()).count() * 2 >= text.len()
        };
        if !inside.contains(' ') && (capitals(inside) || capitals(before)) {
            add(inside);
        }
    }
    for article in ["the ", "a ", "an "] {
        let head = bare.get(..article.len()).unwrap_or_default();
        if head.eq_ignore_ascii_case(article) {
            add(&bare[article.len()..]);
        }
    }
    found
}

fn rewritten(row: &Row, stem: &str, options: &[String], answer: &str) -> Map<String, Value> {
    let mut fields = row.fields.clone();
    let context = fields.get("context").and_then(Value::as_str);
    let prompt = context.map_or_else(|| stem.to_owned(), |context| format!("{context}\n\n{stem}"));
    let label = rows::field(&row.fields, "reference.answer").cloned().unwrap_or(Value::Null);
    let mut reference = json!({"answer": answer.trim()});
    let aliases = aliases(answer);
    if !aliases.is_empty() {
        reference["aliases"] = json!(aliases);
    }
    let was =
        json!({"id": row.id(), "question": rows::question(&row.fields), "options": options, "answer": label});
    fields.insert("id".into(), json!(format!("{}-open", row.id())));
    fields.insert("prompt".into(), json!(prompt));
    fields.insert("question".into(), json!(stem));
    fields.insert("reference".into(), reference);
    for choice in ["options", "answer", "completion"] {
        fields.shift_remove(choice);
    }
    let mut meta = fields.get("meta").and_then(Value::as_object).cloned().unwrap_or_default();
    meta.insert("type".into(), json!("open"));
    meta.insert("choice".into(), was);
    fields.insert("meta".into(), Value::Object(meta));
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(question: &str, options: &[&str], answer: usize) -> Result<String, &'static str> {
        let options: Vec<String> = options.iter().map(|o| (*o).to_owned()).collect();
        open(question, &options, &options[answer], 6)
    }

    #[test]
    fn questions_that_stand_alone_are_rewritten() {
        let some = ["Thymoma", "Lymphoma", "Neurogenic tumor", "Cyst"];
        for question in [
            "Most common mediastinal tumor:",
            "What is the name of this tumor?",
            "A man does not drink and has not been ill. What is the diagnosis?",
            "The organism E. coli was not found. The tumor seen is",
        ] {
            assert_eq!(verdict(question, &some, 2).as_deref(), Ok(question));
        }
        assert_eq!(
            verdict("He coughs. Which of the following is the most likely diagnosis?", &some, 0).as_deref(),
            Ok("He coughs. What is the most likely diagnosis?")
        );
    }

    #[test]
    fn questions_that_need_their_options_are_refused() {
        let check = |question: &str, options: &[&str], why: &str| {
            assert_eq!(verdict(question, options, 0), Err(why), "{question} {options:?}");
        };
        let ask = "The enzyme of this step is called";
        for last in [
            "All of the above",
            "None of these",
            "None",
            "Both A and B",
            "A and C",
            "a & b",
            "1, 2 and 3",
            "Both of them",
            "All",
            "None of the options",
            "Neither insulin nor glucagon",
            "All are correct",
            "i and ii",
            "B only",
            "any of the above",
        ] {
            check(ask, &["ligase", "lipase", last], "an option speaks of other options");
        }
        let options = ["ligase", "lipase"];
        for question in [
            "All of these are enzymes except",
            "Which is not an enzyme?",
            "The least likely enzyme is",
            "Which is false about it",
            "Drug contraindicated in this patient is",
        ] {
            check(question, &options, "the stem is negated");
        }
        for question in [
            "Which of the following is an enzyme?",
            "The best enzyme is",
            "Which is true about enzymes?",
            "What is the next step in management?",
            "Which enzyme is faster than that?",
            "Match the enzymes here:",
        ] {
            check(question, &options, "the stem compares the options");
        }
        for question in ["Amyloid protein is associated with:", "What are the features of this disease?"] {
            check(question, &options, "the stem has many right ends");
        }
        check(ask, &["yes", "no"], "the answer only judges (yes, true, increased)");
        check(ask, &["ligase", "Ligase."], "two options are the same");
        check("Ligase is an enzyme called", &["ligase", "x"], "the stem contains the answer");
        check("Enzyme is", &options, "the stem is too short to ask something");
        check(
            ask,
            &["a long answer that nobody would write in this way", "x"],
            "the answer is longer than a phrase",
        );
    }

    #[test]
    fn aliases_are_shorter_forms() {
        let check = |answer: &str, expected: &[&str]| assert_eq!(aliases(answer), expected, "{answer}");
        check("Myocardial infarction (MI)", &["Myocardial infarction", "MI"]);
        check("The liver.", &["The liver", "liver"]);
        check("Lung (left lower lobe)", &["Lung"]);
        check("Thymoma", &[]);
    }
}
