//! Files that were changed at random: every reader ends with rows or an error, in bounded memory, whatever is in them.
//!
//! `RLVR_MUTATIONS=10000 cargo test --release -p rlvr --test it mutations -- --nocapture` tries so many of each kind
//! and prints the memory that it took; without it a few are tried.
use crate::cli::{SMALL_RUN, rlvr, stderr, write};
use rlvr::checkpoint::CheckpointStore;
use rlvr::config::{CheckpointConfig, LogConfig, RunConfig};
use rlvr::curate::manifest::Manifest;
use rlvr::curate::scan::Unwatched;
use rlvr::curate::tables::{FileKind, read};
use rlvr::eval::TaskFile;
use rlvr::eval::sample_log::SampleLog;
use rlvr::random::word;
use rlvr::report::{ReportOptions, html};
use rlvr::run::dir::{Existing, RunDir};
use rlvr::run::log::RunLog;
use rlvr::run::record::peak_rss_mb;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// Peak memory that no kind of file may take, in MiB.
const MOST_MB: f64 = 2048.0;

fn count() -> u64 {
    std::env::var("RLVR_MUTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(60)
}

/// One of many ways in which a file may be damaged, by its number.
fn mutated(seed: &[u8], number: u64) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    let draw = |i: u64, below: usize| (word(&[number, i]) % below.max(1) as u64) as usize;
    for change in 0..1 + draw(0, 4) as u64 {
        let at = |i: u64, len: usize| draw(10 * (change + 1) + i, len);
        let place = at(0, bytes.len());
        match at(1, 8) {
            0 => bytes.truncate(place),
            1 if !bytes.is_empty() => bytes[place] ^= 1 << at(2, 8),
            2 if !bytes.is_empty() => bytes[place] = at(2, 256) as u8,
            3 => {
                // What readers take for sizes.
                let value = [0xff, 0x7f, 0x80, 0][at(2, 4)];
                let end = bytes.len().min(place + 1 + at(3, 9));
                bytes[place.min(end)..end].fill(value);
            }
            4 => {
                let end = bytes.len().min(place + at(2, 64));
                let piece = bytes[place.min(end)..end].to_vec();
                let to = at(3, bytes.len() + 1);
                bytes.splice(to..to, piece.repeat(1 + at(4, 3)));
            }
            5 => {
                let end = bytes.len().min(place + at(2, 64));
                bytes.drain(place.min(end)..end);
            }
            6 => {
                let tokens: [&[u8]; 12] = [
                    b"{",
                    b"[",
                    b"\"",
                    b",",
                    b"\n",
                    b"\\u",
                    b"1e999",
                    b"-9223372036854775809",
                    b"null",
                    b"\xff\xfe",
                    b"\0",
                    b"=",
                ];
                bytes.splice(place..place, tokens[at(2, 12)].repeat(1 + at(3, 20)));
            }
            _ => {
                let other = at(2, bytes.len());
                if !bytes.is_empty() {
                    bytes.swap(place, other);
                }
            }
        }
    }
    bytes
}

/// Tries every mutation of a kind; `reads` says whether a file could be read.
fn each(what: &str, seeds: &[Vec<u8>], reads: &mut dyn FnMut(&[u8]) -> bool) {
    let (n, mut whole) = (count(), 0);
    for seed in seeds {
        assert!(reads(seed), "{what}: the file itself cannot be read");
    }
    for number in 0..n {
        let bytes = mutated(&seeds[number as usize % seeds.len()], number);
        let shown = Shown(what, number);
        whole += u64::from(reads(&bytes));
        std::mem::forget(shown);
    }
    println!("{what}: {n} tried, {whole} of them read, {:.0} MiB at most so far", peak_rss_mb());
    assert!(peak_rss_mb() < MOST_MB, "{what}");
}

/// Names the mutation that panics.
struct Shown<'a>(&'a str, u64);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        println!("{}: mutation {} panicked", self.0, self.1);
    }
}

