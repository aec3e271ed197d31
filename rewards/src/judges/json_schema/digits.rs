//! Numbers of a schema that have more digits than 64 bits hold: rows of data keep those as text, which no bound may be.

use serde_json::{Value, json};

/// Keywords whose value is a number.
const BOUNDS: [&str; 5] = ["maximum", "minimum", "exclusiveMaximum", "exclusiveMinimum", "multipleOf"];
/// Digits that every number of 64 bits keeps: with no more, a text was one before.
const SAFE: usize = 15;

/// Puts numbers in the place of such texts where a number is needed, and beside them where a value is compared.
pub(super) fn restore(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(restore),
        Value::Object(members) => {
            for (name, member) in members.iter_mut() {
                match (name.as_str(), &mut *member) {
                    (bound, Value::String(text)) if BOUNDS.contains(&bound) => {
                        if let Some(number) = number(text) {
                            *member = number;
                        }
                    }
                    ("enum", Value::Array(values)) => {
                        let numbers: Vec<Value> =
                            values.iter().filter_map(|value| number(value.as_str()?)).collect();
                        values.extend(numbers);
                    }
                    _ => restore(member),
                }
            }
            let text = members.get("const").and_then(Value::as_str);
            if let Some((text, number)) = text.and_then(|text| Some((text.to_owned(), number(text)?)))
                && !members.contains_key("enum")
            {
                members.remove("const");
                members.insert("enum".into(), json!([text, number]));
            }
        }
        _ => {}
    }
}

fn number(text: &str) -> Option<Value> {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    if digits <= SAFE {
        return None;
    }
    serde_json::from_str::<serde_json::Number>(text).ok().map(Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_many_digits_are_numbers_again() {
        let long = "123456789012345678901234";
        let mut schema = json!({"maximum": long, "properties": {"const": {"const": long}, "b": {"enum": ["x", long]}},
            "const": "15", "pattern": long, "allOf": [{"minimum": "0.12345678901234567890"}]});
        restore(&mut schema);
        let [number, fraction]: [Value; 2] =
            [long, "0.12345678901234567890"].map(|text| serde_json::from_str(text).unwrap());
        assert_eq!(
            schema,
            json!({"maximum": number, "properties": {"const": {"enum": [long, number]}, "b": {"enum": ["x", long, number]}},
                "const": "15", "pattern": long, "allOf": [{"minimum": fraction}]})
        );
    }
}
