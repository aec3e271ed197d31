//! Refuses to measure a policy on tasks that it is trained on.
//!
//! Tasks are the same when they ask the same before any template (a known question, or the fields that the templates read),
//! when the policy reads the same, when their rows give themselves the same id, or when both sources name a `group` and have
//! the same value of it ([`TaskKey`]). White space that says nothing is no difference. An id that may be no more than the
//! number of a row (`17`, `line 17`, `test-0017`) counts only where most rows of that number have the same answer too.
//! Pictures are the same where their files hold the same bytes, whatever they are called; that tasks ask something else of a
//! picture that is trained on is noted and not refused.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use crate::config::{RunConfig, StageConfig};
use crate::data::{Mark, Split, TaskKey, TaskSource};
use crate::error::Error;
use crate::eval::Benchmark;
use crate::files::picture::bytes_of;
use crate::random;
use rlvr_rewards::TaskImage;

/// What an evaluation measures.
struct Measured<'a> {
    /// As a message calls it.
    name: String,
    /// What measures it, and that it does.
    by: String,
    /// The data source; none of a benchmark.
    source: Option<&'a str>,
    keys: Vec<TaskKey>,
    /// The pictures of each task, by hashes of what their files hold.
    pictures: Vec<Vec<u64>>,
    place: Box<dyn Fn(usize) -> String + 'a>,
}

/// A task that is trained on: its source, its index there, and what it has in common with the one that is measured.
type Trained<'a> = (&'a TaskSource, usize, Mark);

/// Hashes of what the files of pictures hold, each read once.
#[derive(Default)]
struct Contents(RefCell<HashMap<PathBuf, u64>>);

impl Contents {
    fn of(&self, images: &[TaskImage]) -> Vec<u64> {
        images.iter().map(|image| self.one(image)).collect()
    }

    fn one(&self, image: &TaskImage) -> u64 {
        let read = || match bytes_of(image) {
            Ok(bytes) => random::hash_bytes(&bytes),
            // What cannot be read is named when texts are looked at.
            Err(problem) => random::hash_bytes(problem.as_bytes()),
        };
        match image {
            TaskImage::Bytes(_) => read(),
            TaskImage::Path(path) => *self.0.borrow_mut().entry(path.clone()).or_insert_with(read),
        }
    }
}

