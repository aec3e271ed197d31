//! Steps on small files, from input to output and manifest.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::CurateError;
use super::decontaminate::{Contamination, DecontaminateSettings, decontaminate};
use super::dedup::{DedupSettings, dedup};
use super::filter::{FilterSettings, filter};
use super::manifest::{FileRecord, Manifest};
use super::output::{Command, Output};
use super::quota::{BalanceSettings, CapSettings, balance, cap};
use super::scan::{Input, Unwatched};
use super::split::{PartShare, SplitSettings, split};
use crate::random;
use crate::rows::normal_form;

/// A directory with an input, and what a step made of it.
struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new(rows: &[Value]) -> Self {
        let bench = Self { dir: tempfile::tempdir().unwrap() };
        bench.file("in.jsonl", rows);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self, name: &str, rows: &[Value]) -> PathBuf {
        let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    fn rows(&self, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn ids(&self, name: &str) -> Vec<String> {
        self.rows(name).iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Runs a step from in.jsonl to out.jsonl, with the rows left out in dropped.jsonl.
    fn step(
        &self,
        run: impl FnOnce(&Path, &mut Output) -> Result<Input, CurateError>,
    ) -> Result<Manifest, CurateError> {
        let mut out = Output::create(&self.path("out.jsonl"), Some(&self.path("dropped.jsonl")), true)?;
        let input = run(&self.path("in.jsonl"), &mut out)?;
        out.finish(Command { name: "step", settings: json!({}), seed: None }, vec![FileRecord::of(&input)])
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

fn question(id: impl ToString, question: &str, answer: &str) -> Value {
    json!({"id": id.to_string(), "question": question, "reference": {"answer": answer}})
}

const WORDS: [&str; 24] = [
    "patient", "fever", "cough", "renal", "cortex", "acute", "chronic", "lesion", "enzyme", "plasma",
    "muscle", "nerve", "artery", "biopsy", "tumour", "serum", "sodium", "reflex", "thorax", "spleen",
    "marrow", "insulin", "platelet", "duct",
];

/// A text of random words that no two keys share.
fn text(key: u64, words: usize) -> Vec<String> {
    let word = |i: usize| {
        let draw = random::word(&[key, i as u64]);
        format!("{}{}", WORDS[(draw % 24) as usize], draw >> 8 & 63)
    };
    (0..words).map(word).collect()
}

#[test]
fn exact_duplicates_go_and_the_first_stays() {
    let bench = Bench::new(&[
        question("a", "What is 3+4?", "7"),
        question("b", "what is  3+4", "7"),
        question("c", "What is 3-4?", "-1"),
        question("d", "What is 3+4?", "8"),
    ]);
    let settings = DedupSettings { threshold: None, ..DedupSettings::default() };
    let manifest = bench.step(|path, out| dedup(path, out, &settings, &Unwatched)).unwrap();
    assert_eq!(bench.ids("out.jsonl"), ["a", "c"]);
    let step = manifest.steps.last().unwrap();
    assert_eq!((step.rows_in, step.rows_out), (4, 2));
    assert_eq!((step.dropped["exact duplicate"], step.dropped["exact duplicate, another answer"]), (1, 1));
    assert_eq!(bench.rows("dropped.jsonl")[0]["detail"], json!({"of": "a", "similarity": 1.0}));
    let same = DedupSettings { same_answer: true, ..settings };
    bench.step(|path, out| dedup(path, out, &same, &Unwatched)).unwrap();
    assert_eq!(bench.ids("out.jsonl"), ["a", "c", "d"]);
    // Other fields.
    let on =
        DedupSettings { on: vec!["reference.answer".into()], threshold: None, ..DedupSettings::default() };
    bench.step(|path, out| dedup(path, out, &on, &Unwatched)).unwrap();
    assert_eq!(bench.ids("out.jsonl"), ["a", "c", "d"]);
    assert_eq!(bench.names(), ["dropped.jsonl", "in.jsonl", "out.jsonl", "out.jsonl.manifest.json"]);
}

/// Recall and precision on near-duplicates with `edits` of 60 words replaced, against the true similarities.
fn planted(edits: usize, threshold: f64) -> (f64, f64, f64) {
    const N: usize = 400;
    let mut rows = Vec::new();
    let mut texts: Vec<String> = Vec::new();
    for i in 0..N as u64 {
        let original = text(i, 60);
        let mut copy = original.clone();
        for e in 0..edits {
            let at = random::shuffled(e as u64, 60, &[i, 7]) as usize;
            copy[at] = format!("{}x", text(i + 1_000_000, 60)[at]);
        }
        texts.push(original.join(" "));
        texts.push(copy.join(" "));
    }
    for (i, text) in texts.iter().enumerate() {
        rows.push(question(i, text, "x"));
    }
    let bench = Bench::new(&rows);
    let settings = DedupSettings { threshold: Some(threshold), ..DedupSettings::default() };
    bench.step(|path, out| dedup(path, out, &settings, &Unwatched)).unwrap();
    let dropped: Vec<usize> =
        bench.rows("dropped.jsonl").iter().map(|row| row["id"].as_str().unwrap().parse().unwrap()).collect();
    let similarity = |i: usize| {
        let shingles = |text: &str| super::minhash::shingles(&normal_form(text));
        super::minhash::jaccard(&shingles(&texts[i - 1]), &shingles(&texts[i]))
    };
    let similarities: Vec<f64> = (0..N).map(|i| similarity(2 * i + 1)).collect();
    let near: Vec<usize> = (0..N).filter(|i| similarities[*i] >= threshold).map(|i| 2 * i + 1).collect();
    let hits = dropped.iter().filter(|i| near.contains(i)).count() as f64;
    let mean = similarities.iter().sum::<f64>() / N as f64;
    (mean, hits / near.len().max(1) as f64, hits / dropped.len().max(1) as f64)
}

#[test]
fn planted_near_duplicates_are_found() {
    println!("words replaced of 60 | mean Jaccard | threshold | recall | precision");
    for (edits, threshold) in
        [(1, 0.8), (2, 0.8), (3, 0.8), (4, 0.8), (5, 0.8), (3, 0.7), (6, 0.7), (6, 0.5), (10, 0.5)]
    {
        let (mean, recall, precision) = planted(edits, threshold);
        println!("{edits} | {mean:.3} | {threshold} | {recall:.4} | {precision:.4}");
        assert!(recall >= 0.95, "{edits} words, threshold {threshold}: recall {recall}");
        assert_eq!(precision, 1.0, "{edits} words, threshold {threshold}");
    }
}

#[test]
fn nothing_far_apart_is_dropped_and_chains_keep_a_neighbour() {
    let rows: Vec<Value> = (0..500).map(|i| question(i, &text(i, 40).join(" "), "x")).collect();
    let bench = Bench::new(&rows);
    bench.step(|path, out| dedup(path, out, &DedupSettings::default(), &Unwatched)).unwrap();
    assert_eq!(bench.rows("out.jsonl").len(), 500);
    // Each text is near to the one before it; what goes must be near to something that stays.
    let mut words = text(1, 40);
    let mut rows = Vec::new();
    for i in 0..20 {
        rows.push(question(i, &words.join(" "), "x"));
        words[2 * i] = format!("other{i}");
    }
    let bench = Bench::new(&rows);
    bench.step(|path, out| dedup(path, out, &DedupSettings::default(), &Unwatched)).unwrap();
    let kept = bench.ids("out.jsonl");
    assert!(kept.len() > 1 && kept.len() < 20, "{kept:?}");
    for row in bench.rows("dropped.jsonl") {
        assert!(kept.contains(&row["detail"]["of"].as_str().unwrap().to_owned()), "{row}");
        assert!(row["detail"]["similarity"].as_f64().unwrap() >= 0.8);
    }
}

fn compare(
    bench: &Bench,
    test: &Path,
    settings: &DecontaminateSettings,
) -> Result<(Vec<String>, Contamination), CurateError> {
    let mut found = None;
    bench.step(|path, out| {
        let (input, _, contamination) =
            decontaminate(path, &[test.to_path_buf()], out, settings, &Unwatched)?;
        found = Some(contamination);
        Ok(input)
    })?;
    Ok((bench.ids("out.jsonl"), found.unwrap()))
}

#[test]
fn test_items_are_found_in_any_disguise() {
    let long = text(1, 30).join(" ");
    let stock = "which of the following is the most appropriate next step in the management of this patient";
    let bench = Bench::new(&[
        question("long, with more around it", &format!("Read this: {long} Now answer."), "x"),
        json!({"id": "other order", "question": "Which bone?", "options": ["Ulna", "femur."], "answer": "A"}),
        json!({"id": "other options", "question": "Which bone?", "options": ["ulna", "rib"], "answer": "A"}),
        question("half of it", &text(1, 30)[..12].join(" "), "x"),
        question("a stock phrase", &format!("{} {stock}", text(2, 5).join(" ")), "x"),
        question("new", &text(3, 30).join(" "), "x"),
    ]);
    let mut tests = vec![
        json!({"id": "t0", "question": long, "answer": "x"}),
        json!({"id": "t1", "question": "which bone", "options": ["Femur", "Ulna"], "answer": "A"}),
    ];
    tests.extend(
        (2..7).map(|i| question(format!("t{i}"), &format!("{} {stock}", text(100 + i, 6).join(" ")), "x")),
    );
    let test = bench.file("test.jsonl", &tests);
    let (kept, found) = compare(&bench, &test, &DecontaminateSettings::default()).unwrap();
    assert_eq!(kept, ["other options", "half of it", "a stock phrase", "new"]);
    let file = test.display().to_string();
    assert_eq!((found.rows[&file], found.items[&file], found.of[&file]), (2, 2, 7));
    let dropped = bench.rows("dropped.jsonl");
    assert_eq!(
        (&dropped[0]["reason"], &dropped[1]["reason"]),
        (&json!("shared words"), &json!("same question"))
    );
    assert_eq!(dropped[0]["detail"]["tests"], json!([{"file": file, "id": "t0", "share": 1.0}]));
    // Without forgetting what everybody says, the phrase counts.
    let strict = DecontaminateSettings { common: 100, ..DecontaminateSettings::default() };
    assert!(!compare(&bench, &test, &strict).unwrap().0.contains(&"a stock phrase".to_owned()));
    let shared = DecontaminateSettings { ngram: 8, min_share: 0.9, ..DecontaminateSettings::default() };
    assert!(compare(&bench, &test, &shared).unwrap().0.contains(&"half of it".to_owned()));
    let some = DecontaminateSettings {
        against_where: Some("id == 't1'".into()),
        ..DecontaminateSettings::default()
    };
    assert_eq!(compare(&bench, &test, &some).unwrap().1.of[&file], 1);
    let none = DecontaminateSettings {
        against_where: Some("id == 't9'".into()),
        ..DecontaminateSettings::default()
    };
    assert!(compare(&bench, &test, &none).unwrap_err().to_string().contains("no test item"));
}

/// The leak of a well-known set of questions on images: its official parts share images, and some pairs of image and
/// question.
#[test]
fn images_in_both_parts_are_found_and_a_split_by_image_has_none() {
    let row = |image: u64, q: u64| {
        let question = ["Is the liver enlarged?", "Which plane is this?", "Is there a fracture?"][q as usize];
        json!({"id": format!("{image}-{q}"), "question": question, "meta": {"image": format!("img{image}")}, "answer": "yes"})
    };
    let train: Vec<Value> = (0..900).map(|i| row(i % 300, i / 300)).collect();
    // The numbers of VQA-RAD: 203 test images, all of them in train; 14 pairs of image and question as well.
    let test: Vec<Value> = (0..203)
        .map(|i| {
            let mut row = row(i, i % 3);
            row["id"] = json!(format!("test-{i}"));
            if i >= 14 {
                row["question"] = json!(format!("What is shown in place {i}?"));
            }
            row
        })
        .collect();
    let bench = Bench::new(&train);
    let test = bench.file("test.jsonl", &test);
    let by = |on: &[&str]| DecontaminateSettings {
        ngram: 0,
        on: on.iter().map(|f| (*f).to_owned()).collect(),
        ..DecontaminateSettings::default()
    };
    let file = test.display().to_string();
    let (kept, found) = compare(&bench, &test, &by(&["meta.image", "question"])).unwrap();
    assert_eq!((kept.len(), found.items[&file]), (900 - 14, 14));
    let (kept, found) = compare(&bench, &test, &by(&["meta.image"])).unwrap();
    assert_eq!((kept.len(), found.items[&file]), (900 - 3 * 203, 203));
    let typo = compare(&bench, &test, &by(&["meta.imag"])).unwrap_err().to_string();
    assert!(typo.contains("test.jsonl:1") && typo.contains("did you mean `meta.image`"), "{typo}");

    let part = |name: &str, share| PartShare { name: name.into(), share };
    let images = |name: &str| {
        let rows = bench.rows(name);
        rows.iter().map(|row| row["meta"]["image"].to_string()).collect::<std::collections::BTreeSet<_>>()
    };
    let run = |group: Option<String>| {
        let create = |name: &str| Output::create(&bench.path(name), None, true).unwrap();
        let mut outs = [create("a.jsonl"), create("b.jsonl")];
        let settings = SplitSettings { parts: vec![part("a", 0.8), part("b", 0.2)], group, seed: 1 };
        split(&bench.path("in.jsonl"), &mut outs, &settings, &Unwatched).unwrap();
        for out in outs {
            out.finish(Command { name: "split", settings: json!({}), seed: None }, Vec::new()).unwrap();
        }
        assert_eq!(bench.rows("a.jsonl").len() + bench.rows("b.jsonl").len(), 900);
        images("a.jsonl").intersection(&images("b.jsonl")).count()
    };
    assert_eq!(run(Some("meta.image".into())), 0);
    assert!((120..240).contains(&bench.rows("b.jsonl").len()));
    assert!(run(None) > 30);
}

#[test]
fn quotas_hold_and_do_not_depend_on_the_order() {
    let kind = |i: usize| ["mcq", "mcq", "open", "yes"][i % 4];
    let row = |i: usize| json!({"id": i.to_string(), "prompt": "x", "meta": {"type": kind(i)}});
    let mut rows: Vec<Value> = (0..400).map(row).collect();
    let kinds = |bench: &Bench| {
        let mut counts = std::collections::BTreeMap::new();
        bench
            .rows("out.jsonl")
            .iter()
            .for_each(|r| *counts.entry(r["meta"]["type"].as_str().unwrap().to_owned()).or_insert(0) += 1);
        counts.into_values().collect::<Vec<i32>>()
    };
    let bench = Bench::new(&rows);
    let settings = BalanceSettings { field: "meta.type".into(), values: vec![], per_value: None, seed: 0 };
    bench.step(|path, out| balance(path, out, &settings, &Unwatched)).unwrap();
    assert_eq!(kinds(&bench), [100, 100, 100]);
    let mut first = bench.ids("out.jsonl");
    let positions: Vec<u64> = first.iter().map(|id| id.parse().unwrap()).collect();
    assert!(positions.is_sorted());
    let two =
        BalanceSettings { values: vec!["mcq".into(), "yes".into()], per_value: Some(30), ..settings.clone() };
    bench.step(|path, out| balance(path, out, &two, &Unwatched)).unwrap();
    assert_eq!(kinds(&bench), [30, 30]);

    let capped = CapSettings {
        field: Some("meta.type".into()),
        values: vec!["yes".into()],
        rows: None,
        share: Some(0.05),
        seed: 3,
    };
    bench.step(|path, out| cap(path, out, &capped, &Unwatched)).unwrap();
    assert_eq!(kinds(&bench), [200, 100, 15]);
    let each = CapSettings { values: vec![], rows: Some(50), share: None, ..capped.clone() };
    bench.step(|path, out| cap(path, out, &each, &Unwatched)).unwrap();
    assert_eq!(kinds(&bench), [50, 50, 50]);

    // Without a field: a random choice of all rows, another one with another seed.
    let any = CapSettings { field: None, rows: Some(80), ..each.clone() };
    bench.step(|path, out| cap(path, out, &any, &Unwatched)).unwrap();
    let chosen = bench.ids("out.jsonl");
    assert_eq!(chosen.len(), 80);
    // 40 of the 200 rows of the first half are expected; four standard deviations are 16.
    let half = chosen.iter().filter(|id| id.parse::<usize>().unwrap() < 200).count();
    assert!((24..=56).contains(&half), "{half}");
    bench.step(|path, out| cap(path, out, &CapSettings { seed: 4, ..any.clone() }, &Unwatched)).unwrap();
    assert_ne!(bench.ids("out.jsonl"), chosen);
    let tenth = CapSettings { rows: None, share: Some(0.1), ..any.clone() };
    bench.step(|path, out| cap(path, out, &tenth, &Unwatched)).unwrap();
    assert_eq!(bench.ids("out.jsonl").len(), 40);

    rows.reverse();
    let reversed = Bench::new(&rows);
    reversed.step(|path, out| balance(path, out, &settings, &Unwatched)).unwrap();
    let mut second = reversed.ids("out.jsonl");
    first.sort();
    second.sort();
    assert_eq!(first, second);
    reversed.step(|path, out| cap(path, out, &any, &Unwatched)).unwrap();
    let mut second = reversed.ids("out.jsonl");
    second.reverse();
    assert_eq!(chosen, second);

    let fails = |settings: &CapSettings, part: &str| {
        let error = bench.step(|path, out| cap(path, out, settings, &Unwatched)).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    let typo = CapSettings { field: Some("meta.typ".into()), ..each.clone() };
    fails(&typo, "did you mean `meta.type`");
    fails(&CapSettings { values: vec!["yes".into()], ..any.clone() }, "values are of a field");
    fails(&CapSettings { share: Some(0.001), ..tenth }, "no row stays, 400 of 400 left out because: above");
    fails(&CapSettings { rows: Some(0), ..any }, "no row stays");
    fails(
        &CapSettings { values: vec!["no".into()], ..capped },
        "no row has \"no\" as meta.type (there are: ",
    );
    fails(&CapSettings { rows: None, share: Some(0.2), ..each }, "no rows would be left");
}

#[test]
fn filters_give_their_reasons() {
    let bench = Bench::new(&[
        json!({"id": "a", "question": "one two three", "options": ["x", "y"], "answer": "A", "meta": {"s": 1}}),
        json!({"id": "b", "question": "one see figure", "answer": "long answer here", "meta": {"s": 2}}),
        json!({"id": "c", "question": "one", "answer": "x"}),
    ]);
    let check = |toml: &str, kept: &[&str], reason: &str| {
        let settings: FilterSettings = toml::from_str(toml).unwrap();
        let manifest = bench.step(|path, out| filter(path, out, &settings, &Unwatched)).unwrap();
        assert_eq!(bench.ids("out.jsonl"), kept, "{toml}");
        assert!(manifest.steps[0].dropped.contains_key(reason), "{:?}", manifest.steps[0].dropped);
    };
    check("field = [{ field = 'meta.s', values = ['1', 'null'] }]", &["a", "c"], "meta.s is another");
    check("not_field = [{ field = 'meta.s', values = ['2'] }]", &["a", "c"], "meta.s is 2");
    check("matches = [{ field = 'question', pattern = '^one t' }]", &["a"], "question does not match");
    check("not_matches = [{ field = 'question', pattern = '(?i)FIGURE' }]", &["a", "c"], "question matches");
    check("min_words = 2", &["a", "b"], "question too short");
    check("max_answer_words = 1", &["a", "c"], "answer too long");
    check("min_options = 2", &["a"], "number of options");
    check("where = \"id in ['a', 'b']\"", &["a", "b"], "where is false");
    let fails = |toml: &str, part: &str| {
        let settings: FilterSettings = toml::from_str(toml).unwrap();
        let error = bench.step(|path, out| filter(path, out, &settings, &Unwatched)).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    fails("", "no condition");
    fails("min_words = 3\nmax_words = 2", "--min-words 3 is above");
    fails("matches = [{ field = 'question', pattern = '(' }]", "unclosed group");
    fails("not_field = [{ field = 'meta.z', values = ['2'] }]", "no field `meta.z`");
    fails("where = \"nope.x == 1\"", "in.jsonl:1: where: the row has no field `nope`");
    fails(
        "where = \"meta.ss == 1\"",
        "in.jsonl:1: where: the row has no field `meta.ss`, did you mean `meta.s`?",
    );
}

#[test]
fn a_step_that_leaves_no_row_is_refused_unless_that_is_allowed() {
    let bench = Bench::new(&[question("a", "x y z", "1"), question("b", "x", "2"), question("c", "y", "2")]);
    let settings: FilterSettings =
        toml::from_str("min_words = 2\nfield = [{ field = 'id', values = ['b', 'c'] }]").unwrap();
    let error = bench.step(|path, out| filter(path, out, &settings, &Unwatched)).unwrap_err().to_string();
    assert!(error.contains("in.jsonl: no row stays, 2 of 3 left out because: question too short"), "{error}");
    assert!(error.contains("--allow-empty"), "{error}");
    assert_eq!(bench.names(), ["in.jsonl"]);
    let mut out = Output::create(&bench.path("out.jsonl"), None, false).unwrap().allow_empty(true);
    let input = filter(&bench.path("in.jsonl"), &mut out, &settings, &Unwatched).unwrap();
    let command = Command { name: "filter", settings: json!(settings), seed: None };
    let manifest = out.finish(command, vec![FileRecord::of(&input)]).unwrap();
    assert_eq!((manifest.steps[0].rows_in, manifest.steps[0].rows_out), (3, 0));
    assert_eq!(std::fs::read_to_string(bench.path("out.jsonl")).unwrap(), "");
}

#[test]
fn a_failed_step_leaves_nothing_and_old_files_stay() {
    let bench = Bench::new(&[question("a", "x y z", "1"), json!({"id": "b"})]);
    std::fs::write(bench.path("out.jsonl"), "old\n").unwrap();
    let error = bench.step(|path, out| dedup(path, out, &DedupSettings::default(), &Unwatched)).unwrap_err();
    assert!(error.to_string().contains("in.jsonl:2: the row has no `question`"), "{error}");
    assert_eq!(bench.names(), ["in.jsonl", "out.jsonl"]);
    assert_eq!(std::fs::read_to_string(bench.path("out.jsonl")).unwrap(), "old\n");
    let error = Output::create(&bench.path("out.jsonl"), None, false).err().unwrap().to_string();
    assert!(error.contains("out.jsonl exists") && error.contains("--force"), "{error}");
}

#[test]
fn manifests_chain_and_notice_a_changed_file() {
    let rows: Vec<Value> = (0..50).map(|i| question(i, &text(i % 40, 20).join(" "), "x")).collect();
    let bench = Bench::new(&rows);
    let first = bench.step(|path, out| dedup(path, out, &DedupSettings::default(), &Unwatched)).unwrap();
    assert_eq!(first.steps.len(), 1);
    let again = |name: &str| {
        let mut out = Output::create(&bench.path(name), None, true).unwrap();
        let settings = FilterSettings { min_words: Some(5), ..FilterSettings::default() };
        let input = filter(&bench.path("out.jsonl"), &mut out, &settings, &Unwatched).unwrap();
        let command = Command { name: "filter", settings: json!(settings), seed: Some(3) };
        out.finish(command, vec![FileRecord::of(&input)]).unwrap()
    };
    let second = again("next.jsonl");
    assert_eq!(second.steps.iter().map(|s| &*s.command).collect::<Vec<_>>(), ["step", "filter"]);
    assert_eq!((second.steps[1].rows_in, second.steps[1].rows_out), (40, 40));
    assert_eq!(second.steps[1].inputs[0].sha256, second.steps[0].output.sha256);
    assert_eq!(Manifest::beside(&bench.path("next.jsonl")).unwrap().unwrap(), second);
    // The same again gives the same bytes.
    let bytes = |name: &str| std::fs::read(bench.path(name)).unwrap();
    let before = (bytes("next.jsonl"), bytes("next.jsonl.manifest.json"));
    again("next.jsonl");
    assert_eq!((bytes("next.jsonl"), bytes("next.jsonl.manifest.json")), before);

    let mut text = String::from_utf8(bytes("out.jsonl")).unwrap();
    writeln!(text, "{}", question("new", "a b c d e", "x")).unwrap();
    std::fs::write(bench.path("out.jsonl"), text).unwrap();
    let third = again("third.jsonl");
    assert_eq!(third.steps.len(), 1);
    assert!(third.steps[0].inputs[0].note.as_ref().unwrap().contains("changed"));
    std::fs::write(bench.path("out.jsonl.manifest.json"), "{}").unwrap();
    let error = Manifest::beside(&bench.path("out.jsonl")).unwrap_err().to_string();
    assert!(error.contains("no manifest of rlvr data"), "{error}");
}

#[test]
fn bytes_do_not_depend_on_the_threads() {
    let rows: Vec<Value> = (0..3000).map(|i| question(i, &text(i % 2000, 12).join(" "), "x")).collect();
    let bench = Bench::new(&rows);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| bench.step(|path, out| dedup(path, out, &DedupSettings::default(), &Unwatched)))
            .unwrap();
        ["out.jsonl", "dropped.jsonl", "out.jsonl.manifest.json"]
            .map(|name| std::fs::read(bench.path(name)).unwrap())
    };
    assert_eq!(run(1), run(4));
    assert_eq!(bench.rows("out.jsonl").len(), 2000);
}
