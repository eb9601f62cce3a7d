//! What memtrack costs, side by side with its peers: each a program of its own, all run in turns.
//!
//! ```text
//! cargo bench --manifest-path benches/peers/Cargo.toml                 # the tables
//! cargo bench --manifest-path benches/peers/Cargo.toml -- --write      # and docs/performance.md, with its plot
//! cargo bench --manifest-path benches/peers/Cargo.toml -- --test       # that all of it runs
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use comfy_table::{CellAlignment, Table, presets};
use plotters::prelude::*;

/// Where the host's C library has its own checks, and LeakSanitizer is, on Debian.
const MALLOC_DEBUG: &str = "/usr/lib/x86_64-linux-gnu/libc_malloc_debug.so.0";
const LEAK_SANITIZER: &str = "/usr/lib/x86_64-linux-gnu/liblsan.so.0";
const VALGRIND: &str = "/usr/bin/valgrind";

/// A column of the table: a program, and how it is run.
#[derive(Clone, Copy)]
struct Variant {
    name: &'static str,
    program: &'static str,
    mode: &'static str,
    environment: &'static [(&'static str, &'static str)],
    /// Without this file it cannot be run.
    needs: Option<(&'static str, &'static str)>,
    /// Whether its instructions are counted.
    is_counted: bool,
}

const fn peer(name: &'static str, program: &'static str) -> Variant {
    Variant { name, program, mode: "", environment: &[], needs: None, is_counted: false }
}

const fn ours(name: &'static str, mode: &'static str) -> Variant {
    Variant { mode, is_counted: true, ..peer(name, env!("CARGO_BIN_EXE_memtrack")) }
}

const PLAIN: &str = "malloc";
const OFF: &str = "memtrack, off";
const TRACKED: &str = "memtrack, no guard";
const TAIL: &str = "memtrack, tail guard";
const HELD: &str = "memtrack, tail guard and quarantine";

const VARIANTS: [Variant; 14] = [
    Variant { is_counted: true, ..peer(PLAIN, env!("CARGO_BIN_EXE_plain")) },
    Variant { is_counted: true, ..peer(OFF, env!("CARGO_BIN_EXE_off")) },
    ours(TRACKED, "tracked"),
    ours(TAIL, "tail"),
    ours("memtrack, full guard", "full"),
    ours(HELD, "tail + quarantine"),
    ours("memtrack, full guard and quarantine", "full + quarantine"),
    peer("stats_alloc", env!("CARGO_BIN_EXE_stats_alloc")),
    peer("cap", env!("CARGO_BIN_EXE_cap")),
    peer("re_memory", env!("CARGO_BIN_EXE_re_memory")),
    peer("tracking-allocator", env!("CARGO_BIN_EXE_tracking")),
    Variant {
        environment: &[("LD_PRELOAD", MALLOC_DEBUG), ("MALLOC_CHECK_", "3")],
        needs: Some((MALLOC_DEBUG, "apt-get install libc6")),
        ..peer("MALLOC_CHECK_=3", env!("CARGO_BIN_EXE_plain"))
    },
    Variant {
        environment: &[("LD_PRELOAD", LEAK_SANITIZER)],
        needs: Some((LEAK_SANITIZER, "apt-get install liblsan0")),
        ..peer("LeakSanitizer", env!("CARGO_BIN_EXE_plain"))
    },
    peer("dhat", env!("CARGO_BIN_EXE_dhat")),
];

/// Blocks live on each thread, and threads.
const SETTINGS: [(usize, usize); 6] = [FEW, (100_000, 1), MANY, TWO_THREADS, (50_000, 2), (500_000, 2)];
const FEW: (usize, usize) = (1_000, 1);
const MANY: (usize, usize) = (1_000_000, 1);
const TWO_THREADS: (usize, usize) = (1_000, 2);

impl Variant {
    fn is_there(&self) -> bool {
        self.needs.is_none_or(|(file, _)| Path::new(file).exists())
    }

    fn command(&self, (live, threads): (usize, usize)) -> Vec<String> {
        let mut command = vec![self.program.to_owned()];
        if !self.mode.is_empty() {
            command.extend(["--mode".to_owned(), self.mode.to_owned()]);
        }
        command.extend(["--live".to_owned(), live.to_string(), "--threads".to_owned(), threads.to_string()]);
        command
    }

