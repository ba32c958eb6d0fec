//! Flows over real processes.
