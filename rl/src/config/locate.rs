//! Finds the place in a TOML document that a deserialisation error speaks of.
//!
//! serde's tagged enums forget where a value came from, so the place is found by experiment: a node whose removal
//! changes the error is the one at fault. Documents are small, and this runs only on the way to exit code 2.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

/// A path into a document: keys, and indices written as numbers.
pub(super) type Path = Vec<String>;

/// Nodes that may be visited in the search for the one at fault. Beyond that the file is named without a line.
const VISITS: usize = 1 << 24;

/// The line, from 1, of every node of `text`.
pub(super) fn lines(text: &str) -> BTreeMap<Path, usize> {
    let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect();
    let mut lines = Lines { ends, found: BTreeMap::new() };
    if let Ok(table) = DeTable::parse(text) {
        lines.table(table.get_ref(), &mut Path::new());
    }
    lines.found
}

struct Lines {
    /// Where each line ends.
    ends: Vec<usize>,
    found: BTreeMap<Path, usize>,
}

impl Lines {
    fn note(&mut self, at: &Path, offset: usize) {
        self.found.insert(at.clone(), 1 + self.ends.partition_point(|end| *end < offset));
    }

    fn table(&mut self, table: &DeTable<'_>, at: &mut Path) {
        for (key, value) in table {
            at.push(key.get_ref().to_string());
            self.note(at, key.span().start);
            self.value(value.get_ref(), at);
            at.pop();
        }
    }

    fn value(&mut self, value: &DeValue<'_>, at: &mut Path) {
        match value {
            DeValue::Table(table) => self.table(table, at),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    at.push(index.to_string());
                    self.note(at, item.span().start);
                    self.value(item.get_ref(), at);
                    at.pop();
                }
            }
            _ => {}
        }
    }
}

/// The node of `root` that makes `parse` fail with `message`; `None` when no single node does.
pub(super) fn culprit(root: &Table, message: &str, parse: &dyn Fn(&Table) -> Option<String>) -> Option<Path> {
    let missing = quoted_after(message, "missing field ");
    let unknown = quoted_after(message, "unknown field ");
    let variant = quoted_after(message, "unknown variant ");
    let mut nodes = Vec::new();
    collect(&Value::Table(root.clone()), &mut Path::new(), &mut nodes);
    let suspects: Vec<&Path> = nodes
        .iter()
        .filter(|(path, value)| match (&missing, &unknown, &variant) {
            (Some(_), _, _) => value.is_table(),
            (_, Some(field), _) => path.last() == Some(field),
            (_, _, Some(name)) => value.as_str() == Some(name) || path.last() == Some(name),
            _ => mentioned(message, value),
        })
        .map(|(path, _)| path)
        .collect();
    let changes = |path: &Path| {
        let mut changed = root.clone();
        remove(&mut changed, path);
        let now = parse(&changed);
        // Taking away a good but required field also changes the error; it is not at fault.
        let required = now.as_deref().and_then(|m| quoted_after(m, "missing field ")) == path.last().cloned();
        (now.as_deref() != Some(message), required)
    };
    let most = (VISITS / nodes.len().max(1)).max(1);
    if suspects.len() > most {
        return None;
    }
    let verdicts: Vec<(bool, bool)> = suspects.iter().map(|path| changes(path)).collect();
    let pick = |wanted: &dyn Fn(&(bool, bool)) -> bool| {
        verdicts.iter().position(wanted).map(|index| suspects[index].clone())
    };
    // Fields are read in order: a required one that is read behind the one at fault changes nothing, and one before it does.
    let required = || {
        let changed = || (0..suspects.len()).filter(|i| verdicts[*i].0);
        let holds_another = |i: usize| changed().any(|j| j != i && suspects[j].starts_with(suspects[i]));
        changed().rfind(|i| !holds_another(*i)).map(|i| suspects[i].clone())
    };
    pick(&|v| v.0 && !v.1)
        .or_else(|| if missing.is_some() { None } else { required() })
        .or_else(|| if missing.is_some() { None } else { suspects.first().map(|p| (*p).clone()) })
}

/// Every node below `value`, children before parents, in the order of the document otherwise.
fn collect(value: &Value, at: &mut Path, nodes: &mut Vec<(Path, Value)>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Table(table) => table.iter().map(|(k, v)| (k.clone(), v)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(i, v)| (i.to_string(), v)).collect(),
        _ => Vec::new(),
    };
    for (key, child) in children {
        at.push(key);
        collect(child, at, nodes);
        nodes.push((at.clone(), child.clone()));
        at.pop();
    }
}

