//! Components that misbehave: nothing is let through, nothing leaks, nothing hangs.
#![cfg(feature = "wasm")]
// The helpers here are tests too, which clippy does not see.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rlvr_rewards::wasm::{Wasm, WasmConfig};
use rlvr_rewards::{Message, Outcome, Response, Reward, Task, Verdict, score_batch, score_one};
use serde_json::json;

/// The body of `init` that accepts every config: all results below begin with a zero byte, `ok`.
const ACCEPT: &str = "(i32.store8 (i32.const 64) (i32.const 0)) (i32.const 64)";
/// The body of `score` that gives the length of the completion in tenths, at most 1.
const LENGTH: &str =
    "(call $scored (f64.div (f64.convert_i32_u (call $ten (local.get $len))) (f64.const 10)))";

/// A component with these bodies of `init` and `score`, and more code of its own in front.
fn component(own: &str, init: &str, score: &str) -> String {
    TEMPLATE.replace("(;own;)", own).replace("(;init;)", init).replace("(;score;)", score)
}

/// The interface as a compiler would lay it out; results are written at 64, strings that come in from 4096 on.
const TEMPLATE: &str = r#"
(component
  (import "log" (func $log (param "message" string)))
  (core module $Memory
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 4096))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.set $next (i32.add (local.get $at) (local.get 3)))
      (block $fits
        (br_if $fits (i32.le_u (global.get $next) (i32.shl (memory.size) (i32.const 16))))
        (drop (memory.grow (i32.add (i32.shr_u (local.get 3) (i32.const 16)) (i32.const 1)))))
      (local.get $at)))
  (core instance $memory (instantiate $Memory))
  (core func $log (canon lower (func $log) (memory (core memory $memory "memory"))))
  (core module $Code
    (import "memory" "memory" (memory 1))
    (import "host" "log" (func $log (param i32 i32)))
    (func $ten (param i32) (result i32)
      (select (local.get 0) (i32.const 10) (i32.lt_u (local.get 0) (i32.const 10))))
    ;; ok(judgement) with a score and nothing else
    (func $scored (param f64) (result i32)
      (memory.fill (i32.const 64) (i32.const 0) (i32.const 48))
      (i32.store8 (i32.const 72) (i32.const 1))
      (f64.store (i32.const 80) (local.get 0))
      (i32.const 64))
    (;own;)
    (func (export "init") (param $config i32) (param $len i32) (result i32) (;init;))
    (func (export "score")
      (param $id i32) (param $id_len i32) (param $prompt i32) (param $messages i32)
      (param $text i32) (param $len i32) (param $truncated i32)
      (param $reference i32) (param $reference_len i32) (param $meta i32) (param $meta_len i32)
      (result i32)
      (;score;)))
  (core instance $code (instantiate $Code
    (with "memory" (instance $memory))
    (with "host" (instance (export "log" (func $log))))))

  (type $message (record (field "role" string) (field "content" string)))
  (type $item (record
    (field "id" string) (field "prompt" (list $message)) (field "completion" string) (field "truncated" bool)
    (field "reference" string) (field "meta" string)))
  (type $verdict (enum "correct" "incorrect" "partial" "no-answer" "ambiguous" "unverifiable"))
  (type $judgement (record
    (field "score" (option float64)) (field "verdict" (option $verdict)) (field "reason" string)
    (field "extracted" (option string))))
  (func $init (param "config" string) (result (result (error string)))
    (canon lift (core func $code "init") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (func $score (param "item" $item) (result (result $judgement (error string)))
    (canon lift (core func $code "score") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (instance $judge
    (export "message" (type $message)) (export "item" (type $item)) (export "verdict" (type $verdict))
    (export "judgement" (type $judgement)) (export "init" (func $init)) (export "score" (func $score)))
  (export "rlvr:reward/judge@0.1.0" (instance $judge)))
"#;

struct Guest {
    reward: Wasm,
    _dir: tempfile::TempDir,
}

/// The reward of these bytes, which are given as text or as they are; `change` alters its config.
fn guest(bytes: impl AsRef<[u8]>, change: impl FnOnce(&mut WasmConfig)) -> Guest {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("reward.wasm"), wat::parse_bytes(bytes.as_ref()).unwrap()).unwrap();
    let mut config = WasmConfig::new("reward.wasm");
    config.resolve_paths(dir.path());
    change(&mut config);
    Guest { reward: Wasm::new(config).unwrap(), _dir: dir }
}

fn scoring(score: &str) -> Guest {
    guest(component("", ACCEPT, score), |_| {})
}

fn task() -> Task {
    Task::new("t", json!({"answer": "4"}))
}

fn judge(guest: &Guest, texts: &[&str]) -> Vec<Outcome> {
    let task = task();
    let items: Vec<_> = texts.iter().map(|t| (&task, Response::new(t))).collect();
    score_batch(&guest.reward, &items)
}

fn one(guest: &Guest, text: &str) -> Outcome {
    score_one(&guest.reward, &task(), Response::new(text))
}

/// The guest starts, and its only answer is an error that says `want`.
#[track_caller]
fn breaks(guest: &Guest, want: &str) -> Outcome {
    guest.reward.prepare().unwrap();
    let outcome = one(guest, "x");
    assert_eq!((outcome.score, outcome.verdict), (None, Verdict::Error), "{outcome:?}");
    assert!(outcome.reason.contains(want), "{:?} is not in {:?}", want, outcome.reason);
    outcome
}

/// The file is refused before anything is judged, with an error that says `want`, and judges nothing.
#[track_caller]
fn refused(bytes: impl AsRef<[u8]>, want: &str) {
    let guest = guest(bytes, |_| {});
    let error = guest.reward.prepare().unwrap_err().to_string();
    assert!(error.contains(want) && error.contains("reward.wasm: "), "{want:?} is not in {error:?}");
    let outcome = one(&guest, "x");
    assert_eq!((outcome.score, outcome.verdict), (None, Verdict::Error));
    assert!(outcome.reason.contains(want), "{}", outcome.reason);
}

#[test]
fn a_component_judges() {
    let guest = scoring(LENGTH);
    guest.reward.prepare().unwrap();
    let outcomes = judge(&guest, &["", "four", "ten letters"]);
    let found: Vec<_> = outcomes.iter().map(|o| (o.score, o.verdict)).collect();
    let want = [(0.0, Verdict::Incorrect), (0.4, Verdict::Partial), (1.0, Verdict::Correct)];
    assert_eq!(found, want.map(|(score, verdict)| (Some(score), verdict)));
    assert!(outcomes.iter().all(|o| o.method == "wasm" && o.work > 0 && o.work < 1000), "{outcomes:?}");
}

#[test]
fn every_field_arrives_and_comes_back() {
    // Gives the completion as the extracted answer, the meta data as the reason, and the verdict no-answer; the score
    // counts the messages and takes half of it for the flag.
    let score = scoring(
        "(drop (call $scored (f64.div (f64.convert_i32_u (local.get $messages))
            (f64.convert_i32_u (i32.add (local.get $truncated) (i32.const 1))))))
        (i32.store16 (i32.const 88) (i32.const 0x0301))
        (i32.store (i32.const 92) (local.get $meta)) (i32.store (i32.const 96) (local.get $meta_len))
        (i32.store8 (i32.const 100) (i32.const 1))
        (i32.store (i32.const 104) (local.get $text)) (i32.store (i32.const 108) (local.get $len))
        (i32.const 64)",
    );
    let mut task = task();
    task.prompt = vec![Message { role: "user".into(), content: "2 + 2?".into() }];
    task.meta = json!({"k": [1, "é"]}).as_object().unwrap().clone();
    let text = "né\u{0}\u{10ffff}";
    let outcome = score_one(&score.reward, &task, Response { truncated: true, ..Response::new(text) });
    assert_eq!((outcome.score, outcome.verdict), (Some(0.5), Verdict::NoAnswer), "{outcome:?}");
    assert_eq!((outcome.extracted.as_deref(), &*outcome.reason), (Some(text), r#"{"k":[1,"é"]}"#));

    // Fails with what it got.
    let fail = |at: &str, len: &str| {
        format!(
            "(i32.store8 (i32.const 64) (i32.const 1)) (i32.store (i32.const 72) (local.get {at}))
            (i32.store (i32.const 76) (local.get {len})) (i32.const 64)"
        )
    };
    let guest = scoring(&fail("$reference", "$reference_len"));
    assert_eq!(breaks(&guest, "answer").reason, r#"{"answer":"4"}"#);
    assert_eq!(breaks(&scoring(&fail("$id", "$id_len")), "t").reason, "t");
}

#[test]
fn a_config_reaches_init_which_may_refuse_it() {
    // The error is the config itself, unless it is empty.
    let init = "(i32.store8 (i32.const 64) (i32.gt_u (local.get $len) (i32.const 2)))
        (i32.store (i32.const 68) (local.get $config)) (i32.store (i32.const 72) (local.get $len)) (i32.const 64)";
    let text = component("", init, LENGTH);
    guest(&text, |_| {}).reward.prepare().unwrap();
    let guest = guest(&text, |c| c.config = json!({"strict": true}).as_object().unwrap().clone());
    let error = guest.reward.prepare().unwrap_err().to_string();
    assert!(error.contains(r#"it refuses its config: {"strict":true}"#), "{error}");
}

#[test]
fn a_trap_is_an_error_for_its_item_alone() {
    let guest = scoring(&format!("(if (i32.eq (local.get $len) (i32.const 3)) (then unreachable)) {LENGTH}"));
    let outcomes = judge(&guest, &["a", "bad", "four"]);
    assert_eq!(outcomes.iter().map(|o| o.score).collect::<Vec<_>>(), [Some(0.1), None, Some(0.4)]);
    assert_eq!(outcomes[1].verdict, Verdict::Error);
    assert!(outcomes[1].reason.contains("panicked or aborted"), "{}", outcomes[1].reason);
    breaks(&scoring("(i32.load (i32.const -1))"), "out of bounds memory access");
    breaks(
        &scoring("(i32.div_u (i32.const 1) (i32.sub (local.get $len) (local.get $len)))"),
        "divide by zero",
    );
    breaks(&scoring("(i32.const -8)"), "out of bounds");
}

#[test]
fn endless_loops_run_out_of_fuel() {
    let start = Instant::now();
    let text = component("", ACCEPT, "(loop $again (br $again)) (i32.const 0)");
    let outcome = breaks(&guest(text, |c| c.fuel = 1_000_000), "used up its fuel = 1000000");
    assert_eq!(outcome.work, 1_000_000);
    let text = component("(func $f (call $f))", ACCEPT, "(call $f) (i32.const 0)");
    breaks(&guest(text, |_| {}), "its stack overflowed");
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn instructions_that_take_long_meet_the_clock() {
    let start = Instant::now();
    let text = component(
        "",
        ACCEPT,
        "(drop (memory.grow (i32.const 960)))
        (loop $again (memory.fill (i32.const 0) (i32.const 0) (i32.const 0x3c00000)) (br $again)) (i32.const 0)",
    );
    breaks(&guest(text, |c| (c.fuel, c.timeout_s) = (1 << 50, 0.2)), "ran longer than timeout_s = 0.2");
    // Without a loop it could not be stopped, and is not let in.
    let fills = "(memory.fill (i32.const 0) (i32.const 0) (i32.const 65536))".repeat(1001);
    refused(
        component("", ACCEPT, &format!("{fills} (i32.const 0)")),
        "has 1001 instructions that fill or copy",
    );
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn memory_is_bounded_over_all_memories_and_tables() {
    let grow = |pages: usize| format!("(drop (memory.grow (i32.const {pages}))) {LENGTH}");
    // One page is there from the start.
    let limited = |text: String| guest(text, |c| c.memory_mb = 2);
    assert_eq!(one(&limited(component("", ACCEPT, &grow(31))), "four").score, Some(0.4));
    breaks(&limited(component("", ACCEPT, &grow(32))), "more memory than memory_mb = 2");
    let two = "(memory $more 16)";
    breaks(&limited(component(two, ACCEPT, &grow(16))), "more memory than memory_mb = 2");
    let table = "(table $t 0 funcref)";
    let score = format!("(drop (table.grow $t (ref.null func) (i32.const 1000000))) {LENGTH}");
    breaks(&limited(component(table, ACCEPT, &score)), "more memory than memory_mb = 2");
    // A maximum of its own is the component's affair.
    let score = format!("(drop (memory.grow $more (i32.const 9999))) {LENGTH}");
    assert_eq!(one(&limited(component("(memory $more 1 2)", ACCEPT, &score)), "four").score, Some(0.4));
    // A completion that does not fit breaks for itself.
    let guest = limited(component("", ACCEPT, LENGTH));
    let long = "x".repeat(3 << 20);
    let outcomes = judge(&guest, &["four", &long, "four"]);
    assert_eq!(outcomes.iter().map(|o| o.score).collect::<Vec<_>>(), [Some(0.4), None, Some(0.4)]);
}

#[test]
fn judgements_that_break_the_contract_are_errors() {
    let score = |value: &str| scoring(&format!("(call $scored (f64.const {value}))"));
    for (value, want) in [
        ("nan", "the score NaN, outside of [0, 1]"),
        ("inf", "the score inf"),
        ("1.0000001", "the score 1.0000001"),
        ("-0.1", "the score -0.1"),
    ] {
        breaks(&score(value), want);
    }
    assert_eq!(one(&score("-0"), "x").score.map(f64::to_bits), Some(0));

    let fields = |has_score: u8, verdict: u16| {
        scoring(&format!(
            "(drop (call $scored (f64.const 1))) (i32.store8 (i32.const 72) (i32.const {has_score}))
            (i32.store16 (i32.const 88) (i32.const {verdict})) (i32.const 64)"
        ))
    };
    breaks(&fields(0, 0), "its judgement has no score");
    breaks(&fields(0, 0x0001), "its judgement has no score");
    breaks(&fields(1, 0x0501), "a score beside a verdict that has none");
    breaks(&fields(1, 0x0601), "unexpected discriminant");
    let outcome = one(&fields(0, 0x0501), "x");
    assert_eq!((outcome.score, outcome.verdict), (None, Verdict::Unverifiable));

    // Reasons: no UTF-8, beyond the memory, and far too long.
    let reason = |at: u32, len: u32, more: &str| {
        scoring(&format!(
            "(drop (call $scored (f64.const 1))) (i32.store (i32.const 92) (i32.const {at}))
            (i32.store (i32.const 96) (i32.const {len})) {more} (i32.const 64)"
        ))
    };
    breaks(&reason(1024, 1, "(i32.store8 (i32.const 1024) (i32.const 255))"), "utf-8");
    breaks(&reason(65530, 100, ""), "out of bounds");
    breaks(&reason(0, 2 << 20, "(drop (memory.grow (i32.const 64)))"), "fuel");
    let long = reason(1024, 9000, "(memory.fill (i32.const 1024) (i32.const 97) (i32.const 9000))");
    assert_eq!(one(&long, "x").reason.chars().count(), 501);
}

#[test]
fn nans_are_canonical() {
    // Adds 1 to a NaN and gives the lowest bit of the sum.
    let score = "(i64.store (i32.const 256) (i64.const 0x7ff8000000000001))
        (call $scored (f64.convert_i64_u (i64.and (i64.const 1)
            (i64.reinterpret_f64 (f64.add (f64.load (i32.const 256)) (f64.convert_i32_u (local.get $len)))))))";
    assert_eq!(one(&scoring(score), "x").score, Some(0.0));
}

#[test]
fn only_sound_components_are_loaded() {
    let good = component("", ACCEPT, LENGTH);
    let bytes = wat::parse_str(&good).unwrap();
    let raw = |bytes: &[u8], want: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        let reward = Wasm::new(WasmConfig::new(file.path())).unwrap();
        let error = reward.prepare().unwrap_err().to_string();
        assert!(error.contains(want), "{want:?} is not in {error:?}");
    };
    raw(b"", "not a WebAssembly component");
    raw(good.as_bytes(), "not a WebAssembly component");
    raw(&bytes[..8], "does not export");
    for cut in [9, bytes.len() / 3, bytes.len() / 2, bytes.len() - 1] {
        raw(&bytes[..cut], "not a valid component");
    }
    raw(&[&bytes[..], &[0; 17 << 20]].concat(), "larger than 16 MiB");
    refused("(module)", "it is a core module, not a component; `wasm-tools component new`");

    let foreign = r#"(component (import "wasi:random/random@0.2.0" (instance (export "get-random-u64" (func (result u64))))))"#;
    refused(foreign, r#"it imports "wasi:random/random@0.2.0", and a reward may import the function "log""#);
    refused(r#"(component (import "log" (func (param "message" u32))))"#, "log");
    refused(r#"(component (import "log" (instance)))"#, r#"it imports "log""#);
    refused("(component)", r#"it does not export "init" of the interface "rlvr:reward/judge@0.1.0""#);
    refused(
        good.replace(r#""no-answer""#, r#""no-reply""#),
        "an export is not that of rlvr:reward/judge@0.1.0",
    );
    refused(good.replace("judge@0.1.0", "judge@0.2.0"), "does not export");
    refused(component("", "unreachable", LENGTH), "panicked or aborted");
    refused(component("", "(loop $again (br $again)) (i32.const 0)", LENGTH), "used up its fuel");
    refused(component("(memory 1025)", ACCEPT, LENGTH), "more memory than memory_mb = 64");
    refused(component("(memory 1 1 shared)", ACCEPT, LENGTH), "not a valid component");
    let missing = Wasm::new(WasmConfig::new("no/such/file.wasm")).unwrap();
    assert!(missing.prepare().unwrap_err().to_string().contains("no/such/file.wasm: "));
}

/// Counts its calls in a global and in its memory, and gives the count in tenths.
fn counter() -> Guest {
    let score = "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (i32.store (i32.const 512) (i32.add (i32.load (i32.const 512)) (i32.const 1)))
        (call $scored (f64.div
            (f64.convert_i32_u (i32.add (global.get $calls) (i32.load (i32.const 512)))) (f64.const 10)))";
    guest(component("(global $calls (mut i32) (i32.const 0))", ACCEPT, score), |_| {})
}

#[test]
fn nothing_is_left_from_one_item_to_the_next() {
    let guest = counter();
    for _ in 0..3 {
        assert!(judge(&guest, &["a", "b", "c"]).iter().all(|o| o.score == Some(0.2)));
    }
}

#[test]
fn outcomes_are_the_same_for_any_number_of_threads() {
    let score = format!(
        "(if (i32.eq (local.get $len) (i32.const 3)) (then unreachable))
        (if (i32.eq (local.get $len) (i32.const 5)) (then (loop $again (br $again))))
        (if (i32.eq (local.get $len) (i32.const 7)) (then (drop (memory.grow (i32.const 5000)))))
        {LENGTH}"
    );
    let guest = guest(component("", ACCEPT, &score), |c| c.fuel = 100_000);
    let texts: Vec<String> = (0..200).map(|i| "x".repeat(i * 7 % 23)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let [alone, four] = [1, 4].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| judge(&guest, &texts))
    });
    assert_eq!(alone, four);
    for (outcome, text) in alone.iter().zip(&texts) {
        let want = (![3, 5, 7].contains(&text.len())).then_some(text.len().min(10) as f64 / 10.0);
        assert_eq!(outcome.score, want, "{text}");
    }
}

/// Collects the log lines of this thread.
#[derive(Clone, Default)]
struct Lines {
    count: Arc<AtomicUsize>,
    longest: Arc<AtomicUsize>,
}

impl tracing::field::Visit for Lines {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        let text = format!("{value:?}");
        assert!(!text.contains(|c: char| c.is_control()), "{text:?}");
        if field.name() == "message" {
            self.count.fetch_add(1, Ordering::Relaxed);
            self.longest.fetch_max(text.chars().count(), Ordering::Relaxed);
        }
    }
}

impl tracing::Subscriber for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("rlvr_rewards")
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        assert_eq!(*event.metadata().level(), tracing::Level::INFO);
        event.record(&mut self.clone());
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn a_flood_of_log_lines_is_bounded() {
    // Logs 60,000 times the 20,000 bytes from 1024 on: an escape sequence and then the letter a.
    let score = format!(
        "(local $i i32)
        (memory.fill (i32.const 1024) (i32.const 97) (i32.const 20000))
        (i32.store (i32.const 1024) (i32.const 0x0a4a5b1b))
        (loop $again
            (call $log (i32.const 1024) (i32.const 20000))
            (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 60000))))
        {LENGTH}"
    );
    let flood = guest(component("", ACCEPT, &score), |_| {});
    let lines = Lines::default();
    let start = Instant::now();
    tracing::subscriber::with_default(lines.clone(), || {
        let outcome = one(&flood, "four");
        // A line has its price, written or not.
        assert_eq!(outcome.score, Some(0.4));
        assert!(outcome.work > 60_000_000, "{}", outcome.work);
        assert_eq!(lines.count.load(Ordering::Relaxed), 16);
        assert_eq!(lines.longest.load(Ordering::Relaxed), 501);
        (0..100).for_each(|_| assert_eq!(one(&flood, "four").score, Some(0.4)));
        assert_eq!(lines.count.load(Ordering::Relaxed), 1001, "1000 and the word that it is enough");
    });
    assert!(start.elapsed() < Duration::from_secs(60));
    let text = component(
        "",
        ACCEPT,
        "(loop $again (call $log (i32.const 0) (i32.const 1)) (br $again)) (i32.const 0)",
    );
    breaks(&guest(text, |c| c.fuel = 10_000_000), "used up its fuel");
}

#[test]
fn configs_are_checked() {
    for (change, want) in [
        ((|c| c.fuel = 0) as fn(&mut WasmConfig), "fuel 0"),
        (|c| c.memory_mb = 0, "memory_mb 0"),
        (|c| c.memory_mb = 5000, "memory_mb 5000"),
        (|c| c.timeout_s = f64::NAN, "timeout_s NaN"),
        (|c| c.name = "My Reward".into(), "lower-case"),
        (|c| c.path = "".into(), "path is empty"),
    ] {
        let mut config = WasmConfig::new("reward.wasm");
        change(&mut config);
        let error = Wasm::new(config).err().unwrap().to_string();
        assert!(error.contains(want), "{error}");
    }
}

mod from_wit {
    wasmtime::component::bindgen!({ path: "wit/rlvr-reward.wit", world: "reward" });
}

#[test]
fn the_wit_file_says_what_the_host_does() {
    use wasmtime::component::{Component, Linker};
    // The types of this component are those of the host, as the other tests show; here they are those of the file.
    let engine = wasmtime::Engine::default();
    let text = component("", ACCEPT, LENGTH);
    let component = Component::new(&engine, wat::parse_str(text).unwrap()).unwrap();
    let mut linker = Linker::<()>::new(&engine);
    linker.root().func_wrap("log", |_, (_,): (String,)| Ok(())).unwrap();
    let mut store = wasmtime::Store::new(&engine, ());
    let reward = from_wit::Reward::instantiate(&mut store, &component, &linker).unwrap();
    let judge = reward.rlvr_reward_judge();
    assert_eq!(judge.call_init(&mut store, "{}").unwrap(), Ok(()));
}

/// The example of `examples/wasm`; its README.md says how to build it. `RLVR_WASM=FILE` names the component.
#[test]
#[ignore = "needs the example, built for wasm32"]
fn the_example_judges() {
    let path = std::env::var("RLVR_WASM").unwrap();
    let mut config = WasmConfig::new(path);
    config.config = json!({"scale": 4.0}).as_object().unwrap().clone();
    let reward = Wasm::new(config).unwrap();
    reward.prepare().unwrap();
    let scores = ["4", " 4\n", "5", "four", "99999999999999999999"]
        .map(|text| score_one(&reward, &task(), Response::new(text)));
    let found: Vec<_> = scores.iter().map(|o| o.score).collect();
    assert_eq!(found[..4], [Some(1.0), Some(1.0), Some(0.4), Some(0.0)], "{scores:?}");
    assert_eq!((scores[0].extracted.as_deref(), scores[3].verdict), (Some("4"), Verdict::NoAnswer));
}
