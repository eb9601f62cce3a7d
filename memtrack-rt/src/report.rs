//! What memtrack says, sentence by sentence. The grammar that a program reads is `docs/report-format.md`;
//! [`FORMAT`] changes whenever a line changes its shape.

use crate::act::Act;
use crate::books::Exhaustion;
use crate::guard::Damage;
use crate::lists::List;
use crate::platform::Platform;
use crate::pool::{Function, Pool, Tag};
use crate::sink::{Out, Record};
use crate::site::Key;
use crate::snapshot::largest_first;
use crate::stats::{Figures, ListStats, SiteStats, Stats};
use crate::violation::{Case, Caught, Next, Violation};

/// The version of the grammar.
const FORMAT: u64 = 2;

/// Current and maximum of each pool, in the words of 1998.
#[inline(never)]
pub(crate) fn print_stats<P: Platform>(out: &Out<'_, P>, name: &str, stats: &Stats) {
    let mut record = out.record();
    for (pool, figures) in [("Nonpaged", stats.nonpaged), ("Paged", stats.paged)] {
        record.line("").foreign(name).text(" ").text(pool).text(" Memory Usage:");
        record.line("   Current: ").number(figures.curr_bytes).text(" bytes");
        record.line("   Max: ").number(figures.max_bytes).text(" bytes");
    }
}

/// Every site.
#[inline(never)]
pub(crate) fn report<'s, P: Platform>(
    out: &Out<'_, P>,
    name: &str,
    stats: &Stats,
    sites: impl Iterator<Item = &'s SiteStats> + Clone,
    lists: impl Iterator<Item = ListStats>,
) {
    let mut record = out.record();
    heading(&mut record, "report", name);
    for site in largest_first(sites.clone()) {
        self::site(&mut record, "site", site);
        history(&mut record, site);
    }
    lists.for_each(|list| self::list(&mut record, "list", &list));
    sums(&mut record, "outstanding ", stats, sites);
}

/// Every site, for want of memory in the order of their first call.
#[inline(never)]
pub(crate) fn report_unsorted<P: Platform>(
    out: &Out<'_, P>,
    name: &str,
    stats: &Stats,
    sites: impl Iterator<Item = SiteStats>,
    lists: impl Iterator<Item = ListStats>,
) {
    let mut record = out.record();
    heading(&mut record, "report", name);
    let mut leaking = 0;
    let mut count = 0;
    for site in sites {
        self::site(&mut record, "site", &site);
        history(&mut record, &site);
        leaking += u64::from(site.figures.curr_blocks > 0);
        count += 1;
    }
    lists.for_each(|list| self::list(&mut record, "list", &list));
    totals(&mut record, "outstanding ", stats, leaking, count);
    record.line("note: no memory to sort the sites by size, nor to read them at one moment");
}

/// The sites whose blocks nobody freed.
#[inline(never)]
pub(crate) fn leaks<'s, P: Platform>(
    out: &Out<'_, P>,
    name: &str,
    stats: &Stats,
    sites: impl Iterator<Item = &'s SiteStats> + Clone,
    undeleted: impl Iterator<Item = ListStats>,
) {
    let mut record = out.record();
    heading(&mut record, "leaks", name);
    for site in largest_first(sites.clone()).take_while(|site| site.figures.curr_blocks > 0) {
        self::site(&mut record, "leak", site);
    }
    undeleted.for_each(|list| self::list(&mut record, "undeleted list", &list));
    let verdict = if stats.curr_blocks() == 0 { "no leak: " } else { "leaked " };
    sums(&mut record, verdict, stats, sites);
}

/// The books could not be closed.
#[inline(never)]
pub(crate) fn unfinished<P: Platform>(out: &Out<'_, P>, name: &str, stats: &Stats) {
    let mut record = out.record();
    heading(&mut record, "leaks", name);
    totals(&mut record, "outstanding ", stats, 0, 0);
    record.line("note: finish has interrupted a call, and closed nothing");
}

/// The kernel said no, for the `refusal`th time at this site.
#[inline(never)]
pub(crate) fn exhausted<P: Platform>(
    out: &Out<'_, P>,
    bytes: Option<usize>,
    site: &Key,
    refusal: u64,
    said: &Exhaustion,
) {
    let mut record = out.record();
    record.line("exhausted ");
    request(&mut record, bytes);
    place(&mut record, &Place::from(site));
    record.text("  refusal ").number(refusal);
    record.text("; outstanding ").text(Pool::NonPaged.name()).text(" ");
    amount(&mut record, said.stats.nonpaged.curr_blocks, said.stats.nonpaged.curr_bytes);
    record.text(", ").text(Pool::Paged.name()).text(" ");
    amount(&mut record, said.stats.paged.curr_blocks, said.stats.paged.curr_bytes);
    if let Some(holder) = &said.holder {
        record.text("; most held ");
        amount(&mut record, holder.figures.curr_blocks, holder.figures.curr_bytes);
        place(&mut record, &Place::from(holder));
    } else {
        record.text("; none held");
    }
}