fn remove(root: &mut Table, path: &[String]) {
    let Some((last, parents)) = path.split_last() else { return };
    let Some((first, rest)) = parents.split_first() else {
        root.remove(last);
        return;
    };
    let Some(mut at) = root.get_mut(first) else { return };
    for key in rest {
        match child_mut(at, key) {
            Some(child) => at = child,
            None => return,
        }
    }
    match at {
        Value::Table(table) => {
            table.remove(last);
        }
        Value::Array(items) => {
            if let Some(index) = last.parse().ok().filter(|i| *i < items.len()) {
                items.remove(index);
            }
        }
        _ => {}
    }
}

/// The child of `value` at `key`, a key or an index.
pub(super) fn child_mut<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    match value {
        Value::Table(table) => table.get_mut(key),
        Value::Array(items) => key.parse::<usize>().ok().and_then(|index| items.get_mut(index)),
        _ => None,
    }
}

/// Whether serde's message can speak of this value.
fn mentioned(message: &str, value: &Value) -> bool {
    let invalid = message.starts_with("invalid type: ") || message.starts_with("invalid value: ");
    match value {
        Value::String(text) => {
            message.contains(&format!("string {text:?}"))
                || message.contains(&format!("`{text}`"))
                || !invalid
        }
        Value::Integer(number) => message.contains(&format!("integer `{number}`")) || !invalid,
        Value::Float(number) => message.contains(&format!("floating point `{number}")) || !invalid,
        Value::Boolean(flag) => message.contains(&format!("boolean `{flag}`")) || !invalid,
        Value::Array(_) => message.contains("sequence") || message.contains("invalid length") || !invalid,
        Value::Table(_) => message.contains("map") || !invalid,
        Value::Datetime(_) => true,
    }
}

/// The text in backticks after `prefix`, when `message` begins with it.
pub(super) fn quoted_after(message: &str, prefix: &str) -> Option<String> {
    let rest = message.strip_prefix(prefix)?.strip_prefix('`')?;
    Some(rest[..rest.find('`')?].to_owned())
}

/// The names in backticks after "expected" in serde's message.
pub(super) fn expected_names(message: &str) -> Vec<String> {
    let Some(start) = message.find(", expected ") else { return Vec::new() };
    message[start..].split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The candidate nearest to `name`, when one is near enough to be meant.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |c: &str| strsim::damerau_levenshtein(&name.to_lowercase(), &c.to_lowercase());
    let whole = |c: &str| c.starts_with(name) || name.starts_with(c);
    candidates
        .into_iter()
        .map(|candidate| (distance(candidate), candidate))
        .filter(|(d, candidate)| *d <= 1 + name.chars().count() / 3 || (name.len() > 2 && whole(candidate)))
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_typos_and_nothing_far_away() {
        let names = ["clip_low", "clip_high", "kl_coef", "steps"];
        for (typo, meant) in [
            ("clip_hi", Some("clip_high")),
            ("kl_cof", Some("kl_coef")),
            ("stpes", Some("steps")),
            ("Steps", Some("steps")),
        ] {
            assert_eq!(nearest(typo, names), meant, "{typo}");
        }
        assert_eq!(nearest("temperature", names), None);
        assert_eq!(nearest("x", []), None);
    }

    #[test]
    fn lines_of_nested_headers_and_arrays() {
        let text = "a = 1\n[b.c]\nd = [\n 1,\n 2]\n[[s]]\nk = 1\n[s.l]\nx = 2\n[[s]]\nk = 2\n";
        let lines = lines(text);
        let at = |path: &str| lines.get(&path.split('.').map(str::to_owned).collect::<Vec<_>>()).copied();
        for (path, line) in
            [("a", 1), ("b.c", 2), ("b.c.d", 3), ("b.c.d.1", 5), ("s.0.k", 7), ("s.0.l.x", 9), ("s.1.k", 11)]
        {
            assert_eq!(at(path), Some(line), "{path}");
        }
        assert_eq!(at("s.1"), Some(10));
    }

    #[test]
    fn a_document_without_end_is_searched_for_a_while_only() {
        let text = "[[s]]\nk = 1\n".repeat(20_000);
        assert_eq!(lines(&text)[&["s", "19999", "k"].map(str::to_owned).to_vec()], 40_000);
        let table: Table = text.parse().unwrap();
        let tries = std::cell::Cell::new(0);
        let parse = |_: &Table| {
            tries.set(tries.get() + 1);
            Some("missing field `x`".to_owned())
        };
        assert_eq!((culprit(&table, "missing field `x`", &parse), tries.get()), (None, 0));
    }

    #[test]
    fn messages_are_taken_apart() {
        let message = "unknown field `x`, expected one of `a`, `b`";
        assert_eq!(quoted_after(message, "unknown field ").as_deref(), Some("x"));
        assert_eq!(expected_names(message), ["a", "b"]);
        assert_eq!(expected_names("missing field `x`"), Vec::<String>::new());
    }
}
