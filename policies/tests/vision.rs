//! Tiny models that see, of four families, against transformers (float64): features, logits, log-probabilities, gradients,
//! greedy tokens, and what is saved. `tests/golden/make_vision.py` has made the extracts.
#![allow(clippy::unwrap_used)] // Helpers of tests fail tests.
#![allow(clippy::print_stdout)] // Figures, shown with `-- --nocapture`.
use burn::tensor::Device;
use rlvr_policies::config::{Vision, VisionFamily};
use rlvr_policies::gradients::Gradients;
use rlvr_policies::packed::{PackedBatch, PromptGroup};
use rlvr_policies::vision::{ImageKey, Processor, Sizes};
use rlvr_policies::{Decoder, PolicyFiles, SaveDtype, save_hf};
use safetensors::SafeTensors;
use serde_json::Value;
use std::path::{Path, PathBuf};

const MODELS: [&str; 4] = ["tiny-qwen2_5_vl", "tiny-smolvlm", "tiny-qwen2_vl", "tiny-qwen3_vl"];

fn folder(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/vision").join(model)
}

struct Case {
    name: &'static str,
    files: PolicyFiles,
    decoder: Decoder,
    golden: Value,
    values: Vec<u8>,
}

/// A row: prompt, keys of its pictures, completions.
struct Row {
    prompt: Vec<u32>,
    keys: Vec<ImageKey>,
    completions: Vec<Vec<u32>>,
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

impl Case {
    fn open(name: &'static str) -> Self {
        let folder = folder(name);
        let files = PolicyFiles::open_folder(&folder).unwrap();
        let decoder = files.decoder(&Device::flex()).unwrap();
        let golden = serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap();
        let values = std::fs::read(folder.join("golden.safetensors")).unwrap();
        Self { name, files, decoder, golden, values }
    }

    fn vision(&self) -> &Vision {
        self.decoder.vision().unwrap()
    }

    fn numbers(&self, name: &str) -> Vec<f64> {
        let file = SafeTensors::deserialize(&self.values).unwrap();
        let data = file.tensor(name).unwrap().data().to_vec();
        data.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect()
    }

    fn processor(&self, split: bool) -> Processor {
        let mut processor = self.decoder.processor().unwrap().clone();
        if let Sizes::Tiles { split: own, .. } = &mut processor.sizes {
            *own = split;
        }
        processor
    }

    /// A picture as a row names it: `NAME` or `NAME:whole`.
    fn show(&self, name: &str) -> ImageKey {
        let (file, split) = name.strip_suffix(":whole").map_or((name, true), |file| (file, false));
        let bytes = std::fs::read(folder(self.name).join("images").join(file)).unwrap();
        self.decoder.show(self.processor(split).open(&bytes).unwrap())
    }

    fn rows(&self) -> Vec<Row> {
        let row = |row: &Value| Row {
            prompt: ids(&row["prompt_ids"]),
            keys: row["images"].as_array().unwrap().iter().map(|n| self.show(n.as_str().unwrap())).collect(),
            completions: row["completions"].as_array().unwrap().iter().map(|c| ids(&c["ids"])).collect(),
        };
        self.golden["rows"].as_array().unwrap().iter().map(row).collect()
    }

