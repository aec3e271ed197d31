//! Without the feature `wasm` there are no components.

use super::WasmConfig;
use crate::reward::{Outcome, Verdict};
use crate::task::{Response, Task};

const MISSING: &str = "this build has no WebAssembly; build it with `--features wasm`";

pub(super) fn available() -> Result<(), String> {
    Err(MISSING.into())
}

pub(super) struct Component;

impl Component {
    pub fn load(_: &WasmConfig) -> Result<Self, String> {
        Err(MISSING.into())
    }

    pub fn judge(&self, _: &Task, _: Response<'_>) -> Outcome {
        Outcome::of(Verdict::Error, "wasm", MISSING)
    }
}
