//! What holds of memtrack in a loaded driver, and of the drivers' images.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use crate::drivers::{Driver, Profile};
use crate::image::{Image, Section};
use crate::log::Log;
use crate::wine::Wine;
use crate::{requirements, root, workshop};

const DRIVERS: [&str; 3] = ["examples/filemon-sys", "examples/pool-leak-sys", "tests/kernel/exercise"];

/// As much as a frame of memtrack's may take: a kernel stack is 24 KB on x64, and a DPC runs on somebody else's.
const MOST_FRAME_BYTES: u32 = 1024;
/// As much as memtrack may add to an optimised driver.
const MOST_IMAGE_BYTES: usize = 144 * 1024;

/// What commands do to filemon: a program, which it logs, and a library, whose name it forgets to free.
const NAMES: [&str; 3] = [
    r"echo C:\windows\notepad.exe> \\.\Filemon",
    r"echo C:\windows\some.dll> \\.\Filemon",
    r"type \\.\Filemon",
];
const FORGOTTEN: &str = r"C:\windows\some.dll";

// Scenarios of tests/kernel/exercise.
const THREADS: u32 = 1;
const LISTS: u32 = 2;
const PARTLY: u32 = 3;
const BREAK: u32 = 4;
const BREAK_ATTACHED: u32 = 5;
const BUGCHECK: u32 = 6;
const FAULT: u32 = 7;
const HANG: u32 = 8;
const IRQL: u32 = 9;

/// Seconds that a driver gets which is known to hang.
const HANG_SECONDS: u32 = 8;

pub fn run() -> Result<()> {
    requirements::check()?;
    let drivers = Drivers::build()?;
    let mut failures = Vec::new();
    let mut check = |name: &str, result: Result<()>| match result {
        Ok(()) => println!("ok      {name}"),
        Err(error) => {
            println!("FAILED  {name}\n{error:#}");
            failures.push(name.to_owned());
        }
    };

    let wine = Wine::start()?;
    check("the leak of filemon, by its line", leak(&wine, &drivers.filemon_dev));
    check("the same, optimised", leak(&wine, &drivers.filemon));
    check("each of filemon's bugs, by its lines", bugs(&wine, &drivers.filemon_dev));
    check("all of memtrack's memory is back", memory(&wine, &drivers));
    check("the leak of docs/pool-leak.md", pool_leak(&wine, &drivers.pool_leak));
    check("four threads free each other's blocks", threads(&wine, &drivers.exercise));
    check("a driver that is annotated in part", partly(&wine, &drivers.exercise));
    check("a list keeps its depth", lists(&wine, &drivers.exercise));
    check("a list keeps its depth with memtrack off", lists_off(&wine, &drivers.exercise_off));
    check("an IRQL is what it was", irql(&wine, &drivers.exercise));
    check("the policy to break, without a debugger and with one", breaks(&wine, &drivers.exercise));
    check("the policy to stop the machine", bugcheck(&wine, &drivers.exercise));
    check("a driver that faults is reported", fault(&wine, &drivers.exercise));
    check("a driver that hangs is ended and reported", hang(&wine, &drivers.exercise));
    drop(wine);

    check("a driver without a driver model is refused", no_driver_model());
    for (name, image) in drivers.all() {
        check(&format!("the image of {name}"), any_image(image));
    }
    check("memtrack's frames, optimised", frames(&drivers.filemon));
    check("memtrack's statics", statics(&drivers.filemon));
    check("memtrack's size", size(&drivers.filemon, &drivers.filemon_off));
    check("off, nothing of memtrack is left", nothing_left(&drivers));

    if failures.is_empty() { Ok(()) } else { bail!("{} failed: {}", failures.len(), failures.join("; ")) }
}

/// The drivers' sources, as the workspace's own are checked.
pub fn lint() -> Result<()> {
    requirements::check()?;
    DRIVERS.iter().try_for_each(|driver| Driver::at(&root().join(driver))?.lint())
}

/// The drivers, built in the ways that the checks need.
struct Drivers {
    filemon_dev: PathBuf,
    filemon: PathBuf,
    filemon_off: PathBuf,
    pool_leak: PathBuf,
    pool_leak_off: PathBuf,
    /// Without a word of memtrack in its source.
    pool_leak_plain: PathBuf,
    exercise: PathBuf,
    exercise_off: PathBuf,
}

