//! Which modules a setting names, by PEFT's rules.
use super::{LoraSettings, lora_error};
use crate::error::PolicyError;
use crate::patterns;
use regex::Regex;

/// Modules by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// Every linear layer but the head.
    AllLinear,
    /// Those whose full name, or the end of it behind a dot, is one of these.
    Names(Vec<String>),
    /// Those whose whole full name a regular expression matches.
    Pattern(String),
}

/// An expression as part of the settings of an adapter.
fn compiled(pattern: &str, around: (&str, &str)) -> Result<Regex, PolicyError> {
    patterns::compiled(pattern, around).map_err(|e| lora_error(e.to_string()))
}

/// A pattern over the end of a module's name, as in `rank_pattern`.
pub(super) fn ending(pattern: &str) -> Result<Regex, PolicyError> {
    compiled(pattern, (r"^(?:.*\.)?(?:", ")$"))
}

/// The value of the first pattern that matches.
pub(super) fn first_match<T: Copy>(patterns: &[(String, T)], module: &str) -> Result<Option<T>, PolicyError> {
    for (pattern, value) in patterns {
        if ending(pattern)?.is_match(module) {
            return Ok(Some(*value));
        }
    }
    Ok(None)
}

impl Targets {
    /// Whether a linear layer is among them.
    fn have(&self, module: &str) -> Result<bool, PolicyError> {
        Ok(match self {
            Self::AllLinear => true,
            Self::Names(names) => names.iter().any(|name| is_named(module, name)),
            Self::Pattern(pattern) => compiled(pattern, ("^(?:", ")$"))?.is_match(module),
        })
    }
}

/// Whether a module has this name, or this end of a name.
pub(super) fn is_named(module: &str, name: &str) -> bool {
    module.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

impl LoraSettings {
    /// Whether a linear layer has an adapter.
    ///
    /// # Errors
    /// A pattern that is no regular expression here.
    pub(super) fn adapts(&self, module: &str) -> Result<bool, PolicyError> {
        if let Some(exclude) = &self.exclude
            && exclude.have(module)?
        {
            return Ok(false);
        }
        if !self.targets.have(module)? {
            return Ok(false);
        }
        // A full name and a pattern count whatever the layer.
        let full = |names: &[String]| names.iter().any(|name| name == module);
        match (&self.layers, &self.targets) {
            (None, _) | (_, Targets::Pattern(_)) => Ok(true),
            (_, Targets::Names(names)) if full(names) => Ok(true),
            (Some(layers), _) => Ok(self.layer_of(module)?.is_some_and(|layer| layers.contains(&layer))),
        }
    }

    /// The number of the block that a module belongs to.
    fn layer_of(&self, module: &str) -> Result<Option<usize>, PolicyError> {
        let any = [String::from(r"[^.]*")];
        let before = if self.layers_pattern.is_empty() { &any[..] } else { &self.layers_pattern };
        for pattern in before {
            let number = compiled(pattern, (r"^.*\.(?:", r")\.(\d+)\."))?;
            if let Some(found) = number.captures(module) {
                return Ok(found.get(1).and_then(|digits| digits.as_str().parse().ok()));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const Q1: &str = "model.layers.1.self_attn.q_proj";
    const DOWN12: &str = "model.layers.12.mlp.down_proj";

    fn settings(targets: Targets) -> LoraSettings {
        LoraSettings { targets, ..LoraSettings::default() }
    }

    #[test]
    fn names_match_at_dots_and_patterns_as_a_whole() {
        let names = |names: &[&str]| settings(Targets::Names(names.iter().map(|n| (*n).into()).collect()));
        assert!(names(&["q_proj"]).adapts(Q1).unwrap());
        assert!(names(&["self_attn.q_proj"]).adapts(Q1).unwrap());
        assert!(names(&[Q1]).adapts(Q1).unwrap());
        assert!(!names(&["_proj"]).adapts(Q1).unwrap());
        let pattern = |p: &str| settings(Targets::Pattern(p.into()));
        assert!(pattern(r".*\.(q|v)_proj").adapts(Q1).unwrap());
        assert!(!pattern("q_proj").adapts(Q1).unwrap());
        assert!(pattern("(").adapts(Q1).unwrap_err().to_string().contains("`(`"));
    }

    #[test]
    fn layers_and_exclusions_leave_modules_out() {
        let mut s = settings(Targets::AllLinear);
        s.layers = Some(vec![12]);
        assert!(!s.adapts(Q1).unwrap() && s.adapts(DOWN12).unwrap());
        s.layers_pattern = vec!["h".into()];
        assert!(!s.adapts(DOWN12).unwrap());
        s.layers_pattern = vec!["layers".into()];
        assert!(s.adapts(DOWN12).unwrap());
        s.exclude = Some(Targets::Names(vec!["down_proj".into()]));
        assert!(!s.adapts(DOWN12).unwrap());
        // A full name counts in every layer, as in PEFT.
        let full = LoraSettings { layers: Some(vec![0]), ..settings(Targets::Names(vec![Q1.into()])) };
        assert!(full.adapts(Q1).unwrap());
    }

    #[test]
    fn the_first_pattern_that_matches_the_end_of_a_name_counts() {
        let s = LoraSettings {
            rank: 4,
            alpha: 8.0,
            rank_pattern: vec![(r"layers\.1\.self_attn\.q_proj".into(), 6), ("q_proj".into(), 2)],
            alpha_pattern: vec![("down_proj".into(), 12.0)],
            ..LoraSettings::default()
        };
        assert_eq!(s.of(Q1).unwrap(), (6, (8.0 / 6.0) as f32));
        assert_eq!(s.of("model.layers.11.self_attn.q_proj").unwrap(), (2, 4.0));
        assert_eq!(s.of(DOWN12).unwrap(), (4, 3.0));
        let s = LoraSettings { rslora: true, ..s };
        assert_eq!(s.of(DOWN12).unwrap(), (4, 6.0));
    }
}
