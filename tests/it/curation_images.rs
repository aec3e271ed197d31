//! Curation of rows with pictures, on the command line.
use super::cli::{lines, refused, rlvr, stderr, write};
use super::vision::{bmp, from_scratch, squares};
use rlvr::random::unit;
use rlvr::rewards::TaskImage;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Runs a command that must succeed; what it prints, both ways.
fn done(args: &[&str]) -> String {
    let output = rlvr(&[&["data"], args].concat(), "");
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
    format!("{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output))
}

fn rows(path: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A picture of blobs that depend on a seed.
fn drawn(seed: u64, side: usize) -> Vec<u8> {
    enlarged(seed, side, 1)
}

/// The same with so many pixels a side for each.
fn enlarged(seed: u64, side: usize, times: usize) -> Vec<u8> {
    bmp(side * times, &|x, y| {
        let cell = [x, y].map(|at| (at / times * 10 / side) as u64);
        [0, 1, 2].map(|c| (230.0 * unit(&[seed, cell[0], cell[1], c / 2])) as u8)
    })
}

const ASKED: [&str; 2] = ["Is the liver enlarged?", "In which plane was this radiograph taken?"];

fn row(id: &str, image: &str, asked: usize) -> Value {
    let kind = ["yes_no", "open"][asked];
    json!({"id": id, "image": image, "question": ASKED[asked], "answer": "yes", "meta": {"type": kind, "modality": &id[..1]}})
}

/// Two questions about each of twelve pictures, a copy of one under another name, a larger copy of another one.
fn questions(dir: &Path) -> (String, Vec<Value>) {
    let images = dir.join("images");
    std::fs::create_dir_all(&images).unwrap();
    let put = |name: &str, bytes: Vec<u8>| std::fs::write(images.join(name), bytes).unwrap();
    let mut list = Vec::new();
    for i in 0..12 {
        put(&format!("p{i}.bmp"), drawn(i, 64));
        for asked in 0..2 {
            let id = format!("{}{i}-{asked}", ["c", "m"][i as usize % 2]);
            list.push(row(&id, &format!("images/p{i}.bmp"), asked));
        }
    }
    put("copy.bmp", drawn(1, 64));
    put("larger.bmp", enlarged(0, 64, 2));
    put("small.bmp", drawn(50, 16));
    list.push(row("copy", "images/copy.bmp", 0));
    list.push(row("larger", "images/larger.bmp", 0));
    (write(dir, "train.jsonl", &lines(&list)), list)
}

#[test]
fn one_question_about_two_pictures_is_no_duplicate() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (train, list) = questions(dir.path());
    let out = path("parts/unique.jsonl");
    std::fs::create_dir(dir.path().join("parts")).unwrap();
    let said = done(&["dedup", &train, "--out", &out, "--dropped", &path("parts/twice.jsonl")]);
    assert!(
        said.contains("26 rows in, 24 out, 2 left out") && said.contains("1  exact duplicate\n"),
        "{said}"
    );
    assert!(said.contains("1  near-duplicate, picture nearly the same"), "{said}");
    // Paths are those from the new folder, everything else is as it was.
    let kept = rows(&out);
    for (row, before) in kept.iter().zip(&list) {
        let moved = row["image"].as_str().unwrap();
        assert_eq!(moved, format!("../{}", before["image"].as_str().unwrap()));
        assert!(dir.path().join("parts").join(moved).is_file());
        let mut same = row.clone();
        same["image"] = before["image"].clone();
        assert_eq!(same, *before);
    }
    let twice = rows(&path("parts/twice.jsonl"));
    assert_eq!(
        (&twice[0]["detail"]["of"], &twice[0]["row"]["image"]),
        (&json!("m1-0"), &json!("../images/copy.bmp"))
    );
    assert_eq!(twice[1]["detail"]["of"], "c0-0");
    let exact = path("exact.jsonl");
    assert!(done(&["dedup", &train, "--exact", "--out", &exact]).contains("25 out, 1 left out"));
    // Beside the images nothing has to change.
    assert_eq!(rows(&exact)[..24], list[..24]);
    assert!(
        done(&["dedup", &train, "--by", "image", "--out", &path("one.jsonl")])
            .contains("12 out, 14 left out")
    );
    refused(
        &["data", "dedup", &train, "--image-distance", "90", "--out", &path("x.jsonl")],
        "",
        &["at most 32"],
    );
    let stats = done(&["stats", &train]);
    assert!(
        stats
            .contains("13 pictures in 26 rows, 1 of them nearly the same as another; smaller side 64 to 128"),
        "{stats}"
    );
    assert!(stats.contains("1 row that ask what an earlier row asks"), "{stats}");
}

#[test]
fn pictures_of_test_sets_are_found_whatever_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (train, _) = questions(dir.path());
    std::fs::create_dir(dir.path().join("held")).unwrap();
    std::fs::copy(dir.path().join("images/p3.bmp"), dir.path().join("held/other-name.bmp")).unwrap();
    std::fs::write(dir.path().join("held/p5.bmp"), enlarged(5, 64, 4)).unwrap();
    std::fs::write(dir.path().join("held/new.bmp"), drawn(99, 64)).unwrap();
    let held = [
        row("t1", "other-name.bmp", 1),
        json!({"id": "t2", "image": "p5.bmp", "question": "What is this?", "answer": "a scan"}),
        row("t3", "new.bmp", 0),
    ];
    let held = write(&dir.path().join("held"), "test.jsonl", &lines(&held));
    let said = done(&["decontaminate", &train, "--against", &held, "--out", &path("rows.jsonl")]);
    assert!(said.contains("26 rows in, 25 out") && said.contains("1  same question and picture"), "{said}");
    assert!(
        said.contains("test.jsonl: 1 of its 3 pictures occur in the rows, and of 1 more one that is nearly the same; 1 of its items are asked there of the same picture (--by image"),
        "{said}"
    );
    let said =
        done(&["decontaminate", &train, "--against", &held, "--by", "image", "--out", &path("images.jsonl")]);
    assert!(said.contains("22 out, 4 left out") && said.contains("4  same picture"), "{said}");
    assert!(
        rows(&path("images.jsonl"))
            .iter()
            .all(|row| !["images/p3.bmp", "images/p5.bmp"].contains(&row["image"].as_str().unwrap()))
    );
    let manifest: Value =
        serde_json::from_str(&std::fs::read_to_string(path("images.jsonl.manifest.json")).unwrap()).unwrap();
    let found = &manifest["steps"][0]["settings"]["found"]["pictures"][&held];
    assert_eq!(*found, json!({"of": 3, "same": 1, "near": 1, "asked": 1}));
    // Fields that are named are compared as they are written.
    let said = done(&[
        "decontaminate",
        &train,
        "--against",
        &held,
        "--on",
        "image,question",
        "--ngram",
        "0",
        "--out",
        &path("on.jsonl"),
    ]);
    assert!(said.contains("26 out") && !said.contains("pictures"), "{said}");
}

