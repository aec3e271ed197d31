//! Loading, overriding, checking and writing run configs.

use std::path::{Path, PathBuf};

use super::*;
use crate::algorithm::{Aggregate, LossConfig};

const GOOD: &str = r#"name = "addition"
seed = 1

[policy.tiny]
layers = 2

[data.train]
kind = "addition"
max_digits = 2

[data.heldout]
kind = "addition"
split = "heldout"

[rewards]
kind = "exact"

[[stage]]
kind = "sft"
data = "train"
steps = 60

[[stage]]
kind = "grpo"
data = "train"
steps = 100
[stage.sampling]
max_tokens = 64
[stage.loss]
objective = { kind = "clip", high = 0.28 }
kl_coef = 0.02
[stage.optim]
lr = 1e-4

[eval]
data = "heldout"
every = 10
"#;

fn load(text: &str, sets: &[&str]) -> Result<RunConfig, ConfigError> {
    let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
    RunConfig::parse(text, Path::new("c.toml"), &sets)
}

/// Loads [`GOOD`] with `from` replaced and expects an error that contains every part.
#[track_caller]
fn fails(from: &str, to: &str, sets: &[&str], parts: &[&str]) {
    assert!(GOOD.contains(from), "{from}");
    let error = load(&GOOD.replacen(from, to, 1), sets).unwrap_err().to_string();
    for part in parts {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
}

#[test]
fn what_follows_the_policy_is_checked() {
    let stage = "[stage.sampling]\nmax_tokens = 64";
    let with = |keys: &str| format!("{keys}\n{stage}");
    for (keys, sets, parts) in [
        ("reference_every = 0", &[][..], &["c.toml:", "reference_every", "at least 1"][..]),
        ("reference_ema = 1.5", &[], &["reference_ema", "(0, 1]"]),
        ("reference_every = 5", &["stage.grpo.loss.kl_coef=0"], &["reference_every", "loss.kl_coef is 0"]),
        ("reference_ema = 0.5", &["stage.grpo.loss.kl_coef=0"], &["reference_ema", "loss.kl_coef is 0"]),
        ("reference_every = 5\nreference = \"base\"", &[], &["reference_every", "without its adapter"]),
        ("reference_ema = 0.5", &["policy.lora={ rank = 2 }"], &["reference_ema", "reference_every alone"]),
        ("policy_ema = 1.0", &[], &["policy_ema", "[0, 1)"]),
        ("", &["policy.base_dtype=\"int8\""], &["policy.base_dtype", "[policy.lora]"]),
        ("", &["policy.base_dtype=\"int4\""], &["base_dtype", "bf16"]),
    ] {
        fails(stage, &with(keys), sets, parts);
    }
    for (keys, parts) in [
        ("kl_target = 0.0", &["c.toml:", "loss.kl_target", "above 0"][..]),
        ("kl_target = 0.1\nkl_horizon = 0", &["loss.kl_horizon", "above 0"]),
        ("top_entropy_frac = 0.0", &["loss.top_entropy_frac", "(0, 1]"]),
    ] {
        fails("kl_coef = 0.02", &format!("kl_coef = 0.02\n{keys}"), &[], parts);
    }
    fails("kl_coef = 0.02", "kl_target = 0.1", &[], &["loss.kl_target", "set kl_coef"]);
    let replay = GOOD.replace("data = \"train\"\nsteps = 100\n", "");
    let replay = replay + "[stage.rollouts]\npath = \"r.jsonl\"\nadvantages = \"given\"\n";
    let given = |text: &str| load(text, &[]).map_err(|e| e.to_string());
    let moved = replay.replace("[eval]\ndata = \"heldout\"\nevery = 10\n", "");
    assert!(given(&moved).is_ok(), "{:?}", given(&moved));
    let error = given(&moved.replace("kl_coef = 0.02", "kl_coef = 0.02\nkl_place = \"reward\"")).unwrap_err();
    assert!(error.contains("kl_place") && error.contains("given"), "{error}");
}

#[test]
fn defaults_fill_what_is_absent() {
    let config = load(GOOD, &[]).unwrap();
    assert_eq!(config.device, DeviceConfig::Auto);
    assert_eq!(config.policy.tiny, Some(TinyConfig { layers: 2, ..TinyConfig::default() }));
    let StageConfig::Grpo(grpo) = &config.stage[1] else { panic!() };
    assert_eq!((grpo.prompts_per_step, grpo.group_size, grpo.minibatches, grpo.micro_batch), (16, 8, 1, 16));
    assert_eq!((grpo.optim.lr, grpo.optim.betas, grpo.optim.max_grad_norm), (1e-4, [0.9, 0.999], 1.0));
    let constant = LossConfig { aggregate: Aggregate::Constant { max_tokens: None }, ..grpo.loss.clone() };
    let resolved = GrpoConfig { loss: constant, ..(**grpo).clone() }.resolved_loss();
    assert_eq!(resolved.aggregate, Aggregate::Constant { max_tokens: Some(64.0) });
    assert_eq!(grpo.optimizer_steps(), Some(100));
    let eval = config.eval.unwrap();
    assert_eq!(
        (eval.data, eval.greedy, eval.samples, eval.pass_k),
        (vec!["heldout".to_owned()], true, 0, vec![1])
    );
    assert_eq!(config.checkpoint.keep_last, 2);
}

#[test]
fn the_best_checkpoint_is_that_of_a_set_that_is_measured() {
    let best = |metric: &str| format!("checkpoint.keep_best={metric}");
    load(GOOD, &[&best("eval/heldout/greedy")]).unwrap();
    load(GOOD, &[&best("eval/medqa/greedy"), "eval.tasks=medqa"]).unwrap();
    load(GOOD, &[&best("eval/own/greedy"), "eval.tasks=own.toml"]).unwrap();
    let metrics =
        ["eval/heldot/greedy", "reward/mean", "eval/", "eval/heldout/greddy", "eval/heldout/pass@4"];
    for metric in metrics.into_iter().chain(["eval/heldout/ema/greedy", "eval/heldout/ema/exact/mean"]) {
        fails("", "", &[&best(metric)], &["checkpoint.keep_best", metric, "sets of [eval]: heldout"]);
    }
    for metric in ["eval/heldout/ema/greedy", "eval/heldout/exact/mean", "eval/heldout/tokens_mean"] {
        load(GOOD, &[&best(metric), "stage.grpo.policy_ema=0.9"]).unwrap();
    }
    let sampled = ["eval.samples=4", "eval.pass_k=[1, 4]", "eval.greedy=false"];
    load(GOOD, &[&[best("eval/heldout/pass@4").as_str()], &sampled[..]].concat()).unwrap();
    fails("", "", &[&[best("eval/heldout/greedy").as_str()], &sampled[..]].concat(), &["keep_best"]);
}

#[test]
fn both_parts_of_a_file_are_parted_by_the_same_field() {
    let source = |name: &str, split: &str, more: &str| {
        format!("[data.{name}]\nkind = \"jsonl\"\npath = \"d.jsonl\"\nsplit = \"{split}\"\n{more}\n")
    };
    let by = "group = \"meta.patient\"";
    let text = |more: &str| {
        GOOD.replace(
            "[data.train]",
            &format!("{}{}[data.train]", source("a", "train", by), source("b", "heldout", more)),
        )
    };
    load(&text(by), &[]).unwrap();
    let error = load(&text(""), &[]).unwrap_err().to_string();
    assert!(error.contains("data.b.group: is absent but \"meta.patient\" in [data.a]"), "{error}");
}

#[test]
fn an_evaluation_may_name_benchmarks_alone() {
    let only = GOOD.replace("[eval]\ndata = \"heldout\"", "[eval]\ntasks = [\"addition\", \"medqa\"]");
    assert_eq!(load(&only, &[]).unwrap().eval.unwrap().tasks, ["addition", "medqa"]);
    fails("data = \"heldout\"", "tasks = \"medqq\"", &[], &["eval.tasks: ", "`medqa`?"]);
    fails("data = \"heldout\"", "", &[], &["eval.data: names no data source"]);
}

#[test]
fn a_resolved_config_reads_back_the_same() {
    for sets in
        [&[][..], &["eval.samples=4", "eval.pass_k=[1,4]", "seed=7", "stage.grpo.optim.schedule=cosine"]]
    {
        let config = load(GOOD, sets).unwrap();
        let text = config.to_toml().unwrap();
        let again = load(&text, &[]).unwrap();
        assert_eq!(again, config);
        assert_eq!(again.to_toml().unwrap(), text);
        assert_eq!(again.hash(), config.hash());
    }
    assert_ne!(load(GOOD, &["seed=2"]).unwrap().hash(), load(GOOD, &[]).unwrap().hash());
}

#[test]
fn jsonl_sources_and_lists_of_messages_round_trip() {
    let text = GOOD.replacen(
        "kind = \"addition\"\nmax_digits = 2\n",
        r#"kind = "jsonl"
path = "data/train.jsonl"
prompt = [{ role = "user", content = "{{ q }}" }]
reference = { answer = "{{ a }}", n = 1, list = [1.5, true] }
completion = "{{ a }}"
"#,
        1,
    );
    let config = load(&text, &[]).unwrap();
    assert_eq!(load(&config.to_toml().unwrap(), &[]).unwrap(), config);
}

#[test]
fn typos_name_the_line_and_the_nearest_field() {
    fails(
        "high = 0.28",
        "hihg = 0.28",
        &[],
        &["c.toml:30: stage.1.loss.objective.hihg: ", "did you mean `high`?"],
    );
    fails(
        "kind = \"clip\"",
        "kind = \"cipso\"",
        &[],
        &["c.toml:30: stage.1.loss.objective.kind: ", "did you mean `cispo`?"],
    );
    fails(
        "seed = 1",
        "sede = 1",
        &[],
        &["c.toml:2: sede: unknown field `sede`, did you mean `seed`?", "known: preset, name"],
    );
    fails("layers", "layer", &[], &["c.toml:5: policy.tiny.layer: ", "`layers`"]);
    fails("max_digits", "max_digit", &[], &["c.toml:9: data.train.max_digit: ", "`max_digits`"]);
    fails(
        "lr = ",
        "learning_rate = ",
        &[],
        &["c.toml:33: stage.1.optim.learning_rate: ", "known: kind, lr, betas"],
    );
    fails("[eval]", "[evla]", &[], &["c.toml:35: evla: ", "`eval`"]);
    fails(
        "kind = \"grpo\"",
        "kind = \"gpro\"",
        &[],
        &["c.toml:24: stage.1.kind: ", "`gpro`, did you mean `grpo`?"],
    );
    fails(
        "kind = \"exact\"",
        "kind = \"exakt\"",
        &[],
        &["c.toml:16: rewards.kind: ", "did you mean `exact`?"],
    );
}

#[test]
fn typos_inside_a_tree_of_rewards_are_found() {
    let tree = |term: &str| {
        format!(
            "kind = \"sum\"\n[[rewards.terms]]\nweight = 1.0\nreward = {{ kind = \"exact\" }}\n[[rewards.terms]]\n{term}"
        )
    };
    let good = tree("weight = 0.5\nreward = { kind = \"format\" }\n");
    assert!(load(&GOOD.replace("kind = \"exact\"\n", &good), &[]).is_ok());
    for (term, parts) in [
        (
            "weight = 0.5\nreward = { kind = \"fromat\" }\n",
            &["c.toml:22: rewards.terms.1.reward.kind: ", "did you mean `format`?"][..],
        ),
        (
            "wieght = 0.5\nreward = { kind = \"format\" }\n",
            &["c.toml:21: rewards.terms.1.wieght: ", "`weight`?"],
        ),
        (
            "weight = \"x\"\nreward = { kind = \"format\" }\n",
            &["c.toml:21: rewards.terms.1.weight: ", "string \"x\""],
        ),
        ("weight = 0.5\n", &["c.toml:20: rewards.terms.1.reward: missing"]),
    ] {
        fails("kind = \"exact\"\n", &tree(term), &[], parts);
    }
    fails(
        "kind = \"exact\"\n",
        "kind = \"sum\"\nterms = []\n",
        &[],
        &["c.toml:15: rewards: ", "terms is empty"],
    );
}

#[test]
fn wrong_types_and_missing_fields_name_their_place() {
    fails("steps = 100", "steps = \"many\"", &[], &["c.toml:26: stage.1.steps: ", "string \"many\""]);
    fails("steps = 60", "steps = -3", &[], &["c.toml:21: stage.0.steps: ", "-3"]);
    fails("lr = 1e-4", "lr = true", &[], &["c.toml:33: stage.1.optim.lr: ", "boolean"]);
    fails("name = \"addition\"\n", "", &[], &["name: missing"]);
    fails("kind = \"sft\"\ndata = \"train\"", "kind = \"sft\"", &[], &["c.toml:18: stage.0.data: missing"]);
    fails("kind = \"sft\"\n", "", &[], &["stage.0.kind: missing"]);
    fails("seed = 1", "device = \"gpu\"", &[], &["c.toml:2: device: ", "cuda:N"]);
    fails("data = \"heldout\"", "data = 3", &[], &["c.toml:36: eval.data: ", "a name or a list of names"]);
    fails("[policy.tiny]", "policy.tiny]", &[], &["c.toml:4: "]);
}

#[test]
fn a_list_in_the_place_of_a_name_is_found_behind_lists_that_are_required() {
    // Rewards are read first, and without their terms there would be another error.
    let terms = "kind = \"sum\"\nterms = [{ reward = { kind = \"exact\" } }]\n";
    let text = GOOD.replace("kind = \"exact\"\n", terms);
    for (from, to, at) in [
        (
            "steps = 60",
            "steps = 60\nvalidation = { data = [\"heldout\"] }",
            "c.toml:23: stage.0.validation.data: ",
        ),
        ("data = \"train\"\nsteps = 60", "data = [3]\nsteps = 60", "c.toml:21: stage.0.data"),
    ] {
        let error = load(&text.replacen(from, to, 1), &[]).unwrap_err().to_string();
        assert!(error.contains(at), "{error}");
    }
}

#[test]
fn presets_are_keys_like_others() {
    for (from, to, at) in [
        ("kind = \"grpo\"", "kind = \"grpo\"\npresett = \"dapo\"", "c.toml:25: stage.1.presett: "),
        ("[stage.loss]", "[stage.loss]\npreest = \"dapo\"", "c.toml:30: stage.1.loss.preest: "),
    ] {
        fails(from, to, &[], &[at, "did you mean `preset`? (known: preset, "]);
    }
    let sft = "kind = \"sft\"\npreset = \"dapo\"";
    fails(
        "kind = \"sft\"",
        sft,
        &[],
        &[
            "c.toml:20: stage.0.preset: unknown preset \"dapo\" of a supervised stage (known: lingshu_1, lingshu_2",
        ],
    );
}

#[test]
fn patterns_are_one_or_many() {
    let policy =
        |line: &str| load(&GOOD.replace("[policy.tiny]", &format!("[policy]\n{line}\n[policy.tiny]")), &[]);
    let one = policy("trainable = \"norm\"\nfrozen = \"mlp\"").unwrap();
    assert_eq!(one, policy("trainable = [\"norm\"]\nfrozen = [\"mlp\"]").unwrap());
    assert_eq!(load(GOOD, &[]).unwrap().policy.trainable, None);
}

#[test]
fn old_keys_of_a_loss_are_read_with_a_warning_that_names_the_new_ones() {
    let new = "objective = { kind = \"clip\", high = 0.28 }\n";
    let old = GOOD.replacen(new, "policy = \"clip\"\nclip_high = 0.28\nclip_low = 0.2\n", 1);
    let sets = ["stage.grpo.loss.sampler_cap=3".to_owned()];
    let (config, notes) = RunConfig::parse_noted(&old, Path::new("c.toml"), &sets).unwrap();
    let (today, none) = RunConfig::parse_noted(GOOD, Path::new("c.toml"), &[]).unwrap();
    assert_eq!((&config, none), (&today, vec![]));
    assert_eq!(
        notes,
        [
            "c.toml:31: stage.1.loss: `clip_high`, `clip_low`, `policy` are old keys, which go with the next \
             version: write objective = { kind = \"clip\", high = 0.28, low = 0.2 }",
            "--set stage.grpo.loss.sampler_cap=3: stage.1.loss: `sampler_cap` is an old key, which goes with the \
             next version: write sampler_correction = \"none\"",
        ]
    );
    // A run that was recorded with them goes on with the new ones, and the other way round.
    assert_eq!(config.resume_conflicts(&today), Vec::<String>::new());
    let written = config.to_toml().unwrap();
    assert!(written.contains("[stage.loss.objective]") && !written.contains("clip_low"), "{written}");
    let other = load(&old.replace("clip_high = 0.28", "clip_high = 0.3"), &[]).unwrap();
    assert_eq!(other.resume_conflicts(&today), ["stage.1.loss.objective.high: 0.28 → 0.3"]);
    fails(
        new,
        &format!("clip_high = 0.3\n{new}"),
        &[],
        &["c.toml:30: stage.1.loss.clip_high: ", "leave `clip_high` out"],
    );
    fails("kl_coef", "clip_low = \"x\"\nkl_coef", &[], &["leave `clip_low` out"]);
    fails(new, "clip_low = \"x\"\n", &[], &["c.toml:30: stage.1.loss.clip_low: ", "string \"x\""]);
    fails(new, "clip_low = 2\n", &[], &["c.toml:29: stage.1.loss.objective.low: must lie in [0, 1]"]);
}

#[test]
fn overrides_reach_every_place() {
    let config = load(
        GOOD,
        &[
            "seed=9",
            "name=run-2024",
            "stage.0.steps=5",
            "stage.grpo.loss.kl_coef=0.5",
            "policy.tiny.hidden=64",
            "eval.data=[\"train\", \"heldout\"]",
            "data.heldout.tasks = 50",
            "log={example_every=0}",
        ],
    )
    .unwrap();
    assert_eq!((config.seed, config.name.as_str(), config.log.example_every), (9, "run-2024", 0));
    let (StageConfig::Sft(sft), StageConfig::Grpo(grpo)) = (&config.stage[0], &config.stage[1]) else {
        panic!()
    };
    assert_eq!((sft.steps, grpo.loss.kl_coef), (Some(5), 0.5));
    assert_eq!(config.eval.unwrap().data.len(), 2);
}

#[test]
fn bad_overrides_are_as_clear_as_bad_lines() {
    for (set, parts) in [
        ("stage.grpo.stpes=5", &["--set stage.grpo.stpes=5: stage.1.stpes: ", "did you mean `steps`?"][..]),
        ("sede=5", &["--set sede=5: sede: ", "did you mean `seed`?"]),
        (
            "stage.grop.steps=5",
            &["--set stage.grop.steps=5: ", "no `grop`, did you mean `grpo`?", "sft, grpo"],
        ),
        ("stage.7.steps=5", &["`stage` has 2 entries"]),
        ("seed.x=5", &["`seed` is a single value"]),
        ("seed", &["not KEY=VALUE"]),
        ("a..b=1", &["the key is empty"]),
        ("seed=many", &["--set seed=many: seed: ", "string \"many\""]),
        ("stage.grpo.group_size=1", &["--set stage.grpo.group_size=1: stage.1.group_size: is 1"]),
    ] {
        fails("seed", "seed", &[set], parts);
    }
    // An override may repair the file.
    assert!(load(&GOOD.replace("steps = 60", "steps = \"x\""), &["stage.sft.steps=6"]).is_ok());
    let two = GOOD.replace("kind = \"sft\"\n", "kind = \"grpo\"\n");
    assert!(load(&two, &["stage.grpo.steps=6"]).unwrap_err().to_string().contains("2 entries called `grpo`"));
}

#[test]
fn cross_field_problems_come_all_at_once_with_their_lines() {
    let error = load(
        &GOOD
            .replace("steps = 60", "steps = 60\nepochs = 2\nbatch = 0")
            .replace("\"heldout\"\nevery", "\"held\"\nevery"),
        &[
            "stage.grpo.sampling.temperature=0",
            "stage.1.loss.kl_coef=-1",
            "policy.path=x",
            "data.heldout.heldout_frac=0.3",
        ],
    )
    .unwrap_err()
    .to_string();
    let lines: Vec<&str> = error.lines().collect();
    for expected in [
        "c.toml:4: policy: give either",
        "c.toml:22: stage.0.epochs: give either `steps` or `epochs`",
        "c.toml:23: stage.0.batch: must be at least 1",
        "--set stage.grpo.sampling.temperature=0: stage.1.sampling.temperature: must be above 0",
        "--set stage.1.loss.kl_coef=-1: stage.1.loss.kl_coef: must be 0 or more",
        "c.toml:38: eval.data: there is no [data.held], did you mean `heldout`? (known: heldout, train)",
        "data.train.heldout_frac: is 0.1 but 0.3 in [data.heldout]",
    ] {
        assert!(lines.iter().any(|line| line.contains(expected)), "{expected:?} is not in:\n{error}");
    }
    assert_eq!(lines.len(), 7, "{error}");
}

#[test]
fn stages_that_sample_need_what_they_sample_with() {
    fails("[rewards]\nkind = \"exact\"\n", "", &[], &["rewards: missing"]);
    fails("data = \"train\"\nsteps = 100\n", "", &[], &["stage.1.data: missing; it names"]);
    fails(
        "max_tokens = 64",
        "max_tokens = 128",
        &[],
        &["leaves no room for a prompt in policy.tiny.context = 128"],
    );
    fails("max_tokens = 64", "top_p = 0.9", &[], &["must stay off while training"]);
    let replay = GOOD.replace("data = \"train\"\nsteps = 100\n", "") + "[stage.rollouts]\n";
    let replay = replay
        .replace("[eval]\ndata = \"heldout\"\nevery = 10\n", "")
        .replace("[rewards]\nkind = \"exact\"\n", "");
    let config = load(&(replay + "path = \"r.jsonl\"\n"), &[]).unwrap();
    let StageConfig::Grpo(grpo) = &config.stage[1] else { panic!() };
    assert_eq!((grpo.steps, grpo.rollouts.as_ref().unwrap().path.clone()), (None, PathBuf::from("r.jsonl")));
}

#[test]
fn paths_are_resolved_from_the_config_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    let text = GOOD.replace(
        "kind = \"addition\"\nmax_digits = 2",
        "kind = \"jsonl\"\npath = \"d.jsonl\"\ncompletion = \"x\"",
    );
    std::fs::write(&path, text.replace("[policy.tiny]\nlayers = 2", "[policy]\npath = \"model\"")).unwrap();
    std::fs::create_dir(dir.path().join("model")).unwrap();
    let config = RunConfig::load(&path, &[]).unwrap();
    assert_eq!(config.policy.path.as_deref(), dir.path().join("model").to_str());
    let DataConfig::Jsonl(jsonl) = &config.data["train"] else { panic!() };
    assert_eq!(jsonl.path, dir.path().join("d.jsonl"));
    let hub = RunConfig::load(&path, &["policy.path=owner/name".to_owned()]).unwrap();
    assert_eq!(hub.policy.path.as_deref(), Some("owner/name"));
    let error = RunConfig::load(&dir.path().join("none.toml"), &[]).unwrap_err();
    assert!(error.to_string().contains("none.toml"));
}

