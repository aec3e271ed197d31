//! What a response says: its own turn without thoughts, the answer that it marks, and the words of languages.

pub(crate) mod cut;
pub mod extract;
mod missing;
pub(crate) mod reference;
pub mod text;
pub mod turn;
pub(crate) mod words;
