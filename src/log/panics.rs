//! Panics as lines, without the values they were made of.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;

/// Has every panic of the process logged.
pub(super) fn hook() {
    std::panic::set_hook(Box::new(log));
}

/// The standard library would write to stderr itself: it would wait for a reader that does not read, and
/// a message that was made of values may hold what a client sent. One in the source holds none.
fn log(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    let place = place.as_deref().unwrap_or("an unknown place");
    let message = panic.payload().downcast_ref::<&'static str>();
    let message = message.unwrap_or(&"(the message was made of values, and is left out)");
    tracing::error!(place, "larder has a defect: a panic at {place}: {message}");
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        for line in trace.to_string().lines() {
            tracing::error!("{line}");
        }
    }
}