#[test]
fn resume_conflicts_list_what_would_train_differently() {
    let saved = load(GOOD, &[]).unwrap();
    let free =
        load(GOOD, &["name=b", "checkpoint.every=1", "log.rollouts_frac=0", "stage.grpo.steps=200"]).unwrap();
    assert_eq!(free.resume_conflicts(&saved), Vec::<String>::new());
    let other =
        load(GOOD, &["stage.grpo.optim.lr=0.5", "stage.sft.steps=61", "stage.sft.optim.eps=1e-7"]).unwrap();
    assert_eq!(
        other.resume_conflicts(&saved),
        ["stage.0.optim.eps: 1e-8 → 1e-7", "stage.0.steps: 60 → 61", "stage.1.optim.lr: 1e-4 → 0.5"]
    );
}

#[test]
fn how_much_is_computed_at_once_may_change_when_a_run_is_resumed() {
    let before = GOOD.replace("[eval]", "[eval]\nbatch = 64");
    assert_ne!(before, GOOD);
    let (saved, now) = (load(&before, &[]).unwrap(), load(GOOD, &[]).unwrap());
    // As `eval.batch` stood in every config before it became optional.
    assert_eq!(now.resume_conflicts(&saved), Vec::<String>::new());
    let sets = ["stage.grpo.max_batch_rows=3", "stage.grpo.max_batch_tokens=900", "policy.recompute=always"];
    assert_eq!(load(GOOD, &sets).unwrap().resume_conflicts(&saved), Vec::<String>::new());
    let other = load(GOOD, &["stage.grpo.micro_batch=3"]).unwrap();
    assert_eq!(other.resume_conflicts(&saved).len(), 1);
}

