//! The listening socket: its options, and what is reported when it cannot accept.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::observe::{Event, Observer};

/// How long to wait when the process has no descriptor left for another connection.
const EXHAUSTED_WAIT: Duration = Duration::from_millis(100);

/// Accepted sockets inherit this option.
#[cfg(target_os = "linux")]
fn bound_unsent(listener: &TcpListener) {
    // Larder works without it, on a kernel that does not know the option.
    let _ =
        socket2::SockRef::from(listener).set_tcp_notsent_lowat(super::limits::KERNEL_UNSENT_MAX);
}

#[cfg(not(target_os = "linux"))]
fn bound_unsent(_: &TcpListener) {}

/// Accepts connections, and reports when it cannot.
pub(super) struct Listener {
    listener: TcpListener,
    observer: Observer,
    is_failing: AtomicBool,
}

impl Listener {
    pub(super) fn new(listener: TcpListener, observer: Observer) -> Self {
        bound_unsent(&listener);
        Self {
            listener,
            observer,
            is_failing: AtomicBool::new(false),
        }
    }

    pub(super) async fn accept(&self) -> TcpStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    if self.is_failing.swap(false, Ordering::Relaxed) {
                        self.observer.emit(&Event::AcceptRecovered);
                    }
                    // Responses are written whole; waiting to fill a segment would only delay them.
                    let _ = stream.set_nodelay(true);
                    return stream;
                }
                // The client's own doing.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // The machine is short of something, and trying again at once would only spin.
                    if !self.is_failing.swap(true, Ordering::Relaxed) {
                        let cause = error.to_string();
                        self.observer.emit(&Event::AcceptFailing { cause });
                    }
                    tokio::time::sleep(EXHAUSTED_WAIT).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_kernel_buffers_little_for_a_client_that_hardly_reads() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let listener = Listener::new(listener, Observer::new(Vec::new()));
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        client.unwrap();
        let bound = socket2::SockRef::from(&accepted).tcp_notsent_lowat();
        assert_eq!(bound.unwrap(), crate::http::limits::KERNEL_UNSENT_MAX);
    }
}