    fn batch(&self, rows: &[&Row]) -> PackedBatch {
        let groups: Vec<PromptGroup<'_>> = rows
            .iter()
            .map(|row| PromptGroup {
                prompt: &row.prompt,
                completions: row.completions.iter().map(Vec::as_slice).collect(),
            })
            .collect();
        let mut batch = PackedBatch::new(&groups);
        let keys: Vec<&[ImageKey]> = rows.iter().map(|row| row.keys.as_slice()).collect();
        self.decoder.place(&mut batch, &keys);
        batch
    }
}

fn worst(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
}

#[test]
fn features_are_those_of_transformers() {
    for model in MODELS {
        let case = Case::open(model);
        let mut furthest = 0f64;
        for image in case.golden["preprocessing"].as_array().unwrap() {
            let mut name = image["image"].as_str().unwrap().to_owned();
            if image["do_image_splitting"] == false {
                name.push_str(":whole");
            }
            let features = case.decoder.features(case.show(&name));
            furthest = furthest.max(worst(&features[0], &case.numbers(&format!("{name}.features"))));
            for (i, deep) in features[1..].iter().enumerate() {
                furthest = furthest.max(worst(deep, &case.numbers(&format!("{name}.deepstack{i}"))));
            }
            assert_eq!(features.len() - 1, case.vision().deep.len());
        }
        println!("| {model} | features | {furthest:.1e} |");
        assert!(furthest < 1e-4, "{model}: {furthest}");
    }
}

#[test]
fn logits_logprobs_and_entropies_are_those_of_transformers() {
    for model in MODELS {
        let case = Case::open(model);
        let rows = case.rows();
        let (mut logits, mut logprobs) = (0f64, 0f64);
        for (i, row) in rows.iter().enumerate() {
            let vocab = case.decoder.config().vocab_size;
            let tokens = [&row.prompt[..], &row.completions[0]].concat();
            let all = case.decoder.logits_seeing(&tokens, &row.keys);
            let some: Vec<f32> = all.chunks(vocab).step_by(8).flatten().copied().collect();
            logits = logits.max(worst(&some, &case.numbers(&format!("row{i}.logits"))));
            let stats = case.decoder.logprobs(&case.batch(&[row]), 1.0);
            let names =
                |kind| (0..row.completions.len()).map(move |j| format!("row{i}.completion{j}.{kind}"));
            let want = |kind| names(kind).flat_map(|name| case.numbers(&name)).collect::<Vec<_>>();
            logprobs = logprobs.max(worst(&stats.logprobs, &want("logprobs")));
            logprobs = logprobs.max(worst(&stats.entropy, &want("entropies")));
        }
        println!("| {model} | logits {logits:.1e} | log-probabilities and entropies {logprobs:.1e} |");
        assert!(logits < 1e-4 && logprobs < 5e-5, "{model}: {logits} {logprobs}");
    }
}

/// Gradients of the mean negative log-likelihood over all completions, in batches of these sizes.
fn gradients(case: &Case, rows: &[Row], sizes: usize, recompute: bool) -> Gradients {
    let mut grads = case.decoder.zero_gradients();
    let count: usize = rows.iter().flat_map(|r| &r.completions).map(Vec::len).sum();
    for rows in rows.chunks(sizes) {
        let batch = case.batch(&rows.iter().collect::<Vec<_>>());
        let pass = case.decoder.forward(batch, 1.0, recompute);
        let n = pass.targets().logprobs.len();
        pass.backward(&vec![-1.0 / count as f32; n].into(), &mut grads);
    }
    case.decoder.see_back(&mut grads);
    grads
}

fn compare(case: &Case, grads: &Gradients) -> f64 {
    let (mut furthest, mut seen) = (0f64, 0);
    for (i, spec) in case.decoder.layout().specs.iter().enumerate() {
        for (hf, tensor) in spec.to_hf(&grads.values(i)) {
            let want = &case.golden["grads"][&hf];
            let some: Vec<f64> =
                serde_json::from_value(want["some"].clone()).unwrap_or_else(|_| panic!("{hf}"));
            let largest = want["largest"].as_f64().unwrap();
            let step = (tensor.data.len() / 11).max(1);
            let got: Vec<f32> = tensor.data.iter().copied().step_by(step).collect();
            let off = worst(&got, &some);
            assert!(off < 1e-3 * largest + 1e-6, "{} {hf}: {off} of {largest}", case.name);
            // Of biases of keys there is none: what is there is rounding.
            let off = if largest > 1e-6 { off / largest } else { 0.0 };
            let squares: f64 = tensor.data.iter().map(|g| f64::from(*g).powi(2)).sum();
            let wanted = want["squares"].as_f64().unwrap();
            assert!(
                (squares - wanted).abs() < 2e-3 * wanted + 1e-9,
                "{} {hf}: {squares} {wanted}",
                case.name
            );
            (furthest, seen) = (furthest.max(off), seen + 1);
        }
    }
    assert_eq!(seen, case.golden["grads"].as_object().unwrap().len());
    furthest
}

#[test]
fn gradients_are_those_of_transformers_however_they_are_batched() {
    for model in MODELS {
        let case = Case::open(model);
        let rows = case.rows();
        for (sizes, recompute) in [(rows.len(), false), (1, true)] {
            let off = compare(&case, &gradients(&case, &rows, sizes, recompute));
            println!("| {model} | batches of {sizes} | gradients {off:.1e} |");
        }
    }
}

#[test]
fn greedy_tokens_behind_pictures_are_those_of_transformers() {
    for model in MODELS {
        let case = Case::open(model);
        let rows = case.rows();
        let vocab = case.decoder.config().vocab_size;
        let prompts: Vec<&[u32]> = rows.iter().map(|r| r.prompt.as_slice()).collect();
        let keys: Vec<&[ImageKey]> = rows.iter().map(|r| r.keys.as_slice()).collect();
        let (mut cache, mut logits) = case.decoder.prefill_seeing(&prompts, &keys, 128);
        let mut got = vec![Vec::new(); rows.len()];
        for _ in 0..8 {
            let next: Vec<u32> = (logits.chunks(vocab))
                .map(|l| (0..vocab).max_by(|a, b| l[*a].total_cmp(&l[*b])).unwrap() as u32)
                .collect();
            got.iter_mut().zip(&next).for_each(|(g, t)| g.push(*t));
            logits = cache.step(&case.decoder, &next);
        }
        for (i, (row, got)) in rows.iter().zip(&got).enumerate() {
            assert_eq!(*got, ids(&case.golden["rows"][i]["greedy_ids"]), "{model} row {i}");
            // What follows the last token is what the full pass says.
            let full = case.decoder.logits_seeing(&[&row.prompt[..], got].concat(), &row.keys);
            let last: Vec<f64> = full[full.len() - vocab..].iter().map(|x| f64::from(*x)).collect();
            assert!(worst(&logits[i * vocab..(i + 1) * vocab], &last) < 5e-5, "{model} row {i}");
        }
    }
}

#[test]
fn a_group_behind_a_picture_equals_its_completions_alone_and_another_picture_changes_them() {
    for model in MODELS {
        let case = Case::open(model);
        let rows = case.rows();
        let row = rows.iter().find(|row| row.completions.len() > 1 && !row.keys.is_empty());
        let Some(row) = row else { continue };
        let together = case.decoder.logprobs(&case.batch(&[row]), 1.0).logprobs;
        let alone = |c: &Vec<u32>| Row {
            prompt: row.prompt.clone(),
            keys: row.keys.clone(),
            completions: vec![c.clone()],
        };
        let alone: Vec<Row> = row.completions.iter().map(alone).collect();
        let apart = case.decoder.logprobs(&case.batch(&alone.iter().collect::<Vec<_>>()), 1.0).logprobs;
        let off = worst(&together, &apart.iter().map(|x| f64::from(*x)).collect::<Vec<_>>());
        assert!(off < 1e-5, "{model}: {off}");
        // Same ids, another picture of that size.
        let mut picture = (*case.decoder.shown(row.keys[0])).clone();
        picture.parts.iter_mut().for_each(|part| part.pixels.iter_mut().for_each(|p| *p = 255 - *p));
        let other = case.processor(picture.parts.len() > 1).picture(&picture.parts[0]);
        let other = case.decoder.show(other.unwrap());
        if case.decoder.features(other)[0].len() != case.decoder.features(row.keys[0])[0].len() {
            continue;
        }
        let changed =
            Row { prompt: row.prompt.clone(), keys: vec![other], completions: row.completions.clone() };
        if row.keys.len() == 1 {
            let changed = case.decoder.logprobs(&case.batch(&[&changed]), 1.0).logprobs;
            assert!(
                worst(&together, &changed.iter().map(|x| f64::from(*x)).collect::<Vec<_>>()) > 1e-3,
                "{model}"
            );
        }
    }
}

#[test]
fn what_is_frozen_has_no_gradient_and_the_rest_the_same_one() {
    for model in MODELS {
        let whole = Case::open(model);
        let rows = whole.rows();
        let all = gradients(&whole, &rows, rows.len(), false);
        let names: Vec<String> = whole.decoder.layout().specs.iter().map(|s| s.name.clone()).collect();
        for kept in ["vision.", "projector.", "vision.blocks.1.", "layers.", "embed"] {
            let mut case = Case::open(model);
            case.decoder = case.decoder.with_trained(|i, _| names[i].starts_with(kept));
            let rows = case.rows();
            let part = gradients(&case, &rows, rows.len(), false);
            for (i, name) in names.iter().enumerate() {
                let want = if name.starts_with(kept) { all.values(i) } else { Vec::new() };
                assert_eq!(part.values(i), want, "{model}, {kept}: {name}");
            }
        }
    }
}

#[test]
fn a_saved_folder_has_the_layout_that_was_opened_and_computes_the_same() {
    for model in MODELS {
        let case = Case::open(model);
        let dir = tempfile::tempdir().unwrap();
        save_hf(dir.path(), case.decoder.config(), &case.decoder, SaveDtype::F32, &case.files.assets)
            .unwrap();
        let again = PolicyFiles::open_folder(dir.path()).unwrap();
        let mut names = again.weights.names();
        names.sort();
        let mut before = case.files.weights.names();
        before.sort();
        assert_eq!(names, before, "{model}");
        for name in names {
            let (a, b) = (again.weights.load(&name).unwrap(), case.files.weights.load(&name).unwrap());
            assert_eq!(a, b, "{model} {name}");
        }
        let read =
            |path: PathBuf| -> Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
        for file in ["preprocessor_config.json", "processor_config.json"] {
            let path = folder(model).join(file);
            if path.is_file() {
                assert_eq!(read(path), read(dir.path().join(file)), "{model} {file}");
            }
        }
        let mut saved = read(dir.path().join("config.json"));
        let opened = read(folder(model).join("config.json"));
        assert_eq!(saved["model_type"], opened["model_type"]);
        assert_eq!(saved["vision_config"], opened["vision_config"]);
        assert_eq!(saved["torch_dtype"], "float32");
        saved["torch_dtype"] = Value::Null;
        assert_eq!(again.processor, case.files.processor);
    }
}

#[test]
fn the_other_layout_of_names_is_read_and_kept() {
    use rlvr_policies::MemorySource;
    let case = Case::open("tiny-qwen2_5_vl");
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder(case.name)).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    let mut renamed = MemorySource::new();
    let mut tensors = Vec::new();
    for name in case.files.weights.names() {
        let tensor = case.files.weights.load(&name).unwrap();
        let nested = match name.strip_prefix("model.") {
            Some(rest) => format!("model.language_model.{rest}"),
            None if name.starts_with("visual.") => format!("model.{name}"),
            None => name,
        };
        tensors.push((nested.clone(), tensor.shape.clone()));
        renamed.insert(nested, tensor);
    }
    use rlvr_policies::WeightSource;
    let to = dir.path().join("model.safetensors");
    std::fs::remove_file(&to).unwrap();
    rlvr_policies::save::write_safetensors(&to, &tensors, SaveDtype::F32, |name| renamed.load(name)).unwrap();
    let files = PolicyFiles::open_folder(dir.path()).unwrap();
    let mut other = Case::open(case.name);
    other.decoder = files.decoder(&Device::flex()).unwrap();
    let (rows, again) = (case.rows(), other.rows());
    assert_eq!(
        case.decoder.logprobs(&case.batch(&[&rows[0]]), 1.0).logprobs,
        other.decoder.logprobs(&other.batch(&[&again[0]]), 1.0).logprobs
    );
    assert!(other.decoder.names().contains(&"model.language_model.norm.weight".to_owned()));
    assert_eq!(case.vision().family, VisionFamily::Qwen25);
}

/// Writes the models under `RLVR_SAVE_TO`, for `tests/golden/check_saved_vision.py`, which loads them with transformers.
#[test]
fn folders_for_transformers() {
    let Some(to) = std::env::var_os("RLVR_SAVE_TO").map(PathBuf::from) else { return };
    for model in MODELS {
        let case = Case::open(model);
        let to = to.join(model);
        save_hf(&to, case.decoder.config(), &case.decoder, SaveDtype::F32, &case.files.assets).unwrap();
    }
}
