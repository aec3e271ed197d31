//! minijinja templates over the fields of a row.

use minijinja::value::ValueKind;
use minijinja::{Environment, ErrorKind, Expression, Output, State, UndefinedBehavior, escape_formatter};
use serde_json::{Map, Value};

use super::DataError;
use crate::curate::row;

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

    /// The text that the template `field` makes of `row`.
    pub(crate) fn text(&self, field: &str, row: &Row) -> Result<String, String> {
        let template = self.env.get_template(field).map_err(|e| describe(&e))?;
        template.render(&row.context).map_err(|e| {
            let mut message = format!("{field}: {}", describe(&e));
            if e.kind() == ErrorKind::UndefinedError {
                let used = template.undeclared_variables(false);
                let mut missing: Vec<&String> =
                    used.iter().filter(|f| !row.fields.contains_key(*f)).collect();
                missing.sort();
                if let Some(first) = missing.first() {
                    message = format!("{field}: the row has no field `{first}`{}", row.fields_present());
                }
            } else if e.kind() == ErrorKind::InvalidOperation {
                let used = template.undeclared_variables(true);
                let mut null: Vec<_> =
                    used.iter().filter(|f| row::field(&row.fields, f).is_some_and(Value::is_null)).collect();
                null.sort();
                if let Some(first) = null.first() {
                    message = format!("{field}: the field `{first}` of the row is null");
                }
            }
            message
        })
    }

    /// The value of the template `field`: the JSON value itself when `source` is a single field, as in
    /// `{{ options }}`, and text otherwise.
    pub(crate) fn value(&self, field: &str, source: &str, row: &Row) -> Result<Value, String> {
        let Some(path) = single_field(source) else { return self.text(field, row).map(Value::String) };
        let mut names = path.split('.');
        let first = names.next().and_then(|name| row.fields.get(name));
        let found = names.fold(first, |value, name| value.and_then(|v| v.get(name)));
        found
            .cloned()
            .ok_or_else(|| format!("{field}: the row has no field `{path}`{}", row.fields_present()))
    }

    /// Compiles `source` as an expression and says whether it is true of `row`.
    pub(crate) fn holds(&self, field: &str, source: &str, row: &Row) -> Result<bool, String> {
        let expression =
            self.env.compile_expression(source).map_err(|e| format!("{field}: {}", describe(&e)))?;
        let absent = || self.absent(&expression, source, row);
        match expression.eval(&row.context) {
            Ok(value) if value.is_undefined() => {
                let unknown = || format!("{source:?} is undefined{}", row.fields_present());
                Err(format!("{field}: {}", absent().unwrap_or_else(unknown)))
            }
            Ok(value) => Ok(value.is_true()),
            Err(e) => {
                // A method of what is absent is an unknown method.
                let undefined = matches!(e.kind(), ErrorKind::UndefinedError | ErrorKind::UnknownMethod);
                let named = undefined.then(absent).flatten();
                Err(format!("{field}: {}", named.unwrap_or_else(|| describe(&e))))
            }
        }
    }

    /// The first field of an expression that the row lacks, with the nearest one it has; none if it has all of them.
    fn absent(&self, expression: &Expression, source: &str, row: &Row) -> Option<String> {
        let global = |name: &str| self.env.globals().any(|(known, _)| known == name);
        let named = expression.undeclared_variables(true);
        let absent = named.iter().filter(|path| !global(path)).filter_map(|path| first_absent(row, path));
        let first = absent.min_by_key(|path| (source.find(path), *path))?;
        Some(row::missing(&row.fields, first))
    }
}

/// The beginning of a dotted path that a row lacks, such as `a` of `a.b`; none where it has all, or where the rest follows
/// text or a number and so is a method.
fn first_absent<'a>(row: &Row, path: &'a str) -> Option<&'a str> {
    let ends = path.match_indices('.').map(|(at, _)| at).chain([path.len()]);
    for prefix in ends.map(|end| &path[..end]) {
        match row::field(&row.fields, prefix) {
            None => return Some(prefix),
            Some(Value::Object(_)) => {}
            Some(_) => return None,
        }
    }
    None
}

/// A row as JSON and as the context of templates.
pub(crate) struct Row {
    pub(crate) fields: Map<String, Value>,
    context: minijinja::Value,
}

impl Row {
    pub(crate) fn new(fields: Map<String, Value>) -> Self {
        let context = minijinja::Value::from_serialize(&fields);
        Self { fields, context }
    }

    fn fields_present(&self) -> String {
        let names: Vec<&str> = self.fields.keys().map(String::as_str).collect();
        format!(" (it has: {})", names.join(", "))
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
        "null is written into the text"
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

    fn row() -> Row {
        let Value::Object(fields) = json!({
            "question": "2+2?", "answer": "two and two\n#### 4", "options": ["a", "b"], "n": 3, "deep": {"x": [1]}
        }) else {
            unreachable!()
        };
        Row::new(fields)
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
        check("{{ anwser }}", Err("no field `anwser` (it has: question, answer, options, n, deep)"));
        check("{{ anwser | trim }}!", Err("no field `anwser` (it has: question,"));
        check("{{ deep.y }}", Err("no field `deep.y`"));
        check("{{ answer.split('####')[7] | trim }}", Err("undefined value"));
        check("{{ answer.nope() }}", Err("nope"));
    }

    #[test]
    fn null_and_tables_are_no_text() {
        let Value::Object(fields) =
            json!({"q": null, "deep": {"x": null}, "chat": [{"role": "user"}], "l": ["a"]})
        else {
            unreachable!()
        };
        let row = Row::new(fields);
        let text = |source: &str| {
            let mut templates = Templates::new("d");
            templates.add("f", source).unwrap();
            templates.text("f", &row)
        };
        assert_eq!(text("Q: {{ q }}").unwrap_err(), "f: the field `q` of the row is null");
        assert_eq!(text("Q: {{ deep.x }}").unwrap_err(), "f: the field `deep.x` of the row is null");
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
        refused("m > 3", "the row has no field `m` (it has: question, answer, options, n, deep, deep.x)");
        refused("n == 3 and qestion == 'x'", "no field `qestion`, did you mean `question`?");
        refused("deep.z[0] > 1 or deep.zz", "no field `deep.z`, did you mean `deep.x`?");
        refused("quest.startswith('2')", "no field `quest`, did you mean `question`?");
        refused("m", "no field `m`");
        refused("answer.nope()", "nope");
        assert_eq!(templates.holds("filter", "m is undefined", &row()), Ok(true));
        assert!(templates.holds("filter", "n >", &row()).is_err());
    }
}
