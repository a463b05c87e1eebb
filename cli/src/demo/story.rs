//! What people read while the demo runs.

use std::cell::Cell;
use std::io::Write as _;
use std::time::Instant;

use comfy_table::{Table, presets};

use crate::output;

/// Tells the story: on standard output, or on standard error where standard output is for the document.
pub struct Story {
    aside: bool,
    started: Instant,
    steps: Cell<u32>,
}

impl Story {
    /// `json`: standard output belongs to the document.
    pub fn new(json: bool) -> Story {
        Story {
            aside: json,
            started: Instant::now(),
            steps: Cell::new(0),
        }
    }

    /// The next chapter.
    pub fn step(&self, text: &str) {
        self.steps.set(self.steps.get() + 1);
        let seconds = self.started.elapsed().as_secs_f32();
        self.line(&format!("[{seconds:5.1}s] {}. {text}", self.steps.get()));
    }

    /// Something within a chapter.
    pub fn detail(&self, text: &str) {
        for line in text.lines() {
            self.line(&format!("         {line}"));
        }
    }

    /// A table within a chapter. Cells are escaped: some come from hosts.
    pub fn table(&self, header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(header.to_vec());
        for row in rows {
            table.add_row(row.iter().map(|cell| output::clean(cell)));
        }
        self.detail(&table.to_string());
    }

    /// An assertion and how it ended.
    pub fn assertion(&self, name: &str, problem: Option<&str>) {
        match problem {
            None => self.line(&format!("   ok    {name}")),
            Some(problem) => self.line(&format!("   FAIL  {name}: {problem}")),
        }
    }

    /// The verdict.
    pub fn verdict(&self, text: &str) {
        self.line("");
        self.line(text);
    }

    /// What stopped the demo; always on standard error.
    pub fn problem(&self, text: &str) {
        let _ = writeln!(anstream::stderr(), "demo: {text}");
    }

    /// A demo goes on, and cleans up, also when nobody listens any more.
    fn line(&self, text: &str) {
        if self.aside {
            let _ = writeln!(anstream::stderr(), "{text}");
        } else {
            let _ = writeln!(anstream::stdout(), "{text}");
        }
    }
}