impl Drivers {
    fn build() -> Result<Self> {
        let [filemon, pool_leak, exercise] = DRIVERS.map(|driver| root().join(driver));
        let plain = Driver::at(&plain(&pool_leak)?)?;
        let (filemon, pool_leak, exercise) =
            (Driver::at(&filemon)?, Driver::at(&pool_leak)?, Driver::at(&exercise)?);
        let build = |driver: &Driver, profile: Profile, features: &str, kept: &str| {
            println!("building {kept}");
            driver.build(profile, features, kept)
        };
        Ok(Self {
            filemon_dev: build(&filemon, Profile::Dev, "", "filemon-dev")?,
            exercise: build(&exercise, Profile::Dev, "", "exercise-dev")?,
            filemon: build(&filemon, Profile::Release, "", "filemon")?,
            pool_leak: build(&pool_leak, Profile::Release, "", "pool-leak")?,
            filemon_off: build(&filemon, Profile::Release, "off", "filemon-off")?,
            pool_leak_off: build(&pool_leak, Profile::Release, "off", "pool-leak-off")?,
            exercise_off: build(&exercise, Profile::Release, "off", "exercise-off")?,
            pool_leak_plain: build(&plain, Profile::Release, "", "pool-leak-plain")?,
        })
    }

    fn all(&self) -> [(&'static str, &Path); 8] {
        [
            ("filemon, not optimised", &self.filemon_dev),
            ("filemon", &self.filemon),
            ("filemon, off", &self.filemon_off),
            ("pool-leak", &self.pool_leak),
            ("pool-leak, off", &self.pool_leak_off),
            ("pool-leak without memtrack", &self.pool_leak_plain),
            ("exercise, not optimised", &self.exercise),
            ("exercise, off", &self.exercise_off),
        ]
    }
}

/// A copy of a driver package in which nobody has heard of memtrack.
fn plain(directory: &Path) -> Result<PathBuf> {
    let copy = workshop().join("plain");
    fs::create_dir_all(copy.join("src"))?;
    for file in ["Cargo.toml", "build.rs", "src/lib.rs"] {
        let path = directory.join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        let kept = text.lines().filter(|line| !line.contains("memtrack"));
        let text: String = kept.flat_map(|line| [line, "\n"]).collect();
        fs::write(copy.join(file), text)?;
    }
    let locks = workshop().join("locks/plain");
    fs::create_dir_all(&locks)?;
    fs::copy(root().join("tests/kernel/locks/pool-leak-sys/Cargo.lock"), locks.join("Cargo.lock"))?;
    Ok(copy)
}

fn leak(wine: &Wine, image: &Path) -> Result<()> {
    let log = wine.load(image, "filemon", &[], &NAMES)?;
    sound(&log)?;
    ensure!(
        log.console().contains("run\tC:\\windows\\notepad.exe\t\n"),
        "the log was not read\n{}",
        log.tail()
    );
    let bytes = FORGOTTEN.len();
    let place = Source::read("examples/filemon-sys/src/lib.rs")?.place("fn seen", "ExAllocatePool2", 0)?;
    let most = "C:\\windows\\notepad.exe".len();
    says(
        &log,
        &[
            "Filemon Nonpaged Memory Usage:",
            "   Current: 0 bytes",
            "   Max: 4096 bytes",
            "Filemon Paged Memory Usage:",
            &format!("   Current: {bytes} bytes"),
            &format!("   Max: {most} bytes"),
            "report of Filemon (format 2)",
        ],
    )?;
    let said = [
        "leaks of Filemon (format 2)",
        &format!("leak 1 block {bytes} bytes  src/lib.rs:{place}  ExAllocatePool2 'Fnam' Paged"),
        &format!(
            "leaked 1 block {bytes} bytes at 1 of 2 sites; NonPaged 0 blocks 0 bytes; Paged 1 block {bytes} bytes"
        ),
    ];
    says(&log, &said)?;
    shown("docs/windows.md", &said)?;
    let list = Source::read("examples/filemon/log.rs")?.place("pub fn open", "ExInitialize", 0)?;
    let list = format!("src/../../filemon/log.rs:{list}  ExInitializeNPagedLookasideList 'Flog' NonPaged  ");
    let line = log.memtrack().into_iter().find(|line| line.contains(&list)).context("no line of the list")?;
    ensure!(line.ends_with(", depth 4, cached 1, 0 hits, 1 miss"), "{line}");
    Ok(())
}

fn bugs(wine: &Wine, image: &Path) -> Result<()> {
    let log = wine.load(image, "filemon", &[("Fixed", 1), ("Bugs", 1)], &[])?;
    sound(&log)?;
    let source = Source::read("examples/filemon/bugs.rs")?;
    let at = |function: &str, text: &str, nth| {
        source
            .place(&format!("unsafe fn {function}("), text, nth)
            .map(|place| format!("src/../../filemon/bugs.rs:{place}"))
    };
    let free = |function: &str, nth| at(function, "ExFreePoolWithTag", nth);
    let site = |function: &str| {
        at(function, "allocate", 0).map(|at| format!("{at}  ExAllocatePool2 'Fbug' NonPaged"))
    };
    let paged = at("paged_at_dispatch_level", "ExAllocatePool2", 0)?;
    let expected = [
        format!("overrun 1 byte right of a 44-byte block  {}", site("overrun")?),
        format!("  caught at {} ExFreePoolWithTag; bytes +44: 00 (expected ", free("overrun", 0)?),
        format!("underrun 1 byte left of a 8-byte block  {}", site("underrun")?),
        format!("  caught at {} ExFreePoolWithTag; bytes -1: 5C (expected ", free("underrun", 0)?),
        format!("double free of a 120-byte block  {}", site("double_free")?),
        format!("  freed at {} ExFreePoolWithTag", free("double_free", 0)?),
        format!("  freed again at {} ExFreePoolWithTag; not passed on", free("double_free", 1)?),
        format!("write after free at +8 of a 48-byte block  {}", site("write_after_free")?),
        format!("  freed at {} ExFreePoolWithTag", free("write_after_free", 0)?),
        "  caught by check; bytes +8: 00 00 00 00 00 00 00 00 (expected DF DF DF DF DF DF DF DF)".to_owned(),
        format!("wrong tag 'gubF' for a 64-byte block  {}", site("wrong_tag")?),
        format!("  freed at {} ExFreePoolWithTag; freed with its own tag", free("wrong_tag", 0)?),
        format!("paged request of 96 bytes at IRQL 2  {paged}  ExAllocatePool2 'Fbug' Paged"),
        format!("  asked at {paged} ExAllocatePool2; given nonpaged pool instead"),
    ];
    let lines = log.memtrack();
    for (line, expected) in lines.iter().zip(&expected) {
        // What a guard's byte should be depends on its address.
        ensure!(line.starts_with(expected.as_str()), "{line}\nand not\n{expected}");
    }
    says(&log, &["also 6 violations"])?;
    ensure!(lines.last() == Some(&"also 6 violations"), "the leak report ends otherwise\n{}", log.tail());
    Ok(())
}

/// With memtrack, the same blocks are left in the driver's process as without.
fn memory(wine: &Wine, drivers: &Drivers) -> Result<()> {
    let leftovers = |image: &Path| -> Result<_> {
        let log = wine.load_traced(image, "filemon", &[("Fixed", 1)], &NAMES)?;
        sound(&log)?;
        Ok((log.leftovers(), log.memtrack().len()))
    };
    let (tracked, lines) = leftovers(&drivers.filemon)?;
    let (off, no_lines) = leftovers(&drivers.filemon_off)?;
    ensure!(lines > 0 && no_lines == 0, "{lines} lines tracked, {no_lines} off");
    ensure!(off.len() > 2, "the trace has no pool calls");
    ensure!(tracked == off, "left tracked: {tracked:?}\nleft off:     {off:?}");
    Ok(())
}

/// An error unless a page shows these lines of memtrack's.
fn shown(page: &str, lines: &[&str]) -> Result<()> {
    let text = fs::read_to_string(root().join(page))?;
    for line in lines {
        ensure!(text.contains(line), "{page} shows another line than\n{line}");
    }
    Ok(())
}

fn pool_leak(wine: &Wine, image: &Path) -> Result<()> {
    let log = wine.load_traced(image, "pool-leak", &[], &[])?;
    sound(&log)?;
    // The driver takes none, so this would be memtrack's, which is used at DISPATCH_LEVEL.
    ensure!(log.paged().is_empty(), "paged pool was taken: {:?} bytes", log.paged());
    let place =
        Source::read("examples/pool-leak-sys/src/lib.rs")?.place("fn add_device", "ExAllocatePool2", 0)?;
    let leak = format!("leak 1 block 64 bytes  src/lib.rs:{place}  ExAllocatePool2 'Leak' NonPaged");
    says(&log, &["leaks of pool-leak (format 2)", &leak])?;
    shown("docs/pool-leak.md", &[&leak])?;
    Ok(())
}

fn threads(wine: &Wine, image: &Path) -> Result<()> {
    let log = exercised(wine, image, THREADS)?;
    sound(&log)?;
    let source = Source::read("tests/kernel/exercise/src/threads.rs")?;
    for (nth, pool) in ["NonPaged", "Paged"].into_iter().enumerate() {
        let place = source.place("fn work", "ExAllocatePool2", nth)?;
        let site =
            format!("site 0 blocks 0 bytes  src/threads.rs:{place}  ExAllocatePool2 'Thrd' {pool}  max ");
        let lines = log.memtrack();
        let line =
            lines.iter().rfind(|line| line.starts_with(&site)).with_context(|| format!("no line {site}"))?;
        ensure!(line.contains(", total 80000 blocks "), "{line}");
    }
    let place = source.place("pub fn stop", "ExAllocatePool2", 0)?;
    says(
        &log,
        &[
            "leaks of exercise (format 2)",
            &format!("leak 1 block 123 bytes  src/threads.rs:{place}  ExAllocatePool2 'Thrd' NonPaged"),
            "leaked 1 block 123 bytes at 1 of 3 sites; NonPaged 1 block 123 bytes; Paged 0 blocks 0 bytes",
        ],
    )?;
    let reports = log.memtrack().iter().filter(|line| line.starts_with("report of exercise")).count();
    ensure!(reports == 4 * 4 + 1, "{reports} reports");
    Ok(())
}

fn partly(wine: &Wine, image: &Path) -> Result<()> {
    let log = exercised(wine, image, PARTLY)?;
    sound(&log)?;
    ensure!(printed(&log, "exercise: the address came again"), "no address came again\n{}", log.tail());
    says(
        &log,
        &[
            "leaks of exercise (format 2)",
            "no leak: 0 blocks 0 bytes at 0 of 1 site; NonPaged 0 blocks 0 bytes; Paged 0 blocks 0 bytes",
            "also 1 foreign free",
            "also 1 vanished block",
        ],
    )
}

fn lists(wine: &Wine, image: &Path) -> Result<()> {
    let log = exercised(wine, image, LISTS)?;
    sound(&log)?;
    ensure!(printed(&log, "exercise: depth 7, kept 7"), "another depth\n{}", log.tail());
    let depth = ", depth 7, cached 0, 0 hits, 12 misses, deleted";
    ensure!(
        log.memtrack().iter().any(|line| line.ends_with(depth)),
        "no line ends with {depth}\n{}",
        log.tail()
    );
    Ok(())
}

fn lists_off(wine: &Wine, image: &Path) -> Result<()> {
    let log = exercised(wine, image, LISTS)?;
    log.is_clean()?;
    ensure!(printed(&log, "exercise: depth 7, kept 7"), "another depth\n{}", log.tail());
    ensure!(log.memtrack().is_empty(), "memtrack speaks\n{}", log.tail());
    Ok(())
}

fn irql(wine: &Wine, image: &Path) -> Result<()> {
    let log = exercised(wine, image, IRQL)?;
    sound(&log)?;
    ensure!(printed(&log, "exercise: IRQL 2, 2, 2, then 0"), "another IRQL\n{}", log.tail());
    says(&log, &["no leak: 0 blocks 0 bytes"]).or_else(|_| says(&log, &["leaks of exercise (format 2)"]))
}

fn breaks(wine: &Wine, image: &Path) -> Result<()> {
    let log = exercised(wine, image, BREAK)?;
    sound(&log)?;
    says(&log, &["also 1 violation"])?;
    let log = exercised(wine, image, BREAK_ATTACHED)?;
    // STATUS_BREAKPOINT of ntstatus.h: Wine has no debugger to answer it.
    let is_break = |line: &str| line.contains("Unhandled exception 0x80000003");
    ensure!(log.debug().lines().any(is_break), "it did not break\n{}", log.tail());
    Ok(())
}

fn bugcheck(wine: &Wine, image: &Path) -> Result<()> {
    let log = exercised(wine, image, BUGCHECK)?;
    let line = log.debug().lines().find_map(|line| Some(line.split_once("KeBugCheckEx ")?.1));
    let line = line.with_context(|| format!("no bugcheck\n{}", log.tail()))?;
    let numbers: Vec<u64> = line.split(' ').filter_map(|word| u64::from_str_radix(word, 16).ok()).collect();
    let [code, violation, block, text, site] = numbers[..] else { bail!("{line}") };
    let place =
        Source::read("tests/kernel/exercise/src/lib.rs")?.place("pub fn under", "ExAllocatePool2", 0)?;
    let named = format!("{}:{}", site >> 32, site & 0xFFFF_FFFF);
    ensure!((code, violation) == (0x4D45_4D54, 1), "{line}");
    ensure!(named == place, "the fourth parameter is {named}, the site {place}");
    // Windows has nothing below.
    const LOWEST: u64 = 0x10000;
    ensure!(block % 16 == 0 && block > LOWEST && text > LOWEST, "{line}");
    says(
        &log,
        &[&format!(
            "overrun 1 byte right of a 40-byte block  src/lib.rs:{place}  ExAllocatePool2 'Mist' NonPaged"
        )],
    )?;
    ensure!(log.is_clean().is_err(), "a stopped machine passes for a clean run");
    Ok(())
}

fn fault(wine: &Wine, image: &Path) -> Result<()> {
    let Err(error) = exercised(wine, image, FAULT)?.is_clean() else {
        bail!("a fault passes for a clean run")
    };
    let said = error.to_string();
    ensure!(said.contains("Unhandled page fault") && said.contains("The log ends:"), "{said}");
    Ok(())
}

fn hang(wine: &Wine, image: &Path) -> Result<()> {
    let wine = wine.bounded(HANG_SECONDS);
    let Err(error) = exercised(&wine, image, HANG)?.is_clean() else {
        bail!("a hang passes for a clean run")
    };
    ensure!(error.to_string().contains("in time"), "{error}");
    Ok(())
}

fn no_driver_model() -> Result<()> {
    let directory = plain(&root().join("examples/pool-leak-sys"))?;
    let manifest = directory.join("Cargo.toml");
    let text = fs::read_to_string(&manifest)?;
    fs::write(&manifest, text.replace("driver-type = \"WDM\"", ""))?;
    let Err(error) = Driver::at(&directory)?.build(Profile::Release, "", "none") else { bail!("it builds") };
    ensure!(error.to_string().contains("no driver model"), "{error}");
    Ok(())
}

/// What holds of each driver, tracked or not.
fn any_image(path: &Path) -> Result<()> {
    let image = Image::read(path)?;
    for (library, function) in &image.imports {
        ensure!(library == "ntoskrnl.exe", "it imports {function} from {library}");
    }
    ensure!(!image.imports.is_empty(), "it imports nothing");
    ensure!(image.symbols.iter().any(|symbol| symbol.name == "DriverEntry"), "its map is not read");
    let probe = image.symbols.iter().find(|symbol| symbol.name.contains("chkstk"));
    ensure!(probe.is_none(), "a frame is larger than a page: it has a stack probe");
    Ok(())
}

fn frames(path: &Path) -> Result<()> {
    let image = Image::read(path)?;
    let frames = image.frames()?;
    let ours: Vec<_> = frames.iter().filter(|(name, _)| name.contains("memtrack")).collect();
    ensure!(ours.len() > 20, "only {} functions of memtrack's have frames", ours.len());
    let (name, largest) = ours.iter().max_by_key(|(_, frame)| frame.bytes).context("no frames")?;
    println!("        the largest of {}: {} bytes, {name}", ours.len(), largest.bytes);
    ensure!(largest.bytes <= MOST_FRAME_BYTES, "{name} takes {} bytes of stack", largest.bytes);
    Ok(())
}

/// What memtrack keeps is written to at DISPATCH_LEVEL.
fn statics(path: &Path) -> Result<()> {
    let image = Image::read(path)?;
    let tracker = image.symbols.iter().find(|symbol| symbol.name.contains("7TRACKER"));
    let tracker = tracker.context("there is no TRACKER in the map")?;
    let section = image.section_of(tracker).context("the tracker is in no section")?;
    ensure!(section.is_writable() && section.is_resident(), "the tracker is in {}", section.name);
    for symbol in image.symbols.iter().filter(|symbol| symbol.name.contains("memtrack")) {
        let section =
            image.section_of(symbol).with_context(|| format!("{} is in no section", symbol.name))?;
        ensure!(section.is_resident(), "{} is in {}", symbol.name, section.name);
        ensure!(
            !(section.is_code() && section.is_writable()),
            "{} is code that can be written to",
            section.name
        );
    }
    Ok(())
}

fn size(tracked: &Path, off: &Path) -> Result<()> {
    let (tracked, off) = (Image::read(tracked)?.bytes(), Image::read(off)?.bytes());
    let added = tracked.saturating_sub(off);
    println!("        filemon is {off} bytes without, {tracked} with: {added} more");
    ensure!(added > 0 && added <= MOST_IMAGE_BYTES, "memtrack adds {added} bytes");
    Ok(())
}

fn nothing_left(drivers: &Drivers) -> Result<()> {
    let (off, plain) = (Image::read(&drivers.pool_leak_off)?, Image::read(&drivers.pool_leak_plain)?);
    ensure!(!off.contains("memtrack"), "memtrack's name is in the image");
    let ours = off.symbols.iter().find(|symbol| symbol.name.contains("memtrack"));
    ensure!(ours.is_none(), "a symbol of memtrack's is left");
    let names =
        |image: &Image| -> Vec<_> { image.sections.iter().map(|section| section.name.clone()).collect() };
    ensure!(names(&off) == names(&plain), "{:?} and not {:?}", names(&off), names(&plain));
    for section in plain.sections.iter().filter(|section| section.is_code() || section.is_writable()) {
        ensure!(
            same(off.section(&section.name)?, section),
            "{} differs from the driver's alone",
            section.name
        );
    }
    ensure!(off.imports == plain.imports, "other imports");
    let tracked = Image::read(&drivers.pool_leak)?;
    ensure!(tracked.contains("memtrack"), "the tracked image says nothing, so nothing was compared");
    // A driver with a lookaside list keeps what gives it its depth.
    let filemon = Image::read(&drivers.filemon_off)?;
    ensure!(!filemon.contains("memtrack"), "memtrack's name is in the image");
    let odd = filemon.symbols.iter().filter(|symbol| symbol.name.contains("memtrack"));
    let odd: Vec<_> =
        odd.filter(|symbol| !symbol.name.contains("lookaside")).map(|symbol| &symbol.name).collect();
    ensure!(odd.is_empty(), "left: {odd:?}");
    Ok(())
}

fn same(one: &Section, other: &Section) -> bool {
    one.bytes == other.bytes && one.length == other.length
}

fn exercised(wine: &Wine, image: &Path, scenario: u32) -> Result<Log> {
    wine.load(image, "exercise", &[("Scenario", scenario)], &[])
}

/// Loaded, unloaded, and every line of memtrack's there.
fn sound(log: &Log) -> Result<()> {
    log.is_clean()?;
    log.is_whole()
}

fn printed(log: &Log, text: &str) -> bool {
    log.printed().any(|line| line == text)
}

/// An error unless memtrack has said these lines, one after another.
fn says(log: &Log, expected: &[&str]) -> Result<()> {
    let lines = log.memtrack();
    let found = lines.windows(expected.len()).any(|window| window == expected);
    ensure!(found, "memtrack has not said\n    {}\n{}", expected.join("\n    "), log.tail());
    Ok(())
}

/// A source file, in which places are found by what stands there.
struct Source(String);

impl Source {
    fn read(path: &str) -> Result<Self> {
        Ok(Self(fs::read_to_string(root().join(path)).with_context(|| path.to_owned())?))
    }

    /// Line and column of the `nth` place behind `after` where `text` stands.
    fn place(&self, after: &str, text: &str, nth: usize) -> Result<String> {
        let start = self.0.find(after).with_context(|| format!("no {after}"))?;
        let found = self.0[start..]
            .match_indices(text)
            .nth(nth)
            .with_context(|| format!("no {text} after {after}"))?;
        let place = start + found.0;
        let line = self.0[..place].matches('\n').count() + 1;
        let column = place - self.0[..place].rfind('\n').map_or(0, |newline| newline + 1) + 1;
        Ok(format!("{line}:{column}"))
    }
}
