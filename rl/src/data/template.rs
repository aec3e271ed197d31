//! minijinja templates over the fields of a row.

use std::collections::HashSet;

use minijinja::value::ValueKind;
use minijinja::{Environment, ErrorKind, Output, State, UndefinedBehavior, escape_formatter};
use serde_json::{Map, Value};

use super::DataError;
use crate::rows;

/// The templates of one data source, compiled once.
pub(crate) struct Templates {
    name: String,
    env: Environment<'static>,
}

impl Templates {
    /// No templates yet, for `[data.NAME]`.
    pub(crate) fn new(name: &str) -> Self {
        let mut env = Environment::new();
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        env.set_keep_trailing_newline(true);
        env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        env.set_formatter(write_text);
        Self { name: name.to_owned(), env }
    }

    /// Compiles `source` under the name of the config field that holds it.
    pub(crate) fn add(&mut self, field: &str, source: &str) -> Result<(), DataError> {
        let error = |e: minijinja::Error| DataError::Template {
            name: self.name.clone(),
            field: field.to_owned(),
            message: describe(&e),
        };
        self.env.add_template_owned(field.to_owned(), source.to_owned()).map_err(error)
    }

    /// The fields of a row, dotted inside of objects, that the templates `fields` read.
    pub(crate) fn reads(&self, fields: &[String]) -> Vec<String> {
        let templates = fields.iter().filter_map(|field| self.env.get_template(field).ok());
        let mut names: Vec<String> =
            templates.flat_map(|template| template.undeclared_variables(true)).collect();
        names.retain(|name| !self.env.globals().any(|(known, _)| known == name));
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The text that the template `field` makes of `row`.
    pub(crate) fn text(&self, field: &str, row: &TemplateRow) -> Result<String, String> {
        let template = self.env.get_template(field).map_err(|e| describe(&e))?;
        template.render(&row.context).map_err(|e| {
            let named = template.undeclared_variables(true);
            let lacking = self.lacking(&named, template.source(), row, &e);
            format!("{field}: {}", lacking.unwrap_or_else(|| describe(&e)))
        })
    }

    /// The value of the template `field`: the JSON value itself when `source` is a single field, as in
    /// `{{ options }}`, and text otherwise.
    pub(crate) fn value(&self, field: &str, source: &str, row: &TemplateRow) -> Result<Value, String> {
        let Some(path) = single_field(source) else { return self.text(field, row).map(Value::String) };
        let mut names = path.split('.');
        let first = names.next().and_then(|name| row.fields.get(name));
        let found = names.fold(first, |value, name| value.and_then(|v| v.get(name)));
        found.cloned().ok_or_else(|| format!("{field}: {}", rows::missing(&row.fields, path)))
    }

    /// Compiles `source` as an expression and says whether it is true of `row`.
    pub(crate) fn holds(&self, field: &str, source: &str, row: &TemplateRow) -> Result<bool, String> {
        let expression =
            self.env.compile_expression(source).map_err(|e| format!("{field}: {}", describe(&e)))?;
        let named = expression.undeclared_variables(true);
        match expression.eval(&row.context) {
            Ok(value) if value.is_undefined() => {
                let error = minijinja::Error::from(ErrorKind::UndefinedError);
                let unknown = || format!("{source:?} is undefined{}", row.fields_present());
                Err(format!("{field}: {}", self.lacking(&named, source, row, &error).unwrap_or_else(unknown)))
            }
            Ok(value) => Ok(value.is_true()),
            Err(e) => {
                let lacking = self.lacking(&named, source, row, &e);
                Err(format!("{field}: {}", lacking.unwrap_or_else(|| describe(&e))))
            }
        }
    }

    /// The first of the fields `named` in `source` that the row lacks, or that is null, where that is what `error` is about: a
    /// method of what is absent is an unknown method to the engine. The message has the nearest field that is there.
    fn lacking(
        &self,
        named: &HashSet<String>,
        source: &str,
        row: &TemplateRow,
        error: &minijinja::Error,
    ) -> Option<String> {
        let said = error.detail().unwrap_or_default();
        let null = said.contains("none");
        let about = null || said.contains("undefined") || error.kind() == ErrorKind::UndefinedError;
        let global = |name: &str| self.env.globals().any(|(known, _)| known == name);
        let own = |path: &&String| *path != "row" || row.fields.contains_key("row");
        let fields = named.iter().filter(|path| about && !global(path)).filter(own);
        let lacking = fields.filter_map(|path| first_lacking(row, path, null));
        let first = lacking.min_by_key(|path| (source.find(path), *path))?;
        Some(rows::missing(&row.fields, first))
    }
}

/// The beginning of a dotted path that a row lacks (or with `null`, that is null), such as `a` of `a.b`; none where it has
/// all, or where the rest follows text or a number and so is a method.
fn first_lacking<'a>(row: &TemplateRow, path: &'a str, null: bool) -> Option<&'a str> {
    let ends = path.match_indices('.').map(|(at, _)| at).chain([path.len()]);
    for prefix in ends.map(|end| &path[..end]) {
        match rows::field(&row.fields, prefix) {
            Some(Value::Object(_)) => {}
            Some(Value::Null) => return null.then_some(prefix),
            Some(_) => return None,
            None => return (!null).then_some(prefix),
        }
    }
    None
}

