//! Rows of a file, many at a time, on all cores.

use anyhow::Result;
use rayon::prelude::*;
use rlvr::files::source::{LineSource, SourceError};

/// What a row of completions must have.
pub const ROW: &str = r#"a row is {"id", "completion", "reference": {"answer": …}}"#;

/// Rows that are parsed and scored at a time.
const CHUNK: usize = 4096;

/// Reads lines by the thousand, turns each into a `T` on all cores, and hands them on with their line numbers, in
/// order. The first line that cannot be read ends the command before anything of its chunk is judged.
pub fn each_chunk<T: Send>(
    source: &mut LineSource,
    read: &(dyn Fn(&str) -> Result<T, String> + Sync),
    take: &mut dyn FnMut(Vec<(usize, T)>),
) -> Result<()> {
    loop {
        let mut rows = Vec::with_capacity(CHUNK);
        while rows.len() < CHUNK
            && let Some(row) = source.next_line()?
        {
            rows.push(row);
        }
        let last = rows.len() < CHUNK;
        let parsed: Vec<_> = rows.par_iter().map(|(line, text)| (*line, read(text))).collect();
        let parsed = (parsed.into_iter())
            .map(|(line, parsed)| Ok((line, parsed.map_err(|e| source.bad_at(line, e))?)))
            .collect::<Result<Vec<_>, SourceError>>()?;
        take(parsed);
        if last {
            return Ok(());
        }
    }
}

/// Hands every line to `judge`, on all cores, and what comes of it to `take`, with its line and in order.
pub fn each_line<T: Send>(
    source: &mut LineSource,
    judge: &(dyn Fn(&str) -> Result<T, String> + Sync),
    take: &mut dyn FnMut(usize, T),
) -> Result<()> {
    each_chunk(source, judge, &mut |rows| rows.into_iter().for_each(|(line, judged)| take(line, judged)))
}
