//! Representations beside the plain document: made off the threads that answer requests, once each.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::{ReadThrough, Source};
use crate::cache::{Answer, Entry, Key};
use crate::encode::{Document, Variant};
use crate::observe::Event;
use crate::plan::EndpointId;

/// As many representations are made at once for those who ask as there are processors: more would only
/// wait for them.
pub(super) fn encoding_slots() -> Semaphore {
    Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from))
}

impl<S: Source> ReadThrough<S> {
    /// The bytes of a representation that nobody has asked for yet. From now on it is made in advance
    /// for the entries that follow. `None` where there is no document, or a defect.
    pub async fn represent(
        &self,
        key: &Key,
        entry: &Arc<Entry>,
        variant: Variant,
    ) -> Option<Bytes> {
        let Answer::Document(document) = entry.answer() else {
            return None;
        };
        let (this, key, entry) = (self.clone(), key.clone(), Arc::clone(entry));
        let made = Arc::clone(document);
        // Whoever asks may leave: what was begun is for all.
        let making = tokio::spawn(async move {
            let _maker = made.maker().await;
            if made.ready(variant).is_none() {
                let _permit = this.shared.encoding_slots.acquire().await;
                this.make(key.endpoint(), &made, vec![variant]).await;
                this.shared.cache.reweigh(&key, &entry);
            }
        });
        // A panic leaves nothing to be had, and that is seen below.
        let _ = making.await;
        document.ready(variant).cloned()
    }

    /// Makes what was asked for of the entry before, so that a refresh is not noticed by anyone, in
    /// whatever form they ask. It waits for nobody who asks for more: there are as many of these as
    /// there are loads.
    pub(super) async fn prepare_variants(
        &self,
        key: &Key,
        answer: &Answer,
        previous: Option<&Entry>,
    ) {
        let (Answer::Document(document), Some(Answer::Document(before))) =
            (answer, previous.map(Entry::answer))
        else {
            return;
        };
        // What says the same as before goes on as what was before.
        if document == before {
            return;
        }
        let kept = document.to_prepare(before);
        if !kept.is_empty() {
            self.make(key.endpoint(), document, kept).await;
        }
    }

    async fn make(&self, endpoint: EndpointId, document: &Arc<Document>, variants: Vec<Variant>) {
        let document = Arc::clone(document);
        let make = move || {
            variants
                .into_iter()
                .try_for_each(|v| document.make(v).map(drop))
        };
        let cause = match tokio::task::spawn_blocking(make).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic.to_string(),
        };
        self.shared
            .observer
            .emit(&Event::RepresentationFailed { endpoint, cause });
    }
}
