//! `rlvr plugin`: rewards of your own, in any language.

use crate::args::{Language, PluginNewArgs, PluginTestArgs};
use crate::input::{self, bad};
use crate::output::{self, count, one_line, say};
use anyhow::Result;
use rlvr::files::source::{LineSource, object};
use rlvr::number::fixed;
use rlvr::rewards::plugin::check::{Check, conformance, gameability, robustness, sample_tasks};
use rlvr::rewards::plugin::{Plugin, PluginConfig};
use rlvr::rewards::wasm::{Wasm, WasmConfig};
use rlvr::rewards::{Reward, Task};
use rlvr::rows;
use serde_json::{Map, json};
use std::io::Write;
use std::path::Path;

const README: &str = include_str!("templates/README.md.in");

/// What a language's folder holds, and what its README says.
struct Template {
    language: &'static str,
    /// Name and text; the first is the reward, the second the runtime.
    files: &'static [(&'static str, &'static str)],
    needs: &'static str,
    /// The command in a config beside the folder's files.
    command: &'static [&'static str],
}

fn template(language: Language) -> Template {
    match language {
        Language::Python => Template {
            language: "Python",
            files: &[
                ("reward.py", include_str!("templates/python/reward.py")),
                ("rlvr_plugin.py", include_str!("templates/python/rlvr_plugin.py")),
            ],
            needs: "Python 3.8 or newer, nothing else. For a reward that compares the completions of a task, give \
                    `serve` a function `rank(items)` instead, which gives a list of numbers.",
            command: &["python3", "reward.py"],
        },
        Language::Js => Template {
            language: "JavaScript",
            files: &[
                ("reward.mjs", include_str!("templates/js/reward.mjs")),
                ("rlvr_plugin.mjs", include_str!("templates/js/rlvr_plugin.mjs")),
            ],
            needs: "Node.js 18 or newer, no packages. Leave `limits.memory_mb` alone: Node.js reserves far more \
                    memory than it uses.",
            command: &["node", "reward.mjs"],
        },
        Language::Rust => Template {
            language: "Rust",
            files: &[
                ("src/main.rs", include_str!("templates/rust/main.rs")),
                ("src/rlvr_plugin.rs", include_str!("templates/rust/rlvr_plugin.rs")),
                ("Cargo.toml", include_str!("templates/rust/Cargo.toml.in")),
            ],
            needs: "Build it first: `cargo build --release` in this folder.",
            command: &["target/release/reward"],
        },
        Language::Bash => Template {
            language: "bash",
            files: &[
                ("reward.sh", include_str!("templates/bash/reward.sh")),
                ("rlvr_plugin.sh", include_str!("templates/bash/rlvr_plugin.sh")),
            ],
            needs: "bash 4.2 or newer and [jq](https://jqlang.org), because a shell cannot read JSON safely by itself. \
                    It is the slowest of the languages: some hundred items a second.",
            command: &["bash", "reward.sh"],
        },
    }
}

pub fn new(args: &PluginNewArgs) -> Result<()> {
    let template = template(args.lang);
    let shown = |text: &[&str]| text.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ");
    let readme = (README.replace("{LANG}", template.language))
        .replace("{FILE}", template.files[0].0)
        .replace("{RUNTIME}", template.files[1].0)
        .replace("{NEEDS}", template.needs)
        .replace("{COMMAND}", &template.command.join(" "))
        .replace("{TOML}", &shown(template.command));
    let files: Vec<(&str, &str)> =
        template.files.iter().copied().chain([("README.md", readme.as_str())]).collect();
    // All or none of them.
    let to: Result<Vec<_>> =
        files.iter().map(|(name, _)| output::to(Some(&args.dir.join(name)), args.force)).collect();
    for (to, (_, text)) in to?.iter().zip(&files) {
        output::write(to, text.as_bytes())?;
    }
    let written: Vec<String> =
        files.iter().map(|(name, _)| args.dir.join(name).display().to_string()).collect();
    say!("wrote {}", written.join(", "));
    let command: Vec<String> = (template.command.iter())
        .map(|word| match args.dir.join(word) {
            path if word.contains(['.', '/']) => path.display().to_string(),
            _ => (*word).to_owned(),
        })
        .collect();
    if args.lang == Language::Rust {
        say!("build it: cargo build --release --manifest-path {}", args.dir.join("Cargo.toml").display());
    }
    say!("check it: rlvr plugin test {}", command.join(" "));
    Ok(())
}

