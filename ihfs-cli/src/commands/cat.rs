//! `ihfs cat`: files to standard output.

use std::io::{ErrorKind, Write};

use ihfs_client::get::GetError;

use crate::args::files::Cat;
use crate::config::Config;
use crate::failure::Failure;
use crate::location;
use crate::session;

/// Writes each file, one behind the other.
pub(super) fn run(config: &Config, args: &Cat) -> Result<(), Failure> {
    let locations: Vec<_> =
        args.locations.iter().map(|typed| location::parse(typed)).collect::<Result<_, _>>()?;
    let client = session::open(config)?;
    let mut out = std::io::stdout().lock();
    for location in &locations {
        match client.cat(location, 0, u64::MAX, &mut out) {
            // The reader has gone, as in `ihfs cat x | head`.
            Err(GetError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            done => done?,
        };
    }
    match out.flush() {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::Output(error)),
        _ => Ok(()),
    }
}