#[test]
fn a_split_parts_no_picture_and_filters_look_at_sides() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (train, mut list) = questions(dir.path());
    list.push(row("small", "images/small.bmp", 0));
    // Two pictures in one row are together, and with them all rows about either.
    list.push(json!({"id": "both", "images": ["images/p6.bmp", "images/p7.bmp"], "question": "Which is larger?", "answer": "yes"}));
    let bytes = String::from(TaskImage::Bytes(drawn(8, 64).into()));
    list.push(json!({"id": "inside", "question": "Where?", "answer": "x", "prompt": [
        {"role": "user", "content": [{"type": "image", "image": bytes}, {"type": "text", "text": "Where?"}]}
    ]}));
    write(dir.path(), "train.jsonl", &lines(&list));
    let large = path("large.jsonl");
    let said = done(&["filter", &train, "--min-side", "32", "--out", &large]);
    assert!(said.contains("29 rows in, 28 out") && said.contains("1  picture too small"), "{said}");
    for seed in ["0", "1", "2"] {
        let out = path(&format!("seed-{seed}"));
        done(&["split", &large, "--parts", "train=0.5,test=0.5", "--seed", seed, "--out-dir", &out]);
        let mut side: BTreeMap<String, &str> = BTreeMap::new();
        let mut count = 0;
        for part in ["train", "test"] {
            for row in rows(&format!("{out}/{part}.jsonl")) {
                count += 1;
                let picture = match row["id"].as_str().unwrap() {
                    "copy" => "1".to_owned(),
                    "larger" => "0".to_owned(),
                    "both" => "6".to_owned(),
                    "inside" => "8".to_owned(),
                    id => id[1..].split('-').next().unwrap().replace('7', "6"),
                };
                assert_eq!(*side.entry(picture).or_insert(part), part, "{row}");
            }
        }
        assert_eq!((count, side.len()), (28, 11));
    }
    // Fields of rows about pictures are balanced and capped as any others.
    done(&[
        "cap",
        &large,
        "--field",
        "meta.type",
        "--values",
        "yes_no",
        "--max",
        "5%",
        "--out",
        &path("capped.jsonl"),
    ]);
    let capped = rows(&path("capped.jsonl"));
    let yes_no = capped.iter().filter(|row| row["meta"]["type"] == "yes_no").count();
    assert!(yes_no as f64 <= 0.05 * capped.len() as f64 + 1e-9, "{yes_no} of {}", capped.len());
    done(&[
        "balance",
        &large,
        "--field",
        "meta.modality",
        "--values",
        "c,m",
        "--out",
        &path("balanced.jsonl"),
    ]);
    let of = |modality: &str| {
        rows(&path("balanced.jsonl")).iter().filter(|row| row["meta"]["modality"] == modality).count()
    };
    assert_eq!((of("c"), of("m")), (12, 12));
}