pub fn test(args: &PluginTestArgs) -> Result<()> {
    let config = object(&args.config).map_err(|e| bad(format!("--config: {e}")))?;
    let tasks = match &args.tasks {
        Some(path) => tasks(path)?,
        None => sample_tasks(),
    };
    if let [path] = &args.command[..]
        && path.ends_with(".wasm")
    {
        let mut component = WasmConfig::new(path);
        component.config = config;
        component.timeout_s = args.timeout_s;
        let component = Wasm::new(component)?;
        let checks = robustness(&component, &tasks);
        let loaded = checks.len() > 1;
        return report("component", &checks, loaded.then_some(&component as &dyn Reward), &tasks);
    }
    let mut plugin = PluginConfig::new(&args.command);
    plugin.resolve_paths(Path::new(""));
    plugin.config = config;
    plugin.env = args.env.clone();
    plugin.timeout_s = args.timeout_s;
    let plugin = Plugin::new(plugin)?;
    let (greeting, checks) = conformance(&plugin, &tasks);
    report("protocol", &checks, greeting.map(|_| &plugin as &dyn Reward), &tasks)
}

/// Prints the checks, and how easily the reward is gamed where it runs at all.
fn report(what: &str, checks: &[Check], reward: Option<&dyn Reward>, tasks: &[Task]) -> Result<()> {
    let word = |passed: Option<bool>| match passed {
        Some(true) => "ok",
        Some(false) => "FAIL",
        None => "note",
    };
    let rows: Vec<Vec<String>> = (checks.iter())
        .map(|c| vec![c.name.to_owned(), word(c.passed).to_owned(), one_line(&c.seen, 300)])
        .collect();
    let mut out = output::report();
    write!(out, "{}", output::table(&[what, "", "seen"], &rows))?;
    if let Some(reward) = reward {
        let rows: Vec<Vec<String>> = (gameability(reward, tasks).into_iter())
            .map(|p| {
                let masked = if p.masked == 0 { String::new() } else { format!("{} without", p.masked) };
                let (accepted, mean) = (format!("{:.1} %", 100.0 * p.accepted), fixed(p.mean, 3));
                vec![p.name.to_owned(), accepted, mean, masked, one_line(&p.example, 60)]
            })
            .collect();
        let title = format!("answer ({})", count(tasks.len(), "task"));
        let header = [title.as_str(), "accepted", "mean score", "masked", "for example"];
        write!(out, "\n{}", output::table(&header, &rows))?;
    }
    out.flush()?;
    let failed = checks.iter().filter(|c| c.passed == Some(false)).count();
    match failed {
        0 => Ok(()),
        _ => anyhow::bail!("{} failed", count(failed, "check")),
    }
}

/// The tasks of a JSON Lines file.
fn tasks(path: &Path) -> Result<Vec<Task>> {
    let mut source = LineSource::open(path)?;
    let mut tasks = Vec::new();
    while let Some((line, fields)) = source.next_object()? {
        let prompt = match fields.contains_key("prompt") || fields.contains_key("question") {
            true => input::messages(&fields).map_err(|e| source.bad_at(line, e))?,
            false => Vec::new(),
        };
        let answer = fields.get("answer").map(|answer| match fields.get("options") {
            Some(options) => json!({"answer": answer, "options": options}),
            None => json!({ "answer": answer }),
        });
        let reference = fields.get("reference").cloned().or(answer);
        let reference =
            reference.ok_or_else(|| source.bad_at(line, "the row has no `reference` and no `answer`"))?;
        let id = rows::id(&fields).unwrap_or_else(|| line.to_string());
        tasks.push(Task { id, prompt, reference, meta: Map::new(), ..Task::default() }.with_row(fields));
    }
    if tasks.is_empty() {
        return Err(bad(format!("{}: no rows in it", path.display())));
    }
    Ok(tasks)
}
