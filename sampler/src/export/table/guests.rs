//! The guests, a line each, and below one its vCPUs.

use std::fmt::Write as _;

use super::{
    TableOptions,
    cells::ABSENT,
    columns::{self, Column},
    line::{Line, Of},
};
use crate::{
    export::terminal,
    model::{Snapshot, State, Vcpu, Vm, view},
};

/// Columns of text that a line takes where nobody chose what it shows.
const LINE: usize = 120;

/// What stands above the names.
const GUEST: &str = "GUEST";

/// The guests of a snapshot that are shown.
pub(super) struct Table<'a> {
    /// Guests, the one that was denied most first; behind each its vCPUs, if they are shown.
    lines: Vec<Line<'a>>,
    guests_left_out: usize,
    columns: Vec<&'static Column>,
    without_room: Vec<&'static Column>,
    shows_vcpus: bool,
    name_columns: usize,
    text_columns: usize,
}

impl<'a> Table<'a> {
    pub(super) fn of(snapshot: &'a Snapshot, options: &TableOptions) -> Self {
        let mut rated = view::by_denied(snapshot);
        let shown = options.max_guests.unwrap_or(rated.len()).min(rated.len());
        let guests_left_out = rated.len() - shown;
        rated.truncate(shown);
        let mut lines = Vec::new();
        for guest in rated {
            let vcpus = if options.vcpus { &*guest.vm.vcpus } else { &[] };
            lines.push(Line::of_vm(guest, snapshot.interval_ns));
            lines.extend(vcpus.iter().map(Line::of_vcpu));
        }
        let names = lines.iter().map(|line| terminal::columns_of(&line.name));
        let name_columns = names.fold(GUEST.len(), usize::max);
        let mut table = Self {
            lines,
            guests_left_out,
            columns: options.columns.clone(),
            without_room: Vec::new(),
            shows_vcpus: options.vcpus,
            name_columns,
            text_columns: usize::MAX,
        };
        if table.columns.is_empty() {
            table.choose_columns();
        }
        table
    }

    fn choose_columns(&mut self) {
        let room = LINE.saturating_sub(self.name_columns);
        let chosen = columns::choose(&self.lines, &self.states(), room);
        let text = chosen.shown.iter().find(|column| column.is_text());
        self.text_columns = text.map_or(0, |column| column.width + chosen.left);
        (self.columns, self.without_room) = (chosen.shown, chosen.left_out);
    }

    /// The guests that are shown, with their names.
    pub(super) fn guests(&self) -> impl Iterator<Item = (&'a Vm, &str)> {
        self.lines.iter().filter_map(|line| match line.of {
            Of::Vm(vm) => Some((vm, line.name.as_str())),
            Of::Vcpu(_) => None,
        })
    }

    /// The states that any vCPU knows.
    fn states(&self) -> Vec<State> {
        let vcpus = || self.guests().flat_map(|(vm, _)| &vm.vcpus);
        let is_rated = vcpus().any(|vcpu| vcpu.interval.is_some());
        let knows = |vcpu: &Vcpu, state| {
            let states =
                if is_rated { vcpu.interval.map(|interval| interval.states) } else { Some(vcpu.states) };
            states.is_some_and(|states| states.get(state).is_some())
        };
        // A column of its own only where a quota ran out: few hosts have any.
        let throttled = |line: &Line<'_>| line.rates.and_then(|rates| rates.percent(State::Throttled));
        let quota_ran_out =
            self.lines.iter().any(|line| throttled(line).is_some_and(|percent| percent > 0.0));
        let is_shown = |state| state != State::Throttled || quota_ran_out;
        State::ALL
            .into_iter()
            .filter(|&state| is_shown(state) && vcpus().any(|vcpu| knows(vcpu, state)))
            .collect()
    }

    pub(super) fn write(&self, text: &mut String) {
        let cell =
            |column: &Column, line| column.cell(line, self.text_columns).unwrap_or_else(|| ABSENT.to_owned());
        let row = |line| self.columns.iter().map(|column| cell(column, line)).collect();
        let rows: Vec<Vec<String>> = self.lines.iter().map(row).collect();
        let headings: Vec<String> = self.columns.iter().map(|column| self.heading(column)).collect();
        let width = |n: usize| {
            let cells = rows.iter().map(|row| terminal::columns_of(&row[n]));
            cells.chain([headings[n].len(), self.columns[n].width]).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        self.write_line(text, GUEST, &headings, &widths);
        for (line, row) in self.lines.iter().zip(&rows) {
            self.write_line(text, &line.name, row, &widths);
        }
        if self.guests_left_out > 0 {
            let guests = terminal::count(self.guests_left_out, "guest");
            let _ = writeln!(text, "… and {guests} that were denied less");
        }
        text.push('\n');
        self.write_legend(text);
    }

    fn heading(&self, column: &Column) -> String {
        let or_thread = if self.shows_vcpus && column.key == columns::PID { "/TID" } else { "" };
        format!("{}{or_thread}", column.heading)
    }

    fn write_line(&self, text: &mut String, name: &str, cells: &[String], widths: &[usize]) {
        // Padding by hand: the formatter counts characters, a terminal columns.
        let padding = |cell: &str, width: usize| width.saturating_sub(terminal::columns_of(cell));
        let mut line = format!("{name}{:width$}", "", width = padding(name, self.name_columns));
        for ((column, cell), width) in self.columns.iter().zip(cells).zip(widths) {
            let (gap, padding) = (column.gap(), padding(cell, *width));
            let _ = match column.is_text() {
                true => write!(line, "{:gap$}{cell}{:padding$}", "", ""),
                false => write!(line, "{:gap$}{:padding$}{cell}", "", ""),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }

    fn write_legend(&self, text: &mut String) {
        for same in self.columns.chunk_by(|a, b| a.help == b.help).filter(|same| !same[0].help.is_empty()) {
            let headings: Vec<_> = same.iter().map(|column| column.heading).collect();
            let _ = writeln!(text, "{}: {}", headings.join(", "), same[0].help);
        }
        if !self.without_room.is_empty() {
            let keys: Vec<_> = self.without_room.iter().map(|column| column.key).collect();
            let _ = writeln!(text, "Without room in {LINE} columns, see --columns: {}.", keys.join(", "));
        }
    }
}
