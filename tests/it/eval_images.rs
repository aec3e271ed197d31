//! Benchmarks with pictures: definitions, checks, control arms, options by likelihood, evaluations of runs.
use crate::cli::{lines, refused, rlvr, stderr, write};
use crate::evals::model;
use burn::tensor::Device;
use rlvr::eval::likelihood::score_options;
use rlvr::eval::validate::validate;
use rlvr::eval::{Benchmark, Continuation, Definition, ImageArm, Item, OpenSettings};
use rlvr::measure::{Measurement, Plan};
use rlvr::policies::vision::{decode, encode_png};
use rlvr::policy::Policy;
use rlvr::rewards::{Response, TaskImage, Verdict, score_one};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// A picture of one colour, as a PNG.
pub(crate) fn plain(width: usize, height: usize, colour: [u8; 3]) -> Vec<u8> {
    encode_png(width, height, &colour.repeat(width * height))
}

fn seeing() -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/vision/tiny-qwen2_5_vl");
    path.display().to_string()
}

const SCANS: &str = r#"name = "scans"
title = "Scans"
license = "MIT"
prompt = "{{ question }} {{ lettered }}"
metrics = ["token_f1"]
[source]
file = "scans.jsonl"
images = "pictures"
[fields]
question = "{{ question }}"
images = "{{ image }}"
options = ["yes", "no"]
answer = "{{ answer }}"
group = "{{ kind }}"
[reward]
kind = "choice"
[generation]
max_tokens = 3
[likelihood]
prompt = "{{ question }}"
of = "text"
"#;

/// `n` items on pictures of two sizes, and their definition.
fn scans(dir: &Path, n: usize) -> String {
    std::fs::create_dir_all(dir.join("pictures")).unwrap();
    let mut rows = Vec::new();
    for i in 0..n {
        let name = format!("{}.png", i % 7);
        let side = if i % 7 < 4 { 56 } else { 84 };
        let shade = (i % 7 * 36) as u8;
        std::fs::write(dir.join("pictures").join(&name), plain(side, 56, [shade, 90, 255 - shade])).unwrap();
        let (answer, kind) = (["yes", "no"][i % 2], ["closed", "open"][i % 3 / 2]);
        rows.push(json!({
            "id": format!("s{i}"), "image": name, "question": format!("Is it {i}?"), "answer": answer,
            "kind": kind,
        }));
    }
    write(dir, "scans.jsonl", &lines(&rows));
    write(dir, "scans.toml", SCANS)
}

