//! What is asked of a file beside that it is a valid component.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use wasmtime::wasmparser::{FunctionBody, Operator, Parser, Payload};

/// Largest file, in bytes.
const MAX_BYTES: u64 = 16 << 20;
/// Most instructions of one function that fill or copy memory. Fuel and clock are looked at where functions and loops
/// begin, so these are what a function can do at most before it is stopped.
const MAX_BULK: usize = 1000;

/// The bytes of a file that begins as a component does.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|e| e.to_string())?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("it is larger than {} MiB", MAX_BYTES >> 20));
    }
    match bytes.get(..8) {
        Some([0, b'a', b's', b'm', 0x0d, 0, 1, 0]) => Ok(bytes),
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => {
            Err("it is a core module, not a component; `wasm-tools component new` makes a component of it"
                .into())
        }
        _ => Err("it is not a WebAssembly component".into()),
    }
}

/// Refuses a valid component with functions that could not be stopped.
pub(super) fn stoppable(bytes: &[u8]) -> Result<(), String> {
    for payload in Parser::new(0).parse_all(bytes) {
        if let Payload::CodeSectionEntry(body) = payload.map_err(|e| e.to_string())? {
            let bulk = bulk_instructions(&body).map_err(|e| e.to_string())?;
            if bulk > MAX_BULK {
                return Err(format!(
                    "one of its functions has {bulk} instructions that fill or copy memory; at most {MAX_BULK} are allowed"
                ));
            }
        }
    }
    Ok(())
}

fn bulk_instructions(body: &FunctionBody<'_>) -> wasmtime::Result<usize> {
    let mut bulk = 0;
    for operator in body.get_operators_reader()? {
        bulk += usize::from(matches!(
            operator?,
            Operator::MemoryInit { .. }
                | Operator::MemoryCopy { .. }
                | Operator::MemoryFill { .. }
                | Operator::TableInit { .. }
                | Operator::TableCopy { .. }
                | Operator::TableFill { .. }
        ));
    }
    Ok(bulk)
}
