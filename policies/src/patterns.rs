//! Patterns over dotted names: of layers for adapters, of parameters for what is trained and how.
//!
//! They are regular expressions. Those of adapters match the ends of names, as PEFT has it; those of parameters match whole
//! components anywhere, so that the name of a module stands for everything in it.
use crate::error::PolicyError;
use regex::Regex;

/// Largest compiled expression, in bytes.
const MAX_PATTERN: usize = 1 << 20;

/// The expression `pattern` between two others.
///
/// # Errors
/// [`PolicyError::Pattern`] for one that cannot be compiled.
pub(crate) fn compiled(pattern: &str, around: (&str, &str)) -> Result<Regex, PolicyError> {
    let whole = format!("{}{pattern}{}", around.0, around.1);
    regex::RegexBuilder::new(&whole).size_limit(MAX_PATTERN).build().map_err(|e| {
        let text = e.to_string();
        let reason = text.lines().last().unwrap_or_default().to_owned();
        PolicyError::Pattern { pattern: pattern.to_owned(), reason }
    })
}

/// A regular expression for parameters, or for modules and all that is in them: `q_proj`, `layers\.2\d`, `mlp`, `bias`,
/// `model\.norm\.weight`. It matches one component of a Hugging Face name, or several that follow each other, as a whole.
#[derive(Debug, Clone)]
pub struct ParamPattern(Regex);

impl ParamPattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// One that is no regular expression, or too large.
    pub fn new(pattern: &str) -> Result<Self, PolicyError> {
        // Alone, so that no bracket of it closes one of ours.
        compiled(pattern, ("", ""))?;
        Ok(Self(compiled(pattern, (r"^(?:.*\.)?(?:", r")(?:\..*)?$")).map_err(|e| match e {
            PolicyError::Pattern { reason, .. } => {
                PolicyError::Pattern { pattern: pattern.to_owned(), reason }
            }
            other => other,
        })?))
    }

    /// Whether it names a parameter, or a module that the parameter belongs to.
    pub fn matches(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_components() {
        let name = "model.layers.12.self_attn.q_proj.weight";
        for (pattern, yes) in [
            ("q_proj", true),
            ("layers.12", true),
            (r"layers\.1\d", true),
            ("layers.1", false),
            ("proj", false),
            (".*_proj", true),
            ("(q|k)_proj", true),
            ("self_attn.q_proj.weight", true),
            (name, true),
            ("q_proj.bias", false),
            ("weight", true),
            ("model", true),
            (".*", true),
            ("", false),
        ] {
            assert_eq!(ParamPattern::new(pattern).unwrap().matches(name), yes, "{pattern}");
        }
        assert!(!ParamPattern::new("norm").unwrap().matches("model.layers.0.input_layernorm.weight"));
        for bad in ["*", "(", "a)|(b"] {
            let message = ParamPattern::new(bad).unwrap_err().to_string();
            assert!(message.contains(&format!("`{bad}`")), "{message}");
        }
    }
}