/// A row as JSON and as the context of templates.
pub(crate) struct TemplateRow {
    pub(crate) fields: Map<String, Value>,
    context: minijinja::Value,
}

impl TemplateRow {
    pub(crate) fn new(fields: Map<String, Value>) -> Self {
        let context = minijinja::Value::from_serialize(&fields);
        Self { fields, context }
    }

    /// The same with `row`, the row as it is, for fields whose names are no names: `row['Choice A']`.
    pub(crate) fn with_itself(fields: Map<String, Value>) -> Self {
        let mut shown = fields.clone();
        if !shown.contains_key("row") {
            shown.insert("row".into(), Value::Object(fields.clone()));
        }
        Self { context: minijinja::Value::from_serialize(&shown), fields }
    }

    fn fields_present(&self) -> String {
        format!(" (it has: {})", rows::names(self.fields.keys().map(String::as_str)))
    }
}

/// The dotted path of a template that is nothing but `{{ path }}`.
pub(crate) fn single_field(source: &str) -> Option<&str> {
    let path = source.trim().strip_prefix("{{")?.strip_suffix("}}")?.trim();
    let name = |part: &str| {
        part.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_alphanumeric() || c == '_')
    };
    path.split('.').all(name).then_some(path)
}

/// Writes a value into a text, unless it would only stand there as its JSON or as `none`: what a row says and a prompt
/// cannot show is an error.
fn write_text(out: &mut Output, state: &State, value: &minijinja::Value) -> Result<(), minijinja::Error> {
    let is_table = |value: &minijinja::Value| value.kind() == ValueKind::Map;
    let refused = if value.is_none() {
        "none has no text"
    } else if is_table(value)
        || (value.kind() == ValueKind::Seq && value.try_iter()?.any(|item| is_table(&item)))
    {
        "a table or a list of tables is written into the text (a prompt that is the field alone, `{{ field }}`, may be a \
         conversation; `| tojson` writes JSON)"
    } else {
        return escape_formatter(out, state, value);
    };
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, refused))
}