    /// Nanoseconds of a pair.
    fn run(&self, setting: (usize, usize), pairs: Option<usize>) -> Result<f64> {
        let [program, arguments @ ..] = &self.command(setting)[..] else { bail!("no program") };
        let mut command = Command::new(program);
        command.args(arguments).envs(self.environment.iter().copied());
        // What LeakSanitizer finds at the end is not the question.
        command.env("LSAN_OPTIONS", "detect_leaks=0");
        if let Some(pairs) = pairs {
            command.args(["--pairs", &pairs.to_string()]);
        }
        printed(&mut command).with_context(|| self.name)
    }

    /// Instructions of so many pairs, function by function.
    fn instructions(&self, pairs: usize) -> Result<Profile> {
        let counts = std::env::temp_dir().join(format!("memtrack-peers-{}", std::process::id()));
        let mut command = Command::new("valgrind");
        command.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", counts.display()));
        said(command.args(self.command(FEW)).args(["--pairs", &pairs.to_string()]))?;
        let lines =
            said(Command::new("callgrind_annotate").args(["--auto=no", "--threshold=100"]).arg(&counts));
        fs::remove_file(&counts)?;
        Ok(profile(&lines?))
    }

    /// The same of one pair, by the difference of two runs, which does away with the beginning and the end.
    fn profile(&self, pairs: usize) -> Result<Profile> {
        let once = self.instructions(pairs)?;
        let mut twice = self.instructions(2 * pairs)?;
        for (function, count) in &mut twice {
            *count = (*count - once.get(function).unwrap_or(&0.0)) / pairs as f64;
        }
        Ok(twice)
    }
}

/// Instructions by function.
type Profile = BTreeMap<String, f64>;

/// What `callgrind_annotate` says, a line for each function in each file that code of it comes from:
/// `1,234 ( 5.6%)  file:function [program]`.
fn profile(lines: &str) -> Profile {
    let mut profile = Profile::new();
    for line in lines.lines() {
        let Some((count, function)) = line.split_once("%)  ") else { continue };
        let Some((count, _)) = count.split_once(" (") else { continue };
        let Some((_, function)) = function.split_once(':') else { continue };
        let Ok(count) = count.trim().replace(',', "").parse::<f64>() else { continue };
        let function = function.split_once(" [").map_or(function, |(function, _)| function);
        *profile.entry(short(function)).or_default() += count;
    }
    profile
}

/// `memtrack_rt::request::<impl memtrack_rt::tracker::Tracker<P>>::allocate` as `request::allocate`.
fn short(function: &str) -> String {
    let name =
        match function.split_once("<impl ").and_then(|(path, rest)| Some((path, rest.rsplit_once(">::")?))) {
            Some((path, (_, name))) => format!("{path}{name}"),
            None => function.to_owned(),
        };
    name.trim_start_matches("memtrack_rt::").to_owned()
}

/// What a command prints.
fn said(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn printed(command: &mut Command) -> Result<f64> {
    Ok(said(command)?.trim().parse()?)
}

/// What was measured: medians by setting and name.
struct Measured {
    pairs: BTreeMap<(usize, usize), BTreeMap<&'static str, f64>>,
    profiles: BTreeMap<&'static str, Profile>,
    /// Nanoseconds of a locked instruction.
    locked: f64,
    /// Bytes of the tracker's own for each live block, by live blocks.
    memory: Vec<(usize, f64)>,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let measured = if has("--test") { measure(1, Some(2_000), 2_000)? } else { measure(9, None, 50_000)? };
    let report = report(&measured)?;
    println!("{report}");
    if has("--write") {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
        write_page(&docs.join("performance.md"), &report)?;
        plot(&docs.join("performance.svg"), &measured)?;
    }
    Ok(())
}

fn measure(rounds: usize, pairs: Option<usize>, counted: usize) -> Result<Measured> {
    let mut runs: BTreeMap<_, BTreeMap<&str, Vec<f64>>> = BTreeMap::new();
    for _ in 0..rounds {
        for setting in SETTINGS {
            for variant in VARIANTS.iter().filter(|variant| variant.is_there()) {
                let nanoseconds = variant.run(setting, pairs)?;
                runs.entry(setting).or_default().entry(variant.name).or_default().push(nanoseconds);
            }
        }
    }
    let medians =
        |runs: BTreeMap<_, Vec<f64>>| runs.into_iter().map(|(name, runs)| (name, median(runs))).collect();
    let pairs = runs.into_iter().map(|(setting, runs)| (setting, medians(runs))).collect();
    let mut profiles = BTreeMap::new();
    if Path::new(VALGRIND).exists() {
        for variant in VARIANTS.iter().filter(|variant| variant.is_counted) {
            profiles.insert(variant.name, variant.profile(counted)?);
        }
    }
    let locked = || printed(Command::new(env!("CARGO_BIN_EXE_memtrack")).args(["--mode", "locked"]));
    let locked = median((0..rounds).map(|_| locked()).collect::<Result<_>>()?);
    let mut memory = Vec::new();
    for live in [10_000, 100_000, 1_000_000] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_memtrack"));
        let own = printed(command.args(["--mode", "memory", "--live", &live.to_string()]))?;
        memory.push((live, own / live as f64));
    }
    Ok(Measured { pairs, profiles, locked, memory })
}

