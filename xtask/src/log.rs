//! What Wine said while a driver was loaded.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::LazyLock;

use anyhow::{Result, bail};
use regex::Regex;

/// What the batch file echoes first.
pub const BEGUN: &str = "xtask: begun";
/// What it echoes, with an error level behind it.
pub const STARTED: &str = "xtask: started";
pub const STOPPED: &str = "xtask: stopped";
/// What it echoes when the commands are over.
pub const RAN: &str = "xtask: ran";

/// Lines of the log that a failure shows.
const TAIL: usize = 20;

/// A line by DbgPrint: process, thread, component, level, text.
static PRINTED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^(?:[0-9a-f]+:){2}warn:debugstr:\w+ ([0-9a-f]{8}:[0-9a-f]{8}): (.*)$").expect("a regex")
});
static NUMBER: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r" #(\d+)\.(\d+)(?:/(\d+))?$").expect("a regex"));
static ALLOCATED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^(\w+):\w+:trace:ntoskrnl:ExAllocatePoolWithTag (\d+) pool (\d+) -> (\w+)$")
        .expect("a regex")
});
static FREED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^(\w+):\w+:trace:ntoskrnl:ExFreePoolWithTag (\w+)$").expect("a regex"));

/// `DPFLTR_IHVDRIVER_ID` and `DPFLTR_ERROR_LEVEL` of dpfilter.h; Wine shows a level as a bit.
const SHOWN: &str = "0000004d:00000001";

/// What a driver's process has allocated and not freed.
pub type Leftovers = Vec<usize>;

pub struct Log {
    /// What commands printed.
    console: String,
    /// What Wine and the driver said.
    debug: String,
}

impl Log {
    pub fn of(console: &[u8], debug: &[u8]) -> Self {
        let text = |bytes| String::from_utf8_lossy(bytes).replace('\r', "");
        Self { console: text(console), debug: text(debug) }
    }

    /// All that the batch file printed.
    pub fn console(&self) -> &str {
        &self.console
    }

    /// Whether the batch file was run.
    pub fn has_begun(&self) -> bool {
        self.console.contains(BEGUN)
    }

    /// The lines that commands printed.
    pub fn commands(&self) -> impl Iterator<Item = &str> {
        let lines = self.console.lines().skip_while(|line| !line.starts_with(STARTED)).skip(1);
        lines.take_while(|line| !line.starts_with(RAN))
    }

    /// What Wine and the driver said.
    pub fn debug(&self) -> &str {
        &self.debug
    }

    /// The lines that the driver has printed.
    pub fn printed(&self) -> impl Iterator<Item = &str> {
        self.debug.lines().filter_map(|line| Some(PRINTED.captures(line)?.get(2)?.as_str()))
    }

    /// memtrack's lines, without their prefix and their numbers.
    pub fn memtrack(&self) -> Vec<&str> {
        let lines = self.printed().filter_map(|line| line.strip_prefix("memtrack: "));
        lines.map(|line| NUMBER.find(line).map_or(line, |number| &line[..number.start()])).collect()
    }

    /// An error unless the driver was loaded and unloaded, and nothing went wrong in between.
    pub fn is_clean(&self) -> Result<()> {
        let trouble = ["Unhandled", "Unimplemented function", "KeBugCheckEx", "stack overflow"];
        let is_trouble =
            |line: &&str| trouble.iter().any(|word| line.contains(word)) && !PRINTED.is_match(line);
        if let Some(line) = self.debug.lines().find(is_trouble) {
            bail!("the driver was stopped: {line}\n{}", self.tail());
        }
        if !self.has_begun() {
            bail!("Wine did not begin to load the driver\n{}", self.tail());
        }
        for (step, word) in [("loaded", STARTED), ("unloaded", STOPPED)] {
            match self.error_level(word) {
                Some("0") => {}
                Some(_)
                    if self.debug.contains("request timeout") || self.console.contains("request timeout") =>
                {
                    bail!("the driver was not {step}: it did not come back in time\n{}", self.tail())
                }
                Some(level) => bail!("the driver was not {step}: error level {level}\n{}", self.tail()),
                None => bail!("the driver was not {step} in time\n{}", self.tail()),
            }
        }
        Ok(())
    }