/// Parquet files of several writers' habits: compressions, versions of pages, encodings, nested columns.
fn parquets() -> Vec<Vec<u8>> {
    use parquet::basic::{Compression, Encoding, ZstdLevel};
    use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
    use parquet::file::properties::{WriterProperties, WriterVersion};
    use parquet::file::writer::SerializedFileWriter;
    let schema = "message m { required binary q (UTF8); optional int64 a; optional double d; \
                  optional group l (LIST) { repeated group list { optional binary element (UTF8); } } }";
    let texts: Vec<ByteArray> = (0..40).map(|i| format!("what is {i}?").as_str().into()).collect();
    let make = |compression, version, encoding: Option<Encoding>| {
        let schema = Arc::new(parquet::schema::parser::parse_message_type(schema).unwrap());
        let mut settings =
            WriterProperties::builder().set_compression(compression).set_writer_version(version);
        settings = settings.set_data_page_row_count_limit(16).set_write_batch_size(8);
        if let Some(encoding) = encoding {
            settings = settings.set_dictionary_enabled(false).set_column_encoding("q".into(), encoding);
        }
        let mut bytes = Vec::new();
        let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(settings.build())).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&texts, None, None).unwrap();
        column.close().unwrap();
        let present: Vec<i16> = (0..40).map(|i| i16::from(i % 4 > 0)).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<Int64Type>()
            .write_batch(&(0..30).collect::<Vec<i64>>(), Some(&present), None)
            .unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<DoubleType>().write_batch(&[0.5; 40], Some(&[1; 40]), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let (levels, repeated): (Vec<i16>, Vec<i16>) = (0..40).flat_map(|_| [(3, 0), (2, 1), (3, 1)]).unzip();
        column
            .typed::<ByteArrayType>()
            .write_batch(&[&texts[..], &texts].concat(), Some(&levels), Some(&repeated))
            .unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
        bytes
    };
    let (v1, v2) = (WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0);
    vec![
        make(Compression::UNCOMPRESSED, v1, None),
        make(Compression::SNAPPY, v1, Some(Encoding::PLAIN)),
        make(Compression::ZSTD(ZstdLevel::default()), v2, None),
        make(Compression::GZIP(Default::default()), v1, None),
        make(Compression::UNCOMPRESSED, v2, Some(Encoding::DELTA_BYTE_ARRAY)),
        make(Compression::SNAPPY, v2, Some(Encoding::DELTA_LENGTH_BYTE_ARRAY)),
    ]
}

#[test]
fn tables_are_rows_or_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let rows: String = (0..30)
        .map(|i| {
            format!("{{\"id\": {i}, \"question\": \"{i}+1?\", \"options\": [\"x\", {{\"k\": null}}]}}\n")
        })
        .collect();
    let json = format!("[{}]", rows.trim().replace('\n', ",\n"));
    let csv: String = (0..30).map(|i| format!("{i},\"what, {i}?\",\"two\nlines\"\n")).collect();
    let kinds = [
        ("parquet", FileKind::Parquet, parquets()),
        ("csv", FileKind::Csv, vec![format!("id,question,answer\n{csv}").into_bytes()]),
        ("tsv", FileKind::Tsv, vec![format!("id\tq\ta\n{}", csv.replace(',', "\t")).into_bytes()]),
        ("json", FileKind::Json, vec![json.into_bytes(), br#"{"a": {"x": 1}, "b": {"x": [2]}}"#.to_vec()]),
        ("jsonl", FileKind::Jsonl, vec![rows.into_bytes()]),
    ];
    for (name, kind, seeds) in kinds {
        let path = dir.path().join(format!("rows.{name}"));
        each(name, &seeds, &mut |bytes| {
            fs::write(&path, bytes).unwrap();
            let outcome = read(&path, kind, &Unwatched, &mut |_, _| Ok(()));
            if let Err(error) = &outcome {
                assert!(error.to_string().contains(&format!("rows.{name}")), "{error}");
            }
            outcome.is_ok()
        });
    }
}

#[test]
fn settings_are_settings_or_an_error() {
    let path = Path::new("config.toml");
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let shown = readme.split("```toml\nname =").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let seeds = vec![SMALL_RUN.as_bytes().to_vec(), format!("name ={shown}").into_bytes()];
    each("run config", &seeds, &mut |bytes| {
        std::str::from_utf8(bytes).is_ok_and(|text| RunConfig::parse(text, path, &[]).is_ok())
    });
    each("task file", &[crate::evals::QUIZ.as_bytes().to_vec()], &mut |bytes| {
        std::str::from_utf8(bytes).is_ok_and(|text| TaskFile::parse(text, path).is_ok())
    });
}

/// Copies a run, links where it can.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target)
        } else {
            fs::copy(entry.path(), target).map(|_| ()).unwrap()
        }
    }
}