/// The engine's message without its file name, which would be ours.
fn describe(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row() -> TemplateRow {
        let Value::Object(fields) = json!({
            "question": "2+2?", "answer": "two and two\n#### 4", "options": ["a", "b"], "n": 3, "deep": {"x": [1]},
            "nothing": null
        }) else {
            unreachable!()
        };
        TemplateRow::new(fields)
    }

    fn check(source: &str, expected: Result<Value, &str>) {
        let mut templates = Templates::new("d");
        templates.add("f", source).unwrap();
        let got = templates.value("f", source, &row());
        match expected {
            Ok(value) => assert_eq!(got, Ok(value), "{source}"),
            Err(part) => assert!(got.as_ref().unwrap_err().contains(part), "{source}: {got:?}"),
        }
    }

    #[test]
    fn templates_and_single_fields() {
        check("{{ answer.split('####')[-1] | trim }}", Ok(json!("4")));
        check("{{ answer.split('####')[-1].strip() }}", Ok(json!("4")));
        check("Q: {{ question }}\n", Ok(json!("Q: 2+2?\n")));
        check("{% for o in options %}{{ loop.index }}{{ o }} {% endfor %}", Ok(json!("1a 2b ")));
        check("{{ options }}", Ok(json!(["a", "b"])));
        check("{{n}}", Ok(json!(3)));
        check("{{ deep.x }}", Ok(json!([1])));
        check("{{ n }}.", Ok(json!("3.")));
        check("ABCDE", Ok(json!("ABCDE")));
    }

    #[test]
    fn missing_fields_are_named_with_those_present() {
        let present = "(it has: question, answer, options, n, deep, deep.x, nothing)";
        let answer = format!("no field `anwser`, did you mean `answer`? {present}");
        check("{{ anwser }}", Err(&answer));
        check("{{ anwser | trim }}!", Err(&answer));
        check("{{ deep.y }}", Err("no field `deep.y`, did you mean `deep.x`?"));
        check("{{ answer.split('####')[7] | trim }}", Err("undefined value"));
        check("{{ answer.nope() }}", Err("nope"));
        // What the engine calls an unknown method or an invalid operation.
        check("{{ anwser.strip() }}", Err(&answer));
        check("{% if n %}{{ anwser.split('####')[-1].strip() }}{% endif %}", Err(&answer));
        check("{{ n + m }}", Err("no field `m`"));
        check("{{ deep.y.strip() }}", Err("no field `deep.y`"));
    }

    #[test]
    fn null_is_no_text_and_is_named() {
        check("{{ nothing }}", Ok(Value::Null));
        check("{{ nothing }}.", Err("f: `nothing` is null"));
        check("{{ nothing.strip() }}", Err("f: `nothing` is null"));
        check("{{ nothing + 1 }}", Err("f: `nothing` is null"));
        check("{% if nothing %}{{ nothing }}{% endif %}{{ nothing or 'x' }}", Ok(json!("x")));
        check("{% if nothing %}{% endif %}{{ anwser.strip() }}", Err("no field `anwser`"));
        let error = Templates::new("d").holds("filter", "nothing + 1 > 3", &row()).unwrap_err();
        assert!(error.contains("`nothing` is null"), "{error}");
    }

    #[test]
    fn null_and_tables_are_no_text() {
        let Value::Object(fields) =
            json!({"q": null, "deep": {"x": null}, "chat": [{"role": "user"}], "l": ["a"]})
        else {
            unreachable!()
        };
        let row = TemplateRow::new(fields);
        let text = |source: &str| {
            let mut templates = Templates::new("d");
            templates.add("f", source).unwrap();
            templates.text("f", &row)
        };
        assert!(text("Q: {{ q }}").unwrap_err().contains("f: `q` is null"));
        assert!(text("Q: {{ deep.x }}").unwrap_err().contains("f: `deep.x` is null"));
        assert!(text("{{ chat }} Think.").unwrap_err().contains("a list of tables"));
        assert!(text("{{ deep }}.").unwrap_err().contains("a table"));
        assert_eq!(
            text("{{ q or 'none' }} {{ l }} {{ l | join(',') }} {{ chat | tojson }}").unwrap(),
            "none [\"a\"] a [{\"role\":\"user\"}]"
        );
        assert!(text("{{ nope }}").unwrap_err().contains("no field `nope`"));
    }

    #[test]
    fn a_broken_template_is_reported_when_it_is_added() {
        let error = Templates::new("d").add("prompt", "{{ a ").unwrap_err().to_string();
        assert!(error.starts_with("[data.d] prompt: "), "{error}");
    }

    #[test]
    fn filters() {
        let templates = Templates::new("d");
        assert_eq!(templates.holds("filter", "n == 3 and 'a' in options", &row()), Ok(true));
        assert_eq!(templates.holds("filter", "n > 3", &row()), Ok(false));
        let refused = |source: &str, part: &str| {
            let error = templates.holds("filter", source, &row()).unwrap_err();
            assert!(error.starts_with("filter: ") && error.contains(part), "{source}: {error}");
        };
        refused(
            "m > 3",
            "the row has no field `m` (it has: question, answer, options, n, deep, deep.x, nothing)",
        );
        refused("n == 3 and qestion == 'x'", "no field `qestion`, did you mean `question`?");
        refused("deep.z[0] > 1 or deep.zz", "no field `deep.z`, did you mean `deep.x`?");
        refused("quest.startswith('2')", "no field `quest`, did you mean `question`?");
        refused("m", "no field `m`");
        refused("answer.nope()", "nope");
        assert_eq!(templates.holds("filter", "m is undefined", &row()), Ok(true));
        assert!(templates.holds("filter", "n >", &row()).is_err());
    }
}