/// What measures tasks where nothing else does.
const EVAL: &str = "[eval] measures";
/// Tasks with the numbers of tasks that are trained on, at least, before their answers say anything.
const NUMBERED: usize = 8;
/// The share of them whose answers are equal, at least, and that of the commonest answer among those, at most.
const ALIKE: (f64, f64) = (0.9, 0.75);

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
        for source in stage.sources().filter_map(|name| sources.get(name)) {
            if !training.iter().any(|(known, _)| known.name() == source.name()) {
                training.push((source, stage.name()));
            }
        }
    }
    let (mut problems, contents) = (Vec::new(), Contents::default());
    let data = eval.data.iter().filter_map(|name| sources.get(name));
    for measured in measured(eval.limit, data, benchmarks, &contents) {
        if let Some((_, stage)) = training.iter().find(|(source, _)| Some(source.name()) == measured.source) {
            problems.push(format!(
                "[eval] measures {}, which stage `{stage}` trains on, so none of its {} tasks is held out: name another source",
                measured.name,
                measured.keys.len()
            ));
        } else {
            let training = training.iter().map(|(source, _)| *source);
            problems.extend(describe(config, &measured, &shared(&measured, training, &contents)));
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    let what =
        format!("{}\n(to measure them all the same, set eval.allow_shared = true)", problems.join("\n"));
    Err(Error::Unusable { what })
}

/// What should be known of what is measured, a sentence each.
pub(crate) fn notes(config: &RunConfig, sources: &BTreeMap<String, TaskSource>) -> Vec<String> {
    validated(config, sources).into_iter().chain(pictured(config, sources)).collect()
}

/// What should be known of `[eval]`: pictures of which its tasks ask something else than stages train on.
fn pictured(config: &RunConfig, sources: &BTreeMap<String, TaskSource>) -> Vec<String> {
    let (mut notes, contents) = (Vec::new(), Contents::default());
    let Some(eval) = &config.eval else { return notes };
    let data = eval.data.iter().filter_map(|name| sources.get(name));
    for measured in measured(eval.limit, data, &[], &contents) {
        let own: HashSet<u64> = measured.pictures.iter().flatten().copied().collect();
        if own.is_empty() {
            continue;
        }
        let trained: BTreeSet<&String> = config.stage.iter().flat_map(StageConfig::sources).collect();
        for source in trained.into_iter().filter(|name| Some(name.as_str()) != measured.source) {
            let Some(source) = sources.get(source) else { continue };
            let seen = (0..source.len()).flat_map(|i| contents.of(&source.task(i).images));
            let both: HashSet<u64> = seen.filter(|picture| own.contains(picture)).collect();
            if !both.is_empty() {
                notes.push(format!(
                    "{} of the {} pictures of {} that {EVAL} are trained on in [data.{}]: rlvr data decontaminate --by image \
                     leaves the rows about them out",
                    both.len(),
                    own.len(),
                    measured.name,
                    source.name()
                ));
            }
        }
    }
    notes
}

/// What should be known of `[stage.validation]`: rows that its stage trains on too, of which a low loss says little.
fn validated(config: &RunConfig, sources: &BTreeMap<String, TaskSource>) -> Vec<String> {
    let contents = Contents::default();
    let note = |stage: &StageConfig| {
        let StageConfig::Sft(sft) = stage else { return None };
        let validation = sft.validation.as_ref()?;
        let rows = sources.get(&validation.data)?;
        let by = format!("stage `{}` validates on", stage.name());
        let measured =
            Measured { by, ..measured(validation.limit, [rows].into_iter(), &[], &contents).pop()? };
        let trained = sft.data.names().filter_map(|name| sources.get(name));
        describe(config, &measured, &shared(&measured, trained, &contents))
    };
    config.stage.iter().filter_map(note).collect()
}

fn measured<'a>(
    limit: Option<usize>,
    sources: impl Iterator<Item = &'a TaskSource>,
    benchmarks: &'a [Benchmark],
    contents: &Contents,
) -> Vec<Measured<'a>> {
    let mut all: Vec<Measured<'a>> = sources
        .map(|source| {
            let count = source.len().min(limit.unwrap_or(usize::MAX));
            let pictures: Vec<Vec<u64>> = (0..count).map(|i| contents.of(&source.task(i).images)).collect();
            Measured {
                name: format!("[data.{}]", source.name()),
                by: EVAL.to_owned(),
                source: Some(source.name()),
                keys: pictures.iter().enumerate().map(|(i, seen)| source.key(i).seeing(seen)).collect(),
                pictures,
                place: Box::new(|i| source.origin(i)),
            }
        })
        .collect();
    all.extend(benchmarks.iter().map(|benchmark| {
        let items: Vec<_> = benchmark.items.iter().filter(|item| item.key.is_some()).collect();
        Measured {
            name: format!("the benchmark {}", benchmark.name),
            by: EVAL.to_owned(),
            source: None,
            keys: items.iter().filter_map(|item| item.key).collect(),
            pictures: Vec::new(),
            place: Box::new(move |i| items[i].place.clone()),
        }
    }));
    all
}

/// The first task that is trained on for each key that is measured.
fn shared<'a>(
    measured: &Measured<'_>,
    training: impl Iterator<Item = &'a TaskSource>,
    contents: &Contents,
) -> Vec<Option<Trained<'a>>> {
    let keys = &measured.keys;
    let with_pictures = measured.pictures.iter().any(|seen| !seen.is_empty());
    // Sets that are measured are small; those that are trained on are not copied.
    let mut marks: HashMap<(Mark, u64), Vec<usize>> = HashMap::new();
    let mut numbers: HashMap<u64, Vec<usize>> = HashMap::new();
    for (i, key) in keys.iter().enumerate() {
        key.marks().for_each(|mark| marks.entry(mark).or_default().push(i));
        key.numbered().into_iter().for_each(|(number, _)| numbers.entry(number).or_default().push(i));
    }
    let ids: Vec<usize> =
        marks.iter().filter(|((mark, _), _)| *mark == Mark::Id).map(|(_, of)| of.len()).collect();
    if 2 * ids.len() < ids.iter().sum() {
        // What most rows share with others, such as the name of their subject, is no id.
        marks.retain(|(mark, _), _| *mark != Mark::Id);
    }
    let mut found = vec![None; keys.len()];
    for source in training {
        let mut numbered = vec![None; keys.len()];
        for index in 0..source.len() {
            let images = &source.task(index).images;
            // Files are read only where there is something to compare them with.
            let key = match images.is_empty() || !with_pictures {
                true => *source.key(index),
                false => source.key(index).seeing(&contents.of(images)),
            };
            for mark in key.marks() {
                for i in marks.get(&mark).into_iter().flatten() {
                    found[*i].get_or_insert((source, index, mark.0));
                }
            }
            let Some((number, answer)) = key.numbered() else { continue };
            for i in numbers.get(&number).into_iter().flatten() {
                let same = keys[*i].numbered().filter(|(_, other)| *other == answer);
                if numbered[*i].is_none_or(|(_, before)| before < same) {
                    numbered[*i] = Some((index, same));
                }
            }
        }
        if !are_ids(numbered.iter().flatten().map(|(_, same)| same.map(|(_, answer)| answer))) {
            continue;
        }
        for (i, (index, _)) in numbered.iter().enumerate().filter_map(|(i, hit)| Some((i, (*hit)?))) {
            found[i].get_or_insert((source, index, Mark::Id));
        }
    }
    found
}

