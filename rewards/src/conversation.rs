//! Prompts as data sets write them: text, or a conversation. Every command reads them here.

use crate::image::IMAGE_PLACE;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One message of a prompt. It is read as [`conversation`] reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value")]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl TryFrom<Value> for Message {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        message(&value, "message")
    }
}

/// The messages of a prompt: text is one message of the user, a list is read by [`conversation`]. `key` is what the
/// prompt is called, for messages.
///
/// # Errors
/// What [`conversation`] refuses, and whatever is neither text nor a list; the key at fault is named.
pub fn prompt_messages(value: &Value, key: &str) -> Result<Vec<Message>, String> {
    match value {
        Value::String(text) => Ok(vec![Message { role: "user".into(), content: text.clone() }]),
        other => conversation(other, key),
    }
}

/// The messages of a conversation: objects with `role` and `content`, which is text or a list of parts
/// `{"type": "text", "text": …}` that are joined. Further keys may be there if they are null.
///
/// # Errors
/// Anything else, such as images, tool calls or a name, with the path of the key: what a policy would not see of a prompt
/// must not be dropped in silence.
pub fn conversation(value: &Value, key: &str) -> Result<Vec<Message>, String> {
    match value {
        Value::Array(list) if list.is_empty() => Err(format!("`{key}` has no messages")),
        Value::Array(list) => {
            list.iter().enumerate().map(|(i, m)| message(m, &format!("{key}[{i}]"))).collect()
        }
        Value::Object(fields) if fields.contains_key("role") => {
            Err(format!("`{key}` is a single message: put it into a list"))
        }
        other => Err(format!("`{key}` must be text or a list of messages, not {}", kind(other))),
    }
}

/// The same with pictures: parts `{"type": "image", "image": …}`, and `{"type": "image_url", "image_url": {"url": …}}`
/// as OpenAI's interface has them, are [`IMAGE_PLACE`] in the text, and their values come in
/// their order, null where a part does not say which picture it is. Text that spells out a place beside such parts is refused.
///
/// # Errors
/// As [`prompt_messages`].
pub fn seen_messages(value: &Value, key: &str) -> Result<(Vec<Message>, Vec<Value>), String> {
    let Value::Array(list) = value else { return Ok((prompt_messages(value, key)?, Vec::new())) };
    let mut images = Vec::new();
    let mut messages = Vec::with_capacity(list.len());
    for (i, message) in list.iter().enumerate() {
        let mut message = message.clone();
        let parts = message.get_mut("content").and_then(Value::as_array_mut);
        for (j, part) in parts.into_iter().flatten().enumerate() {
            let at = format!("{key}[{i}].content[{j}]");
            if part.get("type").and_then(Value::as_str).is_some_and(|kind| IMAGE_PARTS.contains(&kind)) {
                images.push(image_of(part));
                *part = serde_json::json!({"type": "text", "text": IMAGE_PLACE});
            } else if part.get("text").and_then(Value::as_str).is_some_and(|text| text.contains(IMAGE_PLACE))
            {
                return Err(format!("`{at}.text` has {IMAGE_PLACE} in it, which stands for images only"));
            }
        }
        messages.push(self::message(&message, &format!("{key}[{i}]"))?);
    }
    if messages.is_empty() {
        return Err(format!("`{key}` has no messages"));
    }
    Ok((messages, images))
}

/// What parts that are pictures are called: by Hugging Face's templates, and by OpenAI's interface.
const IMAGE_PARTS: [&str; 2] = ["image", "image_url"];

/// What a part says of its picture: its value, or that of an object with `url`.
fn image_of(part: &Value) -> Value {
    let said = |of: &Value, keys: &[&str]| -> Option<Value> {
        keys.iter().find_map(|key| of.get(*key).filter(|v| !v.is_null())).cloned()
    };
    let image = said(part, &["image", "image_url", "path", "url"]).unwrap_or(Value::Null);
    said(&image, &["url"]).unwrap_or(image)
}

/// One message; `at` is its path.
pub(crate) fn message(value: &Value, at: &str) -> Result<Message, String> {
    let Value::Object(fields) = value else {
        return Err(format!("`{at}` must be an object with `role` and `content`, not {}", kind(value)));
    };
    nothing_else(fields, &["role", "content"], at, "a message has `role` and `content`")?;
    let role = match fields.get("role") {
        Some(Value::String(role)) if !role.is_empty() => role.clone(),
        Some(other) => {
            return Err(format!("`{at}.role` must be a name such as \"user\", not {}", kind(other)));
        }
        None => return Err(format!("`{at}` has no `role`")),
    };
    let content = match fields.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let parts = parts.iter().enumerate().map(|(i, p)| part(p, &format!("{at}.content[{i}]")));
            parts.collect::<Result<String, String>>()?
        }
        Some(other) => return Err(format!("`{at}.content` must be text, not {}", kind(other))),
        None => return Err(format!("`{at}` has no `content`")),
    };
    Ok(Message { role, content })
}

