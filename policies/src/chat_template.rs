//! Messages to the text that a chat model was trained on: the Jinja templates that come with models.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::{Value, json};

use crate::error::PolicyError;
use crate::jinja::{Fault, Limits, Template};

/// A chat template with the special tokens that it may name.
///
/// It renders what `apply_chat_template` of transformers renders, in bounded work and memory, because it may come from
/// anyone. Unlike there, `strftime_now` gives UTC.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    parsed: Result<Template, Fault>,
    source: String,
    path: PathBuf,
    variables: BTreeMap<String, Value>,
}

/// Longest template, in bytes; the longest that models come with have some 30 thousand.
pub(crate) const MAX_SOURCE: usize = 1 << 20;

/// What a rendering may do and use whatever its messages, and further for every byte of them: hundreds of times what the
/// largest templates need.
const LIMITS: Limits = Limits { work: 20_000_000, memory: 128 << 20 };
const LIMITS_PER_BYTE: Limits = Limits { work: 100, memory: 200 };

/// Bytes that a rendering may have whatever its messages and the text of the template, and how often it may say what
/// messages say: the longest templates write some thousand. What is longer would be cut into tokens for minutes.
const MAX_ADDED: usize = 1 << 18;
const MAX_REPEATED: usize = 4;

/// Stands behind the last message while it is rendered, to be found again.
const CONTINUED: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

/// Names that every rendering sets itself.
pub const RESERVED_VARIABLES: [&str; 4] = ["messages", "tools", "documents", "add_generation_prompt"];

impl ChatTemplate {
    /// Reads a template. `path` is the file it comes from, for messages; `special_tokens` are visible to it under
    /// their names (`bos_token`, `eos_token`, …). One that does not parse fails when it is needed; see
    /// [`ChatTemplate::check`].
    pub fn new(source: &str, path: &Path, special_tokens: &BTreeMap<String, String>) -> Self {
        let parsed = if source.len() > MAX_SOURCE {
            let message = format!("is longer than {MAX_SOURCE} bytes");
            Err(Fault { line: 0, message })
        } else {
            Template::parse(source)
        };
        let tokens = special_tokens.iter().map(|(name, token)| (name.clone(), Value::from(token.as_str())));
        Self { parsed, source: source.into(), path: path.into(), variables: tokens.collect() }
    }

    /// Reads a template from a file, at once: one that cannot be used is an error.
    ///
    /// # Errors
    /// A file that cannot be read, is too long or no regular file, is not UTF-8, or does not parse.
    pub fn open(path: &Path, special_tokens: &BTreeMap<String, String>) -> Result<Self, PolicyError> {
        let bytes = crate::file::read(path, MAX_SOURCE as u64)?;
        let template = match String::from_utf8(bytes) {
            Ok(source) => Self::new(&source, path, special_tokens),
            Err(_) => Self::unusable("it is not UTF-8".into(), path, special_tokens),
        };
        template.check()?;
        Ok(template)
    }

    /// A template that fails when it is needed.
    pub(crate) fn unusable(problem: String, path: &Path, special_tokens: &BTreeMap<String, String>) -> Self {
        let parsed = Err(Fault { line: 0, message: problem });
        Self { parsed, ..Self::new("", path, special_tokens) }
    }

    /// The template as it was given.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the template can be used at all.
    ///
    /// # Errors
    /// A syntax error, with its line, or a template that is too long.
    pub fn check(&self) -> Result<(), PolicyError> {
        self.template().map(drop)
    }

    /// The same template with another text.
    #[must_use]
    pub fn with_source(&self, source: &str, path: &Path) -> Self {
        let variables = self.variables.clone();
        Self { variables, ..Self::new(source, path, &BTreeMap::new()) }
    }

    /// The same template with values for variables that it reads, such as `enable_thinking` of Qwen3, unless the caller
    /// of the template has others. They become part of its text, so that a saved policy is prompted in the same way.
    ///
    /// # Errors
    /// A variable that the template does not read, or that every rendering sets itself, such as a special token.
    pub fn with_defaults(&self, variables: &BTreeMap<String, Value>) -> Result<Self, PolicyError> {
        let template = self.template()?;
        let is_set = |name: &str| RESERVED_VARIABLES.contains(&name) || self.variables.contains_key(name);
        let mut lines = String::new();
        for (name, value) in variables {
            if is_set(name) || !template.reads(name) {
                let others = template.free_names().filter(|n| !is_set(n)).collect::<Vec<_>>().join(", ");
                let message = format!("reads no variable `{name}` that can be set (it reads: {others})");
                return Err(self.fault(&Fault { line: 0, message }));
            }
            lines.push_str(&format!(
                "{{%- if {name} is not defined %}}{{%- set {name} = {value} %}}{{%- endif %}}\n"
            ));
        }
        // A policy that was saved with them has them already.
        if self.source.starts_with(&lines) {
            return Ok(self.clone());
        }
        Ok(self.with_source(&(lines + &self.source), &self.path))
    }

