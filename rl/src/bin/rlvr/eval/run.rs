//! `rlvr eval run`: generates for benchmarks, or ranks their options, and judges.

use super::bounds::Bounds;
use super::judges;
use crate::args::eval::{EvalRunArgs, Mode};
use crate::engine;
use crate::input::bad;
use crate::output::{count, say};
use crate::policy;
use crate::signals;
use crate::tasks;
use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use rlvr::eval::contamination::{Contamination, contamination};
use rlvr::eval::{Benchmark, ImageArm};
use rlvr::measure::{self, Event, Measurement, Plan};
use rlvr::results;

pub fn run(args: &EvalRunArgs) -> Result<()> {
    let mut plan = plan(args);
    plan.check()?;
    super::check_out(&args.out)?;
    results::check_foreign(&args.out, args.force)?;
    let benchmarks = tasks::open(&args.tasks, args.likelihood_of.map(Into::into))?;
    let called = each_arm(args, &benchmarks, &|benchmark, arm| benchmark.called(arm, args.images_seed))?;
    let named: Vec<_> = called.iter().map(|b| (b, plan.names(b))).collect();
    let bounds = Bounds::open(&args.bounds, &named)?;
    let found = contaminations(args, &called)?;
    let policy = policy::open(&args.policy, args.raw)?;
    let asked = |benchmark: &Benchmark, arm| benchmark.with_images(arm, args.images_seed, &policy);
    let mut benchmarks = each_arm(args, &benchmarks, &asked)?;
    plan.engine = engine::open(&args.engine)?;
    plan.engine_name = engine::name(&args.engine);
    let judge = judges::open(&args.judge, &args.out)?;
    let mut bar = ProgressBar::hidden();
    let style = ProgressStyle::with_template("{prefix} {bar:24} {pos}/{len} items")?;
    let mut watch = |event: Event<'_>| show(&event, &mut bar, &style);
    let mut run = Measurement::open(&plan, &policy, &mut benchmarks, judge, &args.out, &mut watch)?;
    let stop = signals::stop_on_signal("the items at work (up to 64)")?;
    let results = run.finish(&found, &stop, &mut watch).inspect_err(|e| {
        if matches!(e, rlvr::Error::Interrupted) {
            say!("interrupted, whole items are written; go on with: {}", signals::command_to_go_on(None));
        }
    })?;
    super::print(&results, &args.out)?;
    bounds.check(&results, &args.out)
}

/// What becomes of each benchmark with each of the pictures that are asked for.
fn each_arm(
    args: &EvalRunArgs,
    benchmarks: &[Benchmark],
    make: &dyn Fn(&Benchmark, ImageArm) -> Result<Benchmark, rlvr::Error>,
) -> Result<Vec<Benchmark>> {
    let twice = args.images.iter().enumerate().find(|(i, images)| args.images[..*i].contains(images));
    if let Some((_, images)) = twice {
        return Err(bad(format!("--images names {} twice", ImageArm::from(*images).name())));
    }
    let arms = || args.images.iter().map(|images| ImageArm::from(*images));
    let each = benchmarks.iter().flat_map(|benchmark| arms().map(move |arm| make(benchmark, arm)));
    Ok(each.collect::<Result<_, _>>()?)
}

fn plan(args: &EvalRunArgs) -> Plan {
    Plan {
        dtype: args.policy.dtype,
        mode: match args.mode {
            Mode::Generate => measure::Mode::Generate,
            Mode::Likelihood => measure::Mode::Likelihood,
            Mode::Both => measure::Mode::Both,
        },
        samples: args.samples,
        temperature: args.temperature,
        max_tokens: args.max_tokens,
        stop: args.stop.clone(),
        seed: args.seed,
        force: args.force,
        ..Plan::new(&args.policy.policy, args.tasks.settings(None))
    }
}

/// The items of each benchmark that occur in training data: known before anything is answered.
fn contaminations(args: &EvalRunArgs, benchmarks: &[Benchmark]) -> Result<Vec<Option<Contamination>>> {
    let found = |benchmark: &Benchmark| {
        let found = args.contamination.as_ref().map(|file| contamination(benchmark, file));
        found.transpose().map_err(|e| rlvr::Error::from(e).into())
    };
    benchmarks.iter().map(found).collect()
}

fn show(event: &Event<'_>, bar: &mut ProgressBar, style: &ProgressStyle) {
    match *event {
        Event::Cut { benchmark, prompts: (cut, of), max_tokens, context } => say!(
            "note: {benchmark}: {cut} of {of} prompts and {max_tokens} tokens exceed the policy's context of {context}; \
             completions are cut there"
        ),
        Event::GoesOn(done, of) => say!("going on after {done} of {of} chunks"),
        Event::AsksAgain(completions) => {
            say!("asking the judge again about {}", count(completions, "completion"));
        }
        Event::Begins(name, before, of) => {
            *bar = ProgressBar::new(of as u64).with_style(style.clone());
            bar.set_prefix(name.to_owned());
            bar.set_position(before as u64);
            bar.tick();
        }
        Event::Written => bar.finish_and_clear(),
    }
}
