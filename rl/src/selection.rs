//! Which parameters a run trains and which of them have settings of their own, by patterns over Hugging Face names.
use crate::checks::Problem;
use crate::config::{OptimGroup, PolicyConfig, RunConfig, nearest};
use crate::error::Error;
use rlvr_policies::decoder::Compute;
use rlvr_policies::{Decoder, ParamPattern};
use std::collections::BTreeSet;

/// Settings that only the policy can show to be wrong.
fn wrong(field: impl Into<String>, message: impl Into<String>) -> Problem {
    Problem { field: field.into(), message: message.into() }
}

impl From<Problem> for Error {
    fn from(Problem { field, message }: Problem) -> Self {
        Self::Setting { field, message }
    }
}

/// Tensors of a decoder that patterns may name, by parameter and part of it.
struct Names<'a> {
    decoder: &'a Decoder,
    parts: Vec<(usize, usize)>,
}

impl<'a> Names<'a> {
    /// Those for which `counts` says so.
    fn of(decoder: &'a Decoder, mut counts: impl FnMut(usize, usize) -> bool) -> Self {
        let specs = decoder.layout().specs.iter().enumerate();
        let all = specs.flat_map(|(i, spec)| (0..spec.parts().len()).map(move |part| (i, part)));
        Self { decoder, parts: all.filter(|(i, part)| counts(*i, *part)).collect() }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().flat_map(|(i, part)| self.decoder.names_of(*i, *part))
    }

    /// The tensors that one of the patterns names, each of which names at least one.
    fn matched(&self, field: &str, patterns: &[String]) -> Result<BTreeSet<(usize, usize)>, Problem> {
        let mut found = BTreeSet::new();
        for (i, text) in patterns.iter().enumerate() {
            let at = || if patterns.len() > 1 { format!("{field}.{i}") } else { field.to_owned() };
            let pattern = ParamPattern::new(text).map_err(|e| wrong(at(), e.to_string()))?;
            let is_named = |(i, part): &&(usize, usize)| {
                self.decoder.names_of(*i, *part).any(|name| pattern.matches(name))
            };
            let named: Vec<(usize, usize)> = self.parts.iter().filter(is_named).copied().collect();
            if named.is_empty() {
                return Err(wrong(at(), self.unknown(text)));
            }
            found.extend(named);
        }
        Ok(found)
    }

    /// What is said of a pattern that names nothing.
    fn unknown(&self, pattern: &str) -> String {
        let plain = pattern.replace('\\', "");
        let last = plain.rsplit('.').find(|part| !matches!(*part, "weight" | "bias")).unwrap_or(&plain);
        let is_number = |part: &&str| part.bytes().all(|b| b.is_ascii_digit());
        let parts: BTreeSet<&str> = self.names().flat_map(|name| name.split('.')).collect();
        let modules: Vec<&str> = parts.iter().copied().filter(|part| !is_number(part)).collect();
        let near = nearest(&plain, self.names()).or_else(|| nearest(last, modules.iter().copied()));
        let meant = near.map_or(String::new(), |near| format!(", did you mean `{near}`?"));
        let blocks = self.decoder.layout().model.blocks.len().saturating_sub(1);
        format!(
            "`{pattern}` names no parameter{meant} (there are {}; layers 0 to {blocks}; a pattern is a regular expression \
             over whole parts of a name such as {})",
            modules.join(", "),
            self.names().nth(1).or_else(|| self.names().next()).unwrap_or_default(),
        )
    }
}

/// Tensors, by parameter and part.
type Tensors = BTreeSet<(usize, usize)>;

/// What patterns leave to train, `at` is their table. None where they say nothing.
fn trained(
    names: &Names<'_>,
    at: &str,
    (trainable, frozen): (Option<&[String]>, &[String]),
) -> Result<Option<Tensors>, Problem> {
    let key = match (trainable, frozen.is_empty()) {
        (None, true) => return Ok(None),
        (Some(_), _) => format!("{at}.trainable"),
        (None, false) => format!("{at}.frozen"),
    };
    if names.decoder.compute() != Compute::Host {
        let what = "parts of a policy are trained on the CPU only so far: set device = \"cpu\"";
        return Err(wrong(key, what));
    }
    let mut trained = match trainable {
        Some(patterns) => names.matched(&format!("{at}.trainable"), patterns)?,
        None => names.parts.iter().copied().collect(),
    };
    for tensor in names.matched(&format!("{at}.frozen"), frozen)? {
        trained.remove(&tensor);
    }
    if trained.is_empty() {
        return Err(wrong(key, "leaves nothing to train"));
    }
    Ok(Some(trained))
}

