//! Finding the code in a response.

use std::collections::HashSet;
use std::sync::LazyLock;

use regex::Regex;

use super::{CodeConfig, Language};
use crate::answer::extract::{INPUT_BYTES, Think, strip_think};
use crate::answer::text::{self, fixed};

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

impl Block {
    /// Whether it shows a session with a prompt, and is no program.
    fn is_session(&self) -> bool {
        self.code.trim_start().starts_with(">>> ") || self.code.trim_start().starts_with("$ ")
    }

    /// How many of `names` it defines at its outermost level.
    fn defines(&self, names: &[String]) -> usize {
        static DEFINITION: LazyLock<Regex> = LazyLock::new(|| {
            fixed(
                r"(?m)^(?:(?:async[ \t]+)?def|class)[ \t]+([A-Za-z_]\w*)|^([A-Za-z_]\w*)[ \t]*(?::[^=\n]*)?=[^=]|^([A-Za-z_]\w*)[ \t]*\(\)\s*\{|^function[ \t]+([A-Za-z_]\w*)",
            )
        });
        let defined: HashSet<&str> = (DEFINITION.captures_iter(&self.code))
            .filter_map(|c| c.iter().skip(1).flatten().next().map(|m| m.as_str()))
            .collect();
        names.iter().filter(|name| defined.contains(&***name)).count()
    }
}

/// The code and the rule that found it: `tagged`, `untagged`, `fence` or `whole`. `names` are those that the tests use: a
/// block that defines more of them goes before one that only shows how they are used.
pub(super) fn find(
    response: &str,
    config: &CodeConfig,
    names: &[String],
) -> Result<(String, &'static str), &'static str> {
    let body = strip_think(response, config.think == Think::RequireClosed).map_err(|m| m.reason())?;
    let body = text::tail(body, INPUT_BYTES);
    let mut blocks = blocks(body);
    blocks.retain(|b| !b.code.trim().is_empty());
    if blocks.iter().any(|b| !b.is_session()) {
        blocks.retain(|b| !b.is_session());
    }
    let defined: Vec<usize> = blocks.iter().map(|b| b.defines(names)).collect();
    let last = |wanted: &dyn Fn(&Block) -> bool, rule: &'static str| {
        let fit = (0..blocks.len()).filter(|i| wanted(&blocks[*i]));
        fit.max_by_key(|i| (defined[*i], *i)).map(|i| (i, rule))
    };
    let found = [
        last(&|b| config.language.tags().contains(&&*b.tag), "tagged"),
        last(&|b| b.tag.is_empty(), "untagged"),
        last(&|_| true, "fence"),
    ];
    // A definition in a block without the language's name goes before a usage in one with it.
    let found = || found.iter().flatten().copied();
    let chosen = found().take(2).find(|(i, _)| defined[*i] > 0).or(found().next());
    match chosen {
        Some((i, rule)) => Ok((blocks.swap_remove(i).code, rule)),
        None if config.whole && !body.trim().is_empty() => Ok((body.to_string(), "whole")),
        None => Err("the response has no code block"),
    }
}

/// A block that is not closed yet.
struct Open {
    mark: char,
    width: usize,
    indent: usize,
    /// The three quotes of a docstring that is open.
    quote: Option<&'static str>,
    block: Block,
}

impl Open {
    fn push(&mut self, line: &str) {
        self.block.code.push_str(line);
        self.block.code.push('\n');
        let mut rest = line;
        loop {
            let marks = self.quote.map_or(vec!["\"\"\"", "'''"], |quote| vec![quote]);
            let next = marks.into_iter().filter_map(|m| rest.find(m).map(|at| (at, m))).min();
            let Some((at, mark)) = next else { break };
            self.quote = if self.quote.is_some() { None } else { Some(mark) };
            rest = &rest[at + 3..];
        }
    }

    /// Whether a fence of `width` marks at `indent` closes the block.
    fn ends(&self, mark: Option<char>, width: usize, indent: usize) -> bool {
        let near = indent <= self.indent || indent < self.indent + 4 && self.quote.is_none();
        mark == Some(self.mark) && width >= self.width && near
    }
}

