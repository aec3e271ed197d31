//! `language`: most of the response is written in a given language.
//!
//! The language is an ISO 639-3 code (`eng`, `cmn`, `deu`) or a two-letter one of the common languages, from the settings
//! or, before them, from `reference.language`. The text after think is judged, or with `whole` all of it, its first
//! 16 KiB, without code, formulas, addresses and tags. Of its letters at least `min_share` must be in the language: its
//! script tells, and among languages of one script the commonest words and `whatlang`'s trigrams do. Terms of another
//! script inside of a sentence count a third, whole clauses in full. Too little text is `no_answer`: score 0, but apart
//! from a wrong language.
//!
//! | response (`zh`) | verdict |
//! |---|---|
//! | `我们使用 Python 的 sorted 函数。` | correct |
//! | `First we factor it. 然后我们得到两个根。 So the sum is five.` | incorrect |
//! | `42` | no answer |

mod plain;
mod share;

use serde::{Deserialize, Serialize};
use whatlang::Lang;

use crate::answer::extract;
use crate::answer::text;
use crate::error::ConfigError;
use crate::reward::{Outcome, Reward, RewardError, TaskError, Verdict};
use crate::task::{Response, Task};

/// Bytes of a text that are judged.
const BYTES: usize = 16 * 1024;

/// Settings of the `language` reward.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LanguageConfig {
    /// Code of the language; `reference.language` goes before it. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Judge the thoughts, too. Default false.
    pub whole: bool,
    /// Letters that a judgement needs; one of Chinese counts as three. Default 12.
    pub min_letters: usize,
    /// Share of the letters that must be in the language, in (0, 1]. Default 0.6.
    pub min_share: f64,
    /// Confidence in [0, 1] from which the trigrams are believed when they name another language. Default 0.3.
    pub min_confidence: f64,
}

