//! The part of a response that is meant for the reader: its own turn, without thoughts.
//!
//! | written by models | what is read |
//! |---|---|
//! | `<think>…</think> A`, likewise `thinking`, `thought`, `reasoning`, `scratchpad` and the like, `<seed:think>`, `[THINK]`, `<\|START_THINKING\|>`, `◁think▷` | `A` |
//! | `… </think> A`: the prompt has opened it | `A` |
//! | `<think> …` that does not close | nothing |
//! | `<\|channel\|>analysis<\|message\|>…<\|channel\|>final<\|message\|>A<\|return\|>`, or `analysis…assistantfinalA` without the special tokens | `A` |
//! | a channel that is not the final one | nothing |
//! | `A<\|im_end\|>…`, and the other marks of an end or of a new turn | `A` |

use std::sync::LazyLock;

use regex::Regex;

use super::cut::fixed;
use super::missing::Missing;

/// Marks that open or close thoughts; the group `close` is there where one closes them.
static THOUGHT: LazyLock<Regex> = LazyLock::new(|| {
    let names = "think|thinking|thoughts?|reason|reasoning|scratchpad|chain_of_thought|cot|inner_monologue|antthinking|longcat_think|think_(?:fast|slow)";
    fixed(&format!(
        r"(?i)<(?P<close>/)?(?:[a-z]{{1,12}}:)?(?:{names})(?::[a-z]{{1,12}})?\s*>|\[(?P<square>/)?think\]|◁(?P<tri>/)?think▷|<\|(?:(?P<end>end)|start|begin)_(?:of_)?(?:thinking|think|thought|reasoning)\|>|<unused94>|(?P<unused><unused95>)|<\|inner_prefix\|>|(?P<inner><\|inner_suffix\|>)"
    ))
});

/// Marks that end a turn, or begin another one.
static END: LazyLock<Regex> = LazyLock::new(|| {
    fixed(
        r"(?i)<\|(?:im_end|im_start|endoftext|end_of_text|eot_id|eom_id|eot|end|return|call|start_header_id|start|end_of_turn|end_of_turn_token|start_of_turn_token|end_of_sentence|end_of_response|endofresponse|user|system|observation|eos|eod)\|>|<｜(?:end▁of▁sentence|User)｜>|</s>|<eos>|<end_of_turn>|<start_of_turn>|<turn\|>|\[/?INST\]|<\|END_RESPONSE\|>",
    )
});

/// The end of a mark that only opens the turn of the assistant.
static HEAD: LazyLock<Regex> = LazyLock::new(|| {
    fixed(
        r"(?i)^\s*(?:<\|im_start\|>assistant|<\|start_header_id\|>assistant<\|end_header_id\|>|<start_of_turn>model|<｜Assistant｜>|<\|assistant\|>|<\|START_OF_TURN_TOKEN\|><\|CHATBOT_TOKEN\|>|<\|START_RESPONSE\|>|<s>)",
    )
});

/// The final channel of a response in harmony's form; none when the response has no channels.
fn final_channel(text: &str) -> Option<Result<&str, Missing>> {
    static FINAL: LazyLock<Regex> = LazyLock::new(|| {
        fixed(r"<\|channel\|>\s*final\b[^<]{0,64}(?:<\|constrain\|>[^<]{0,32})?<\|message\|>")
    });
    // The first final message is this turn's; what comes behind its end is another turn.
    if text.contains("<|channel|>") {
        return Some(FINAL.find(text).map(|m| &text[m.end()..]).ok_or(Missing::UnclosedThink));
    }
    // The same with the special tokens left out.
    let body = text.trim_start();
    let rest = body.strip_prefix("analysis").or_else(|| body.strip_prefix("assistantanalysis"))?;
    if let Some(at) = rest.rfind("assistantfinal") {
        return Some(Ok(&rest[at + "assistantfinal".len()..]));
    }
    rest.starts_with(|c: char| c.is_uppercase()).then_some(Err(Missing::UnclosedThink))
}