fn median(mut runs: Vec<f64>) -> f64 {
    runs.sort_by(f64::total_cmp);
    runs[runs.len() / 2]
}

fn report(measured: &Measured) -> Result<String> {
    let mut report = String::new();
    writeln!(
        report,
        "Nanoseconds of one allocation and its free, and how many times malloc's:\n\n{}\n",
        times(measured, 1)?
    )?;
    writeln!(report, "The same on each of two threads at once:\n\n{}\n", times(measured, 2)?)?;
    if measured.profiles.is_empty() {
        writeln!(report, "Instructions were not counted: `apt-get install valgrind`.\n")?;
    } else {
        writeln!(report, "Instructions of a pair, 1,000 blocks live:\n\n{}\n", instructions(measured))?;
        writeln!(report, "Where those of {TAIL} are:\n\n{}\n", functions(measured)?)?;
    }
    writeln!(report, "A locked instruction that nobody disputes: {:.1} ns.\n", measured.locked)?;
    writeln!(
        report,
        "memtrack's own memory, the first table in its static apart:\n\n{}\n",
        memory(measured)
    )?;
    writeln!(report, "Targets:\n\n{}", targets(measured)?)?;
    for (file, how) in VARIANTS.iter().filter_map(|variant| variant.needs) {
        if !Path::new(file).exists() {
            writeln!(report, "\nNot run, for want of {file}: `{how}`.")?;
        }
    }
    Ok(report)
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn times(measured: &Measured, threads: usize) -> Result<Table> {
    let mut table = table(match threads {
        1 => ["", "1,000 live", "100,000 live", "1,000,000 live"],
        _ => ["", "1,000 live on each", "50,000 live on each", "500,000 live on each"],
    });
    for variant in VARIANTS.iter().filter(|variant| variant.is_there()) {
        let mut row = vec![variant.name.to_owned()];
        for setting in SETTINGS.into_iter().filter(|setting| setting.1 == threads) {
            let own = measured.pair(setting, variant.name)?;
            row.push(format!("{own:.1}  {:.2}", own / measured.pair(setting, PLAIN)?));
        }
        table.add_row(row);
    }
    Ok(table)
}

fn instructions(measured: &Measured) -> Table {
    let mut table = table(["", "instructions"]);
    for variant in VARIANTS.iter().filter(|variant| variant.is_counted) {
        if let Some(count) = measured.instructions(variant.name) {
            table.add_row([variant.name.to_owned(), format!("{count:.0}")]);
        }
    }
    table
}

/// The functions that have a hundredth or more of a tracked pair.
fn functions(measured: &Measured) -> Result<Table> {
    let profile = measured.profiles.get(TAIL).context("no profile")?;
    let all: f64 = profile.values().sum();
    let mut functions: Vec<_> = profile.iter().filter(|(_, count)| **count >= all / 100.0).collect();
    functions.sort_by(|one, other| other.1.total_cmp(one.1));
    let mut table = table(["", "instructions", "of all"]);
    for (function, count) in functions {
        let part = format!("{:.0} %", count / all * 100.0);
        table.add_row([format!("`{function}`"), format!("{count:.0}"), part]);
    }
    Ok(table)
}

fn memory(measured: &Measured) -> Table {
    let mut table = table(["live blocks", "bytes for each"]);
    for (live, bytes) in &measured.memory {
        table.add_row([live.to_string(), format!("{bytes:.1}")]);
    }
    table
}

impl Measured {
    fn pair(&self, setting: (usize, usize), name: &str) -> Result<f64> {
        let pairs = self.pairs.get(&setting).and_then(|pairs| pairs.get(name));
        pairs.copied().with_context(|| format!("{name} was not run"))
    }

    fn instructions(&self, name: &str) -> Option<f64> {
        self.profiles.get(name).map(|profile| profile.values().sum())
    }

    fn added(&self, setting: (usize, usize), name: &str) -> Result<f64> {
        Ok(self.pair(setting, name)? - self.pair(setting, PLAIN)?)
    }
}

fn targets(measured: &Measured) -> Result<Table> {
    let mut table = table(["", "target", "measured", ""]);
    let mut row = |what: String, target: String, found: f64, is_met: bool| {
        table.add_row([
            what,
            target,
            format!("{found:.2}"),
            if is_met { "met" } else { "missed" }.to_owned(),
        ]);
    };
    let ratio = |name| Ok::<_, anyhow::Error>(measured.pair(FEW, name)? / measured.pair(FEW, PLAIN)?);
    for (name, most) in [(TAIL, 2.0), (HELD, 3.0)] {
        row(format!("{name}, times malloc"), format!("at most {most}"), ratio(name)?, ratio(name)? <= most);
    }
    let throughput = 2.0 * measured.pair(FEW, TAIL)? / measured.pair(TWO_THREADS, TAIL)?;
    row(
        "throughput of two threads, times one's".to_owned(),
        "at least 1.7".to_owned(),
        throughput,
        throughput >= 1.7,
    );
    let growth = measured.added(MANY, TAIL)? / measured.added(FEW, TAIL)?;
    row(
        "added cost at 1,000,000, times that at 1,000".to_owned(),
        "at most 3".to_owned(),
        growth,
        growth <= 3.0,
    );
    for other in ["tracking-allocator", "MALLOC_CHECK_=3", "LeakSanitizer", "dhat"] {
        if let Ok(theirs) = measured.pair(FEW, other) {
            let times = measured.pair(FEW, TAIL)? / theirs;
            row(format!("{TAIL}, times {other}"), "below 1".to_owned(), times, times < 1.0);
        }
    }
    if let (Some(plain), Some(off)) = (measured.instructions(PLAIN), measured.instructions(OFF)) {
        row(
            "off, times malloc, in instructions".to_owned(),
            "1".to_owned(),
            off / plain,
            (off / plain - 1.0).abs() < 0.005,
        );
    }
    for (live, bytes) in &measured.memory {
        row(format!("bytes for each of {live} live blocks"), "at most 48".to_owned(), *bytes, *bytes <= 48.0);
    }
    Ok(table)
}

const BEGIN: &str = "<!-- as `--write` measured it -->";
const END: &str = "<!-- until here -->";

fn write_page(page: &Path, report: &str) -> Result<()> {
    let text = fs::read_to_string(page)?;
    let (before, rest) = text.split_once(BEGIN).context("the page has no place for the tables")?;
    let (_, after) = rest.split_once(END).context("the page has no end of the tables")?;
    Ok(fs::write(page, format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", report.trim()))?)
}

/// Cost against live blocks.
fn plot(file: &PathBuf, measured: &Measured) -> Result<()> {
    const SHOWN: [&str; 7] =
        [PLAIN, TRACKED, TAIL, HELD, "tracking-allocator", "MALLOC_CHECK_=3", "LeakSanitizer"];
    let lives: Vec<usize> =
        SETTINGS.iter().filter(|(_, threads)| *threads == 1).map(|(live, _)| *live).collect();
    let shown = SHOWN.iter().filter(|name| measured.pair(FEW, name).is_ok());
    let highest = shown.clone().filter_map(|name| measured.pair(MANY, name).ok()).fold(0.0, f64::max);
    let area = SVGBackend::new(file, (860, 480)).into_drawing_area();
    area.fill(&WHITE)?;
    let (first, last) = (lives[0] as f64, lives[lives.len() - 1] as f64);
    let mut chart = ChartBuilder::on(&area)
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d((first..last).log_scale(), (10.0..highest * 1.2).log_scale())?;
    chart.configure_mesh().x_desc("live blocks").y_desc("ns of an allocation and its free").draw()?;
    for (place, name) in shown.enumerate() {
        let color = Palette99::pick(place).to_rgba();
        let points =
            lives.iter().filter_map(|live| Some((*live as f64, measured.pair((*live, 1), name).ok()?)));
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)).point_size(3))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE)
        .border_style(BLACK)
        .position(SeriesLabelPosition::UpperLeft)
        .draw()?;
    area.present()?;
    Ok(())
}