#[test]
fn runs_are_read_or_refused_with_any_file_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("run");
    let text = SMALL_RUN.replace("[eval]", "[checkpoint]\nevery = 1\n[eval]");
    let config = write(dir.path(), "config.toml", &text);
    let trained = rlvr(&["train", &config, "--out", whole.to_str().unwrap()], "");
    assert!(trained.status.success(), "{}", stderr(&trained));
    let newest = "checkpoints/step-000003";
    let files = [
        "config.toml",
        "meta.json",
        "metrics.jsonl",
        "rollouts.jsonl",
        &format!("{newest}/state.json"),
        &format!("{newest}/manifest.json"),
        &format!("{newest}/optimizer.safetensors"),
        &format!("{newest}/model.safetensors"),
    ];
    let run = dir.path().join("damaged");
    let mut at = 0;
    for file in files {
        let seed = fs::read(whole.join(file)).unwrap();
        each(file, &[seed], &mut |bytes| {
            let _ = fs::remove_dir_all(&run);
            copy(&whole, &run);
            fs::write(run.join(file), bytes).unwrap();
            let page = html(&run, &ReportOptions { samples: 4, seed: 1 });
            let opened = RunDir::open(&run, Existing::Resume).unwrap();
            let config = opened.read_config();
            opened.read_meta();
            let (found, _) =
                CheckpointStore::new(&opened.checkpoints(), &CheckpointConfig::default()).latest().unwrap();
            let checkpoint = found.expect("a checkpoint before the damaged one");
            assert!(checkpoint.tensors("optimizer").is_ok());
            let log = RunLog::resume(&run, &LogConfig::default(), 1, Some(checkpoint.state.step));
            at += 1;
            // The whole command now and then: it takes a process.
            if at % 100 == 0 {
                let resumed =
                    rlvr(&["train", &config_of(&run), "--resume", "--out", run.to_str().unwrap()], "");
                let message = stderr(&resumed);
                let ended = matches!(resumed.status.code(), Some(0..=2)) && !message.contains("panicked");
                assert!(ended, "{:?}: {message}", resumed.status);
            }
            page.is_ok() && config.is_ok() && log.is_ok()
        });
    }
}

fn config_of(run: &Path) -> String {
    run.join("config.toml").display().to_string()
}

#[test]
fn records_beside_data_are_read_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let tasks = write(
        dir.path(),
        "tasks.jsonl",
        "{\"id\": 1, \"prompt\": \"x\", \"reference\": {\"answer\": \"1\"}}\n",
    );
    let out = dir.path().join("out.jsonl");
    assert!(rlvr(&["data", "dedup", &tasks, "--out", out.to_str().unwrap()], "").status.success());
    let manifest = Manifest::path(&out);
    each("manifest", &[fs::read(&manifest).unwrap()], &mut |bytes| {
        fs::write(&manifest, bytes).unwrap();
        Manifest::beside(&out).is_ok()
    });
    let evaluation = dir.path().join("evaluation");
    let settings = json!({"seed": 1});
    let row = json!({"task": "t", "id": "1", "sample": 0, "completion": "né 你好"});
    let (mut log, _) = SampleLog::open(&evaluation, &settings, false).unwrap();
    log.append(&[row.as_object().unwrap().clone(), row.as_object().unwrap().clone()]).unwrap();
    drop(log);
    for file in ["samples.jsonl", "settings.json"] {
        let seed = fs::read(evaluation.join(file)).unwrap();
        each(file, std::slice::from_ref(&seed), &mut |bytes| {
            fs::write(evaluation.join(file), bytes).unwrap();
            SampleLog::open(&evaluation, &settings, false).is_ok()
        });
        fs::write(evaluation.join(file), seed).unwrap();
    }
}
