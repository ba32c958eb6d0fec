//! The node's configuration: one TOML file in the data folder; `contrib/ihfs-node.toml` explains every line.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::store::StoreOptions;

/// The file's name in the data folder.
pub const FILE_NAME: &str = "node.toml";

/// What a hospital decides about its node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the hospital: the part of handles behind the `@`.
    pub hospital: String,
    /// Where to listen; port 0 lets the system choose, once, and is kept.
    pub listen: Vec<SocketAddr>,
    /// Addresses that invites name; none means those listened on.
    #[serde(default)]
    pub announce: Vec<String>,
    /// The store.
    #[serde(default)]
    pub store: StoreConfig,
    /// Logs.
    #[serde(default)]
    pub log: LogConfig,
}

/// What the store may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// Bytes of the file system that are left alone, in MiB.
    pub reserve_mib: u64,
    /// Size of a segment file, in MiB.
    pub segment_mib: u64,
    /// Cache of the index, in MiB.
    pub index_cache_mib: u64,
    /// Most that one member uploads to records that do not exist yet, in GiB.
    pub unanchored_gib: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        // The store's own defaults; and a large study's worth of uploads before its record is made.
        Self { reserve_mib: 512, segment_mib: 64, index_cache_mib: 8, unanchored_gib: 64 }
    }
}

impl StoreConfig {
    /// What the store is opened with.
    pub fn options(&self) -> StoreOptions {
        StoreOptions {
            segment_size_bytes: self.segment_mib.clamp(4, 4096) << 20,
            index_cache_bytes: usize::try_from(self.index_cache_mib.clamp(1, 4096)).unwrap_or(8) << 20,
            reserve_bytes: self.reserve_mib << 20,
        }
    }

    /// Most bytes of one member in records that do not exist yet.
    pub const fn unanchored_bytes(&self) -> u64 {
        self.unanchored_gib << 30
    }
}

/// Where logs go. They hold ids and figures, never names or contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// "stderr", or "files": a file a day in the data folder's `logs`.
    pub target: LogTarget,
    /// As of the tracing crate: "info", "warn", or "ihfs_node::serve=debug,info".
    pub level: String,
    /// How many days of files are kept.
    pub keep_days: usize,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { target: LogTarget::Stderr, level: "info".to_owned(), keep_days: 30 }
    }
}

/// Where logs go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogTarget {
    /// To the standard error, for a supervisor to keep.
    Stderr,
    /// To a file a day.
    Files,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read or written.
    #[error("the configuration {path} cannot be used")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not TOML, or with lines that mean nothing.
    #[error("the configuration {path} is not right: {source}")]
    NotRight {
        /// The file.
        path: PathBuf,
        /// Which line, and why.
        source: Box<toml::de::Error>,
    },
}

impl Config {
    /// Reads the configuration of a data folder.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(data: &Path) -> Result<Self, ConfigError> {
        let path = data.join(FILE_NAME);
        let text = fs::read_to_string(&path).map_err(|source| ConfigError::Io { path: path.clone(), source })?;
        toml::from_str(&text).map_err(|source| ConfigError::NotRight { path, source: Box::new(source) })
    }

    /// Writes a new configuration with its explanations.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn write_new(&self, data: &Path) -> Result<(), ConfigError> {
        let path = data.join(FILE_NAME);
        fs::write(&path, self.explained()).map_err(|source| ConfigError::Io { path, source })
    }

    fn explained(&self) -> String {
        let list = |items: Vec<String>| {
            items.iter().map(|item| format!("{item:?}")).collect::<Vec<_>>().join(", ")
        };
        let listen = list(self.listen.iter().map(ToString::to_string).collect());
        TEMPLATE
            .replace("@hospital@", &self.hospital)
            .replace("@listen@", &listen)
            .replace("@announce@", &list(self.announce.clone()))
            .replace("@reserve@", &self.store.reserve_mib.to_string())
    }
}

/// The file that `init` writes; the one in `contrib` is the same with a hospital's values.
const TEMPLATE: &str = include_str!("config/template.toml");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_init_writes_reads_back() {
        let config = Config {
            hospital: "st-mary".to_owned(),
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            announce: vec!["192.0.2.1:4040".to_owned()],
            store: StoreConfig::default(),
            log: LogConfig::default(),
        };
        assert_eq!(toml::from_str::<Config>(&config.explained()).unwrap(), config);
    }

    #[test]
    fn the_configuration_in_contrib_is_right() {
        let text = include_str!("../../contrib/ihfs-node.toml");
        assert_eq!(toml::from_str::<Config>(text).unwrap().hospital, "st-mary");
    }

    #[test]
    fn a_line_that_means_nothing_is_refused() {
        assert!(toml::from_str::<Config>("hospital = 'a'\nlisten = []\nlisten_on = 'b'").is_err());
    }
}
