//! Keys of `[stage.loss]` as earlier versions wrote them: one flat table in which the name of a key said which kind it
//! belongs to. They are read for one version more.

use toml::{Table, Value};

/// Kinds that are written as tables now, with what their settings were called.
struct Family {
    /// The key of the table.
    key: &'static str,
    /// The key that named the kind.
    old_key: &'static str,
    /// The kind where none was named.
    default: &'static str,
    settings: &'static [Setting],
}

struct Setting {
    /// What it was called.
    old: &'static [&'static str],
    /// What it is called in the table.
    new: &'static str,
    /// The kinds that have it.
    kinds: &'static [&'static str],
    /// Whether it was an error beside another kind, and not ignored.
    strict: bool,
}

const fn setting(
    old: &'static [&'static str],
    new: &'static str,
    kinds: &'static [&'static str],
    strict: bool,
) -> Setting {
    Setting { old, new, kinds, strict }
}

const CLIPS: &[&str] = &["clip", "gspo"];
const MASKS: &[&str] = &["token_mask", "sequence_mask", "geometric_mask"];
const CORRECTIONS: &[&str] =
    &["token_truncate", "token_mask", "sequence_truncate", "sequence_mask", "geometric_mask"];

const FAMILIES: [Family; 3] = [
    Family {
        key: "objective",
        old_key: "policy",
        default: "clip",
        settings: &[
            setting(&["clip_low"], "low", CLIPS, false),
            setting(&["clip_high"], "high", CLIPS, false),
            setting(&["delta"], "delta", CLIPS, true),
            setting(&["dual_clip"], "dual_clip", CLIPS, true),
            // The upper clip stood in for an absent cap.
            setting(&["clip_high"], "cap", &["cispo"], false),
            setting(&["cispo_cap", "cap", "c"], "cap", &["cispo"], false),
            setting(&["sapo_temperature_pos", "tau_pos"], "temperature_pos", &["sapo"], false),
            setting(&["sapo_temperature_neg", "tau_neg"], "temperature_neg", &["sapo"], false),
            setting(&["gmpo_log_clip"], "log_clip", &["gmpo"], false),
            setting(&["dppo_bound", "d"], "bound", &["dppo_tv"], false),
        ],
    },
    Family {
        key: "aggregate",
        old_key: "aggregate",
        default: "token_mean",
        settings: &[setting(
            &["max_tokens", "constant_length", "max_completion_length", "l_max", "L_max"],
            "max_tokens",
            &["constant"],
            false,
        )],
    },
    Family {
        key: "sampler_correction",
        old_key: "sampler_correction",
        default: "none",
        settings: &[
            setting(&["sampler_cap"], "cap", CORRECTIONS, false),
            setting(&["sampler_floor"], "floor", MASKS, false),
        ],
    },
];

/// Old keys in the place of a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldKeys {
    /// The keys that were found, one at least.
    pub old: Vec<String>,
    /// What says the same, as TOML: `objective = { kind = "cispo", cap = 5.0 }`.
    pub new: String,
}

impl std::fmt::Display for OldKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (verb, ends) =
            if self.old.len() == 1 { ("is an old key", "goes") } else { ("are old keys", "go") };
        let names: Vec<String> = self.old.iter().map(|key| format!("`{key}`")).collect();
        write!(f, "{} {verb}, which {ends} with the next version: write {}", names.join(", "), self.new)
    }
}

/// Every old key.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    let old = FAMILIES.iter().flat_map(|family| family.settings.iter().flat_map(|s| s.old.iter().copied()));
    old.chain(["policy"])
}

/// Rewrites old keys in `table`, which has those of `[stage.loss]`. Returns what was rewritten.
///
/// # Errors
/// A message, where a setting is said twice or belongs to another kind. Values are not looked at.
pub(crate) fn rewrite(table: &mut Table) -> Result<Vec<OldKeys>, String> {
    FAMILIES.iter().filter_map(|family| family.rewrite(table).transpose()).collect()
}

impl Family {
    fn rewrite(&self, table: &mut Table) -> Result<Option<OldKeys>, String> {
        let names = self.settings.iter().flat_map(|s| s.old).copied();
        let named = names.chain([self.old_key].into_iter().filter(|_| self.old_key != self.key));
        let mut old: Vec<String> =
            named.filter(|name| table.contains_key(*name)).map(str::to_owned).collect();
        old.sort();
        old.dedup();
        if old.is_empty() {
            return Ok(None);
        }
        let tagged = table.get(self.key).is_some_and(|value| self.old_key != self.key || value.is_table());
        if tagged {
            let (old, key) = (&old[0], self.key);
            return Err(format!(
                "`{old}` says again, under an old name, what `{key}` says: leave `{old}` out"
            ));
        }
        let kind = table.remove(self.old_key).unwrap_or_else(|| self.default.into());
        let mut new = Table::from_iter([("kind".to_owned(), kind.clone())]);
        for setting in self.settings {
            if let Some(value) = setting.take(table)? {
                let belongs = kind.as_str().is_some_and(|kind| setting.kinds.contains(&kind));
                if belongs {
                    new.insert(setting.new.to_owned(), value);
                } else if setting.strict {
                    return Err(format!(
                        "`{}`: only {} have it",
                        setting.old[0],
                        setting.kinds.join(" and ")
                    ));
                }
            }
        }
        for name in self.settings.iter().flat_map(|s| s.old) {
            table.remove(*name);
        }
        let settings: String = new
            .iter()
            .filter(|(key, _)| *key != "kind")
            .map(|(key, value)| format!(", {key} = {value}"))
            .collect();
        let said = match settings.is_empty() {
            true => format!("{} = {kind}", self.key),
            false => format!("{} = {{ kind = {kind}{settings} }}", self.key),
        };
        table.insert(self.key.to_owned(), if new.len() == 1 { kind } else { Value::Table(new) });
        Ok(Some(OldKeys { old, new: said }))
    }
}

