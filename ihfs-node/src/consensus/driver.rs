//! Runs the host on tokio.
