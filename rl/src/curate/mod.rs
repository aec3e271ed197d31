//! Curation: from data sets to the tasks of a run, one step at a time, each recorded in a manifest.
//!
//! A step reads JSON Lines in bounded memory ([`scan`](mod@scan)), writes rows in their order under a temporary name
//! ([`output`]), and ends with the file and `<file>.manifest.json` in place. What stays depends on the input, the
//! settings and the seed alone, never on threads: the same seed gives the same bytes.

pub mod choice_to_open;
pub mod decontaminate;
pub mod dedup;
mod error;
pub mod filter;
pub mod import;
pub mod manifest;
pub mod minhash;
pub mod output;
mod parquet_pages;
mod parquet_rows;
mod parquet_thrift;
pub mod pictures;
pub mod quota;
pub mod sampling;
pub mod scan;
pub mod shapes;
pub mod solve;
pub mod split;
pub mod stats;
pub mod tables;
#[cfg(test)]
mod tests;
pub mod validate;

pub use error::CurateError;
