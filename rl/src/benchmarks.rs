//! The benchmarks that come with the program, as text; [`crate::eval::builtin`] reads them.

macro_rules! builtin {
    ($($name:literal),+ $(,)?) => {
        /// Name and text of every built-in definition.
        pub const BUILTIN: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("eval/tasks/", $name, ".toml")))),+];
    };
}

builtin!(
    "gsm8k",
    "math500",
    "aime2024",
    "aime2025",
    "medqa",
    "medmcqa",
    "pubmedqa",
    "mmlu_medical",
    "medbullets",
    "medxpertqa_text",
    "vqa_rad",
    "slake",
    "path_vqa",
    "pmc_vqa",
    "omnimedvqa",
    "mmmu_med",
    "medxpertqa_mm",
    "iu_xray",
    "mimic_cxr",
    "addition",
    "arithmetic",
    "base_conversion",
    "calendar",
    "countdown",
    "digits",
    "equation",
    "facts",
    "lab_panel",
    "letter_count",
    "logic",
    "lookup",
    "reverse_text",
    "shapes",
    "sorting",
    "sudoku",
    "unit_conversion",
);

/// Names of the benchmarks.
pub fn names() -> impl Iterator<Item = &'static str> {
    BUILTIN.iter().map(|(name, _)| *name)
}

/// The text of a built-in definition.
pub fn text(name: &str) -> Option<&'static str> {
    BUILTIN.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}