/// Whether numbers that rows of two sources have in common name the same rows, by the answers of those where they are equal:
/// more often than by chance.
fn are_ids(answers: impl Iterator<Item = Option<u64>>) -> bool {
    let (mut pairs, mut counts) = (0, HashMap::new());
    for answer in answers {
        pairs += 1;
        answer.into_iter().for_each(|answer| *counts.entry(answer).or_insert(0_usize) += 1);
    }
    let equal: usize = counts.values().sum();
    let commonest = counts.values().max().copied().unwrap_or(0);
    pairs >= NUMBERED && equal as f64 >= ALIKE.0 * pairs as f64 && commonest as f64 <= ALIKE.1 * equal as f64
}

/// What is shared and how to part it; none where nothing is.
fn describe(config: &RunConfig, measured: &Measured<'_>, found: &[Option<Trained<'_>>]) -> Option<String> {
    let count = found.iter().flatten().count();
    let (index, (source, trained, mark)) =
        found.iter().enumerate().find_map(|(i, hit)| Some((i, (*hit)?)))?;
    let (here, there) = ((measured.place)(index), source.origin(trained));
    let same = match mark {
        Mark::Text => "is the same as",
        Mark::Id => "has the id of",
        Mark::Group => "is of the group of",
    };
    let example = if here == there { here } else { format!("{here} {same} {there}") };
    Some(format!(
        "{count} of the {} tasks of {} that {} are trained on in [data.{}] (such as {example}, id {}): {}",
        found.len(),
        measured.name,
        measured.by,
        source.name(),
        source.task(trained).id,
        fix(config, measured, source, mark),
    ))
}

