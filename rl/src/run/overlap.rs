//! Refuses to measure a policy on tasks that it is trained on.
//!
//! Tasks are the same when they ask the same before any template, when the policy reads the same, or when both sources
//! name a `group` and have the same value of it ([`TaskKey`]).

use std::collections::{BTreeMap, HashMap};

use crate::config::{RunConfig, StageConfig};
use crate::data::{Mark, Split, TaskKey, TaskSource};
use crate::error::Error;
use crate::eval::Benchmark;

/// What an evaluation measures.
struct Measured<'a> {
    /// As a message calls it.
    name: String,
    /// The data source; none of a benchmark.
    source: Option<&'a str>,
    keys: Vec<TaskKey>,
    place: Box<dyn Fn(usize) -> String + 'a>,
}

/// A task that is trained on: its source and its index there.
type Trained<'a> = (&'a TaskSource, usize);

/// Checks that no task of `[eval]` is one that a stage trains on, unless `eval.allow_shared` is set.
///
/// # Errors
/// [`Error::Unusable`] with the number of shared tasks, one of them, and the fix.
pub(crate) fn check(
    config: &RunConfig,
    sources: &BTreeMap<String, TaskSource>,
    benchmarks: &[Benchmark],
) -> Result<(), Error> {
    let Some(eval) = config.eval.as_ref().filter(|eval| !eval.allow_shared) else { return Ok(()) };
    let mut training: Vec<(&TaskSource, &str)> = Vec::new();
    for stage in &config.stage {
        let name = match stage {
            StageConfig::Sft(sft) => Some(&sft.data),
            StageConfig::Grpo(grpo) => grpo.data.as_ref(),
        };
        if let Some(source) = name.and_then(|name| sources.get(name))
            && !training.iter().any(|(known, _)| known.name() == source.name())
        {
            training.push((source, stage.name()));
        }
    }
    let mut problems = Vec::new();
    for measured in measured(eval.limit, eval.data.iter().filter_map(|name| sources.get(name)), benchmarks) {
        if let Some((_, stage)) = training.iter().find(|(source, _)| Some(source.name()) == measured.source) {
            problems.push(format!(
                "[eval] measures {}, which stage `{stage}` trains on, so none of its {} tasks is held out: name another source",
                measured.name,
                measured.keys.len()
            ));
        } else {
            let training = training.iter().map(|(source, _)| *source);
            problems.extend(describe(config, &measured, &shared(&measured.keys, training)));
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    let what =
        format!("{}\n(to measure them all the same, set eval.allow_shared = true)", problems.join("\n"));
    Err(Error::Unusable { what })
}

fn measured<'a>(
    limit: Option<usize>,
    sources: impl Iterator<Item = &'a TaskSource>,
    benchmarks: &'a [Benchmark],
) -> Vec<Measured<'a>> {
    let mut all: Vec<Measured<'a>> = sources
        .map(|source| Measured {
            name: format!("[data.{}]", source.name()),
            source: Some(source.name()),
            keys: (0..source.len().min(limit.unwrap_or(usize::MAX))).map(|i| *source.key(i)).collect(),
            place: Box::new(|i| source.origin(i)),
        })
        .collect();
    all.extend(benchmarks.iter().map(|benchmark| {
        let items: Vec<_> = benchmark.items.iter().filter(|item| item.key.is_some()).collect();
        Measured {
            name: format!("the benchmark {}", benchmark.name),
            source: None,
            keys: items.iter().filter_map(|item| item.key).collect(),
            place: Box::new(move |i| items[i].place.clone()),
        }
    }));
    all
}

/// The first task that is trained on for each key that is measured.
fn shared<'a>(keys: &[TaskKey], training: impl Iterator<Item = &'a TaskSource>) -> Vec<Option<Trained<'a>>> {
    // Sets that are measured are small; those that are trained on are not copied.
    let mut marks: HashMap<(Mark, u64), Vec<usize>> = HashMap::new();
    for (i, key) in keys.iter().enumerate() {
        key.marks().for_each(|mark| marks.entry(mark).or_default().push(i));
    }
    let mut found = vec![None; keys.len()];
    for source in training {
        for index in 0..source.len() {
            let hits = source.key(index).marks().filter_map(|mark| marks.get(&mark)).flatten();
            hits.for_each(|i| {
                found[*i].get_or_insert((source, index));
            });
        }
    }
    found
}