/// The text after the thoughts, up to the end of the turn; with `require_closed` only where thoughts were closed.
///
/// # Errors
/// When thoughts do not close, or `require_closed` and none were closed.
pub fn strip_think(text: &str, require_closed: bool) -> Result<&str, Missing> {
    let text = text.trim_start_matches(|c: char| {
        matches!(c, '\u{feff}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
    });
    let mut body = &text[HEAD.find(text).map_or(0, |m| m.end())..];
    let mut closed = false;
    if let Some(channel) = final_channel(body) {
        body = channel?;
        closed = true;
    }
    body = own_turn(body);
    let mut open = false;
    let mut from = 0;
    for m in THOUGHT.captures_iter(body) {
        let closes =
            ["close", "square", "tri", "end", "unused", "inner"].iter().any(|name| m.name(name).is_some());
        open = !closes;
        if closes {
            closed = true;
            from = m.get(0).map_or(0, |whole| whole.end());
        }
    }
    match open || require_closed && !closed {
        true => Err(Missing::UnclosedThink),
        false => {
            let body = &body[from..];
            Ok(&body[HEAD.find(body).map_or(0, |m| m.end())..])
        }
    }
}

/// `body` up to the first mark that ends the turn; marks before anything is written end nothing.
pub(crate) fn own_turn(body: &str) -> &str {
    let mut from = 0;
    for m in END.find_iter(body) {
        let written = THOUGHT.replace_all(&body[from..m.start()], "").chars().any(char::is_alphanumeric);
        if written {
            return &body[..m.start()];
        }
        from = m.end();
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: Option<&str>) {
        let got = strip_think(text, false).ok().map(str::trim);
        assert_eq!(got, want, "{text:?}");
    }

    #[test]
    fn thoughts_are_left_out() {
        for (open, close) in [
            ("<think>", "</think>"),
            ("<thinking>", "</thinking>"),
            ("<Thinking>", "</Thinking>"),
            ("<thought>", "</thought>"),
            ("<reasoning>", "</reasoning>"),
            ("<scratchpad>", "</scratchpad>"),
            ("<seed:think>", "</seed:think>"),
            ("<mm:think>", "</mm:think>"),
            ("<think:opensource>", "</think:opensource>"),
            ("[THINK]", "[/THINK]"),
            ("◁think▷", "◁/think▷"),
            ("<|START_THINKING|>", "<|END_THINKING|>"),
            ("<|begin_of_thought|>", "<|end_of_thought|>"),
            ("<unused94>thought\n", "<unused95>"),
        ] {
            check(&format!("{open}a{close} b"), Some("b"));
            check(&format!("a{close} b"), Some("b"));
            check(&format!("{open}a"), None);
            check(&format!("{open}a{close}b{open}c"), None);
            check(&format!("{open}a{close}"), Some(""));
            assert!(strip_think(&format!("{open}a{close}b"), true).is_ok());
        }
        check("I think <b>so</b>", Some("I think <b>so</b>"));
        assert!(strip_think("b", true).is_err());
    }

    #[test]
    fn only_the_final_channel_is_read() {
        check(
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b<|return|>",
            Some("b"),
        );
        check("<|channel|>final <|constrain|>json<|message|>b", Some("b"));
        check("<|channel|>analysis<|message|>a", None);
        check(
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary<|message|>b<|call|>",
            None,
        );
        check("analysisLet me see.assistantfinalb", Some("b"));
        check("analysisLet me see.", None);
        check("analysis of variance", Some("analysis of variance"));
    }

    #[test]
    fn nothing_is_read_after_the_own_turn() {
        for end in [
            "<|im_end|>\n<|im_start|>user\n",
            "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n",
            "</s>",
            "<end_of_turn>\n<start_of_turn>user\n",
            "<|endoftext|>Human: ",
            "<｜end▁of▁sentence｜>",
            "[INST]",
        ] {
            check(&format!("a{end}b"), Some("a"));
            check(&format!("<think>t</think>a{end}<think>u</think>b"), Some("a"));
        }
        check("<|im_start|>assistant\na<|im_end|>", Some("a"));
        check("\u{feff}<|eot_id|>a", Some("<|eot_id|>a"));
        check("<think>a<|im_end|>b</think>", None);
    }
}
