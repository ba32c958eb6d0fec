//! `ihfs stat`: everything known of one thing.

use ihfs_client::list::{DicomReport, StatReport};

use super::ls::{mode, moment};
use crate::args::files::Stat;
use crate::config::Config;
use crate::failure::Failure;
use crate::location;
use crate::output::Report;
use crate::output::words::{clean, size};
use crate::session;

/// Shows it.
pub(super) fn run(config: &Config, args: &Stat) -> Result<(), Failure> {
    let location = location::parse(&args.location)?;
    config.output.tell(&session::open(config)?.stat(&location)?)
}

/// Lines of a name and a value, without those that have none.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn line(&mut self, name: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.0 += &format!("{name:<18}{}\n", clean(&value.to_string()));
        }
    }
}

impl Report for StatReport {
    fn human(&self) -> String {
        let mut lines = Lines::default();
        lines.line("Location", Some(&self.location));
        lines.line("Mode", Some(mode(self.kind, self.mode)));
        lines.line(
            "Size",
            self.entries.is_none().then(|| format!("{} ({} bytes)", size(self.size), self.size)),
        );
        lines.line("Entries", self.entries);
        lines.line("Points to", self.target.as_ref());
        lines.line("Modified", Some(moment(self.modified)));
        lines.line("Created", self.born.map(moment));
        lines.line("Pieces", self.pieces);
        lines.line("Chunk", self.cid.as_ref());
        lines.line("Record", Some(&self.record));
        lines.line("Shared by itself", (self.is_record && self.location != "/").then_some("yes"));
        lines.line("Version", Some(self.version));
        lines.line("Key epoch", Some(self.epoch));
        for xattr in &self.xattrs {
            lines.line("Attribute", Some(format!("{} = {}", xattr.name, xattr.value_hex)));
        }
        if let Some(dicom) = &self.dicom {
            dicom_lines(&mut lines, dicom);
        }
        lines.0
    }
}

fn dicom_lines(lines: &mut Lines, dicom: &DicomReport) {
    lines.line("Modality", dicom.modality.as_ref());
    lines.line("Object", dicom.sop_class.as_ref());
    lines.line("Encoding", dicom.transfer_syntax.as_ref());
    lines.line("Study", dicom.study_instance_uid.as_ref());
    lines.line("Study date", dicom.study_date.as_ref());
    lines.line("Study is about", dicom.study_description.as_ref());
    lines.line("Series", dicom.series_instance_uid.as_ref());
    lines.line("Series number", dicom.series_number);
    lines.line("Series is about", dicom.series_description.as_ref());
    lines.line("Instance number", dicom.instance_number);
    lines.line("Body part", dicom.body_part.as_ref());
    lines.line("Pixels", dicom.columns.zip(dicom.rows).map(|(width, height)| format!("{width} x {height}")));
    lines.line("Frames", dicom.frames);
}