/// What is shared and how to part it; none where nothing is.
fn describe(config: &RunConfig, measured: &Measured<'_>, found: &[Option<Trained<'_>>]) -> Option<String> {
    let count = found.iter().flatten().count();
    let (index, (source, trained)) = found.iter().enumerate().find_map(|(i, hit)| Some((i, (*hit)?)))?;
    let (here, there) = ((measured.place)(index), source.origin(trained));
    let example = if here == there { here } else { format!("{here} is the same as {there}") };
    Some(format!(
        "{count} of the {} tasks of {} that [eval] measures are trained on in [data.{}] (such as {example}, id {}): {}",
        found.len(),
        measured.name,
        source.name(),
        source.task(trained).id,
        fix(config, measured, source),
    ))
}

/// What parts a source that is measured from one that is trained on.
fn fix(config: &RunConfig, measured: &Measured<'_>, trained: &TaskSource) -> String {
    let parting = |name: &str| config.data.get(name).map(|data| data.parting());
    let (here, there) = (measured.source.and_then(parting), parting(trained.name()));
    match (here, there) {
        (Some(here), Some(there)) if here.rows == there.rows => match here.split == Split::All || there.split == Split::All {
            true => format!(
                "set split = \"heldout\" in {} and split = \"train\" in [data.{}]",
                measured.name,
                trained.name()
            ),
            false => "rows whose prompts are the same differ in other fields: name in `group` of both the field that must \
                      not be split"
                .to_owned(),
        },
        _ => match trained.path() {
            Some(path) => format!(
                "take them out of {}, with rlvr data decontaminate or rlvr data filter",
                path.display()
            ),
            None => format!("set split = \"train\" in [data.{}]", trained.name()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;
    use std::path::Path;

    /// Checks a run that trains on `train` and measures `heldout`, two tables; `{dir}` in them is a folder with `files`.
    fn outcome(files: &[(&str, &str)], train: &str, heldout: &str, eval: &str) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let text = format!(
            "name = \"t\"\n[policy.tiny]\n[data.train]\n{train}\n[data.heldout]\n{heldout}\n[rewards]\nkind = \"exact\"\n\
             [[stage]]\nkind = \"grpo\"\ndata = \"train\"\nsteps = 1\nsampling = {{ max_tokens = 8 }}\n[eval]\n{eval}\n"
        );
        let text = text.replace("{dir}", dir.path().to_str().unwrap());
        let config = RunConfig::parse(&text, Path::new("t.toml"), &[]).unwrap();
        let open = |name: &str| TaskSource::open(name, &config.data[name], 1).map(|s| (name.to_owned(), s));
        let sources = ["train", "heldout"].into_iter().map(|name| open(name).unwrap()).collect();
        check(&config, &sources, &[]).map_err(|e| e.to_string().replace(dir.path().to_str().unwrap(), "DIR"))
    }

    fn rows(count: usize) -> String {
        (0..count).fold(String::new(), |mut text, i| {
            writeln!(text, "{{\"id\": {i}, \"question\": \"{i}+1?\", \"answer\": {}}}", i + 1).unwrap();
            text
        })
    }

    const JSONL: &str =
        "kind = \"jsonl\"\npath = \"{dir}/d.jsonl\"\nheldout_frac = 0.3\nprompt = \"{{ question }}\"\n";
    const OTHER: &str = "kind = \"jsonl\"\npath = \"{dir}/d.jsonl\"\nheldout_frac = 0.3\nprompt = \"Question: {{ question }}\"\n";

    #[test]
    fn a_split_holds_out_the_same_rows_under_any_prompt() {
        let files = [("d.jsonl", &*rows(60))];
        let (train, heldout) = (format!("{JSONL}split = \"train\""), format!("{OTHER}split = \"heldout\""));
        assert_eq!(outcome(&files, &train, &heldout, "data = \"heldout\""), Ok(()));
        // The same question twice, with other ids and other answers.
        let twice =
            rows(60) + &rows(60).replace("\"id\": ", "\"id\": 1").replace("\"answer\": ", "\"answer\": 0.");
        assert_eq!(outcome(&[("d.jsonl", &*twice)], &train, &heldout, "data = \"heldout\""), Ok(()));
    }

    #[test]
    fn shared_rows_are_counted_and_refused_with_the_fix() {
        let files = [("d.jsonl", &*rows(49)), ("e.jsonl", &*rows(7).replace("\"id\": ", "\"id\": 50"))];
        let refused = |train: &str, heldout: &str, parts: &[&str]| {
            let error = outcome(&files, train, heldout, "data = \"heldout\"").unwrap_err();
            let allowed = "eval.allow_shared = true";
            parts
                .iter()
                .chain([&allowed])
                .for_each(|part| assert!(error.contains(part), "no {part:?} in {error}"));
            assert_eq!(
                outcome(&files, train, heldout, &format!("data = \"heldout\"\n{}", &allowed[5..])),
                Ok(())
            );
        };
        refused(
            JSONL,
            OTHER,
            &[
                "49 of the 49 tasks of [data.heldout]",
                "such as DIR/d.jsonl:1, id 0",
                "split = \"heldout\" in [data.heldout]",
            ],
        );
        let elsewhere = OTHER.replace("d.jsonl", "e.jsonl");
        let parts = ["7 of the 7", "DIR/e.jsonl:1 is the same as DIR/d.jsonl:1", "rlvr data decontaminate"];
        refused(JSONL, &elsewhere, &parts);
        let (all, some) = (
            "kind = \"addition\"\nmax_digits = 1\nsplit = \"all\"\ntasks = 90",
            "kind = \"addition\"\nmax_digits = 1\nsplit = \"heldout\"\ntasks = 5",
        );
        refused(all, some, &["of the 5 tasks", "split = \"train\" in [data.train]"]);
        refused(
            all,
            all,
            &[
                "[data.heldout]",
                "split = \"heldout\" in [data.heldout] and split = \"train\" in [data.train]",
            ],
        );
        let same = outcome(&files, JSONL, JSONL, "data = \"train\"").unwrap_err();
        assert!(
            same.contains("[data.train], which stage `grpo` trains on, so none of its 49 tasks"),
            "{same}"
        );
        // Only what is measured counts.
        let limited = outcome(&files, JSONL, OTHER, "data = \"heldout\"\nlimit = 3").unwrap_err();
        assert!(limited.contains("3 of the 3 tasks"), "{limited}");
    }

    #[test]
    fn a_group_keeps_its_rows_on_one_side() {
        let mut text = String::new();
        for i in 0..80 {
            writeln!(text, "{{\"question\": \"{i}?\", \"answer\": 1, \"meta\": {{\"patient\": {}}}}}", i / 4)
                .unwrap();
        }
        let files = [("d.jsonl", &*text)];
        let part = |base: &str, split: &str, group: &str| format!("{base}split = \"{split}\"\n{group}");
        let (by, data) = ("group = \"meta.patient\"", "data = \"heldout\"");
        assert_eq!(outcome(&files, &part(JSONL, "train", by), &part(OTHER, "heldout", by), data), Ok(()));
        // Two files of the same patients, whose questions differ.
        let others = text.replace("?\"", " again?\"");
        let files = [("d.jsonl", &*text), ("e.jsonl", &*others)];
        let elsewhere = OTHER.replace("d.jsonl", "e.jsonl");
        let all = |base: &str| part(base, "all", by);
        let error = outcome(&files, &all(JSONL), &all(&elsewhere), data).unwrap_err();
        assert!(error.contains("80 of the 80"), "{error}");
        assert_eq!(outcome(&files, JSONL, &elsewhere, data), Ok(()));
        // Prompts that leave out what tells rows apart.
        let constant = JSONL.replace("{{ question }}", "{{ meta.patient }}");
        let error = outcome(&files, &part(&constant, "train", ""), &part(&constant, "heldout", ""), data)
            .unwrap_err();
        assert!(error.contains("name in `group` of both"), "{error}");
    }
}