#[test]
fn devices_parse_and_print() {
    for text in ["auto", "cpu", "cuda:0", "cuda:3"] {
        assert_eq!(text.parse::<DeviceConfig>().unwrap().to_string(), text);
    }
    assert!("gpu".parse::<DeviceConfig>().unwrap_err().to_string().contains("cuda:N"));
    assert!("cuda:x".parse::<DeviceConfig>().is_err());
}

#[test]
fn the_default_alphabet_has_every_character_once() {
    let tiny = TinyConfig::default();
    let unique: std::collections::BTreeSet<char> = tiny.alphabet.chars().collect();
    assert_eq!(unique.len(), tiny.alphabet.chars().count());
    assert!("0123456789+=<>/think\n".chars().all(|c| unique.contains(&c)));
}

#[test]
fn chat_templates_are_names_or_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    let config = |policy: &str| {
        let text = format!(
            "name = \"t\"\n[policy]\npath = \"owner/name\"\n{policy}\n[data.train]\nkind = \"addition\"\n[[stage]]\nkind = \"sft\"\ndata = \"train\"\nsteps = 1\n"
        );
        std::fs::write(&path, text).unwrap();
        RunConfig::load(&path, &[])
    };
    let file = config("chat_template = \"chat.jinja\"").unwrap();
    assert_eq!(file.policy.chat_template, ChatTemplate::File(dir.path().join("chat.jinja")));
    let written = file.to_toml().unwrap();
    assert_eq!(RunConfig::parse(&written, &path, &[]).unwrap(), file);
    assert_eq!(config("chat_template = \"raw\"").unwrap().policy.chat_template, ChatTemplate::Raw);
    let error = |policy: &str| config(policy).unwrap_err().to_string();
    let message = error("chat_template = \"rwa\"");
    assert!(
        message.contains("c.toml:4: policy.chat_template: unknown value `rwa`, did you mean `raw`?"),
        "{message}"
    );
    let message = error("chat_template = \"raw\"\ntemplate_vars = { x = 1 }");
    assert!(message.contains("policy.template_vars"), "{message}");
    let vars = config("template_vars = { enable_thinking = false }\neos = [\"<|im_end|>\", 5]").unwrap();
    assert_eq!(vars.policy.eos, [EndToken::Text("<|im_end|>".into()), EndToken::Id(5)]);
    assert_eq!(RunConfig::parse(&vars.to_toml().unwrap(), &path, &[]).unwrap(), vars);
}