impl Setting {
    /// Its value, under whichever name it has.
    fn take(&self, table: &Table) -> Result<Option<Value>, String> {
        let mut values = self.old.iter().filter_map(|name| table.get(*name));
        let value = values.next().cloned();
        match values.next() {
            Some(_) => Err(format!("duplicate field `{}`", self.old[0])),
            None => Ok(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::LossConfig;

    fn parse(text: &str) -> Result<LossConfig, String> {
        toml::from_str(text).map_err(|e: toml::de::Error| e.message().to_owned())
    }

    #[track_caller]
    fn same(old: &str, new: &str) {
        let mut table: Table = old.parse().unwrap();
        let notes = rewrite(&mut table).unwrap();
        assert!(!notes.is_empty(), "{old}");
        assert_eq!(parse(old), parse(new), "{old}");
        assert!(parse(new).is_ok_and(|config| config.validate().is_ok()), "{new}");
        // What the note says to write is the same again, and has no old key.
        let mut written: Table =
            notes.iter().map(|n| format!("{}\n", n.new)).collect::<String>().parse().unwrap();
        assert_eq!(rewrite(&mut written), Ok(vec![]));
        assert_eq!(parse(&toml::to_string(&written).unwrap()), parse(new));
    }

    #[test]
    fn old_keys_mean_what_they_meant() {
        same("policy = \"cispo\"\ncispo_cap = 4.0", "objective = { kind = \"cispo\", cap = 4 }");
        same("policy = \"cispo\"\nclip_high = 4.0", "objective = { kind = \"cispo\", cap = 4 }");
        same("policy = \"cispo\"\nclip_high = 4.0\nc = 3", "objective = { kind = \"cispo\", cap = 3 }");
        same("policy = \"cispo\"", "objective = \"cispo\"");
        same("clip_high = 0.3", "objective = { kind = \"clip\", high = 0.3 }");
        same("policy = \"gspo\"\nclip_low = 1e-3", "objective = { kind = \"gspo\", low = 1e-3 }");
        same("delta = 4\ndual_clip = 3", "objective = { kind = \"clip\", delta = 4, dual_clip = 3 }");
        same(
            "policy = \"sapo\"\ntau_pos = 2\nsapo_temperature_neg = 3",
            "objective = { kind = \"sapo\", tau_pos = 2, temperature_neg = 3 }",
        );
        same("policy = \"gmpo\"\ngmpo_log_clip = 0.5", "objective = { kind = \"gmpo\", log_clip = 0.5 }");
        same("policy = \"dppo_tv\"\nd = 0.1", "objective = { kind = \"dppo_tv\", bound = 0.1 }");
        same("policy = \"topr\"", "objective = \"topr\"");
        same("aggregate = \"constant\"\nL_max = 12", "aggregate = { kind = \"constant\", max_tokens = 12 }");
        same(
            "sampler_correction = \"token_mask\"\nsampler_cap = 3\nsampler_floor = 0.1",
            "sampler_correction = { kind = \"token_mask\", cap = 3, floor = 0.1 }",
        );
        // A recorded config has the settings of every kind; those of others were never looked at.
        same(
            "policy = \"reinforce\"\ncispo_cap = 4\nsapo_temperature_pos = 1.0\ngmpo_log_clip = 0.4\ndppo_bound = 0.2",
            "objective = \"reinforce\"",
        );
        same("sampler_correction = \"none\"\nsampler_cap = 2.0\nsampler_floor = 0.5\nmax_tokens = 64", "");
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for (text, expected) in [
            ("policy = \"clip\"\nobjective = \"clip\"", "`policy` says again"),
            ("clip_low = 0.1\nobjective = { kind = \"clip\", low = 0.1 }", "leave `clip_low` out"),
            ("max_tokens = 4\naggregate = { kind = \"constant\" }", "leave `max_tokens` out"),
            ("sampler_cap = 4\nsampler_correction = { kind = \"token_mask\" }", "leave `sampler_cap` out"),
            ("c = 2\ncap = 3", "duplicate field `cispo_cap`"),
            ("policy = \"topr\"\ndelta = 4", "`delta`: only clip and gspo have it"),
            ("policy = \"ppo\"", "unknown variant `ppo`, expected one of `clip`, `gspo`"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn every_old_key_is_read_and_its_new_one_named() {
        for name in names() {
            let value: Value = if name == "policy" { "clip".into() } else { 1.5.into() };
            let notes = rewrite(&mut Table::from_iter([(name.to_owned(), value)])).unwrap();
            assert_eq!((notes.len(), notes[0].old[0].as_str()), (1, name));
            let said = notes[0].to_string();
            assert!(said.starts_with(&format!("`{name}` is an old key")) && said.contains(" = "), "{said}");
        }
    }
}