    /// An error unless every record of memtrack's is whole: all of its lines, and no record missing; and unless each line
    /// is one that Windows shows.
    pub fn is_whole(&self) -> Result<()> {
        for line in self.debug.lines().filter_map(|line| PRINTED.captures(line)) {
            let (_, [level, text]) = line.extract();
            if text.starts_with("memtrack: ") && level != SHOWN {
                bail!("printed as {level}, which Windows throws away: {text}");
            }
        }
        let mut records: BTreeMap<u64, (Vec<u64>, Option<u64>)> = BTreeMap::new();
        for line in self.printed().filter(|line| line.starts_with("memtrack: ")) {
            let Some(numbers) = NUMBER.captures(line) else { bail!("a line without its number: {line}") };
            let number = |group| numbers.get(group).and_then(|text| text.as_str().parse().ok());
            let (Some(record), Some(place)) = (number(1), number(2)) else { bail!("no numbers: {line}") };
            let (places, last) = records.entry(record).or_default();
            places.push(place);
            *last = last.or(number(3));
        }
        for (expected, (record, (mut places, last))) in (1..).zip(records) {
            places.sort_unstable();
            if record != expected
                || last != Some(places.len() as u64)
                || places.iter().copied().ne(1..=places.len() as u64)
            {
                bail!("record {record} is not whole, or {expected} is missing: lines {places:?} of {last:?}");
            }
        }
        Ok(())
    }

    /// The sizes of blocks that each process of a traced run has allocated and not freed, in order.
    pub fn leftovers(&self) -> Vec<Leftovers> {
        let mut processes: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
        let mut order = Vec::new();
        for line in self.debug.lines() {
            if let Some((_, [process, bytes, _, block])) =
                ALLOCATED.captures(line).map(|found| found.extract())
            {
                if !order.contains(&process) {
                    order.push(process);
                }
                processes.entry(process).or_default().insert(block, bytes.parse().unwrap_or(0));
            } else if let Some((_, [process, block])) = FREED.captures(line).map(|found| found.extract())
                && let Some(blocks) = processes.get_mut(process)
            {
                blocks.remove(block);
            }
        }
        let sizes = |process| {
            let mut sizes: Leftovers = processes[process].values().copied().collect();
            sizes.sort_unstable();
            sizes
        };
        order.into_iter().map(sizes).collect()
    }

    /// The sizes of blocks that drivers have taken from paged pool in a traced run, as the stand-in asks Wine for them: with a
    /// page more. Wine's own are smaller.
    pub fn paged(&self) -> Vec<usize> {
        const PAGED_POOL: &str = "1";
        let allocated = self.debug.lines().filter_map(|line| ALLOCATED.captures(line));
        let paged = allocated.map(|found| found.extract()).filter(|(_, [_, _, pool, _])| *pool == PAGED_POOL);
        paged.filter_map(|(_, [_, bytes, _, _])| bytes.parse().ok()).filter(|bytes| *bytes > 4096).collect()
    }

    fn error_level(&self, word: &str) -> Option<&str> {
        self.console.lines().find_map(|line| line.strip_prefix(word)).map(str::trim)
    }

    /// The end of what was said, for a person to read.
    pub fn tail(&self) -> String {
        let mut tail = String::from("The log ends:");
        for text in [&self.console, &self.debug] {
            // What Wine's kernel lacks stands in every log. A driver that calls it is stopped, and that says which.
            let is_telling = |line: &&str| !line.trim().is_empty() && !line.contains("No implementation for");
            let lines: Vec<&str> = text.lines().filter(is_telling).collect();
            for line in &lines[lines.len().saturating_sub(TAIL)..] {
                let _ = write!(tail, "\n    {line}");
            }
        }
        tail
    }
}