/// The text of a part of a message.
fn part<'v>(value: &'v Value, at: &str) -> Result<&'v str, String> {
    let Value::Object(fields) = value else {
        return Err(format!("`{at}` must be {{\"type\": \"text\", \"text\": …}}, not {}", kind(value)));
    };
    match fields.get("type") {
        Some(Value::String(name)) if name == "text" => {}
        Some(other) => return Err(format!("`{at}.type` is {other}: a policy reads \"text\" only")),
        None => return Err(format!("`{at}` has no `type`")),
    }
    nothing_else(fields, &["type", "text"], at, "a part has `type` and `text`")?;
    let text = fields.get("text").and_then(Value::as_str);
    text.ok_or_else(|| format!("`{at}.text` must be text"))
}

/// Refuses keys that say something and would not be read.
fn nothing_else(fields: &Map<String, Value>, known: &[&str], at: &str, what: &str) -> Result<(), String> {
    let unread = fields.iter().find(|(key, value)| !known.contains(&key.as_str()) && !value.is_null());
    unread.map_or(Ok(()), |(key, _)| Err(format!("`{at}.{key}` is not supported: {what}")))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(text) if text.is_empty() => "empty text",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(role: &str, content: &str) -> Message {
        Message { role: role.into(), content: content.into() }
    }

    #[test]
    fn what_is_harmless_is_read() {
        let read = |value: Value| prompt_messages(&value, "prompt").unwrap();
        assert_eq!(read(json!("q")), [text("user", "q")]);
        let messages = json!([
            {"role": "system", "content": "s", "name": null, "tool_calls": null},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b", "image": null}]},
            {"role": "assistant", "content": ""},
        ]);
        assert_eq!(read(messages), [text("system", "s"), text("user", "ab"), text("assistant", "")]);
    }

    #[test]
    fn the_rest_is_refused_with_its_key() {
        for (value, part) in [
            (json!(null), "`prompt` must be text or a list of messages, not null"),
            (json!(3), "not a number"),
            (json!([]), "`prompt` has no messages"),
            (json!({"role": "user", "content": "q"}), "`prompt` is a single message: put it into a list"),
            (json!({"a": 1}), "not an object"),
            (json!(["q"]), "`prompt[0]` must be an object"),
            (json!([{"role": "user", "content": "q", "name": "bob"}]), "`prompt[0].name` is not supported"),
            (
                json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": null}]),
                "`prompt[1].content` must be text, not null",
            ),
            (json!([{"role": "assistant", "content": "", "tool_calls": []}]), "`prompt[0].tool_calls`"),
            (json!([{"role": "user"}]), "`prompt[0]` has no `content`"),
            (json!([{"content": "q"}]), "`prompt[0]` has no `role`"),
            (json!([{"role": null, "content": "q"}]), "`prompt[0].role`"),
            (
                json!([{"role": "user", "content": [{"type": "image", "image": "x"}]}]),
                "`prompt[0].content[0].type` is \"image\"",
            ),
            (
                json!([{"role": "user", "content": [{"type": "text", "text": "q", "cache_control": {}}]}]),
                "`prompt[0].content[0].cache_control`",
            ),
            (json!([{"role": "user", "content": ["q"]}]), "`prompt[0].content[0]` must be"),
            (json!([{"role": "user", "content": [{"type": "text"}]}]), "`prompt[0].content[0].text`"),
        ] {
            let message = prompt_messages(&value, "prompt").unwrap_err();
            assert!(message.contains(part), "{value}: {message}");
        }
        let message = serde_json::from_value::<Message>(json!({"role": "user", "content": "q", "name": 1}));
        assert!(message.unwrap_err().to_string().contains("`message.name`"));
    }

    #[test]
    fn pictures_are_named_as_templates_and_as_interfaces_do() {
        let value = json!([{"role": "user", "content": [
            {"type": "image", "image": "a.png"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": null}},
            {"type": "image_url", "image_url": "b.png"},
            {"type": "image", "path": "c.png"},
            {"type": "image"},
            {"type": "text", "text": "q"},
        ]}]);
        let (messages, images) = seen_messages(&value, "prompt").unwrap();
        assert_eq!(messages[0].content, format!("{}q", IMAGE_PLACE.repeat(5)));
        assert_eq!(
            images,
            [
                json!("a.png"),
                json!("data:image/png;base64,AA=="),
                json!("b.png"),
                json!("c.png"),
                Value::Null
            ]
        );
    }
}
