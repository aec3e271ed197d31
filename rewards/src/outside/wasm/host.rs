//! What stands around an instance: the engine, the clock, limits, and the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use wasmtime::component::{Linker, WasmStr};
use wasmtime::{Config, Engine, ResourceLimiter, Result, StoreContextMut, Trap};

use crate::outside::plugin::protocol::shorten;

/// How often the clock ticks.
pub(super) const TICK: Duration = Duration::from_millis(50);
/// Native stack of an instance, in bytes.
const MAX_STACK: usize = 512 << 10;
/// Log lines of an item.
const ITEM_LINES: usize = 16;
/// Longest log line, in characters.
const MAX_LINE: usize = 500;
/// Log lines of a reward over its whole life.
const MAX_LINES: usize = 1000;
/// Fuel of a log line.
const LINE_FUEL: u64 = 1000;

/// An engine that computes the same everywhere, and its clock, which stops when the engine goes.
pub(super) fn engine() -> Result<Engine> {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(MAX_STACK)
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .wasm_backtrace(false);
    let engine = Engine::new(&config)?;
    let weak = engine.weak();
    let tick = move || {
        while let Some(engine) = weak.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(TICK);
        }
    };
    std::thread::Builder::new().name("wasm-clock".into()).spawn(tick)?;
    Ok(engine)
}

/// What the host keeps for one instance.
pub(super) struct State {
    pub limits: Limits,
    lines: usize,
}

impl State {
    pub fn new(memory_mb: u64) -> Self {
        let left = usize::try_from(memory_mb << 20).unwrap_or(usize::MAX);
        let limits = Limits { left, memory_mb, beyond: false };
        Self { limits, lines: ITEM_LINES }
    }
}

/// The memory that an instance may still take, over all its memories and tables.
pub(super) struct Limits {
    left: usize,
    memory_mb: u64,
    /// Whether the last growth goes beyond the maximum that the component itself set.
    beyond: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("it needs more memory than memory_mb = {0}")]
struct TooMuch(u64);

impl Limits {
    fn take(&mut self, bytes: usize, beyond: bool) -> Result<bool> {
        self.beyond = beyond;
        if !beyond {
            self.left = self.left.checked_sub(bytes).ok_or(TooMuch(self.memory_mb))?;
        }
        Ok(true)
    }

    /// A growth failed: because of the component's own maximum, which it is told, or for want of memory, which must not
    /// make a difference to a score.
    fn failed(&self, error: wasmtime::Error) -> Result<()> {
        if self.beyond { Ok(()) } else { Err(error) }
    }
}

impl ResourceLimiter for Limits {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        self.take(desired.saturating_sub(current), maximum.is_some_and(|m| desired > m))
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> Result<()> {
        self.failed(error)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        let elements = desired.saturating_sub(current);
        self.take(elements.saturating_mul(size_of::<usize>()), maximum.is_some_and(|m| desired > m))
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> Result<()> {
        self.failed(error)
    }

    fn instances(&self) -> usize {
        256
    }

    fn tables(&self) -> usize {
        256
    }

    fn memories(&self) -> usize {
        256
    }
}

/// Gives the import `log`; `name` is the reward's.
pub(super) fn link_log(linker: &mut Linker<State>, name: &str) -> Result<()> {
    let (name, left): (Arc<str>, _) = (name.into(), AtomicUsize::new(MAX_LINES));
    let log = move |mut store: StoreContextMut<'_, State>, (message,): (WasmStr,)| {
        let fuel = store.get_fuel()?.checked_sub(LINE_FUEL).ok_or(Trap::OutOfFuel)?;
        store.set_fuel(fuel)?;
        let Some(lines) = store.data().lines.checked_sub(1) else { return Ok(()) };
        store.data_mut().lines = lines;
        let take = |left: usize| left.checked_sub(1);
        let Ok(left) = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) else { return Ok(()) };
        // What it writes must not drive the terminal.
        let message = shorten(&message.to_str(&store)?, MAX_LINE).replace(char::is_control, " ");
        tracing::info!(reward = &*name, "{message}");
        if left == 1 {
            tracing::info!(reward = &*name, "it has written {MAX_LINES} lines; no more are shown");
        }
        Ok(())
    };
    linker.root().func_wrap("log", log)
}