#[test]
fn a_picture_that_is_not_there_is_named_with_its_row() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (train, mut list) = questions(dir.path());
    list[4]["image"] = json!("images/none.bmp");
    write(dir.path(), "train.jsonl", &lines(&list));
    for step in [
        &["dedup"][..],
        &["split", "--parts", "a=0.5,b=0.5", "--out-dir", &path("x")],
        &["filter", "--min-side", "9"],
    ] {
        let mut args = vec!["data", step[0], &train];
        args.extend(&step[1..]);
        let out = path("x.jsonl");
        if step[0] != "split" {
            args.extend(["--out", &out]);
        }
        refused(&args, "", &["train.jsonl:5", "none.bmp cannot be read"]);
    }
}

#[test]
fn imported_rows_keep_their_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (train, list) = questions(dir.path());
    std::fs::create_dir(dir.path().join("tasks")).unwrap();
    let out = path("tasks/1.jsonl");
    done(&["import", &train, "--question", "question", "--answer", "answer", "--id", "", "--out", &out]);
    let imported = rows(&out);
    assert_eq!(imported.len(), list.len());
    assert_eq!(
        (&imported[0]["image"], &imported[0]["question"]),
        (&json!("../images/p0.bmp"), &json!(ASKED[0]))
    );
    // The same question about another picture is another row.
    assert_ne!(imported[0]["id"], imported[2]["id"]);
    done(&["validate", &out]);
}

#[test]
fn policies_that_see_are_shown_the_pictures_of_what_they_solve() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    from_scratch(&dir.path().join("model"), 1);
    squares(&dir.path().join("squares.jsonl"), 6);
    let mut list = rows(&path("squares.jsonl"));
    for row in &mut list {
        row["prompt"] = json!("?");
        row["reference"] = json!({"answer": row["answer"]});
    }
    let tasks = write(dir.path(), "tasks.jsonl", &lines(&list));
    let model = path("model");
    let solved = path("solved.jsonl");
    let common = ["--policy", &model, "--reward", "exact", "--samples", "512", "--max-tokens", "2"];
    done(&[&["rejection", &tasks, "--out", &solved], &common[..]].concat());
    let solved = rows(&solved);
    assert!(!solved.is_empty());
    for row in &solved {
        let task = list.iter().find(|task| task["id"] == row["meta"]["task"]).unwrap();
        assert_eq!((&row["image"], &row["completion"]), (&task["image"], &task["answer"]));
        assert_eq!(row["prompt"], "<image>?");
    }
    list[2]["image"] = json!("gone.bmp");
    let tasks = write(dir.path(), "tasks.jsonl", &lines(&list));
    let out = path("x.jsonl");
    let args = [&["data", "pass-rate", &tasks, "--out", &out], &common[..]].concat();
    refused(&args, "", &["tasks.jsonl:3", "gone.bmp cannot be read"]);
    let validated = rlvr(&["data", "validate", &tasks], "");
    assert!(String::from_utf8_lossy(&validated.stdout).contains("tasks.jsonl:3: the image"));
}