/// The kernel said no, and the tracker has no memory left to keep the site.
#[inline(never)]
pub(crate) fn exhausted_nowhere<P: Platform>(out: &Out<'_, P>, bytes: Option<usize>, site: &Key) {
    let mut record = out.record();
    record.line("exhausted ");
    request(&mut record, bytes);
    place(&mut record, &Place::from(site));
    record.text("  refusal unnumbered: no memory for the site");
}

fn request<P: Platform>(record: &mut Record<'_, P>, bytes: Option<usize>) {
    match bytes {
        Some(bytes) => bytes_of(record, bytes as u64),
        None => {
            record.text("? bytes");
        }
    }
}

fn heading<P: Platform>(record: &mut Record<'_, P>, what: &str, name: &str) {
    record.line(what).text(" of ").foreign(name).text(" (format ").number(FORMAT).text(")");
}

#[inline(never)]
fn site<P: Platform>(record: &mut Record<'_, P>, what: &str, site: &SiteStats) {
    record.line(what).text(" ");
    amount(record, site.figures.curr_blocks, site.figures.curr_bytes);
    place(record, &Place::from(site));
}

/// A site, as lines name it.
struct Place<'a> {
    file: &'a str,
    line: u32,
    column: u32,
    function: Function,
    tag: Tag,
    pool: Pool,
}

impl<'a> From<&'a SiteStats> for Place<'a> {
    fn from(site: &'a SiteStats) -> Self {
        let SiteStats { file, line, column, function, tag, pool, .. } = *site;
        Self { file, line, column, function, tag, pool }
    }
}

impl From<&Key> for Place<'static> {
    fn from(key: &Key) -> Self {
        let Key { location, function, tag, pool, .. } = *key;
        Self { file: location.file(), line: location.line(), column: location.column(), function, tag, pool }
    }
}

impl From<&List> for Place<'static> {
    fn from(list: &List) -> Self {
        let List { made: Act { location, function }, tag, pool, .. } = *list;
        Self { file: location.file(), line: location.line(), column: location.column(), function, tag, pool }
    }
}

impl<'a> From<&'a ListStats> for Place<'a> {
    fn from(list: &'a ListStats) -> Self {
        let ListStats { file, line, column, function, tag, pool, .. } = *list;
        Self { file, line, column, function, tag, pool }
    }
}

fn place<P: Platform>(record: &mut Record<'_, P>, place: &Place<'_>) {
    record.text("  ");
    position(record, place.file, place.line, place.column);
    record.text("  ").text(place.function.name()).text(" ");
    tag(record, place.tag);
    record.text(" ").text(place.pool.name());
}

fn position<P: Platform>(record: &mut Record<'_, P>, file: &str, line: u32, column: u32) {
    record.foreign(file).text(":").number(line.into()).text(":").number(column.into());
}

fn tag<P: Platform>(record: &mut Record<'_, P>, tag: Tag) {
    record.text("'");
    for byte in tag.bytes() {
        record.byte(byte);
    }
    record.text("'");
}

#[inline(never)]
fn history<P: Platform>(record: &mut Record<'_, P>, site: &SiteStats) {
    let Figures { max_blocks, max_bytes, total_blocks, total_bytes, .. } = site.figures;
    record.text("  max ");
    amount(record, max_blocks, max_bytes);
    record.text(", total ");
    amount(record, total_blocks, total_bytes);
    for (count, one, many) in [
        (site.failures, " refusal", " refusals"),
        (site.vanished_blocks, " vanished block", " vanished blocks"),
        (site.unrecorded_blocks, " unrecorded block", " unrecorded blocks"),
    ] {
        if count > 0 {
            record.text(", ").number(count).text(if count == 1 { one } else { many });
        }
    }
}

fn sums<'s, P: Platform>(
    record: &mut Record<'_, P>,
    verdict: &str,
    stats: &Stats,
    sites: impl Iterator<Item = &'s SiteStats> + Clone,
) {
    let leaking = sites.clone().filter(|site| site.figures.curr_blocks > 0).count() as u64;
    totals(record, verdict, stats, leaking, sites.count() as u64);
}

