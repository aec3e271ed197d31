//! Numbers as people read them.

/// A number with so many digits behind the point. What rounds to zero has no sign: a mean of -0.0001 is 0.000.
pub fn fixed(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    match text.strip_prefix('-') {
        Some(rest) if rest.bytes().all(|b| matches!(b, b'0' | b'.')) => rest.to_owned(),
        _ => text,
    }
}

/// The same of a difference: with its sign, and without one where it rounds to zero.
pub fn signed(value: f64, digits: usize) -> String {
    let text = fixed(value, digits);
    let is_zero = text.bytes().all(|b| matches!(b, b'0' | b'.'));
    if is_zero || text.starts_with('-') || !value.is_finite() { text } else { format!("+{text}") }
}

/// An interval: `[0.412, 0.588]`.
pub fn interval((low, high): (f64, f64)) -> String {
    format!("[{}, {}]", fixed(low, 3), fixed(high, 3))
}

/// A mean with its standard error, where there is one: `0.500 ± 0.045`.
pub fn with_error(mean: f64, error: f64) -> String {
    if error.is_nan() { format!("{mean:.3}") } else { format!("{mean:.3} ± {error:.3}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_has_no_sign() {
        for (value, expected, difference) in [
            (-0.0001, "0.000", "0.000"),
            (-0.0, "0.000", "0.000"),
            (0.0004, "0.000", "0.000"),
            (-0.0006, "-0.001", "-0.001"),
            (1.25, "1.250", "+1.250"),
            (f64::NAN, "NaN", "NaN"),
        ] {
            assert_eq!((fixed(value, 3), signed(value, 3)), (expected.to_owned(), difference.to_owned()));
        }
        assert_eq!((fixed(-0.4, 0), signed(0.4, 0)), ("0".to_owned(), "0".to_owned()));
    }
}
