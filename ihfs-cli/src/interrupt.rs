//! Ctrl-C, or a request to end, while a command has something to tidy up first.

use std::io;
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use ihfs_client::call::Canceller;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

/// A shell shows a program that a signal ended as this and the signal's number.
const EXIT_BY_SIGNAL: i32 = 128;

/// Cancels what a command does when somebody wants it to end. A second signal ends it at once.
#[derive(Debug)]
pub(crate) struct Interrupt {
    /// The signal that came; 0 while none did.
    came: Arc<AtomicI32>,
}

impl Interrupt {
    /// Begins to watch for signals.
    ///
    /// # Errors
    /// When the system does not let it; then a signal ends the program as before.
    pub(crate) fn cancels(canceller: Canceller) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        drop(entered);
        let came = Arc::new(AtomicI32::new(0));
        let seen = came.clone();
        std::thread::Builder::new().name("ihfs-signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                loop {
                    let kind = tokio::select! {
                        _ = interrupt.recv() => SignalKind::interrupt(),
                        _ = terminate.recv() => SignalKind::terminate(),
                    };
                    if seen.swap(kind.as_raw_value(), Ordering::SeqCst) != 0 {
                        exit(EXIT_BY_SIGNAL + kind.as_raw_value());
                    }
                    canceller.cancel();
                }
            });
        })?;
        Ok(Self { came })
    }

    /// Ends the program if a signal came.
    pub(crate) fn end_if_asked(&self) {
        match self.came.load(Ordering::SeqCst) {
            0 => {}
            signal => exit(EXIT_BY_SIGNAL + signal),
        }
    }
}
