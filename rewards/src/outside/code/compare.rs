//! Equality of outputs.

/// Whether two outputs are equal: lines without trailing white space, no empty lines around; with `tolerance`, words
/// that are both finite numbers may differ by it, relative to the larger one or absolute.
pub(super) fn same(got: &str, want: &str, tolerance: Option<f64>) -> bool {
    let (got, want) = (lines(got), lines(want));
    if got.len() != want.len() {
        return false;
    }
    let Some(tolerance) = tolerance else { return got == want };
    got.iter().zip(&want).all(|(a, b)| {
        let (a, b): (Vec<_>, Vec<_>) = (a.split_whitespace().collect(), b.split_whitespace().collect());
        a.len() == b.len() && a.iter().zip(&b).all(|(x, y)| x == y || near(x, y, tolerance))
    })
}

fn lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    while lines.last().is_some_and(|l| l.is_empty()) {
        lines.pop();
    }
    let first = lines.iter().position(|l| !l.is_empty()).unwrap_or(0);
    lines.split_off(first)
}

fn near(a: &str, b: &str, tolerance: f64) -> bool {
    // What begins like a number: not "nan", "inf" or "infinity", which also parse.
    let number = |s: &str| {
        let plain = s.bytes().all(|c| c.is_ascii_digit() || matches!(c, b'+' | b'-' | b'.' | b'e' | b'E'));
        if plain { s.parse::<f64>().ok().filter(|v| v.is_finite()) } else { None }
    };
    match (number(a), number(b)) {
        (Some(a), Some(b)) => (a - b).abs() <= tolerance * a.abs().max(b.abs()).max(1.0),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs() {
        assert!(same("1 \n2\n\n", "1\n2", None));
        assert!(same("\n1\r\n", "1", None));
        assert!(!same("1\n\n2", "1\n2", None));
        assert!(!same(" 1", "1", None));
        assert!(!same("", "1", None));
        assert!(!same("1.0", "1", None));
        assert!(same("1.0 x", "1  x", Some(1e-6)));
        assert!(same("1000001", "1000000", Some(1e-5)));
        assert!(!same("1.1", "1", Some(1e-3)));
        assert!(!same("nan", "1", Some(1.0)));
        assert!(!same("inf", "1", Some(1.0)));
        assert!(!same("1 1", "1", Some(1.0)));
    }
}