/// What `[policy]` leaves to train; none where it says nothing.
fn of_policy(decoder: &Decoder, config: &PolicyConfig) -> Result<Option<Tensors>, Problem> {
    // The base of an adapter stays as it is anyway.
    let first = decoder.lora().map_or(0, |_| decoder.base_params());
    let names = Names::of(decoder, |i, _| i >= first);
    trained(&names, "policy", (config.trainable.as_deref(), &config.frozen))
}

/// The decoder of which training changes what `[policy]` says.
///
/// # Errors
/// A pattern that names nothing, by its key; nothing left to train; a device other than the CPU.
pub(crate) fn apply(decoder: Decoder, config: &PolicyConfig) -> Result<Decoder, Error> {
    Ok(match of_policy(&decoder, config)? {
        Some(trained) => decoder.with_trained(|i, part| trained.contains(&(i, part))),
        None => decoder,
    })
}

/// The decoder of which a stage changes what it says, of what `[policy]` says.
///
/// # Errors
/// As [`apply`], by keys of the stage.
pub(crate) fn for_stage(decoder: &Decoder, config: &RunConfig, index: usize) -> Result<Decoder, Error> {
    // Another stage may have trained less.
    let first = decoder.lora().map_or(0, |_| decoder.base_params());
    let whole = of_policy(decoder, &config.policy)?;
    let is_whole = |i: usize, part: usize| match &whole {
        Some(trained) => trained.contains(&(i, part)),
        None => i >= first,
    };
    let parts = config.stage[index].parts();
    let own = trained(&Names::of(decoder, is_whole), &format!("stage.{index}"), parts)?;
    let now = decoder.trained_parts();
    let is_now = |i: usize, part: usize| now.spans(i).iter().any(|span| span.part == part);
    let wanted = |i: usize, part: usize| match &own {
        Some(trained) => trained.contains(&(i, part)),
        None => is_whole(i, part),
    };
    let all = Names::of(decoder, |_, _| true).parts;
    Ok(match all.iter().all(|(i, part)| is_now(*i, *part) == wanted(*i, *part)) {
        true => decoder.clone(),
        false => decoder.clone().with_trained(wanted),
    })
}

/// For every parameter and each part of it that is trained, in order, the group that it belongs to: none, or the first that
/// names it.
///
/// # Errors
/// A pattern that names nothing that is trained, a group whose parameters all belong to earlier ones, by a key below the
/// table of the optimizer.
pub(crate) fn groups(decoder: &Decoder, groups: &[OptimGroup]) -> Result<Vec<Vec<Option<usize>>>, Problem> {
    let trained = decoder.trained_parts();
    let count = decoder.layout().specs.len();
    let mut assigned: Vec<Vec<Option<usize>>> =
        (0..count).map(|i| vec![None; trained.spans(i).len()]).collect();
    let place = |i: usize, part: usize| trained.spans(i).iter().position(|span| span.part == part);
    let names = Names::of(decoder, |i, part| place(i, part).is_some());
    for (group, settings) in groups.iter().enumerate() {
        let field = format!("groups.{group}.params");
        let mut any = false;
        for (i, part) in names.matched(&field, &settings.params)? {
            let slot = place(i, part).map(|at| &mut assigned[i][at]);
            if let Some(slot) = slot.filter(|slot| slot.is_none()) {
                *slot = Some(group);
                any = true;
            }
        }
        if !any {
            return Err(wrong(field, "names only parameters of groups before it: the first one counts"));
        }
    }
    Ok(assigned)
}

/// What is said of a policy of which only a part is trained; `parts` are the patterns that say so.
pub(crate) fn note(decoder: &Decoder, parts: (Option<&[String]>, &[String])) -> Option<String> {
    if parts.0.is_none() && parts.1.is_empty() {
        return None;
    }
    let trained = decoder.trained_parts();
    let (parts, all) = (trained.elements(), decoder.num_params());
    let blocks = decoder.layout().model.blocks.len();
    let depth = trained.depth().first_block.min(blocks);
    Some(format!(
        "trains {parts} of {all} parameters; the backward goes through {} of {blocks} blocks",
        blocks - depth
    ))
}
