//! Messages to the text that a chat model was trained on: the Jinja templates that come with models.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value};
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

use crate::error::PolicyError;

/// A parsed chat template with the special tokens that it may name.
///
/// The environment is the one of transformers: blocks trimmed, `raise_exception`, `strftime_now`, Python's string and
/// dict methods, `tojson` as Python writes it. Unlike transformers, `strftime_now` gives UTC.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    path: PathBuf,
    variables: BTreeMap<String, Value>,
}

/// Name of the template within its environment.
const NAME: &str = "chat_template";

impl ChatTemplate {
    /// Parses a template. `path` is the file it comes from, for messages; `special_tokens` are visible to it under
    /// their names (`bos_token`, `eos_token`, …).
    ///
    /// # Errors
    /// A syntax error, with its line.
    pub fn new(
        source: &str,
        path: &Path,
        special_tokens: &BTreeMap<String, String>,
    ) -> Result<Self, PolicyError> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment
            .add_template_owned(NAME, without_generation_tags(source))
            .map_err(|e| template_error(path, &e))?;
        let mut variables: BTreeMap<_, _> =
            special_tokens.iter().map(|(name, token)| (name.clone(), Value::from(token))).collect();
        variables.insert("tools".into(), Value::from(()));
        variables.insert("documents".into(), Value::from(()));
        Ok(Self { environment, source: source.into(), path: path.into(), variables })
    }

    /// The template as it was given.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Sets a variable that the template reads, such as `enable_thinking` of Qwen3.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: impl Serialize) -> Self {
        self.variables.insert(name.into(), Value::from_serialize(value));
        self
    }

    /// The text of a conversation. A message serialises to a map with `role` and `content`; `add_generation_prompt`
    /// appends what precedes the assistant's reply.
    ///
    /// # Errors
    /// Whatever the template raises, with the template's line.
    pub fn render<M: Serialize>(
        &self,
        messages: &[M],
        add_generation_prompt: bool,
    ) -> Result<String, PolicyError> {
        let mut context = self.variables.clone();
        context.insert("messages".into(), Value::from_serialize(messages));
        context.insert("add_generation_prompt".into(), Value::from(add_generation_prompt));
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render(context))
            .map_err(|e| template_error(&self.path, &e))
    }
}

fn template_error(path: &Path, error: &Error) -> PolicyError {
    let problem = match error.detail() {
        Some(detail) if matches!(error.kind(), ErrorKind::InvalidOperation) => detail.to_owned(),
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    PolicyError::ChatTemplate { path: path.into(), line: error.line().unwrap_or(0), problem }
}

/// `{% generation %}` marks what the assistant says, for training masks in transformers; for rendering it does nothing.
/// The replacement keeps the line numbers.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let tag = &rest[start..start + length + 2];
        out.push_str(&rest[..start]);
        out.push_str(&match tag.trim_matches(['{', '}', '%', '-', '+']).trim() {
            "generation" => tag.replacen("generation", "if true", 1),
            "endgeneration" => tag.replacen("endgeneration", "endif", 1),
            _ => tag.to_owned(),
        });
        rest = &rest[start + length + 2..];
    }
    out.push_str(rest);
    out
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// `json.dumps(value, ensure_ascii=False)`, which unlike minijinja's own filter escapes nothing for HTML and puts
/// spaces after commas and colons.
fn to_json(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let ensure_ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    // The keys of minijinja's maps come sorted or in order, as it was built; sorting them again is not needed.
    let _: Option<bool> = options.get("sort_keys")?;
    options.assert_all_used()?;
    let text = match indent {
        Some(n) => serialize(value, PrettyFormatter::with_indent(" ".repeat(n.min(64)).as_bytes())),
        None => serialize(value, PythonFormatter(CompactFormatter)),
    };
    let text = text.map_err(|e| Error::new(ErrorKind::BadSerialization, e.to_string()))?;
    Ok(Value::from(if ensure_ascii { escape_non_ascii(&text) } else { text }))
}

fn serialize(value: &Value, formatter: impl Formatter) -> Result<String, serde_json::Error> {
    let mut bytes = Vec::new();
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn escape_non_ascii(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}

/// Python's separators: `", "` and `": "`.
struct PythonFormatter(CompactFormatter);

impl Formatter for PythonFormatter {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        self.begin_array_value(w, first)
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, w: &mut W) -> std::io::Result<()> {
        w.write_all(b": ")
    }
}

fn strftime_now(format: &str) -> Result<String, Error> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    strftime(seconds, format)
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

