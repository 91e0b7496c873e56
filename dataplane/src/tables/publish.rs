//! How the newest tables get from the control thread to the workers.

use super::shared::{Arc, AtomicU64, Mutex, Ordering, PoisonError};

/// What is published by generations that only go up.
pub trait Generation {
    /// Which one this is.
    fn generation(&self) -> u64;
}

/// Hands the newest of something from one thread to others.
///
/// A worker looks at one atomic per burst; only when it changed does it take the lock, and only with
/// `try_lock`: if the control thread is publishing just then, the next burst will do.
#[derive(Debug)]
pub struct Publisher<T> {
    generation: AtomicU64,
    newest: Mutex<Arc<T>>,
}

impl<T: Generation> Publisher<T> {
    /// A publisher whose first tables are `tables`.
    pub fn new(tables: Arc<T>) -> Self {
        Self {
            generation: AtomicU64::new(tables.generation()),
            newest: Mutex::new(tables),
        }
    }

    /// Makes `tables` the newest. Gives back the ones they replace, so that the caller, not a
    /// worker, is the one to free them: it keeps them until no worker uses them any more.
    pub fn publish(&self, tables: Arc<T>) -> Arc<T> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = tables.generation();
        let old = std::mem::replace(&mut *newest, tables);
        self.generation.store(generation, Ordering::Release);
        old
    }

    /// The newest tables, waiting for the lock if need be: for the control thread.
    pub fn newest(&self) -> Arc<T> {
        self.newest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Replaces `current` by the newest tables, if they are newer and the lock is free. Returns
    /// whether it did.
    #[inline]
    pub fn refresh(&self, current: &mut Arc<T>) -> bool {
        if self.generation.load(Ordering::Acquire) == current.generation() {
            return false;
        }
        match self.newest.try_lock() {
            Ok(newest) => {
                *current = Arc::clone(&newest);
                true
            }
            Err(_) => false,
        }
    }
}
