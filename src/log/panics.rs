//! Panics as log lines, without the values in their messages.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;

/// Logs every panic of the process.
pub(super) fn install_hook() {
    std::panic::set_hook(Box::new(log));
}

/// The standard library would write to stderr directly, and block if it is not read. A formatted message may
/// contain what a client sent, so only constant messages are logged.
fn log(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    let place = place.as_deref().unwrap_or("an unknown location");
    let message = panic.payload().downcast_ref::<&'static str>();
    let message = message.unwrap_or(&"(the message contains values, and is omitted)");
    tracing::error!(place, "bug in Larder: a panic at {place}: {message}");
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        for line in trace.to_string().lines() {
            tracing::error!("{line}");
        }
    }
}