/// The fenced blocks as in CommonMark: three or more backticks or tildes, closed by at least as many; the last may be
/// open. The indentation of the fence is taken off the lines. A fence that is indented more than the block's own does not
/// close it by four columns more, or inside of a docstring.
fn blocks(body: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Open> = None;
    for line in body.lines() {
        let bare = line.trim_start_matches(' ');
        let indent = line.len() - bare.len();
        let mark = bare.chars().next().filter(|c| matches!(c, '`' | '~'));
        let width = mark.map_or(0, |m| bare.len() - bare.trim_start_matches(m).len());
        let rest = bare[width..].trim();
        match &mut open {
            Some(o) if rest.is_empty() && o.ends(mark, width, indent) => {
                found.extend(open.take().map(|o| o.block));
            }
            Some(o) => o.push(&line[indent.min(o.indent)..]),
            None => {
                if let Some(mark) = mark
                    && width >= 3
                    && !rest.contains('`')
                {
                    let end = |c: char| c.is_whitespace() || matches!(c, '{' | '}' | ',' | ':');
                    let tag = rest.trim_start_matches(['{', '.']).split(end).next().unwrap_or("");
                    let block = Block { tag: tag.to_lowercase(), code: String::new() };
                    open = Some(Open { mark, width, indent, quote: None, block });
                }
            }
        }
    }
    found.extend(open.map(|o| o.block));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_block_of_the_language_wins() {
        let check = |response: &str, want: Option<(&str, &str)>| {
            let got = find(response, &CodeConfig::default(), &[]);
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
        assert_eq!(find("x = 1", &whole, &[]), Ok(("x = 1".to_string(), "whole")));
        assert!(find(" \n", &whole, &[]).is_err());
    }

    #[test]
    fn a_definition_goes_before_a_usage() {
        let check = |names: &[&str], response: &str, want: &str| {
            let names: Vec<String> = names.iter().map(|n| (*n).to_string()).collect();
            let got = find(response, &CodeConfig::default(), &names).map(|(code, _)| code);
            assert_eq!(got.as_deref(), Ok(want), "{response:?}");
        };
        let define = "```python\ndef f(x):\n    return x\n```\n";
        let code = "def f(x):\n    return x\n";
        check(&["f"], &format!("{define}Usage:\n```py\nprint(f(2))\n```"), code);
        check(&["f"], &format!("{define}```python\n>>> f(2)\n2\n```"), code);
        check(&["f"], &format!("{define}```python\nx = f(2)\nassert x == 2\n```"), code);
        check(&["f"], "```\ndef f(x):\n    return x\n```\n```python\nf(1)\n```", code);
        // A later definition takes the place of an earlier one, be it right or wrong.
        check(&["f"], &format!("```python\ndef f(x):\n    return -x\n```\nFixed:\n{define}"), code);
        check(&["f"], &format!("{define}Better:\n```python\nf = abs\n```"), "f = abs\n");
        check(
            &["f", "g"],
            &format!("{define}```python\ndef g(x):\n    return x\n```"),
            "def g(x):\n    return x\n",
        );
        // What is defined inside of something else is not what the tests call.
        check(&["f"], &format!("{define}```python\nclass A:\n    def f(x): pass\n```"), code);
        check(&[], &format!("{define}```python\nprint(f(2))\n```"), "print(f(2))\n");
        check(&["f"], "```python\nprint(1)\n```\n```python\n>>> f(2)\n```", "print(1)\n");
    }

    #[test]
    fn fences_in_docstrings_do_not_end_a_block() {
        let check = |code: &str| {
            let got = find(&format!("```python\n{code}```\nSo."), &CodeConfig::default(), &[]);
            assert_eq!(got.map(|(code, _)| code).as_deref(), Ok(code));
        };
        check("def f():\n    \"\"\"\n    ```\n    f()\n    ```\n    \"\"\"\n    return 1\n");
        check("def f():\n    \"\"\"\n    ```python\n    f()\n    ```\n    \"\"\"\n    return 1\n");
        check("def f():\n  '''\n  ```\n  f()\n  ```\n  '''\n  return 1\n");
        let closed_by = |fence: &str| {
            let text = format!("```python\nx = 1\n{fence}\nNo code.");
            find(&text, &CodeConfig::default(), &[]).map(|(code, _)| code)
        };
        assert_eq!(closed_by(" ```").as_deref(), Ok("x = 1\n"));
        assert_eq!(closed_by("````").as_deref(), Ok("x = 1\n"));
    }
}
