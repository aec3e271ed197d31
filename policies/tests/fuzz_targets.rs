//! The fuzz targets on seeded random changes of small files; `tests/fuzz/targets/seeded.rs` says how to run more.

#![allow(clippy::unwrap_used)]

#[path = "../../tests/fuzz/targets/seeded.rs"]
mod seeded;
#[path = "../../tests/fuzz/targets/policies.rs"]
mod targets;

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/../tests/golden/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn gguf() {
    let seeds = ["blocks", "spm", "tiny-qwen2"].map(|name| golden(&format!("policy/{name}.gguf")));
    seeded::run("gguf", &seeds, targets::gguf);
}

#[test]
fn safetensors() {
    let tensors = ["a.weight", "b.bias"].map(|name| (name, [1u8; 4 * 24]));
    let views = tensors.each_ref().map(|(name, data)| {
        (*name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![4, 6], data).unwrap())
    });
    let small = safetensors::serialize(views, None).unwrap();
    seeded::run("safetensors", &[small, golden("policy/blocks.safetensors")], targets::safetensors);
}

#[test]
fn model_config() {
    let seeds = ["llama", "qwen2", "qwen3"].map(|name| golden(&format!("models/tiny-{name}/config.json")));
    seeded::run("model_config", &seeds, targets::model_config);
}

#[test]
fn tokenizer() {
    let seeds = ["llama", "qwen3"].map(|name| golden(&format!("models/tiny-{name}/tokenizer.json")));
    seeded::run("tokenizer", &seeds, targets::tokenizer);
}

#[test]
fn chat_template() {
    let nested = "{% for a in range(99) %}{% for b in range(9) %}{{ messages[0].content ~ a }}{% endfor %}{% endfor %}";
    let macros =
        "{% macro m(x) %}{{ x | tojson }}{% if x %}{{ m(x[1:]) }}{% endif %}{% endmacro %}{{ m('abc') }}";
    let seeds = [golden("models/tiny-llama/chat_template.jinja"), nested.into(), macros.into()];
    seeded::run("chat_template", &seeds, targets::chat_template);
}