fn read(dir: &Path, name: &str) -> String {
    std::fs::read_to_string(dir.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// A directory with a benchmark, and evaluations of it.
struct Scans {
    dir: tempfile::TempDir,
    definition: String,
}

const ALL: [&str; 2] = ["--images", "real,blank,shuffled,none"];

impl Scans {
    fn new(n: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { definition: scans(dir.path(), n), dir }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn read(&self, name: &str) -> String {
        read(self.dir.path(), name)
    }

    fn results(&self, out: &str) -> Value {
        serde_json::from_str(&self.read(&format!("{out}/results.json"))).unwrap()
    }

    fn run(&self, out: &str, more: &[&str]) -> std::process::Output {
        let (policy, out) = (seeing(), self.path(out));
        let args = ["eval", "run", "--policy", &policy, "--tasks", &self.definition, "--mode", "both"];
        rlvr(&[&args[..], &["--out", &out], more].concat(), "")
    }

    fn measured(&self, out: &str, more: &[&str]) -> Value {
        let done = self.run(out, more);
        assert!(done.status.success(), "{}", stderr(&done));
        self.results(out)
    }
}

#[test]
fn real_pictures_are_compared_with_controls() {
    let scans = Scans::new(70);
    let done = scans.run("whole", &ALL);
    assert!(done.status.success(), "{}", stderr(&done));
    let results = scans.results("whole");
    for name in ["scans", "scans/blank", "scans/shuffled", "scans/none", "scans/blank/likelihood"] {
        assert_eq!(results["tasks"][name]["n"], 70, "{name}");
    }
    let closed = &results["tasks"]["scans"]["groups"]["closed"];
    assert!(
        results["tasks"]["scans"]["texts"]["token_f1"].is_number() && closed["texts"]["token_f1"].is_number()
    );
    let arms = results["image_arms"].as_array().unwrap();
    // Three controls of three rankings, each whole and by two groups.
    assert_eq!(arms.len(), 3 * 3 * 3, "{arms:?}");
    let blank = &arms[0];
    assert_eq!(
        (&blank["task"], &blank["arm"], &blank["items"]),
        (&json!("scans"), &json!("blank"), &json!(70))
    );
    let accuracy = |name: &str| results["tasks"][name]["accuracy"].as_f64().unwrap();
    let difference = blank["difference"].as_f64().unwrap();
    assert!((difference - (accuracy("scans") - accuracy("scans/blank"))).abs() < 1e-12);
    assert_eq!(arms[1]["group"], "closed");
    let groups: u64 = arms[1..3].iter().map(|arm| arm["items"].as_u64().unwrap()).sum();
    assert_eq!(groups, 70);
    // Random weights see nothing that helps.
    let table = String::from_utf8_lossy(&done.stdout);
    let markdown = scans.read("whole/results.md");
    assert!(table.contains("same answers") && markdown.contains("Real pictures against controls"));
    assert!(stderr(&done).contains("is not above that of the control `blank`"), "{}", stderr(&done));

    // The prompts are those of the real pictures, but for the arm without.
    let samples = scans.read("whole/samples.jsonl");
    let samples: Vec<Value> = samples.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of =
        |task: &str, id: &str| samples.iter().find(|row| row["task"] == task && row["id"] == id).unwrap();
    let real = of("scans", "s3");
    assert!(real["images"][0].as_str().unwrap().ends_with("pictures/3.png"), "{real}");
    assert_eq!(of("scans/blank", "s3")["prompt"], real["prompt"]);
    assert!(of("scans/blank", "s3")["images"][0].as_str().unwrap().starts_with("data:"));
    let shuffled = of("scans/shuffled", "s3");
    assert!(shuffled["prompt"] == real["prompt"] && shuffled["images"] != real["images"]);
    let none = of("scans/none", "s3");
    assert!(none["images"].is_null() && !none["prompt"].as_str().unwrap().contains("image_pad"), "{none}");
    // Another picture, other likelihoods of the options.
    let ranked = |task: &str| of(task, "s3")["options"][0]["logprob"].as_f64().unwrap();
    assert_ne!(ranked("scans/likelihood"), ranked("scans/blank/likelihood"));
}

#[test]
fn controls_are_judged_again_and_reported() {
    let scans = Scans::new(12);
    let results = scans.measured("whole", &ALL);
    let (samples, out) = (scans.path("whole/samples.jsonl"), scans.path("scored"));
    let args = ["eval", "score", "--tasks", &scans.definition, "--completions", &samples, "--out", &out];
    let scored = rlvr(&args, "");
    assert!(scored.status.success(), "{}", stderr(&scored));
    let again = scans.results("scored");
    for name in ["scans", "scans/blank", "scans/shuffled", "scans/none"] {
        assert_eq!(again["tasks"][name]["accuracy"], results["tasks"][name]["accuracy"], "{name}");
        assert_eq!(
            again["settings"]["tasks"][name]["hash"], results["settings"]["tasks"][name]["hash"],
            "{name}"
        );
    }
    assert_eq!(again["image_arms"][0], results["image_arms"][0]);
    let report = rlvr(&["eval", "report", &scans.path("whole"), "--format", "json"], "");
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    assert_eq!(report["evaluations"][0]["image_arms"], results["image_arms"]);
    let report = rlvr(&["eval", "report", &scans.path("whole"), "--cluster", "image"], "");
    assert!(String::from_utf8(report.stdout).unwrap().contains("Real pictures against controls"));
}

#[test]
fn an_interrupted_evaluation_with_controls_goes_on_and_other_pictures_are_refused() {
    let scans = Scans::new(70);
    scans.measured("whole", &ALL);
    // Killed within a chunk of the second arm.
    std::fs::create_dir(scans.path("torn")).unwrap();
    let text = scans.read("whole/samples.jsonl");
    std::fs::write(scans.path("torn/samples.jsonl"), &text[..text.len() / 2]).unwrap();
    std::fs::write(scans.path("torn/settings.json"), scans.read("whole/settings.json")).unwrap();
    let done = scans.run("torn", &ALL);
    assert!(done.status.success() && stderr(&done).contains("going on after"), "{}", stderr(&done));
    for file in ["samples.jsonl", "results.json", "results.md"] {
        assert_eq!(scans.read(&format!("torn/{file}")), scans.read(&format!("whole/{file}")), "{file}");
    }
    let other = scans.run("torn", &["--images", "real,blank"]);
    assert_eq!(other.status.code(), Some(2), "other arms are another evaluation");

    // Another picture under the same name is another evaluation.
    std::fs::write(scans.path("pictures/3.png"), plain(56, 56, [1, 2, 3])).unwrap();
    let changed = scans.run("torn", &ALL);
    assert_eq!(changed.status.code(), Some(2));
    assert!(stderr(&changed).contains("tasks.scans.images"), "{}", stderr(&changed));
    scans.measured("fresh", &["--images", "real"]);
    let compared = ["eval", "compare", &scans.path("whole"), &scans.path("fresh")];
    refused(&compared, "", &["scans", "other pictures"]);
    // Evaluations of two arms have no task in common.
    scans.measured("blank", &["--images", "blank"]);
    let compared = rlvr(&["eval", "compare", &scans.path("fresh"), &scans.path("blank")], "");
    assert!(!compared.status.success() && stderr(&compared).contains("scans/blank"), "{}", stderr(&compared));
}

#[test]
fn controls_change_the_pictures_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let definition = scans(dir.path(), 20);
    let policy = Policy::open(&seeing(), &Device::flex()).unwrap();
    let real = Benchmark::named(&definition, &OpenSettings::default()).unwrap();
    let arm = |arm| real.with_images(arm, 5, &policy).unwrap();
    let bytes = |item: &Item| match &item.task.images[..] {
        [TaskImage::Path(path)] => std::fs::read(path).unwrap(),
        [TaskImage::Bytes(bytes)] => bytes.to_vec(),
        other => panic!("{other:?}"),
    };
    let (blank, shuffled, none) = (arm(ImageArm::Blank), arm(ImageArm::Shuffled), arm(ImageArm::None));
    for (i, own) in real.items.iter().enumerate() {
        let size = |item| decode(&bytes(item)).map(|rgb| (rgb.width, rgb.height)).unwrap();
        let grey = decode(&bytes(&blank.items[i])).unwrap();
        assert_eq!((grey.width, grey.height), size(own));
        assert!(grey.pixels.iter().all(|v| *v == 128));
        assert_ne!(bytes(&shuffled.items[i]), bytes(own), "{i}");
        assert_eq!(size(&shuffled.items[i]), size(own), "as many tokens");
        assert_eq!(blank.items[i].task.prompt, own.task.prompt);
        assert!(own.task.prompt[0].content.starts_with("<image>"));
        assert_eq!(format!("<image>{}", none.items[i].task.prompt[0].content), own.task.prompt[0].content);
        assert!(none.items[i].task.images.is_empty());
        for other in [&blank, &shuffled, &none] {
            assert_eq!((&other.items[i].task.id, other.items[i].gold), (&own.task.id, own.gold));
        }
    }
    let again = real.with_images(ImageArm::Shuffled, 5, &policy).unwrap();
    let images = |b: &Benchmark| b.items.iter().map(|i| i.task.images.clone()).collect::<Vec<_>>();
    assert_eq!(images(&again), images(&shuffled));
    let hashes =
        [&real, &blank, &shuffled, &none, &real.with_images(ImageArm::Shuffled, 6, &policy).unwrap()];
    let hashes: std::collections::BTreeSet<&str> = hashes.iter().map(|b| b.hash.as_str()).collect();
    assert_eq!(hashes.len(), 5, "the arm and its seed are part of what is measured");
}

#[test]
fn options_after_pictures_are_scored_as_each_alone() {
    let dir = tempfile::tempdir().unwrap();
    let definition = scans(dir.path(), 9);
    let policy = Policy::open(&seeing(), &Device::flex()).unwrap();
    let benchmark = Benchmark::named(&definition, &OpenSettings::default()).unwrap();
    let items: Vec<&Item> = benchmark.items.iter().collect();
    let together = score_options(&policy, &items, Continuation::Text).unwrap();
    for (item, scores) in items.iter().zip(&together) {
        let alone = score_options(&policy, &[item], Continuation::Text).unwrap().remove(0);
        for (a, b) in alone.logprobs.iter().zip(&scores.logprobs) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }
}

#[test]
fn what_is_wrong_with_a_picture_is_named_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let definition = scans(dir.path(), 9);
    let policy = seeing();
    assert!(rlvr(&["eval", "validate", "--tasks", &definition], "").status.success());
    std::fs::remove_file(dir.path().join("pictures/2.png")).unwrap();
    std::fs::write(dir.path().join("pictures/4.png"), "no picture").unwrap();
    let found = rlvr(&["eval", "validate", "--tasks", &definition], "");
    let text = String::from_utf8(found.stdout).unwrap();
    assert_eq!(found.status.code(), Some(1), "{text}");
    for part in
        ["scans.jsonl:3: images: picture 1", "pictures/2.png", "scans.jsonl:5: images: picture 1", "format"]
    {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    let out = dir.path().join("out").display().to_string();
    let run = ["eval", "run", "--policy", &policy, "--tasks", &definition, "--out", &out];
    refused(&run, "", &["scans.jsonl:3: images: picture 1", "2.png"]);
    assert!(!Path::new(&out).exists());

    // One that is cut off begins well; where it is decoded, its row is named too.
    let definition = scans(dir.path(), 9);
    let cut = dir.path().join("pictures/5.png");
    let whole = std::fs::read(&cut).unwrap();
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let found = rlvr(&["eval", "validate", "--tasks", &definition], "");
    let text = String::from_utf8(found.stdout).unwrap();
    assert_eq!(found.status.code(), Some(1), "{text}");
    assert!(text.contains("scans.jsonl:6: images: picture 1") && text.contains("5.png"), "{text}");
    for arm in ["real", "shuffled"] {
        let asked = rlvr(&[&run[..], &["--images", arm, "--force"]].concat(), "");
        assert!(!asked.status.success() && stderr(&asked).contains("scans.jsonl:6: "), "{}", stderr(&asked));
    }
    std::fs::remove_dir_all(&out).ok();
    scans(dir.path(), 9);

    // Rows that name pictures as nothing can read them, or have places for more.
    let row = json!({"id": 1, "image": "https://x/1.png", "question": "q", "answer": "yes", "kind": "a"});
    write(dir.path(), "scans.jsonl", &lines(std::slice::from_ref(&row)));
    refused(&run, "", &["scans.jsonl:1", "is not fetched"]);
    let row =
        json!({"id": 1, "image": "0.png", "question": "<image> and <image>", "answer": "yes", "kind": "a"});
    write(dir.path(), "scans.jsonl", &lines(&[row]));
    refused(&run, "", &["scans.jsonl:1", "2 places <image>"]);

    let definition = scans(dir.path(), 9);
    let blind = model("tiny-llama");
    let run = ["eval", "run", "--policy", &blind, "--tasks", &definition, "--out", &out];
    refused(&run, "", &["scans: its items have pictures, and the policy does not see", "--images none"]);
    let none = rlvr(&[&run[..], &["--images", "none"]].concat(), "");
    assert!(none.status.success(), "{}", stderr(&none));
    let text = write(dir.path(), "text.jsonl", &lines(&[json!({"question": "1+1?", "answer": "2"})]));
    let run = ["eval", "run", "--policy", &policy, "--tasks", &text, "--out", &out, "--force"];
    refused(
        &[&run[..], &["--images", "blank"]].concat(),
        "",
        &["text: --images blank: its items have no pictures"],
    );
    refused(&[&run[..], &["--images", "real,real"]].concat(), "", &["--images names real twice"]);
}

#[test]
fn rows_of_json_lines_have_pictures_too() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.png"), plain(56, 56, [200, 10, 10])).unwrap();
    let data = String::from(TaskImage::Bytes(plain(56, 84, [1, 200, 1]).into()));
    let rows = [
        json!({"id": "a", "question": "Red?", "image": "a.png", "answer": "yes"}),
        json!({"id": "b", "question": "Which of <image> and <image>?", "images": ["a.png", data], "answer": "no"}),
    ];
    let file = write(dir.path(), "mine.jsonl", &lines(&rows));
    let out = dir.path().join("out");
    let run = |file: &str| {
        let out = out.display().to_string();
        let args =
            ["eval", "run", "--policy", &seeing(), "--tasks", file, "--reward", "yes_no", "--out", &out];
        rlvr(&[&args[..], &["--max-tokens", "2", "--images", "real,blank"]].concat(), "")
    };
    let done = run(&file);
    assert!(done.status.success(), "{}", stderr(&done));
    let samples = read(&out, "samples.jsonl");
    let row: Value = serde_json::from_str(samples.lines().nth(1).unwrap()).unwrap();
    assert_eq!(row["images"].as_array().unwrap().len(), 2, "{row}");
    let row: Value = serde_json::from_str(samples.lines().next().unwrap()).unwrap();
    assert_eq!(row["images"].as_array().unwrap().len(), 1, "{row}");
    // Controls of a baseline are no tasks that one may get worse at, or lack.
    let alone = dir.path().join("alone").display().to_string();
    let args =
        ["eval", "run", "--policy", &seeing(), "--tasks", &file, "--reward", "yes_no", "--out", &alone];
    let more = ["--max-tokens", "2", "--baseline", &out.display().to_string()];
    let beside = rlvr(&[&args[..], &more].concat(), "");
    assert!(beside.status.success(), "{}", stderr(&beside));
    write(dir.path(), "mine.jsonl", &lines(&[json!({"question": "q", "images": "b.png", "answer": "no"})]));
    let gone = run(&file);
    assert_eq!(gone.status.code(), Some(2));
    assert!(stderr(&gone).contains("mine.jsonl:1: images: picture 1"), "{}", stderr(&gone));
}

/// A benchmark, its file, the folder of its pictures and made-up rows with the published fields.
type Published = (&'static str, &'static str, &'static str, Vec<Value>);

/// A picture as Hugging Face has it.
fn hub() -> Value {
    let bytes = String::from(TaskImage::Bytes(plain(8, 8, [9, 9, 9]).into()));
    json!({"bytes": bytes.split_once(',').unwrap().1, "path": null})
}

fn open_questions() -> Vec<Published> {
    let rad = |answer: &str, kind: &str| json!({"image": "a.png", "question": "What?", "answer": answer, "answer_type": kind, "image_organ": "CHEST"});
    let slake = |qid: u64, lang: &str, answer: &str, kind: &str| {
        json!({"img_id": 1, "img_name": "a.png", "question": "What?", "answer": answer, "q_lang": lang, "location": "Lung",
            "modality": "CT", "answer_type": kind, "base_type": "vqa", "content_type": "Organ", "triple": ["v"], "qid": qid})
    };
    vec![
        (
            "vqa_rad",
            "test.jsonl",
            "",
            vec![rad("Yes", "CLOSED "), rad("right lung", "OPEN"), rad("left", "CLOSED")],
        ),
        (
            "slake",
            "test.json",
            "imgs",
            vec![
                slake(1, "en", "No", "CLOSED"),
                slake(2, "zh", "肺", "OPEN"),
                slake(3, "en", "Lung, Heart", "OPEN"),
            ],
        ),
        (
            "path_vqa",
            "test.jsonl",
            "",
            vec![
                json!({"image": hub(), "question": "is it benign?", "answer": "yes"}),
                json!({"image": hub(), "question": "what is it?", "answer": "hepatic vein"}),
            ],
        ),
    ]
}

fn choices() -> Vec<Published> {
    let mmmu = |id: &str, options: &str, answer: &str, kind: &str| {
        json!({"id": id, "question": "Which, <image 1> or <image 2>?", "options": options, "explanation": "", "image_1": hub(),
            "image_2": hub(), "image_3": null, "image_4": null, "image_5": null, "image_6": null, "image_7": null,
            "img_type": "['CT']", "answer": answer, "topic_difficulty": "Easy", "question_type": kind, "subfield": "X"})
    };
    vec![
        (
            "pmc_vqa",
            "test_clean.jsonl",
            "images",
            vec![
                json!({"Figure_path": "a.png", "Question": "Which?", "Answer": "MRI", "Choice A": " A:CT ", "Choice B": " B:MRI ",
                "Choice C": "C: RNA: all", "Choice D": "none", "Answer_label": "B"}),
                json!({"Figure_path": "a.png", "Caption": "c", "Question": "Which?", "Answer": "D", "Choice A": "A: x",
                "Choice B": "B: y", "Choice C": "C: z", "Choice D": "D: w", "split": "test"}),
            ],
        ),
        (
            "omnimedvqa",
            "open_access.jsonl",
            "",
            vec![
                json!({"dataset": "d", "question_id": "d_1", "question_type": "Modality Recognition", "question": "Which?",
                "gt_answer": "CT", "image_path": "a.png", "option_A": "MR", "option_B": "CT", "modality_type": "CT"}),
                json!({"dataset": "d", "question_id": "d_2", "question_type": "Disease Diagnosis", "question": "Which?",
                "gt_answer": "No", "image_path": "b.png", "option_A": "No", "option_B": "Yes", "option_C": "Both of them",
                "option_D": null, "modality_type": "CT"}),
            ],
        ),
        (
            "mmmu_med",
            "validation.jsonl",
            "",
            vec![
                mmmu(
                    "validation_Clinical_Medicine_1",
                    "['a cat', \"a dog's\", 'neither']",
                    "B",
                    "multiple-choice",
                ),
                mmmu("validation_Pharmacy_2", "[]", "aspirin", "open"),
            ],
        ),
        (
            "medxpertqa_mm",
            "mm_test.jsonl",
            "images",
            vec![
                json!({"id": "MM-1", "question": "Which?\nAnswer Choices: (A) x (B) y", "options": {"A": "x", "B": "y"},
                "label": "B", "images": ["a.png", "b.png"], "medical_task": "Diagnosis", "body_system": "Skeletal",
                "question_type": "Reasoning"}),
                json!({"id": "MM-2", "question": "Which?\nAnswer Choices: (A) x (B) y", "options": {"A": "x", "B": "y"},
                "label": "A", "images": ["a.png"], "medical_task": "Diagnosis", "body_system": "Skeletal",
                "question_type": "Understanding"}),
            ],
        ),
    ]
}

fn reports() -> Vec<Published> {
    let report = |id: &str| {
        json!({"id": id, "report": "The lungs are clear. No effusion is seen.", "image_path": ["a.png", "b.png"],
            "split": "test"})
    };
    vec![
        ("iu_xray", "test.jsonl", "images", vec![report("CXR1")]),
        ("mimic_cxr", "test.jsonl", "images", vec![report("02aa")]),
    ]
}

#[test]
fn definitions_with_pictures_read_the_published_fields() {
    let dir = tempfile::tempdir().unwrap();
    for (name, file, folder, rows) in [open_questions(), choices(), reports()].concat() {
        let data = if name == "medxpertqa_mm" { "medxpertqa" } else { name };
        let own = dir.path().join(data);
        std::fs::create_dir_all(own.join(folder)).unwrap();
        for (picture, shade) in [("a.png", 10), ("b.png", 200)] {
            std::fs::write(own.join(folder).join(picture), plain(8, 8, [shade; 3])).unwrap();
        }
        let array = format!("{}\n", Value::Array(rows.clone()));
        write(&own, file, &if file == "test.json" { array } else { lines(&rows) });
        let settings = OpenSettings { data_dir: dir.path().into(), ..OpenSettings::default() };
        let found = Definition::find(name, &settings).unwrap().unwrap();
        let mut task = found.file.clone();
        if let Some(source) = &mut task.source {
            source.items = None;
        }
        let checked = validate(&task, &found.text, &settings).unwrap();
        for check in &checked.checks {
            assert_eq!(check.failed, 0, "{name}: {}: {:?}", check.name, check.problems);
        }
        let benchmark = Benchmark::open(&task, &found.text, &settings).unwrap();
        read_and_judged(name, &benchmark);
    }
}

/// The items of those rows, and what is right and wrong for them.
fn read_and_judged(name: &str, benchmark: &Benchmark) {
    let said = |i: usize, text: &str| {
        score_one(&*benchmark.reward, &benchmark.items[i].task, Response::new(text)).verdict
    };
    let judged = |i: usize, right: &str, wrong: &str| {
        assert_eq!(said(i, right), Verdict::Correct, "{name} {i}: {right}");
        assert_ne!(said(i, wrong), Verdict::Correct, "{name} {i}: {wrong}");
    };
    let pictures: Vec<usize> = benchmark.items.iter().map(|item| item.task.images.len()).collect();
    let groups: Vec<&str> = benchmark.items.iter().filter_map(|item| item.group.as_deref()).collect();
    let options = |i: usize| benchmark.items[i].options.iter().map(|o| o.text.as_str()).collect::<Vec<_>>();
    assert!(benchmark.items[0].task.prompt[0].content.starts_with("<image>"), "{name}");
    match name {
        "vqa_rad" => {
            assert_eq!(groups, ["closed", "open", "closed"]);
            judged(0, "Yes, there is a nodule.", "No.");
            judged(1, "Right lung", "left lung");
            judged(2, "left", "yes");
        }
        "slake" => {
            assert_eq!((pictures.len(), &groups[..]), (2, &["closed", "open"][..]));
            assert_eq!(benchmark.items[1].task.id, "3");
            judged(0, "no", "yes");
            judged(1, "lung, heart", "lung");
        }
        "path_vqa" => {
            assert_eq!(groups, ["closed", "open"]);
            judged(1, "Hepatic vein.", "portal vein");
        }
        "pmc_vqa" => {
            assert_eq!(options(0), ["CT", "MRI", "RNA: all", "none"]);
            judged(0, "The answer is B.", "The answer is C.");
            judged(1, "D", "A");
        }
        "omnimedvqa" => {
            assert_eq!(options(1), ["No", "Yes", "Both of them"]);
            judged(0, "The answer is B", "The answer is A");
        }
        "mmmu_med" => {
            assert_eq!((&pictures[..], &groups[..]), (&[2, 2][..], &["Clinical Medicine", "Pharmacy"][..]));
            assert_eq!(options(0), ["a cat", "a dog's", "neither"]);
            judged(0, "The answer is B", "The answer is A");
            judged(1, "aspirin", "B");
        }
        "medxpertqa_mm" => {
            assert_eq!(pictures, [2, 1]);
            assert!(!benchmark.items[0].task.prompt[0].content.contains("Choices"));
            judged(0, "The answer is B", "The answer is A");
        }
        _ => {
            assert_eq!(pictures, [2]);
            assert_eq!(benchmark.metrics.len(), 5);
            judged(0, "The lungs are clear. No effusion is seen.", "The heart is large.");
        }
    }
}

#[test]
fn a_run_measures_benchmarks_with_pictures_and_its_page_shows_them() {
    let dir = tempfile::tempdir().unwrap();
    let definition = scans(dir.path(), 4);
    let data = String::from(TaskImage::Bytes(plain(56, 56, [0, 0, 250]).into()));
    let hostile = "pictures/\"><img src=x onerror=alert(1)>.png";
    std::fs::write(dir.path().join(hostile), plain(56, 84, [250, 0, 0])).unwrap();
    let rows = [
        json!({"id": "file", "image": hostile, "answer": "yes"}),
        json!({"id": "data", "image": data, "answer": "no"}),
    ];
    write(dir.path(), "rows.jsonl", &lines(&rows));
    let config = format!(
        r#"name = "seen"
device = "cpu"
[policy]
path = {:?}
[data.rows]
kind = "jsonl"
path = {:?}
prompt = "Yes?"
images = "{{{{ image }}}}"
reference.answer = "{{{{ answer }}}}"
[rewards]
kind = "yes_no"
[[stage]]
kind = "grpo"
data = "rows"
steps = 1
prompts_per_step = 2
group_size = 2
sampling = {{ max_tokens = 2 }}
[eval]
tasks = [{definition:?}]
data = ["rows"]
every = 1
allow_shared = true
[checkpoint]
every = 0
[log]
tensorboard = false
[preflight]
refuse = false
"#,
        seeing(),
        dir.path().join("rows.jsonl")
    );
    let blind = write(dir.path(), "blind.toml", &config.replace(&seeing(), &model("tiny-llama")));
    let nowhere = dir.path().join("blind").display().to_string();
    refused(&["train", &blind, "--out", &nowhere], "", &["rows.jsonl:1", "the policy does not see"]);
    let file = write(dir.path(), "run.toml", &config);
    let out = dir.path().join("run");
    let trained = rlvr(&["train", &file, "--out", out.to_str().unwrap()], "");
    assert!(trained.status.success(), "{}", stderr(&trained));
    let metrics = read(&out, "metrics.jsonl");
    assert!(metrics.contains("eval/scans/"), "{metrics}");
    // What the run leaves names its pictures from anywhere.
    let recorded = out.join("eval/rows.toml").display().to_string();
    let checked = rlvr(&["eval", "validate", "--tasks", &recorded], "");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));

    let page = super::run_report::page(&out, &[]);
    assert!(page.matches("<img src=\"data:image/png;base64,").count() >= 2, "{}", page.len());
    assert!(
        page.contains("given as data") && page.contains("&quot;&gt;&lt;img src=x onerror=alert(1)&gt;.png")
    );
    std::fs::remove_file(dir.path().join(hostile)).unwrap();
    let page = super::run_report::page(&out, &[]);
    assert!(page.contains("cannot be read: No such file") && page.contains("<img src=\"data:image/png"));
    std::fs::remove_file(dir.path().join("rows.jsonl")).unwrap();
    let page = super::run_report::page(&out, &[]);
    assert!(page.contains("its data is gone") && !page.contains("<img"));
}

