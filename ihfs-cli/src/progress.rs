//! Shows how far a long command is: a bar with rate and remaining time, where somebody looks at it.

use std::io::IsTerminal;
use std::time::Duration;

use ihfs_client::progress::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::Output;
use crate::output::words::clean;

/// How often the bar is drawn anew while nothing moves.
const TICK: Duration = Duration::from_millis(200);
/// Most letters of a name beside the bar.
const NAME_MAX: usize = 40;
const BAR: &str = "{msg:40!} {bytes:>11}/{total_bytes:>11} {wide_bar} {bytes_per_sec:>13} {eta:>5}";
const WAITING: &str = "{spinner} {msg} {elapsed}";

/// A bar on standard error; nothing if that is no terminal or a program reads.
#[derive(Debug)]
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// A bar that shows itself once there is something to show.
    pub(crate) fn new(output: Output) -> Self {
        if output.is_json() || !std::io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(style(WAITING));
        bar.enable_steady_tick(TICK);
        Self(bar)
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

impl Progress for Bar {
    fn total(&self, bytes: u64, _files: u64) {
        self.0.set_style(style(BAR));
        self.0.set_length(bytes);
    }

    fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    fn restart(&self) {
        self.0.reset();
    }

    fn file(&self, path: &str) {
        self.0.set_message(shortened(path));
    }

    fn phase(&self, phase: &'static str) {
        self.0.set_message(phase);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates are right").progress_chars("=> ")
}

/// The end of a long path: the name says more than the folders.
fn shortened(path: &str) -> String {
    let path = clean(path);
    let letters = path.chars().count();
    if letters <= NAME_MAX {
        return path;
    }
    let end: String = path.chars().skip(letters - (NAME_MAX - 1)).collect();
    format!("…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_templates_are_valid() {
        style(BAR);
        style(WAITING);
    }

    #[test]
    fn a_long_path_keeps_its_end() {
        let long = format!("/{}/slice-001.dcm", "a".repeat(100));
        assert_eq!(shortened(&long).chars().count(), NAME_MAX);
        assert!(shortened(&long).ends_with("/slice-001.dcm"));
    }
}
