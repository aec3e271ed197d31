//! Python's values as JSON's, and back.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use serde_json::{Map, Number, Value};

/// How deep values may be nested.
const MAX_DEPTH: usize = 64;

/// A Python value as JSON; the error says what has no place there. NaN, which data frames have for what is missing,
/// becomes null; a whole number that no 64 bits hold becomes its digits.
pub fn to_json(value: &Bound<'_, PyAny>) -> Result<Value, String> {
    nested(value, 0)
}

fn nested(value: &Bound<'_, PyAny>, depth: usize) -> Result<Value, String> {
    let of = |e: PyErr| e.to_string();
    if depth > MAX_DEPTH {
        return Err(format!("is nested deeper than {MAX_DEPTH} levels"));
    }
    if value.is_none() {
        return Ok(Value::Null);
    }
    if let Ok(text) = value.cast::<PyString>() {
        return text_of(text).map(Value::String).map_err(of);
    }
    if let Ok(flag) = value.cast::<PyBool>() {
        return Ok(Value::Bool(flag.is_true()));
    }
    if value.cast::<PyInt>().is_ok() {
        let small = value.extract::<i64>().map(Number::from);
        let number = small.or_else(|_| value.extract::<u64>().map(Number::from));
        return match number {
            Ok(number) => Ok(Value::Number(number)),
            Err(_) => Ok(Value::String(value.str().map_err(of)?.to_string())),
        };
    }
    if value.cast::<PyFloat>().is_ok() {
        return Ok(Number::from_f64(value.extract().map_err(of)?).map_or(Value::Null, Value::Number));
    }
    if let Ok(fields) = value.cast::<PyDict>() {
        let mut map = Map::new();
        for (key, field) in fields {
            let Ok(key) = key.cast::<PyString>() else { return Err("has a key that is no text".into()) };
            map.insert(key.to_string_lossy().into_owned(), nested(&field, depth + 1)?);
        }
        return Ok(Value::Object(map));
    }
    if value.cast::<PyList>().is_ok() || value.cast::<PyTuple>().is_ok() {
        let items = value.try_iter().map_err(of)?;
        return items
            .map(|item| nested(&item.map_err(of)?, depth + 1))
            .collect::<Result<_, _>>()
            .map(Value::Array);
    }
    // Scalars and arrays of NumPy, PyTorch and others.
    for method in ["tolist", "item"] {
        if value.hasattr(method).unwrap_or(false) && value.hasattr("dtype").unwrap_or(false) {
            let plain = value.call_method0(method).map_err(of)?;
            return nested(&plain, depth + 1);
        }
    }
    let kind = value.get_type().name().map_err(of)?.to_string();
    Err(format!("holds a value of type {kind}, for which there is no JSON"))
}

/// A text; halves of surrogate pairs are joined as in JSON, and become U+FFFD alone.
fn text_of(text: &Bound<'_, PyString>) -> PyResult<String> {
    if let Ok(text) = text.to_cow() {
        return Ok(text.into_owned());
    }
    let units: Vec<u8> = text.call_method1("encode", ("utf-16-le", "surrogatepass"))?.extract()?;
    let units: Vec<u16> = units.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    Ok(String::from_utf16_lossy(&units))
}

/// A JSON value as Python's.
pub fn to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(flag) => PyBool::new(py, *flag).to_owned().into_any(),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(n), _) => n.into_pyobject(py)?.into_any(),
            (None, Some(n)) => n.into_pyobject(py)?.into_any(),
            (None, None) => PyFloat::new(py, number.as_f64().unwrap_or(f64::NAN)).into_any(),
        },
        Value::String(text) => PyString::new(py, text).into_any(),
        Value::Array(items) => {
            let list = PyList::empty(py);
            items.iter().try_for_each(|item| list.append(to_python(py, item)?))?;
            list.into_any()
        }
        Value::Object(fields) => {
            let dict = PyDict::new(py);
            fields.iter().try_for_each(|(key, field)| dict.set_item(key, to_python(py, field)?))?;
            dict.into_any()
        }
    })
}
