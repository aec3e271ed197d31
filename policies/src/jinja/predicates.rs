//! Tests: `value is name`.

use std::cmp::Ordering;

use super::Res;
use super::call::Given;
use super::run::Run;
use super::text::to_text;
use super::value::{SeqKind, Value};

impl Run<'_> {
    /// `value is name(args)`.
    pub(super) fn test(&self, name: &str, value: &Value, args: Given) -> Res<bool> {
        args.read(self)?;
        let one = |args: Given| {
            let [other] = args.bind(name, ["other"])?;
            other.ok_or_else(|| super::Fault::from(format!("the test {name} takes one argument")))
        };
        let order = |args: Given, symbol: &str| value.compare(&one(args)?, symbol, self);
        match name {
            "eq" | "equalto" | "==" => return value.equals(&one(args)?, self),
            "ne" | "!=" => return Ok(!value.equals(&one(args)?, self)?),
            "lt" | "lessthan" | "<" => return Ok(order(args, "<")? == Some(Ordering::Less)),
            "gt" | "greaterthan" | ">" => return Ok(order(args, ">")? == Some(Ordering::Greater)),
            "le" | "<=" => return Ok(order(args, "<=")?.is_some_and(Ordering::is_le)),
            "ge" | ">=" => return Ok(order(args, ">=")?.is_some_and(Ordering::is_ge)),
            "in" => return one(args)?.contains(value, self),
            "sameas" => {
                let other = one(args)?;
                return Ok(value.type_name() == other.type_name() && value.equals(&other, self)?);
            }
            "divisibleby" => {
                return self.remainder(value, &one(args)?)?.equals(&Value::Int(0), self);
            }
            _ => {}
        }
        let [] = args.bind(name, [])?;
        let rest_of_two = || self.remainder(value, &Value::Int(2));
        Ok(match name {
            "defined" => !value.is_undefined(),
            "undefined" => value.is_undefined(),
            "none" => matches!(value, Value::None),
            "boolean" => matches!(value, Value::Bool(_)),
            "true" => matches!(value, Value::Bool(true)),
            "false" => matches!(value, Value::Bool(false)),
            "integer" => matches!(value, Value::Int(_)),
            "float" => matches!(value, Value::Float(_)),
            "number" => value.as_float().is_some(),
            "string" => value.as_str().is_some(),
            "escaped" => matches!(value, Value::Markup(_)),
            "mapping" => matches!(value, Value::Dict(_)),
            "iterable" => match value {
                Value::Undefined(_) | Value::Seq(_) | Value::Dict(_) | Value::Iter(_) | Value::Loop(_) => {
                    true
                }
                other => other.as_str().is_some(),
            },
            "sequence" => match value {
                Value::Undefined(_) | Value::Dict(_) => true,
                Value::Seq(seq) => !matches!(seq.kind, SeqKind::Keys | SeqKind::Values | SeqKind::Items),
                other => other.as_str().is_some(),
            },
            "callable" => {
                matches!(
                    value,
                    Value::Undefined(_)
                        | Value::Macro(_)
                        | Value::Function(_)
                        | Value::Method(_)
                        | Value::Loop(_)
                )
            }
            "odd" => rest_of_two()?.equals(&Value::Int(1), self)?,
            "even" => rest_of_two()?.equals(&Value::Int(0), self)?,
            "lower" | "upper" => {
                let text = to_text(value, self)?;
                let (lower, upper) =
                    (text.chars().any(char::is_lowercase), text.chars().any(char::is_uppercase));
                if name == "lower" { lower && !upper } else { upper && !lower }
            }
            _ => return Err(format!("No test named '{name}'.").into()),
        })
    }
}
