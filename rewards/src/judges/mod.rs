//! The verifiers that judge a text by itself, a file or folder a kind.

pub mod bleu;
pub mod choice;
pub mod cider;
pub mod contains;
pub mod exact;
pub mod format;
pub mod instructions;
pub mod json_schema;
pub mod language;
pub mod length;
pub mod math;
pub mod meteor;
pub mod numeric;
pub mod pattern;
pub mod procedural;
pub mod repetition;
pub mod rouge;
pub mod token_f1;
pub mod yes_no;
