//! `language`: the response is written in a given language, as `whatlang` detects it from scripts and trigrams.
//!
//! The language is an ISO 639-3 code (`eng`, `cmn`, `deu`) or a two-letter one of the common languages, from the settings
//! or, before them, from `reference.language`. The text after think is judged, or with `whole` all of it, its first
//! 16 KiB. Fewer than `min_letters` letters, or a detection less sure than `min_confidence`, is `no_answer`: score 0, but
//! apart from a wrong language. Formulas and code in the response count as text; keep `min_confidence` low where there are many.

use serde::{Deserialize, Serialize};
use whatlang::Lang;

use crate::config::ConfigError;
use crate::extract;
use crate::reward::{Outcome, Reward, RewardError, TaskError, Verdict};
use crate::task::{Response, Task};
use crate::text;

/// Settings of the `language` reward.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LanguageConfig {
    /// Code of the language; `reference.language` goes before it. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Judge the thoughts, too. Default false.
    pub whole: bool,
    /// Letters that a judgement needs. Default 12.
    pub min_letters: usize,
    /// Confidence of the detection that a judgement needs, in [0, 1]. Default 0.2.
    pub min_confidence: f64,
}

impl Default for LanguageConfig {
    fn default() -> Self {
        Self { language: None, whole: false, min_letters: 12, min_confidence: 0.2 }
    }
}

/// The language with this code.
pub(crate) fn code(code: &str) -> Option<Lang> {
    let lower = code.trim().to_ascii_lowercase();
    let short = lower.split(['-', '_']).next().unwrap_or("");
    let long = match short {
        "en" => "eng",
        "zh" => "cmn",
        "zho" => "cmn",
        "es" => "spa",
        "fr" => "fra",
        "de" => "deu",
        "pt" => "por",
        "it" => "ita",
        "nl" => "nld",
        "ru" => "rus",
        "uk" => "ukr",
        "pl" => "pol",
        "cs" => "ces",
        "sv" => "swe",
        "da" => "dan",
        "no" => "nob",
        "nb" => "nob",
        "fi" => "fin",
        "tr" => "tur",
        "el" => "ell",
        "he" => "heb",
        "ar" => "ara",
        "fa" => "pes",
        "ur" => "urd",
        "hi" => "hin",
        "bn" => "ben",
        "pa" => "pan",
        "gu" => "guj",
        "mr" => "mar",
        "ta" => "tam",
        "te" => "tel",
        "kn" => "kan",
        "ml" => "mal",
        "ne" => "nep",
        "th" => "tha",
        "vi" => "vie",
        "id" => "ind",
        "ja" => "jpn",
        "ko" => "kor",
        "hu" => "hun",
        "ro" => "ron",
        "bg" => "bul",
        "hr" => "hrv",
        "sr" => "srp",
        "sk" => "slk",
        "sl" => "slv",
        "et" => "est",
        "lt" => "lit",
        "lv" => "lav",
        "ca" => "cat",
        "af" => "afr",
        "tl" => "tgl",
        "la" => "lat",
        "my" => "mya",
        "km" => "khm",
        "ka" => "kat",
        other => other,
    };
    Lang::from_code(long)
}

/// The language of a text with the confidence in [0, 1]; none when there is too little of it.
pub(crate) fn detect(body: &str) -> Option<(Lang, f64)> {
    whatlang::detect(text::head(body, 16 * 1024)).map(|info| (info.lang(), info.confidence()))
}

/// The `language` reward.
pub struct Language {
    config: LanguageConfig,
    own: Option<Lang>,
}

impl Language {
    /// Checks the settings.
    ///
    /// # Errors
    /// When the language is unknown or `min_confidence` is not in [0, 1].
    pub fn new(config: LanguageConfig) -> Result<Self, ConfigError> {
        let invalid = |reason: String| ConfigError::Invalid { kind: "language", reason };
        if !(0.0..=1.0).contains(&config.min_confidence) {
            return Err(invalid(format!("min_confidence must be in [0, 1], got {}", config.min_confidence)));
        }
        let own = match &config.language {
            Some(name) => Some(code(name).ok_or_else(|| invalid(format!("unknown language {name:?}")))?),
            None => None,
        };
        Ok(Self { config, own })
    }

    fn wanted(&self, task: &Task) -> Result<Lang, TaskError> {
        match task.reference.get("language").and_then(|v| v.as_str()) {
            Some(name) => code(name).ok_or_else(|| TaskError::BadGold {
                reward: "language".into(),
                gold: name.into(),
                reason: "unknown language".into(),
            }),
            None => self.own.ok_or(TaskError::MissingField { reward: "language".into(), field: "language" }),
        }
    }
}

impl Reward for Language {
    fn name(&self) -> &str {
        "language"
    }

    fn score(&self, task: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        let wanted = match self.wanted(task) {
            Ok(wanted) => wanted,
            Err(error) => return Ok(Outcome::of(Verdict::Unverifiable, "language", error.to_string())),
        };
        let body = match extract::strip_think(response.text, false) {
            _ if self.config.whole => response.text,
            Ok(body) => body,
            Err(missing) => return Ok(Outcome::of(Verdict::NoAnswer, "language", missing.reason())),
        };
        let letters = text::head(body, 16 * 1024).chars().filter(|c| c.is_alphabetic()).count();
        let found = detect(body).filter(|_| letters >= self.config.min_letters);
        let outcome = match found.filter(|(_, sure)| *sure >= self.config.min_confidence) {
            None => Outcome::of(Verdict::NoAnswer, "whatlang", "too little text to tell the language"),
            Some((lang, _)) => {
                let verdict = if lang == wanted { Verdict::Correct } else { Verdict::Incorrect };
                Outcome::of(verdict, "whatlang", format!("written in {}", lang.code()))
                    .with_prediction(lang.code())
            }
        };
        Ok(outcome.with_gold(wanted.code()).with_work(body.len().min(16 * 1024) as u64))
    }

    fn check_task(&self, task: &Task) -> Result<(), TaskError> {
        self.wanted(task).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reward::score_one;
    use serde_json::json;

    #[test]
    fn languages() {
        let check = |language: &str, text: &str, want: Verdict| {
            let reward = Language::new(LanguageConfig::default()).unwrap();
            let outcome =
                score_one(&reward, &Task::new("t", json!({"language": language})), Response::new(text));
            assert_eq!(outcome.verdict, want, "{text:?} {}", outcome.reason);
        };
        let english = "The patient has had a cough for three weeks and should see a doctor soon.";
        check("en", english, Verdict::Correct);
        check("deu", english, Verdict::Incorrect);
        check(
            "de",
            "Der Patient hustet seit drei Wochen und sollte bald zu einem Arzt gehen.",
            Verdict::Correct,
        );
        check("zh", "这位病人已经咳嗽了三个星期，应该尽快去看医生。", Verdict::Correct);
        check("en", "42", Verdict::NoAnswer);
        check("en", "<think>The patient has a cough", Verdict::NoAnswer);
        check("xx", english, Verdict::Unverifiable);
        assert!(
            Language::new(LanguageConfig { language: Some("xx".into()), ..LanguageConfig::default() })
                .is_err()
        );
    }
}