/// Seconds since 1970 in UTC, by the conversions that chat templates use.
fn strftime(seconds: u64, format: &str) -> Result<String, Error> {
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    let (mut year, mut day) = (1970, days);
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let day_of_year = day;
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    let (day, weekday) = (day + 1, DAYS[(days % 7) as usize]);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        out.push_str(&match chars.next() {
            Some('Y') => year.to_string(),
            Some('y') => format!("{:02}", year % 100),
            Some('m') => format!("{:02}", month + 1),
            Some('d') => format!("{day:02}"),
            Some('e') => format!("{day:2}"),
            Some('B') => MONTHS[month].to_owned(),
            Some('b' | 'h') => MONTHS[month][..3].to_owned(),
            Some('A') => weekday.to_owned(),
            Some('a') => weekday[..3].to_owned(),
            Some('j') => format!("{:03}", day_of_year + 1),
            Some('H') => format!("{hour:02}"),
            Some('I') => format!("{:02}", (hour + 11) % 12 + 1),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            Some('M') => format!("{minute:02}"),
            Some('S') => format!("{second:02}"),
            Some('F') => format!("{year}-{:02}-{day:02}", month + 1),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('%') => "%".to_owned(),
            other => {
                let other = other.map_or(String::new(), String::from);
                let problem = format!("strftime_now does not know %{other}");
                return Err(Error::new(ErrorKind::InvalidOperation, problem));
            }
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{golden, golden_json};

    fn template(source: &str) -> Result<ChatTemplate, PolicyError> {
        ChatTemplate::new(source, Path::new("chat_template.jinja"), &BTreeMap::new())
    }

    fn render(source: &str) -> String {
        template(source).unwrap().render(&[json!({"role": "user", "content": "hi"})], true).unwrap()
    }

    #[test]
    fn renders_as_transformers_does() {
        let golden = golden_json("policy/chat.json");
        let text = |key: &str| golden[key].as_str().unwrap().to_owned();
        let tokens = ["bos_token", "eos_token"].map(|k| (k.to_owned(), text(k))).into();
        let template = ChatTemplate::new(&text("template"), Path::new("x"), &tokens).unwrap();
        for case in golden["cases"].as_array().unwrap() {
            let messages = case["messages"].as_array().unwrap();
            let found = template.render(messages, case["add_generation_prompt"] == true).unwrap();
            assert_eq!(found, case["text"].as_str().unwrap());
        }
    }

    #[test]
    fn templates_of_the_golden_models() {
        for name in ["tiny-llama", "tiny-qwen2", "tiny-qwen3"] {
            let chat = golden_json(&format!("{name}.json"))["chat"].clone();
            let source =
                std::fs::read_to_string(golden(&format!("models/{name}/chat_template.jinja"))).unwrap();
            let found =
                template(&source).unwrap().render(chat["messages"].as_array().unwrap(), true).unwrap();
            assert_eq!(found, chat["text"].as_str().unwrap());
        }
    }

    #[test]
    fn errors_carry_the_line() {
        let message = template("a\nb {{ x \n").unwrap_err().to_string();
        assert!(message.contains("chat_template.jinja, line 2"), "{message}");
        let raising = template("\n\n{{ raise_exception('no ' ~ messages[0].role) }}").unwrap();
        let message = raising.render(&[json!({"role": "tool"})], true).unwrap_err().to_string();
        assert!(message.ends_with("line 3: no tool"), "{message}");
        let message = template("{{ messages[0].content.nope() }}").unwrap();
        let message = message.render(&[json!({"content": "x"})], true).unwrap_err().to_string();
        assert!(message.contains("line 1") && message.contains("nope"), "{message}");
    }

    #[test]
    fn json_like_python() {
        assert_eq!(render(r#"{{ [1, "é<", {"a": none}] | tojson }}"#), r#"[1, "é<", {"a": null}]"#);
        assert_eq!(render(r#"{{ ["é😀"] | tojson(ensure_ascii=true) }}"#), r#"["\u00e9\ud83d\ude00"]"#);
        assert_eq!(render("{{ {'a': [1]} | tojson(indent=2) }}"), "{\n  \"a\": [\n    1\n  ]\n}");
    }

    #[test]
    fn variables_and_generation_tags() {
        assert_eq!(
            render("a{%- generation -%} b {% endgeneration %}c {% raw %}{% x %}{% endraw %}"),
            "ab c {% x %}"
        );
        let t = template("{{ enable_thinking }}").unwrap().with_variable("enable_thinking", false);
        assert_eq!(t.render(&[json!({})], true).unwrap(), "False");
    }

    #[test]
    fn dates() {
        let check = |seconds, format: &str, expected: &str| {
            assert_eq!(strftime(seconds, format).unwrap(), expected);
        };
        check(0, "%d %b %Y %A", "01 Jan 1970 Thursday");
        check(951_782_400, "%Y-%m-%d %j %a", "2000-02-29 060 Tue");
        check(1_704_067_199, "%d %B %y %H:%M:%S %I %p %%", "31 December 23 23:59:59 11 PM %");
        assert!(strftime(0, "%Q").is_err());
    }
}
