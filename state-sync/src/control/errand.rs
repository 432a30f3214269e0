//! Work that blocks, on a thread of its own: the writer awaits its end beside commands.

use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// Work under way. Dropping it waits for its end, so that nothing works on when the writer has stopped.
pub(super) struct Errand<T> {
    thread: Option<JoinHandle<()>>,
    result: oneshot::Receiver<T>,
}

impl<T: Send + 'static> Errand<T> {
    /// Starts it in a thread of that name.
    ///
    /// # Errors
    /// The thread could not be started.
    pub(super) fn start(name: &str, work: impl FnOnce() -> T + Send + 'static) -> std::io::Result<Self> {
        let (done, result) = oneshot::channel();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || drop(done.send(work())))?;
        Ok(Self { thread: Some(thread), result })
    }

    /// What came of it; `None` if it panicked. To be asked once; a call that is dropped before it ends has not asked.
    pub(super) async fn result(&mut self) -> Option<T> {
        (&mut self.result).await.ok()
    }
}

impl<T> Errand<T> {
    /// Blocks until it has ended.
    pub(super) fn wait(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic is told by the missing result.
            drop(thread.join());
        }
    }
}

impl<T> Drop for Errand<T> {
    fn drop(&mut self) {
        self.wait();
    }
}
