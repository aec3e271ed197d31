//! Words and characters that the tokenizer knows.

/// Letters that are words and no products of symbols, up to three letters long.
pub const SHORT_WORDS: &[&str] = &[
    "is", "it", "no", "yes", "not", "the", "and", "or", "if", "so", "we", "be", "to", "of", "by", "at", "in",
    "on", "per", "all", "any", "but", "for", "are", "was", "has", "had", "its", "my", "he", "she", "as",
    "an", "us", "do", "red", "odd", "man", "men", "day", "sum", "cup", "box", "car", "pen", "hat", "egg",
    "cat", "dog", "bag", "am", "pm", "new", "old", "out", "off", "per", "may", "who", "you", "now",
];

/// Unit symbols; read as units only directly after a value.
pub const UNITS: &[&str] = &[
    "cm", "mm", "km", "kg", "mg", "ml", "mL", "ft", "lb", "lbs", "oz", "mph", "hr", "hrs", "min", "sec",
    "Hz", "kHz", "MHz", "Pa", "kPa", "mol", "cal", "kcal", "kJ", "kW", "MW", "mi", "yd", "nm", "dm", "cc",
    "rad", "deg", "USD", "EUR", "GBP", "usd", "kmh", "kph", "gal", "qt", "pt", "rpm", "mA", "mV", "kV", "GB",
    "MB", "KB", "TB", "ms", "ns",
];

/// Greek letters by name.
pub const GREEK: &[&str] = &[
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu",
    "nu", "xi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega", "Gamma", "Delta", "Theta",
    "Lambda", "Xi", "Pi", "Sigma", "Phi", "Psi", "Omega", "ell",
];

/// The function that a name stands for.
pub fn function(name: &str) -> Option<&'static str> {
    Some(match name {
        "sin" => "sin",
        "cos" => "cos",
        "tan" | "tg" => "tan",
        "cot" | "ctg" | "cotan" => "cot",
        "sec" => "sec",
        "csc" | "cosec" => "csc",
        "arcsin" | "asin" => "arcsin",
        "arccos" | "acos" => "arccos",
        "arctan" | "atan" | "arctg" => "arctan",
        "sinh" => "sinh",
        "cosh" => "cosh",
        "tanh" => "tanh",
        "ln" => "ln",
        "log" | "lg" => "log",
        "exp" => "exp",
        "abs" => "abs",
        "floor" => "floor",
        "ceil" => "ceil",
        "gcd" => "gcd",
        "lcm" => "lcm",
        "max" => "max",
        "min" => "min",
        _ => return None,
    })
}

/// The digits of a number word.
pub fn number_word(word: &str) -> Option<&'static str> {
    const WORDS: &[(&str, &str)] = &[
        ("zero", "0"),
        ("one", "1"),
        ("two", "2"),
        ("three", "3"),
        ("four", "4"),
        ("five", "5"),
        ("six", "6"),
        ("seven", "7"),
        ("eight", "8"),
        ("nine", "9"),
        ("ten", "10"),
        ("eleven", "11"),
        ("twelve", "12"),
        ("thirteen", "13"),
        ("fourteen", "14"),
        ("fifteen", "15"),
        ("sixteen", "16"),
        ("seventeen", "17"),
        ("eighteen", "18"),
        ("nineteen", "19"),
        ("twenty", "20"),
        ("thirty", "30"),
        ("forty", "40"),
        ("fifty", "50"),
        ("sixty", "60"),
        ("seventy", "70"),
        ("eighty", "80"),
        ("ninety", "90"),
    ];
    WORDS.iter().find(|(w, _)| w.eq_ignore_ascii_case(word)).map(|(_, n)| *n)
}

/// The number that a word after a count multiplies it by.
pub fn magnitude(word: &str) -> Option<&'static str> {
    Some(match word {
        "dozen" => "12",
        "hundred" | "hundreds" => "100",
        "thousand" | "thousands" => "1000",
        "million" | "millions" => "1000000",
        "billion" | "billions" => "1000000000",
        "trillion" | "trillions" => "1000000000000",
        _ => return None,
    })
}

/// The number that a word after a count divides it by: `two thirds`.
pub fn denominator(word: &str) -> Option<&'static str> {
    Some(match word {
        "half" | "halves" => "2",
        "third" | "thirds" => "3",
        "quarter" | "quarters" | "fourth" | "fourths" => "4",
        "fifth" | "fifths" => "5",
        "sixth" | "sixths" => "6",
        "seventh" | "sevenths" => "7",
        "eighth" | "eighths" => "8",
        "ninth" | "ninths" => "9",
        "tenth" | "tenths" => "10",
        "hundredth" | "hundredths" => "100",
        _ => return None,
    })
}

/// Full-width, Arabic-Indic and typographic characters to their plain forms.
pub fn fold(text: &str) -> Vec<char> {
    let mut out = Vec::with_capacity(text.len());
    for c in text.chars() {
        out.push(match c {
            '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0).unwrap_or(c),
            '\u{660}'..='\u{669}' => char::from_u32(c as u32 - 0x660 + 48).unwrap_or(c),
            '\u{6f0}'..='\u{6f9}' => char::from_u32(c as u32 - 0x6f0 + 48).unwrap_or(c),
            // Devanagari, Bengali, Gurmukhi, Gujarati, Tamil, Telugu, Kannada, Malayalam, Thai, Lao, Tibetan.
            '\u{966}'..='\u{f29}' if digit(c).is_some() => digit(c).unwrap_or(c),
            '−' | '‒' | '‐' | '‑' | '–' | '—' | '﹣' => '-',
            '⋅' | '·' | '∙' | '×' | '∗' | '✕' => '*',
            '÷' | '∕' | '⁄' => '/',
            '、' | '٬' => ',',
            '٫' => '.',
            '∣' => '|',
            '’' | '′' => '\'',
            '\u{a0}' | '\u{2009}' | '\u{202f}' | '\u{200a}' | '\u{2002}' | '\u{2003}' | '\u{3000}' => ' ',
            c => c,
        });
    }
    out
}

/// The plain form of a decimal digit of the scripts of India and its neighbours.
fn digit(c: char) -> Option<char> {
    const ZEROS: &[u32] =
        &[0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xe50, 0xed0, 0xf20];
    let offset = ZEROS.iter().map(|zero| (c as u32).wrapping_sub(*zero)).find(|offset| *offset < 10)?;
    char::from_digit(offset, 10)
}

/// The plain form of a superscript character.
pub fn superscript(c: char) -> Option<char> {
    Some(match c {
        '⁰' => '0',
        '¹' => '1',
        '²' => '2',
        '³' => '3',
        '⁴' => '4',
        '⁵' => '5',
        '⁶' => '6',
        '⁷' => '7',
        '⁸' => '8',
        '⁹' => '9',
        '⁻' => '-',
        'ⁿ' => 'n',
        _ => return None,
    })
}