    /// The text of a conversation. A message serialises to a map with `role` and `content`; `add_generation_prompt`
    /// appends what precedes the assistant's reply.
    ///
    /// # Errors
    /// A template that does not parse, whatever it raises, or a bound that it passes, with the template's line.
    pub fn render<M: Serialize>(
        &self,
        messages: &[M],
        add_generation_prompt: bool,
    ) -> Result<String, PolicyError> {
        let messages = serde_json::to_value(messages).map_err(PolicyError::json(&self.path))?;
        Ok(self.render_json(messages, add_generation_prompt)?.0)
    }

    /// The text of a whole conversation, and where what stands in `{% generation %}` blocks lies in it, in bytes: the turns of the
    /// assistant, with templates that mark them.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn render_marked<M: Serialize>(
        &self,
        messages: &[M],
    ) -> Result<(String, Vec<Range<usize>>), PolicyError> {
        let messages = serde_json::to_value(messages).map_err(PolicyError::json(&self.path))?;
        self.render_json(messages, false)
    }

    /// The text of a conversation up to the end of its last message, which is to be continued: nothing closes it.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`]; a conversation without messages, or a template that leaves the last one out.
    pub fn render_continued<M: Serialize>(&self, messages: &[M]) -> Result<String, PolicyError> {
        let mut messages = serde_json::to_value(messages).map_err(PolicyError::json(&self.path))?;
        let last = messages.as_array_mut().and_then(|m| m.last_mut()).and_then(|m| m.get_mut("content"));
        let last = match last {
            Some(Value::Array(parts)) => {
                if parts.last().is_none_or(|part| part.get("text").is_none()) {
                    parts.push(json!({"type": "text", "text": ""}));
                }
                parts.last_mut().and_then(|part| part.get_mut("text"))
            }
            content => content,
        };
        let Some(Value::String(content)) = last else {
            return Err(self.fault(&"there is no last message to continue".into()));
        };
        let text = content.trim().to_owned();
        content.push_str(CONTINUED);
        let (mut rendered, _) = self.render_json(messages, false)?;
        let tag = CONTINUED.trim_end();
        let Some(end) = rendered.rfind(tag).filter(|_| rendered.contains(&text)) else {
            return Err(self.fault(&"leaves out the last message, which is to be continued".into()));
        };
        let kept = rendered[end..].starts_with(CONTINUED);
        rendered.truncate(end);
        // A template that trims messages trims this one too.
        Ok(if kept { rendered } else { rendered.trim_end().to_owned() })
    }

    fn render_json(
        &self,
        messages: Value,
        add_generation_prompt: bool,
    ) -> Result<(String, Vec<Range<usize>>), PolicyError> {
        let size = messages.to_string().len();
        let most = MAX_ADDED + self.source.len() + MAX_REPEATED * size;
        let size = size as u64;
        let limits = Limits {
            work: LIMITS.work + size * LIMITS_PER_BYTE.work,
            memory: LIMITS.memory + size * LIMITS_PER_BYTE.memory,
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let set = [messages, Value::Null, Value::Null, Value::Bool(add_generation_prompt)];
        let context = RESERVED_VARIABLES.into_iter().zip(&set);
        let context = self.variables.iter().map(|(name, value)| (name.as_str(), value)).chain(context);
        let (text, generated) =
            self.template()?.render(context, limits, now).map_err(|fault| self.fault(&fault))?;
        if text.len() > most {
            let message = format!(
                "makes a prompt of {} bytes of messages of {size}, at most {most} are read",
                text.len()
            );
            return Err(self.fault(&Fault { line: 0, message }));
        }
        Ok((text, generated))
    }

    fn template(&self) -> Result<&Template, PolicyError> {
        self.parsed.as_ref().map_err(|fault| self.fault(fault))
    }

    fn fault(&self, fault: &Fault) -> PolicyError {
        let (line, problem) = (fault.line as usize, fault.message.clone());
        PolicyError::ChatTemplate { path: self.path.clone(), line, problem }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{golden, golden_json};

    fn template(source: &str) -> ChatTemplate {
        ChatTemplate::new(source, Path::new("chat_template.jinja"), &BTreeMap::new())
    }

    #[test]
    fn a_prompt_is_not_much_longer_than_what_is_asked() {
        let render = |source: &str, content: &str| {
            template(source).render(&[json!({"role": "user", "content": content})], true)
        };
        let clock = std::time::Instant::now();
        let message = render("{{ 'y'*6*10**7 }}", "hi").unwrap_err().to_string();
        assert!(message.contains("a prompt of 60000000 bytes"), "{message}");
        assert!(clock.elapsed().as_secs() < 5);
        let long = "a".repeat(1 << 20);
        assert_eq!(render("{{ messages[0].content * 3 }}", &long).unwrap().len(), 3 << 20);
        assert!(render("{{ messages[0].content * 5 }}", &long).is_err());
        assert_eq!(render("{{ 'y' * 200000 }}", "hi").unwrap().len(), 200_000);
    }

    #[test]
    fn renders_as_transformers_does() {
        let golden = golden_json("policy/chat.json");
        let text = |key: &str| golden[key].as_str().unwrap().to_owned();
        let tokens = ["bos_token", "eos_token"].map(|k| (k.to_owned(), text(k))).into();
        let template = ChatTemplate::new(&text("template"), Path::new("x"), &tokens);
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
            let found = template(&source).render(chat["messages"].as_array().unwrap(), true).unwrap();
            assert_eq!(found, chat["text"].as_str().unwrap());
        }
    }

    #[test]
    fn errors_carry_the_line() {
        let message = template("a\nb {{ x \n").check().unwrap_err().to_string();
        assert!(message.contains("chat_template.jinja, line 2"), "{message}");
        let raising = template("\n\n{{ raise_exception('no ' ~ messages[0].role) }}");
        let message = raising.render(&[json!({"role": "tool"})], true).unwrap_err().to_string();
        assert!(message.ends_with("line 3: no tool"), "{message}");
        let message = template("{{ messages[0].content.nope() }}");
        let message = message.render(&[json!({"content": "x"})], true).unwrap_err().to_string();
        assert!(message.contains("line 1") && message.contains("nope"), "{message}");
    }

    #[test]
    fn a_last_message_is_continued() {
        let chatml = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
        let messages = |content: &str| {
            [json!({"role": "user", "content": "q"}), json!({"role": "assistant", "content": content})]
        };
        let continued = |source: &str, content| template(source).render_continued(&messages(content));
        assert_eq!(continued(chatml, "So\n<think>").unwrap(), "<user>q</><assistant>So\n<think>");
        assert_eq!(continued(chatml, "So \n").unwrap(), "<user>q</><assistant>So \n");
        let trimming = chatml.replace("m.content", "m.content | trim");
        assert_eq!(continued(&trimming, "So \n").unwrap(), "<user>q</><assistant>So");
        let parts = "{% for m in messages %}<{{ m.role }}>{% for p in m.content %}{{ p.text }}{% endfor %}</>{% endfor %}";
        for (content, text) in
            [(json!([{"type": "text", "text": "a"}]), "<assistant>a"), (json!([]), "<assistant>")]
        {
            let messages = [json!({"role": "assistant", "content": content})];
            assert_eq!(template(parts).render_continued(&messages).unwrap(), text);
        }
        let cutting = chatml.replace("m.content", "m.content[:1]");
        assert!(continued(&cutting, "So").unwrap_err().to_string().contains("leaves out the last message"));
        assert!(template(chatml).render_continued::<Value>(&[]).is_err());
    }

    #[test]
    fn variables_are_written_into_the_template_once() {
        let thinking = template("{{ enable_thinking }}|{{ mode is defined }}");
        let set = |name: &str, value: Value| BTreeMap::from([(name.to_owned(), value)]);
        let off = thinking.with_defaults(&set("enable_thinking", json!(false))).unwrap();
        assert_eq!(off.render::<Value>(&[], true).unwrap(), "False|False");
        assert_eq!(template(off.source()).render::<Value>(&[], true).unwrap(), "False|False");
        let again = off.with_defaults(&set("enable_thinking", json!(false))).unwrap();
        assert_eq!(again.source(), off.source());
        let quoted = thinking.with_defaults(&set("mode", json!("it's \"é\"\n"))).unwrap();
        assert_eq!(quoted.render::<Value>(&[], true).unwrap(), "|True");
        for name in ["enable_thinkin", "messages"] {
            let message = thinking.with_defaults(&set(name, json!(1))).unwrap_err().to_string();
            assert!(
                message.contains(name) && message.contains("it reads: enable_thinking, mode"),
                "{message}"
            );
        }
    }

    #[test]
    fn special_tokens_are_no_variables_to_set() {
        let tokens = [("bos_token".to_owned(), "<s>".to_owned())].into();
        let template = ChatTemplate::new("{{ bos_token }}{{ mode }}{{ pad_token }}", Path::new("x"), &tokens);
        let set = |name: &str| template.with_defaults(&[(name.to_owned(), json!("y"))].into());
        let message = set("bos_token").unwrap_err().to_string();
        assert!(
            message.contains("`bos_token`") && message.contains("it reads: mode, pad_token"),
            "{message}"
        );
        assert_eq!(set("pad_token").unwrap().render::<Value>(&[], true).unwrap(), "<s>y");
    }

    #[test]
    fn hostile_templates_end_soon() {
        let ends = |source: &str, part: &str| {
            let message = template(source).render::<Value>(&[], true).unwrap_err().to_string();
            assert!(message.contains(part), "{source}: {message}");
        };
        let loops = "{% for a in range(99999) %}{% for b in range(99999) %}xxxx{% endfor %}{% endfor %}";
        ends(loops, "more memory");
        ends(
            "{% set n = namespace(x='xx') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
            "more memory",
        );
        ends("{% macro m(n) %}{{ m(n - 1) }}{{ m(n - 2) }}{% endmacro %}{{ m(99) }}", "too deeply");
        ends(
            "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
            "more work",
        );
        let name = "a".repeat(MAX_SOURCE / 2);
        ends(
            &format!("{{% for i in range(99999) %}}{{% if {name} %}}{{% endif %}}{{% endfor %}}"),
            "255 bytes",
        );
        ends(
            "{% set n = namespace(x=1) %}{% for i in range(99) %}{% set n.x = (n.x, n.x) %}{% endfor %}{{ {n.x: 1} }}",
            "more memory",
        );
        ends(
            "{% set c = 'b' * 9999999 %}{% for i in range(99999) %}{% set d = 'a'.strip(c) %}{% endfor %}",
            "more work",
        );
        ends(
            "{% set t = '\\n' * 99999999 %}{% for i in range(99999) %}{% set d = t.splitlines() %}{% endfor %}",
            "more memory",
        );
        assert!(template(&" ".repeat(MAX_SOURCE + 1)).check().unwrap_err().to_string().contains("bytes"));
    }

    /// Renders conversations that something else rendered. `RLVR_TEMPLATES` is a file of JSON rows
    /// `{"file", "template", "context", "want": {"text"} or {"error"}}`.
    #[test]
    #[ignore = "needs a file of templates with what they render"]
    fn given_templates() {
        let path = std::env::var_os("RLVR_TEMPLATES").expect("RLVR_TEMPLATES names a file");
        let mut counts: BTreeMap<String, [usize; 2]> = BTreeMap::new();
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            let context = row["context"].as_object().unwrap().iter().map(|(k, v)| (k.as_str(), v));
            let now = row["now"].as_u64().unwrap_or(0);
            let found = Template::parse(row["template"].as_str().unwrap())
                .and_then(|t| t.render(context, LIMITS, now))
                .map(|(text, _)| text);
            let same = found.as_ref().ok().map(String::as_str) == row["want"]["text"].as_str();
            counts.entry(row["file"].as_str().unwrap().into()).or_default()[usize::from(same)] += 1;
            if !same {
                println!("{} {}: {found:?}, not {}", row["file"], row["case"], row["want"]);
            }
        }
        let whole = counts.values().filter(|[different, _]| *different == 0).count();
        println!("{whole} of {} templates equal in every rendering", counts.len());
        assert_eq!(whole, counts.len());
    }

    #[test]
    fn generation_blocks_are_found_where_they_stand() {
        let marked = template(
            "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}</>{% endgeneration %}\
             {% else %}{{ m.content }}</>{% endif %}{% endfor %}",
        );
        let messages = [("user", "ü"), ("assistant", "yes"), ("user", "b"), ("assistant", "")];
        let messages = messages.map(|(role, content)| json!({"role": role, "content": content}));
        let (text, found) = marked.render_marked(&messages).unwrap();
        let found: Vec<&str> = found.into_iter().map(|range| &text[range]).collect();
        assert_eq!(found, ["yes</>", "</>"]);
        // What is captured first stands nowhere yet.
        let captured = template("{% set x %}{% generation %}a{% endgeneration %}{% endset %}--{{ x }}");
        assert_eq!(captured.render_marked(&messages).unwrap(), ("--a".to_owned(), vec![]));
    }
}
