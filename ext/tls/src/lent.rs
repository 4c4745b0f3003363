//! Memory of the caller, lent for one call to code that rustls calls and that cannot get it as an argument.

use std::cell::Cell;
use std::ptr::NonNull;

/// Memory that is filled from its beginning, for a thread-local.
pub struct Lent {
    /// None while nothing is lent, or while it is being filled.
    memory: Cell<Option<NonNull<[u8]>>>,
    used: Cell<usize>,
}

impl Lent {
    pub const fn none() -> Self {
        Self { memory: Cell::new(None), used: Cell::new(0) }
    }

    /// Run `call` with `memory` lent. Returns its result, and how many bytes of `memory` were filled.
    pub fn lend<R>(&self, memory: &mut [u8], call: impl FnOnce() -> R) -> (R, usize) {
        self.used.set(0);
        self.memory.set(Some(NonNull::from(memory)));
        let returned = Restored(&self.memory, None);
        let result = call();
        drop(returned);
        (result, self.used.get())
    }

    pub fn is_lent(&self) -> bool {
        self.memory.get().is_some()
    }

    /// Bytes that are not filled; 0 when nothing is lent.
    pub fn left(&self) -> usize {
        self.memory.get().map_or(0, |memory| memory.len() - self.used.get())
    }

    /// Have `fill` fill the beginning of the memory that is left, none when nothing is lent. It returns how many
    /// bytes it filled, and the result.
    pub fn fill<R>(&self, fill: impl FnOnce(&mut [u8]) -> (usize, R)) -> R {
        let Some(mut memory) = self.memory.take() else {
            return fill(&mut []).1;
        };
        let _restored = Restored(&self.memory, Some(memory));
        // SAFETY: `lend` borrows the memory until it returns, and takes it back before. While it is used here the
        // cell is empty, so there is no other reference to it.
        let left = &mut unsafe { memory.as_mut() }[self.used.get()..];
        let (filled, result) = fill(left);
        self.used.set(self.used.get() + filled);
        result
    }
}

/// Sets the cell when it is dropped, also by a panic.
struct Restored<'a>(&'a Cell<Option<NonNull<[u8]>>>, Option<NonNull<[u8]>>);

impl Drop for Restored<'_> {
    fn drop(&mut self) {
        self.0.set(self.1);
    }
}
