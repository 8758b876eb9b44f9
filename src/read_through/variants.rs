//! Variants of a document: other formats and codings, each made once, off the threads that answer requests.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::{ReadThrough, Source};
use crate::cache::{Answer, Entry, Key};
use crate::encode::{Document, Variant};
use crate::observe::Event;
use crate::plan::EndpointId;

/// As many variants are encoded at once for requests as there are processors: more would only compete for
/// them.
pub(super) fn encoding_slots() -> Semaphore {
    Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from))
}

impl<S: Source> ReadThrough<S> {
    /// The bytes of a variant that is requested for the first time. From now on it is prepared for the
    /// entries that follow. `None` if there is no document, or encoding it failed.
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
        // The client may disconnect: the variant is for all.
        let making = tokio::spawn(async move {
            let _maker = made.maker().await;
            if made.ready(variant).is_none() {
                let _permit = this.engine.encoding_slots.acquire().await;
                this.make(key.endpoint(), &made, vec![variant]).await;
                this.engine.cache.reweigh(&key, &entry);
            }
        });
        // After a panic the variant is missing, as seen below.
        let _ = making.await;
        document.ready(variant).cloned()
    }

    /// Makes the variants that were requested of the previous entry, so that no request notices the refresh.
    /// It takes no encoding slot: the number of loads limits it already.
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
        // An equal answer keeps the previous document.
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
        self.engine
            .observer
            .emit(&Event::RepresentationFailed { endpoint, cause });
    }
}
