//! `rlvr bench`: how fast each phase of a step is here.

use crate::args::BenchArgs;
use crate::input::bad;
use crate::output;
use anyhow::Result;
use rlvr::bench::{
    BenchReport, BenchSettings, SHAPES, bench, random_decoder, shape, with_lora, with_selection,
};
use rlvr::policy::Policy;
use serde_json::Value;
use std::io::Write;

/// In the order of a step.
const ORDER: [&str; 8] =
    ["see", "prefill", "decode", "logprobs", "backward", "see_back", "optimizer", "step"];

pub fn run(args: &BenchArgs) -> Result<()> {
    let device = rlvr::run::device(args.device)?;
    let (name, decoder) = match &args.policy {
        Some(path) => (path.as_str(), Policy::open(path, &device)?.decoder),
        None => {
            let mut config = shape(&args.shape).ok_or_else(|| {
                bad(format!("--shape {}: unknown; one of {}", args.shape, SHAPES.join(", ")))
            })?;
            config.vocab_size = args.vocab.unwrap_or(config.vocab_size);
            if config.vocab_size == 0 {
                return Err(bad("--vocab 0: a policy needs at least one token"));
            }
            (args.shape.as_str(), random_decoder(config, &device))
        }
    };
    let decoder = decoder
        .with_operands(args.dtype.into())
        .ok_or_else(|| bad("--dtype bf16: this device does not compute in it"))?;
    let decoder = match args.lora {
        Some(rank) => with_lora(decoder, rank)?,
        None => decoder,
    };
    let trainable = (!args.trainable.is_empty()).then(|| args.trainable.clone());
    let decoder = with_selection(decoder, trainable, args.frozen.clone())?;
    let decoder = decoder.with_base_dtype(args.base_dtype).map_err(|e| bad(format!("--base-dtype: {e}")))?;
    let settings = BenchSettings {
        batch: args.batch,
        group: args.group.unwrap_or(args.batch.min(8)),
        prompt_tokens: args.prompt_tokens,
        new_tokens: args.new_tokens,
        micro_batch: args.micro_batch,
        repeat: args.repeat,
        optimizer: args.optimizer,
        images: args.images.unwrap_or(usize::from(decoder.vision().is_some())),
        image_size: args.image_size,
    };
    let report = bench(decoder, settings)?;
    let device = rlvr::run::device_name(args.device);
    let mut out = output::stdout();
    if args.json {
        let mut row = serde_json::to_value(&report)?;
        row["device"] = Value::from(device);
        row["shape"] = Value::from(name);
        writeln!(out, "{row}")?;
    } else {
        table(&mut out, name, &device, &report)?;
    }
    Ok(out.flush()?)
}

fn table(out: &mut impl Write, name: &str, device: &str, report: &BenchReport) -> std::io::Result<()> {
    let s = &report.settings;
    let images = match s.images {
        0 => String::new(),
        n => format!(" and {} of {}x{}", output::count(n, "picture"), s.image_size, s.image_size),
    };
    let by = report.instructions.map(|i| format!(" by {i}")).unwrap_or_default();
    writeln!(
        out,
        "{name}, {:.1} million parameters, {}{by} on {device} with {} threads: {} prompts of {} tokens{images} x {} completions of {}",
        report.parameters as f64 / 1e6,
        report.dtype,
        report.threads,
        s.batch / s.group,
        s.prompt_tokens,
        s.group,
        s.new_tokens,
    )?;
    let c = &report.ceilings;
    writeln!(out, "ceilings measured here: {:.0} GFLOP/s, {:.1} GB/s of memory\n", c.gflops, c.gbytes_per_s)?;
    writeln!(out, "phase        wall (s)   cpu (s)    tokens  tokens/s   of FLOP/s  of bandwidth")?;
    for phase in ORDER {
        let Some(p) = report.phases.get(phase) else { continue };
        let cpu = p.cpu_s.map_or_else(|| "-".into(), |s| format!("{s:.2}"));
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let bandwidth = p.bandwidth_share.map_or_else(String::new, percent);
        let flops = if p.flop_share > 0.0 { percent(p.flop_share) } else { String::new() };
        writeln!(
            out,
            "{phase:<10} {:>10.4} {cpu:>9} {:>9} {:>9.0} {flops:>11} {bandwidth:>13}",
            p.wall_s, p.tokens, p.tokens_per_s
        )?;
    }
    let of_device =
        report.device_memory_mb.map(|mb| format!(", {mb:.0} MiB on the device")).unwrap_or_default();
    writeln!(
        out,
        "\npeak memory {:.0} MiB{of_device}; {:.1} million parameters trained, state of the optimizer {:.0} MiB",
        report.peak_rss_mb,
        report.trained_parameters as f64 / 1e6,
        report.optimizer_mb
    )
}