/// What parts a source that is measured from one that is trained on.
fn fix(config: &RunConfig, measured: &Measured<'_>, trained: &TaskSource, mark: Mark) -> String {
    let parting = |name: &str| config.data.get(name).map(|data| data.parting());
    let (here, there) = (measured.source.and_then(parting), parting(trained.name()));
    match (here, there) {
        (Some(here), Some(there)) if here.rows == there.rows => match here.split == Split::All || there.split == Split::All {
            true => format!(
                "set split = \"heldout\" in {} and split = \"train\" in [data.{}]",
                measured.name,
                trained.name()
            ),
            false if mark == Mark::Id => "rows of one id ask different things: name in `group` of both the field with the id, which \
                                          then is not split"
                .to_owned(),
            false => "rows whose prompts are the same differ in other fields: name in `group` of both the field that must \
                      not be split"
                .to_owned(),
        },
        _ => match trained.path() {
            Some(path) if mark == Mark::Id => format!(
                "take the rows with these ids out of {}, with rlvr data filter, or give rows that have nothing in common ids of \
                 their own",
                path.display()
            ),
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
    fn pictures_are_known_by_what_their_files_hold() {
        let row = |image: &str, asked: &str| {
            format!("{{\"image\": \"{image}\", \"question\": \"{asked}\", \"answer\": 1}}\n")
        };
        let many = |name: &str, asked: &str| {
            (0..3).map(|i| row(&format!("{name}{i}.png"), asked)).collect::<String>()
        };
        let files: Vec<(String, String)> = (0..3)
            .flat_map(|i| ["a", "b"].map(|name| (format!("{name}{i}.png"), format!("bytes {i}"))))
            .collect();
        let run = |train: &str, held: &str| {
            let mut all: Vec<(&str, &str)> = files.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            all.extend([("d.jsonl", train), ("e.jsonl", held)]);
            let images = "images = \"{{ image }}\"\n";
            let heldout = OTHER.replace("d.jsonl", "e.jsonl").replace("Question: ", "");
            outcome(&all, &format!("{JSONL}{images}"), &format!("{heldout}{images}"), "data = \"heldout\"")
        };
        let error = run(&many("a", "Is it seen?"), &many("b", "Is it seen?")).unwrap_err();
        assert!(error.contains("3 of the 3 tasks of [data.heldout]"), "{error}");
        // The same question of other pictures is another one, and so is another one of the same.
        let other = many("b", "Is it seen?").replace("b0", "b1").replace("b2", "b1");
        assert_eq!(run(&many("a", "Is it seen?").replace("a1", "a0"), &other), Ok(()));
        assert_eq!(run(&many("a", "Is it seen?"), &many("b", "Where is it, and what?")), Ok(()));
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
        let constant = JSONL.replace("{{ question }}", "Patient {{ meta.patient }}");
        let error = outcome(&files, &part(&constant, "train", ""), &part(&constant, "heldout", ""), data)
            .unwrap_err();
        assert!(error.contains("name in `group` of both"), "{error}");
    }

    /// Rows of sums, `id` and `ask` of each made from its number.
    fn sums(count: usize, id: &dyn Fn(usize) -> serde_json::Value, ask: &dyn Fn(usize) -> String) -> String {
        (0..count).fold(String::new(), |mut text, i| {
            let row =
                serde_json::json!({"id": id(i), "question": ask(i), "answer": (i * 7 % 50).to_string()});
            writeln!(text, "{row}").unwrap();
            text
        })
    }

    /// How training on `d.jsonl` and measuring `e.jsonl` ends.
    fn two_files(d: &str, e: &str, train: &str, heldout: &str) -> Result<(), String> {
        let answer = "reference.answer = \"{{ answer }}\"\n";
        let (train, heldout) = (format!("{JSONL}{answer}{train}"), format!("{OTHER}{answer}{heldout}"));
        outcome(
            &[("d.jsonl", d), ("e.jsonl", e)],
            &train,
            &heldout.replace("d.jsonl", "e.jsonl"),
            "data = \"heldout\"",
        )
    }

    #[test]
    fn a_reworded_row_is_known_by_its_id() {
        let id = |i: usize| serde_json::json!(format!("sum-{i}-of-40"));
        let (plain, reworded) = (|i: usize| format!("{i}+1?"), |i: usize| format!("What do {i} and 1 make?"));
        let (d, e) = (sums(40, &id, &plain), sums(40, &id, &reworded));
        for split in [["", ""], ["split = \"train\"", "split = \"heldout\""]] {
            let error = two_files(&d, &e, split[0], split[1]).unwrap_err();
            for part in ["has the id of DIR/d.jsonl:", "rlvr data filter", "eval.allow_shared = true"] {
                assert!(error.contains(part), "no {part:?} in {error}");
            }
        }
        assert!(two_files(&d, &e, "", "").unwrap_err().contains("40 of the 40 tasks"));
        // The name of a subject is no id.
        let subject = |i: usize| serde_json::json!(["anatomy", "surgery"][i % 2]);
        assert_eq!(two_files(&sums(40, &subject, &plain), &sums(40, &subject, &reworded), "", ""), Ok(()));
    }

    #[test]
    fn numbers_of_rows_are_ids_only_along_with_their_answers() {
        let (plain, reworded) = (|i: usize| format!("{i}+1?"), |i: usize| format!("What do {i} and 1 make?"));
        for number in
            [|i: usize| serde_json::json!(i + 1), |i: usize| serde_json::json!(format!("line {}", i + 1))]
        {
            let d = sums(40, &number, &plain);
            let error = two_files(&d, &sums(40, &number, &reworded), "", "").unwrap_err();
            assert!(error.contains("40 of the 40 tasks") && error.contains("has the id of"), "{error}");
            // Other rows of the same numbers.
            let shifted = |i: usize| number((i + 3) % 40);
            assert_eq!(two_files(&d, &sums(40, &shifted, &reworded), "", ""), Ok(()));
        }
        assert!(!are_ids((0..40).map(|i| Some(u64::from(i == 0)))));
        assert!(!are_ids((0..40).map(|i| (i % 2 == 0).then_some(i))));
        assert!(!are_ids((0..5).map(Some)) && are_ids((0..10).map(Some)));
    }

    #[test]
    fn rows_are_known_under_another_field_and_other_white_space() {
        let d = sums(49, &|_| serde_json::Value::Null, &|i| format!("What is {i} + 1?"));
        let renamed = d.replace("\"question\":", "\"q\":");
        let heldout = OTHER.replace("{{ question }}", "{{ q }}").replace("d.jsonl", "e.jsonl");
        let error = outcome(&[("d.jsonl", &d), ("e.jsonl", &renamed)], JSONL, &heldout, "data = \"heldout\"")
            .unwrap_err();
        assert!(error.contains("49 of the 49 tasks"), "{error}");
        for (from, to) in [("?\"", "? \""), ("?\"", " ?\""), (" + ", "  +\\t")] {
            let error = two_files(&d, &d.replace(from, to), "", "").unwrap_err();
            assert!(error.contains("49 of the 49 tasks"), "{to:?}: {error}");
        }
        assert_eq!(two_files(&d, &d.replace(" + ", " - "), "", ""), Ok(()));
    }
}