#[test]
fn the_list_of_all_keys_states_the_defaults() {
    let all = load(include_str!("defaults.toml"), &[]).unwrap();
    let bare = r#"
name = "everything"
policy.tiny = {}
data.train.kind = "addition"
data.puzzles.kind = "countdown"
data.arithmetic.kind = "arithmetic"
data.base_conversion.kind = "base_conversion"
data.calendar.kind = "calendar"
data.digits.kind = "digits"
data.equation.kind = "equation"
data.facts.kind = "facts"
data.lab_panel.kind = "lab_panel"
data.letter_count.kind = "letter_count"
data.logic.kind = "logic"
data.lookup.kind = "lookup"
data.reverse_text.kind = "reverse_text"
data.shapes.kind = "shapes"
data.sorting.kind = "sorting"
data.sudoku.kind = "sudoku"
data.unit_conversion.kind = "unit_conversion"
data.rows = { kind = "jsonl", path = "rows.jsonl" }
rewards.kind = "exact"
eval.data = "puzzles"
stage = [
    { kind = "sft", data = "train" },
    { kind = "grpo", data = "train", steps = 1, sampling.max_tokens = 64 },
]
"#;
    assert_eq!(all, load(bare, &[]).unwrap());
    // Every key that is written out when the config is saved stands in the list; the loss and the rewards have their own.
    let (listed, text) = (include_str!("defaults.toml"), all.to_toml().unwrap());
    let mut elsewhere = false;
    for line in text.lines() {
        if line.starts_with('[') {
            elsewhere = line.contains("loss") || line.contains("rewards");
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !elsewhere) {
            assert!(listed.contains(&format!("{key} = ")), "{key}");
        }
    }
}

#[test]
fn a_config_without_end_is_refused() {
    let text = format!("{}{}", GOOD, "[[stage]]\nkind = \"sft\"\ndata = \"train\"\n".repeat(20_000));
    let error = RunConfig::parse(&text, Path::new("c.toml"), &[]).unwrap_err().to_string();
    assert!(error.contains("at most 1000 are run") && error.lines().count() < 10, "{error:.500}");
    for deep in [format!("{}= 1", "a.".repeat(50_000) + "a"), "a = ".to_owned() + &"[".repeat(50_000)] {
        let error = RunConfig::parse(&deep, Path::new("c.toml"), &[]).unwrap_err().to_string();
        assert!(error.contains("c.toml:1"), "{error:.500}");
    }
}
