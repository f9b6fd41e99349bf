//! The report as text: tables for people, one object of JSON for machines.

use std::fmt::Write;

use ottla_proto::limits::DOCTOR_TABLE_ROWS;

use super::{Check, Finding, PartitionRow, Report};
use crate::doctor::json::Object;
use crate::progress::size;

impl Report {
    fn total(&self) -> PartitionRow {
        let mut total = PartitionRow {
            name: format!("{} partitions", self.rows.len()),
            ..PartitionRow::default()
        };
        for row in &self.rows {
            total.batches += row.batches;
            total.records += row.records;
            total.bytes += row.bytes;
            total.reclaimable_bytes += row.reclaimable_bytes;
        }
        total
    }

    /// The tables. Of many partitions only the damaged ones are listed, unless `all`.
    pub fn text(&self, all: bool) -> String {
        let mut out = String::new();
        let _ = write!(out, "{}", self.folder.display());
        if let (Some(cluster), Some(node)) = (&self.cluster_id, self.node_id) {
            let _ = write!(out, ": cluster {cluster}, node {node}");
        }
        out.push_str("\n\n");
        let every = all || self.rows.len() <= DOCTOR_TABLE_ROWS;
        let listed = self.rows.iter().filter(|row| every || row.findings > 0);
        let mut table = vec![HEADINGS.map(String::from)];
        table.extend(listed.map(|row| cells(row, false)));
        table.push(cells(&self.total(), true));
        write_table(&mut out, &table);
        out.push('\n');
        for check in Check::ALL {
            let verdict = match self.counts[check as usize] {
                0 => "whole".to_owned(),
                1 => "1 finding".to_owned(),
                count => format!("{count} findings"),
            };
            let _ = writeln!(out, "{:<20} {verdict}", check.name());
        }
        out.push('\n');
        for note in &self.notes {
            let _ = writeln!(out, "note: {note}");
        }
        for finding in &self.findings {
            let _ = writeln!(out, "DAMAGED: {finding}");
        }
        if self.more_findings > 0 {
            let _ = writeln!(out, "DAMAGED: {} more findings", self.more_findings);
        }
        let rate = self.read_bytes as f64 / self.elapsed.as_secs_f64().max(0.001) / 1e6;
        let verdict = match self.is_damaged() {
            true => "Damage was found",
            false => "Whole",
        };
        let _ = writeln!(
            out,
            "{verdict}: read {} in {:.1} s, {rate:.0} MB/s; {} of files.",
            size(self.read_bytes),
            self.elapsed.as_secs_f64(),
            size(self.files_bytes)
        );
        out
    }

    pub fn json(&self) -> String {
        let row = |row: &PartitionRow| {
            Object::new()
                .text("partition", &row.name)
                .number("batches", row.batches)
                .number("records", row.records)
                .number("bytes", row.bytes)
                .number("log_start_offset", row.log_start_offset)
                .number("log_end_offset", row.log_end_offset)
                .number("reclaimable_bytes", row.reclaimable_bytes)
                .flag("compacted", row.is_compacted)
                .number("findings", row.findings)
                .end()
        };
        let check = |check: &Check| {
            Object::new()
                .text("check", check.name())
                .number("findings", self.counts[*check as usize])
                .end()
        };
        let note = |note: &String| Object::new().text("detail", note).end();
        let mut text = Object::new()
            .text("folder", &self.folder.display().to_string())
            .maybe_text("cluster_id", self.cluster_id.as_deref())
            .maybe_number("node_id", self.node_id)
            .flag("damaged", self.is_damaged())
            .number("read_bytes", self.read_bytes)
            .number("elapsed_ms", self.elapsed.as_millis() as i128)
            .number("file_bytes", self.files_bytes)
            .number("groups", self.groups)
            .list("checks", Check::ALL.iter().map(check))
            .list("partitions", self.rows.iter().map(row))
            .list("findings", self.findings.iter().map(Finding::json))
            .number("more_findings", self.more_findings)
            .list("notes", self.notes.iter().map(note))
            .end();
        text.push('\n');
        text
    }
}

const HEADINGS: [&str; 8] = [
    "partition",
    "batches",
    "records",
    "bytes",
    "log start",
    "log end",
    "reclaimable",
    "verdict",
];

fn cells(row: &PartitionRow, total: bool) -> [String; 8] {
    let offset = |offset: i64| match total {
        true => String::new(),
        false => offset.to_string(),
    };
    let verdict = match (total, row.findings, row.is_compacted) {
        (true, _, _) => String::new(),
        (_, 0, false) => "whole".into(),
        (_, 0, true) => "whole, compacted".into(),
        _ => "DAMAGED".into(),
    };
    [
        row.name.clone(),
        row.batches.to_string(),
        row.records.to_string(),
        size(row.bytes),
        offset(row.log_start_offset),
        offset(row.log_end_offset),
        size(row.reclaimable_bytes),
        verdict,
    ]
}

fn write_table(out: &mut String, table: &[[String; 8]]) {
    let mut widths = [0; 8];
    for line in table {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for line in table {
        let _ = write!(out, "{:<1$}", line[0], widths[0]);
        for (cell, width) in line[1..7].iter().zip(&widths[1..7]) {
            let _ = write!(out, "  {cell:>width$}");
        }
        let _ = writeln!(out, "  {}", line[7]);
        let kept = out.trim_end_matches([' ', '\n']).len();
        out.truncate(kept);
        out.push('\n');
    }
}