#[inline(never)]
fn totals<P: Platform>(record: &mut Record<'_, P>, verdict: &str, stats: &Stats, leaking: u64, sites: u64) {
    record.line(verdict);
    amount(record, stats.curr_blocks(), stats.curr_bytes());
    record.text(" at ").number(leaking).text(" of ").number(sites).text(if sites == 1 {
        " site"
    } else {
        " sites"
    });
    for pool in [Pool::NonPaged, Pool::Paged] {
        let Figures { curr_blocks, curr_bytes, .. } = stats.pool(pool);
        record.text("; ").text(pool.name()).text(" ");
        amount(record, curr_blocks, curr_bytes);
    }
    for (count, one, many) in [
        (stats.violations, " violation", " violations"),
        (stats.held_blocks, " held block", " held blocks"),
        (stats.failures, " refusal", " refusals"),
        (stats.foreign_frees, " foreign free", " foreign frees"),
        (stats.vanished_blocks, " vanished block", " vanished blocks"),
        (stats.unrecorded_blocks, " unrecorded block", " unrecorded blocks"),
    ] {
        if count > 0 {
            record.line("also ").number(count).text(if count == 1 { one } else { many });
        }
    }
}

fn amount<P: Platform>(record: &mut Record<'_, P>, blocks: u64, bytes: u64) {
    record.number(blocks).text(if blocks == 1 { " block " } else { " blocks " });
    bytes_of(record, bytes);
}

fn bytes_of<P: Platform>(record: &mut Record<'_, P>, bytes: u64) {
    record.number(bytes).text(if bytes == 1 { " byte" } else { " bytes" });
}

/// What a driver did that it should not have done.
#[inline(never)]
pub(crate) fn violation<P: Platform>(out: &Out<'_, P>, case: &Case) {
    let mut record = out.record();
    headline(&mut record, case);
    if let Some(list) = case.list.as_ref().filter(|_| !case.violation.is_of_a_list()) {
        list_line(&mut record, list);
    }
    if let Some(freed) = &case.freed {
        record.line(if case.violation.is_of_a_list() { "  deleted at " } else { "  freed at " });
        act(&mut record, freed);
    }
    match &case.caught {
        Caught::At(caught) => {
            record.line(at(case));
            act(&mut record, caught);
        }
        Caught::Leaving(caught) => {
            record.line("  caught at ");
            act(&mut record, caught);
            record.text(" as it left the quarantine");
        }
        Caught::By(name) => {
            record.line("  caught by ").text(name);
        }
    }
    record.text(match (&case.violation, &case.freed, &case.caught) {
        (Violation::DoubleFree, None, _) => "; freed before by code that is not annotated",
        (Violation::DoubleFree, Some(_), Caught::Leaving(_) | Caught::By(_)) => {
            "; freed again by code that is not annotated"
        }
        _ => "",
    });
    if let Some(damage) = case.violation.damage() {
        bytes_changed(&mut record, damage);
    }
    record.text(match case.next {
        Next::Goes => "",
        Next::PassedOn => "; passed on",
        Next::Swallowed => "; not passed on",
        Next::WithItsTag => "; freed with its own tag",
        Next::HeldBack => "; held until paged pool may be freed",
        Next::NonPagedInstead => "; given nonpaged pool instead",
    });
}

/// What the call was to the block.
fn at(case: &Case) -> &'static str {
    match case.violation {
        Violation::Overrun(_) | Violation::Underrun(_) | Violation::WriteAfterFree(_) => "  caught at ",
        Violation::DoubleFree | Violation::FreedBefore => "  freed again at ",
        Violation::ZeroBytes | Violation::PagedRequest(_) => "  asked at ",
        Violation::HighIrql(_) => "  called at ",
        violation if violation.is_of_a_list() => "  called at ",
        _ => "  freed at ",
    }
}

/// Stops the machine over `case`.
#[inline(never)]
pub(crate) fn bugcheck<P: Platform>(out: &Out<'_, P>, case: &Case) {
    let mut record = out.unsent();
    headline(&mut record, case);
    let location = case.site.map(|site| site.location);
    let (line, column) = location.map_or((0, 0), |at| (at.line() as usize, at.column() as usize));
    let place = line << (usize::BITS / 2) | column;
    record.with_text(|platform, text| {
        platform.bugcheck([case.violation.number(), case.address, text.as_ptr().addr(), place], text);
    });
}