#[test]
fn pictures_are_let_go_once_they_are_answered_unless_others_have_them() {
    let dir = tempfile::tempdir().unwrap();
    let definition = scans(dir.path(), 3);
    // Pictures that no other test has.
    let pictures = ["0.png", "1.png", "2.png"].map(|name| dir.path().join("pictures").join(name));
    for (i, picture) in pictures.iter().enumerate() {
        std::fs::write(picture, plain(56, 56, [3, 141, 59 + i as u8])).unwrap();
    }
    let open = || Policy::open(&seeing(), &Device::flex()).unwrap();
    let (policy, other) = (open(), open());
    let key = |i: usize| other.looked_at(&TaskImage::Path(pictures[i].clone())).unwrap().0;
    let has = |i: usize| {
        let shown = std::panic::AssertUnwindSafe(|| other.decoder.shown(key(i)));
        std::panic::catch_unwind(shown).is_ok()
    };
    let mut benchmarks = [Benchmark::named(&definition, &OpenSettings::default()).unwrap()];
    other.prompt_of(&benchmarks[0].items[1].task).unwrap();
    let plan = Plan::new("tiny", OpenSettings::default());
    let out = dir.path().join("out");
    let watch = &mut |_: rlvr::measure::Event<'_>| {};
    let mut run = Measurement::open(&plan, &policy, &mut benchmarks, None, &out, watch).unwrap();
    run.finish(&[None], &std::sync::atomic::AtomicBool::new(false), watch).unwrap();
    assert_eq!([has(0), has(1), has(2)], [false, true, false]);
    other.forget_images();
    assert!(!has(1));
}
