//! Locks mutexes that are held for a few lines at a time.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex. A panic while it was held does not matter: what these mutexes protect is consistent after
/// every statement, and one defect must not stop everything else.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