impl Default for LanguageConfig {
    fn default() -> Self {
        Self { language: None, whole: false, min_letters: 12, min_share: 0.6, min_confidence: 0.3 }
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
    whatlang::detect(text::head(body, BYTES)).map(|info| (info.lang(), info.confidence()))
}

/// The share of `body` in a language, in [0, 1]; none when there are fewer than `min_letters` letters.
pub(crate) fn share_of(body: &str, lang: Lang, config: &LanguageConfig) -> Option<f64> {
    let prose = plain::prose(text::head(body, BYTES));
    if share::letters(&prose) < config.min_letters {
        return None;
    }
    Some(share::share(&prose, lang, config.min_confidence).value())
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
    /// When the language is unknown or a share does not lie in its range.
    pub fn new(config: LanguageConfig) -> Result<Self, ConfigError> {
        let invalid = |reason: String| ConfigError::Invalid { kind: "language", reason };
        if !(0.0..=1.0).contains(&config.min_confidence) {
            return Err(invalid(format!("min_confidence must be in [0, 1], got {}", config.min_confidence)));
        }
        if !(config.min_share > 0.0 && config.min_share <= 1.0) {
            return Err(invalid(format!("min_share must be in (0, 1], got {}", config.min_share)));
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
        let outcome = match share_of(body, wanted, &self.config) {
            None => Outcome::of(Verdict::NoAnswer, "share", "too little text to tell the language"),
            Some(share) => {
                let verdict =
                    if share >= self.config.min_share { Verdict::Correct } else { Verdict::Incorrect };
                let reason = format!("{:.0} % of it is in {}", 100.0 * share, wanted.code());
                let outcome = Outcome::of(verdict, "share", reason);
                match detect(body) {
                    Some((lang, _)) if verdict == Verdict::Incorrect => outcome.with_prediction(lang.code()),
                    _ => outcome.with_prediction(wanted.code()),
                }
            }
        };
        Ok(outcome.with_gold(wanted.code()).with_work(body.len().min(BYTES) as u64))
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

    #[test]
    fn mixed_and_short_texts() {
        let check = |language: &str, want: Verdict, texts: &[&str]| {
            let reward = Language::new(LanguageConfig::default()).unwrap();
            let task = Task::new("t", json!({"language": language}));
            for text in texts {
                let outcome = score_one(&reward, &task, Response::new(text));
                assert_eq!(outcome.verdict, want, "{language} {text:?} {}", outcome.reason);
            }
        };
        // Terms, code and formulas do not make another language of a text.
        let terms = [
            "我们使用 Python 的 sorted 函数。",
            "先用 quicksort 算法对 list 进行排序，时间复杂度是 $O(n \\log n)$。",
            "使用 pandas 的 DataFrame groupby 方法，然后求和。",
            "```python\ndef add(a, b):\n    return a + b\n```\n这个函数返回两个数的和。",
            "由 \\(x^2 - 5x + 6 = 0\\) 得 $x = 2$ 或 $x = 3$，所以答案是五。",
            "常见的协议有 TCP、UDP、HTTP、FTP，它们都在网络课程里讲过。",
            "因此最大的 n 是 34。",
            "这里调用 `torch.nn.functional.cross_entropy(logits, labels)` 计算损失函数。",
        ];
        check("zh", Verdict::Correct, &terms);
        check("en", Verdict::Incorrect, &terms[1..2]);
        check(
            "zh",
            Verdict::Incorrect,
            &[
                "First we factor the polynomial. 然后我们得到两个根，它们的和是五。 So the sum of the roots is five.",
                "The answer is five. 答案是五。",
                "```\nFirst we factor the polynomial and add both of its roots, which gives us five.\n```\n答案是五。",
                "$\\text{First we factor the polynomial and add both of its roots}$ 答案是五。",
                "`we factor the polynomial and add both of its roots` 答案是五。",
                "二つの根の和は五になります。",
                "두 근의 합은 다섯입니다.",
                "- Fast sorting\n- Low memory use\n- Stable order\n- 简单",
            ],
        );
        // A few words of a language that resembles others.
        check(
            "ru",
            Verdict::Correct,
            &["Сумма двух корней равна пяти.", "Мы получаем два корня.", "Ответ: пять яблок."],
        );
        check(
            "es",
            Verdict::Correct,
            &["La suma de las dos raíces es igual a cinco.", "Por lo tanto, son cinco."],
        );
        check("it", Verdict::Correct, &["La somma delle due radici è uguale a cinque."]);
        check("nl", Verdict::Correct, &["De som van de twee wortels is vijf."]);
        check("tr", Verdict::Correct, &["İki kökün toplamı beştir."]);
        check("ne", Verdict::Correct, &["आज राम्रो दिन हो र हामी पार्कमा जाँदैछौं।"]);
        check("ja", Verdict::Correct, &["二つの根の和は五になります。", "Python の sorted 関数を使います。"]);
        check("uk", Verdict::Correct, &["Сума двох коренів дорівнює п'яти."]);
        check(
            "ru",
            Verdict::Incorrect,
            &[
                "Сума двох коренів дорівнює п'яти.",
                "Сумата на двата корена е равна на пет, а това е отговорът.",
            ],
        );
        check(
            "es",
            Verdict::Incorrect,
            &[
                "La somma delle due radici è uguale a cinque.",
                "A soma das duas raízes é igual a cinco.",
                "The sum of the two roots is five.",
            ],
        );
        check(
            "en",
            Verdict::Incorrect,
            &["La suma de las dos raíces es igual a cinco.", "Die Summe der beiden Wurzeln ist fünf."],
        );
        check("ja", Verdict::Incorrect, &["两个根的和等于五，这就是最终答案。"]);
        check("hi", Verdict::Incorrect, &["आज छान दिवस आहे आणि आम्ही उद्यानात जात आहोत."]);
        check("zh", Verdict::NoAnswer, &["x = 42", "```python\nprint(1)\n```", "是"]);
        // Half of the sentences in each language are neither.
        let half = "The first root of the polynomial is two and the second root is three. \
                    La suma de las dos raíces del polinomio es igual a cinco y el producto es seis. \
                    Therefore the answer to this question is five. \
                    Por lo tanto la respuesta a esta pregunta es cinco.";
        check("en", Verdict::Incorrect, &[half]);
        check("es", Verdict::Incorrect, &[half]);
    }
}
