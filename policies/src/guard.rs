//! Panics of code that is not ours, as errors.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Whether a panic of this thread is an error for somebody who waits for it.
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// Runs code that may panic, such as a parser of somebody else over a file of anybody's, and gives what a panic says
/// instead of printing it. What the code worked on must not be used again after a panic.
///
/// # Errors
/// The message of the panic.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |info| {
            if !EXPECTED.get() {
                usual(info);
            }
        }));
    });
    let before = EXPECTED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    EXPECTED.set(before);
    outcome.map_err(|panic| message(&*panic))
}

/// What a panic says.
pub fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("it panicked and did not say why").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_what_it_says() {
        assert_eq!(caught(|| 7), Ok(7));
        let values = [1, 2, 3];
        let index = std::hint::black_box(5);
        let error = caught(|| values[index]).unwrap_err();
        assert!(error.contains("index out of bounds"), "{error}");
        assert_eq!(
            caught(|| -> u8 { std::panic::panic_any(7) }).unwrap_err(),
            "it panicked and did not say why"
        );
        let inner = caught(|| caught(|| panic!("inner")).unwrap_err());
        assert_eq!(inner, Ok("inner".to_owned()));
        assert!(!EXPECTED.get());
    }
}