fn headline<P: Platform>(record: &mut Record<'_, P>, case: &Case) {
    let bytes = case.bytes as u64;
    match &case.violation {
        Violation::Overrun(damage) => {
            record.line("overrun ");
            let beyond = damage.end.wrapping_sub_unsigned(case.bytes);
            bytes_of(record, beyond.unsigned_abs() as u64);
            record.text(" right of");
        }
        Violation::Underrun(damage) => {
            record.line("underrun ");
            bytes_of(record, damage.first.unsigned_abs() as u64);
            record.text(" left of");
        }
        Violation::WriteAfterFree(damage) => {
            record.line("write after free at ");
            offset(record, damage.first);
            record.text(" of");
        }
        Violation::DoubleFree => {
            record.line("double free of");
        }
        Violation::FreedBefore => {
            record.line("freed before, or a reused address:");
        }
        Violation::InnerFree(offset) => {
            record.line("free ");
            bytes_of(record, *offset as u64);
            record.text(" into");
        }
        Violation::WrongTag(wrong) => {
            record.line("wrong tag ");
            tag(record, *wrong);
            record.text(" for");
        }
        Violation::WrongFunction => {
            record.line("wrong function for");
        }
        Violation::ZeroBytes => {
            record.line("request of 0 bytes");
        }
        Violation::PagedRequest(irql) => {
            record.line("paged request of ");
            bytes_of(record, bytes);
            record.text(" at IRQL ").number((*irql).into());
        }
        Violation::PagedFree(irql) => {
            record.line("paged free at IRQL ").number((*irql).into()).text(" of");
        }
        Violation::HighIrql(irql) => {
            record.line("pool call at IRQL ").number((*irql).into());
        }
        Violation::NoList => {
            record.line("list never initialised");
        }
        Violation::DeletedList => {
            record.line("list used after it was deleted");
        }
        Violation::MadeAgain => {
            record.line("list initialised again");
        }
        Violation::PagedList(irql) => {
            record.line("paged list at IRQL ").number((*irql).into());
        }
        Violation::EntriesOut(entries) => {
            record.line("list deleted with ").number(*entries);
            record.text(if *entries == 1 { " entry outstanding" } else { " entries outstanding" });
        }
        Violation::AnothersEntry => {
            record.line("free to another list of");
        }
        Violation::BlockToList => {
            record.line("free to a list of");
        }
        Violation::EntryToPool => {
            record.line("free to pool of");
        }
        Violation::ListInBlock => {
            record.line("free with a list in it of");
        }
    }
    if case.violation.is_of_a_block() {
        record.text(" a ").number(bytes).text("-byte block");
    }
    if let Some(site) = &case.site {
        place(record, &Place::from(site));
    } else if let Some(list) = &case.list {
        place(record, &Place::from(list));
    }
}

fn list_line<P: Platform>(record: &mut Record<'_, P>, list: &List) {
    record.line("  list initialised at ");
    act(record, &list.made);
}

/// Entries of a list that is deleted, which nobody has freed.
#[inline(never)]
pub(crate) fn leak_of_list<P: Platform>(out: &Out<'_, P>, site: &SiteStats, list: &List) {
    let mut record = out.record();
    self::site(&mut record, "leak", site);
    list_line(&mut record, list);
}

/// What a list did.
#[inline(never)]
fn list<P: Platform>(record: &mut Record<'_, P>, what: &str, list: &ListStats) {
    let Figures { curr_blocks, curr_bytes, max_blocks, max_bytes, .. } = list.figures;
    record.line(what).text(" ");
    amount(record, curr_blocks, curr_bytes);
    place(record, &Place::from(list));
    record.text("  max ");
    amount(record, max_blocks, max_bytes);
    record.text(", depth ").number(list.depth).text(", cached ").number(list.cached);
    for (count, one, many) in [(list.hits, " hit", " hits"), (list.misses, " miss", " misses")] {
        record.text(", ").number(count).text(if count == 1 { one } else { many });
    }
    if list.is_deleted {
        record.text(", deleted");
    }
}

fn act<P: Platform>(record: &mut Record<'_, P>, act: &Act) {
    position(record, act.location.file(), act.location.line(), act.location.column());
    record.text(" ").text(act.function.name());
}

fn bytes_changed<P: Platform>(record: &mut Record<'_, P>, damage: &Damage) {
    record.text("; bytes ");
    offset(record, damage.first);
    record.text(":");
    for byte in damage.found.iter().take(damage.shown()) {
        record.text(" ").hexadecimal(*byte);
    }
    let hidden = damage.bytes().wrapping_sub(damage.shown());
    if hidden > 0 {
        record.text(" and ").number(hidden as u64).text(" more");
    }
    record.text(" (expected");
    for byte in damage.expected.iter().take(damage.shown()) {
        record.text(" ").hexadecimal(*byte);
    }
    record.text(")");
}

fn offset<P: Platform>(record: &mut Record<'_, P>, offset: isize) {
    record.text(if offset < 0 { "-" } else { "+" }).number(offset.unsigned_abs() as u64);
}
