//! Finding the code in a response.

use super::{CodeConfig, Language};
use crate::extract::{INPUT_BYTES, Think, strip_think};
use crate::text;

impl Language {
    /// Names of the language after a fence.
    pub(super) fn tags(self) -> &'static [&'static str] {
        match self {
            Self::Python => &["python", "python3", "py", "py3", "python-3"],
            Self::Bash => &["bash", "shell", "sh", "zsh", "shell-script"],
            Self::Sh => &["sh", "shell", "bash", "posix", "dash"],
        }
    }
}

struct Block {
    tag: String,
    code: String,
}

/// The code and the rule that found it: `tagged`, `untagged`, `fence` or `whole`.
pub(super) fn find(response: &str, config: &CodeConfig) -> Result<(String, &'static str), &'static str> {
    let body = strip_think(response, config.think == Think::RequireClosed).map_err(|m| m.reason())?;
    let body = text::tail(body, INPUT_BYTES);
    let mut blocks = blocks(body);
    blocks.retain(|b| !b.code.trim().is_empty());
    let last = |wanted: &dyn Fn(&Block) -> bool| blocks.iter().rposition(wanted);
    let tagged = last(&|b| config.language.tags().contains(&&*b.tag)).map(|i| (i, "tagged"));
    let chosen = tagged
        .or_else(|| last(&|b| b.tag.is_empty()).map(|i| (i, "untagged")))
        .or_else(|| last(&|_| true).map(|i| (i, "fence")));
    match chosen {
        Some((i, rule)) => Ok((blocks.swap_remove(i).code, rule)),
        None if config.whole && !body.trim().is_empty() => Ok((body.to_string(), "whole")),
        None => Err("the response has no code block"),
    }
}

/// The fenced blocks as in CommonMark: three or more backticks or tildes, closed by at least as many; the last may be
/// open. The indentation of the fence is taken off the lines.
fn blocks(body: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<(char, usize, usize, Block)> = None;
    for line in body.lines() {
        let bare = line.trim_start_matches(' ');
        let indent = line.len() - bare.len();
        let mark = bare.chars().next().filter(|c| matches!(c, '`' | '~'));
        let width = mark.map_or(0, |m| bare.len() - bare.trim_start_matches(m).len());
        let rest = bare[width..].trim();
        match &mut open {
            Some((m, w, _, _)) if mark == Some(*m) && width >= *w && rest.is_empty() => {
                found.extend(open.take().map(|o| o.3));
            }
            Some((_, _, fence, block)) => {
                block.code.push_str(&line[indent.min(*fence)..]);
                block.code.push('\n');
            }
            None => {
                if let Some(m) = mark
                    && width >= 3
                    && !rest.contains('`')
                {
                    let end = |c: char| c.is_whitespace() || matches!(c, '{' | '}' | ',' | ':');
                    let tag = rest.trim_start_matches(['{', '.']).split(end).next().unwrap_or("");
                    let block = Block { tag: tag.to_lowercase(), code: String::new() };
                    open = Some((m, width, indent, block));
                }
            }
        }
    }
    found.extend(open.map(|o| o.3));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_block_of_the_language_wins() {
        let check = |response: &str, want: Option<(&str, &str)>| {
            let got = find(response, &CodeConfig::default());
            assert_eq!(got.ok().as_ref().map(|(c, r)| (&**c, *r)), want, "{response:?}");
        };
        check("a\n```python\nx = 1\n```\nb", Some(("x = 1\n", "tagged")));
        check("```py\n1\n```\n```python\n2\n```\n```text\n3\n```\n```\n4\n```", Some(("2\n", "tagged")));
        check("```\n1\n```\n```text\n2\n```", Some(("1\n", "untagged")));
        check("```text\n2\n```", Some(("2\n", "fence")));
        check("```Python title=x\n1\n```", Some(("1\n", "tagged")));
        check("1. so\n   ```python\n   if x:\n       y\n   ```", Some(("if x:\n    y\n", "tagged")));
        check("~~~~python\n```\n~~~\n~~~~", Some(("```\n~~~\n", "tagged")));
        check("```python\nx = 1", Some(("x = 1\n", "tagged")));
        check("<think>\n```python\n1\n```\n</think>no", None);
        check("<think>\n```python\n1\n```\n", None);
        check("</think>\n```python\n1\n```", Some(("1\n", "tagged")));
        check("```python\n\n```", None);
        check("```inline``` code", None);
        check("x = 1", None);
        let whole = CodeConfig { whole: true, ..CodeConfig::default() };
        assert_eq!(find("x = 1", &whole), Ok(("x = 1".to_string(), "whole")));
        assert!(find(" \n", &whole).is_err());
    }
}
