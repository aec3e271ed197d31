//! The page itself. Nothing gets into it unescaped: there are no values marked as safe.

use std::path::Path;

use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;
use toml::Table;

use super::chart::{Chart, FRAME, Frame};
use super::history::History;
use super::panels;
use super::samples::Samples;
use super::summary::{self, EvaluationRow};
use crate::run::dir::RunMeta;
use crate::run::log::METRICS_FILE;

const TEMPLATE: &str = include_str!("page.html");

/// What the template is given.
#[derive(Serialize)]
pub(super) struct Page {
    name: String,
    facts: Vec<(&'static str, String)>,
    problems: Vec<String>,
    evaluations: Vec<EvaluationRow>,
    charts: Vec<Chart>,
    frame: Frame,
    samples: Samples,
    config: String,
    version: &'static str,
}

impl Page {
    pub(super) fn new(
        dir: &Path,
        config: &Table,
        text: String,
        meta: Option<&RunMeta>,
        history: Option<&History>,
        samples: Samples,
    ) -> Self {
        let gone = history.is_none().then(|| {
            format!(
                "{METRICS_FILE} is missing: what the run measured, curves and evaluations, cannot be shown."
            )
        });
        let none = History::default();
        let history = history.unwrap_or(&none);
        let folder = || dir.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = config.get("name").and_then(|name| name.as_str());
        Self {
            name: name.map(str::to_owned).or_else(folder).unwrap_or_default(),
            facts: summary::facts(config, meta, history),
            problems: gone
                .into_iter()
                .chain(summary::health(history))
                .chain(summary::problems(history))
                .collect(),
            evaluations: summary::evaluations(meta, history),
            charts: panels::charts(history),
            frame: FRAME,
            samples,
            config: text,
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// The page as HTML.
///
/// # Panics
/// When the template is wrong, which no input can cause.
pub(super) fn render(page: &Page) -> String {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_trim_blocks(true);
    env.set_lstrip_blocks(true);
    // Whatever it is, as text.
    env.set_formatter(|out, _, value| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Ok(out.write_str(&escaped(&text))?)
    });
    env.render_str(TEMPLATE, page).unwrap_or_else(|e| panic!("the template of the report: {e:?}"))
}

/// Text for the content and the quoted attributes of HTML. Control characters, which HTML forbids, and those that
/// reorder text are shown as escapes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.extend(c.escape_default()),
            // The last two code points of a plane are no characters either.
            c if c.is_control()
                || (0xfdd0..=0xfdef).contains(&u32::from(c))
                || u32::from(c) & 0xfffe == 0xfffe =>
            {
                out.extend(c.escape_default());
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_run_is_markup() {
        let hostile = "</script></pre></title><img src=x onerror=alert(1)>\" onload=\"x' {{ name }} {% if %} \0\u{202e}";
        let config = format!("name = {}", serde_json::to_string(hostile).unwrap());
        let table: Table = config.parse().unwrap();
        let history = History::default();
        let page = Page::new(Path::new("r"), &table, config, None, Some(&history), Samples::default());
        let html = render(&page);
        assert!(
            !html.contains("<img") && !html.contains("</script") && !html.contains("onload=\""),
            "{html}"
        );
        assert!(
            html.contains("&lt;img src=x onerror=alert(1)&gt;&quot; onload=&quot;x&#39; {{ name }} {% if %}")
        );
        assert!(html.contains("\\u{0}\\u{202e}") && !html.contains('\0'));
        assert_eq!(html.matches("</title>").count(), 1);
    }
}
