//! Values of one process each: after a fork, threads are gone and pipes to other processes belong to the parent.

use std::process;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A value that is made when it is first needed, and once more in every process that was forked since.
pub struct Local<T> {
    held: AtomicPtr<Held<T>>,
}

struct Held<T> {
    process: u32,
    value: T,
}

impl<T: Send + Sync> Local<T> {
    pub const fn new() -> Self {
        Self { held: AtomicPtr::new(null_mut()) }
    }

    fn of(&self, value: *mut Held<T>) -> Option<&Held<T>> {
        // SAFETY: it is null or came from a box that `Drop` alone frees, and the reference lives no longer than `self`.
        unsafe { value.as_ref() }.filter(|held| held.process == process::id())
    }

    /// The value of this process. Of two threads that make it at once, one wins.
    pub fn get<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        let known = self.held.load(Ordering::Acquire);
        if let Some(held) = self.of(known) {
            return Ok(&held.value);
        }
        let made = Box::into_raw(Box::new(Held { process: process::id(), value: make()? }));
        // What a parent made is left alone: to drop it would end what is still the parent's.
        let won = self.held.compare_exchange(known, made, Ordering::AcqRel, Ordering::Acquire);
        let held = match won {
            Ok(_) => made,
            Err(other) => {
                // SAFETY: it was made above and nobody else has seen it.
                drop(unsafe { Box::from_raw(made) });
                other
            }
        };
        // SAFETY: as in `of`.
        Ok(unsafe { &(*held).value })
    }
}

impl<T> Drop for Local<T> {
    fn drop(&mut self) {
        let held = *self.held.get_mut();
        // SAFETY: it is null or came from a box, and nobody has `self` any more.
        if unsafe { held.as_ref() }.is_some_and(|held| held.process == process::id()) {
            // SAFETY: as above.
            drop(unsafe { Box::from_raw(held) });
        }
    }
}
