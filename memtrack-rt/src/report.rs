//! What memtrack says, sentence by sentence. The grammar that a program reads is `docs/report-format.md`;
//! [`FORMAT`] changes whenever a line changes its shape.

use crate::books::Exhaustion;
use crate::platform::Platform;
use crate::pool::Pool;
use crate::sink::{Out, Record};
use crate::snapshot::largest_first;
use crate::stats::{Figures, SiteStats, Stats};

/// The version of the grammar.
const FORMAT: u64 = 1;

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
) {
    let mut record = out.record();
    heading(&mut record, "report", name);
    for site in largest_first(sites.clone()) {
        self::site(&mut record, "site", site);
        history(&mut record, site);
    }
    sums(&mut record, "outstanding ", stats, sites);
}

/// Every site, for want of memory in the order of their first call.
#[inline(never)]
pub(crate) fn report_unsorted<P: Platform>(
    out: &Out<'_, P>,
    name: &str,
    stats: &Stats,
    sites: impl Iterator<Item = SiteStats>,
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
) {
    let mut record = out.record();
    heading(&mut record, "leaks", name);
    for site in largest_first(sites.clone()).take_while(|site| site.figures.curr_blocks > 0) {
        self::site(&mut record, "leak", site);
    }
    let verdict = if stats.curr_blocks() == 0 { "no leak: " } else { "leaked " };
    sums(&mut record, verdict, stats, sites);
}

/// The kernel said no, for the `refusal`th time at this site.
#[inline(never)]
pub(crate) fn exhausted<P: Platform>(
    out: &Out<'_, P>,
    bytes: Option<usize>,
    site: &SiteStats,
    refusal: u64,
    said: &Exhaustion,
) {
    let mut record = out.record();
    record.line("exhausted ");
    request(&mut record, bytes);
    place(&mut record, site);
    record.text("  refusal ").number(refusal);
    record.text("; outstanding ").text(Pool::NonPaged.name()).text(" ");
    amount(&mut record, said.stats.nonpaged.curr_blocks, said.stats.nonpaged.curr_bytes);
    record.text(", ").text(Pool::Paged.name()).text(" ");
    amount(&mut record, said.stats.paged.curr_blocks, said.stats.paged.curr_bytes);
    if let Some(holder) = &said.holder {
        record.text("; most held ");
        amount(&mut record, holder.figures.curr_blocks, holder.figures.curr_bytes);
        place(&mut record, holder);
    } else {
        record.text("; none held");
    }
}

/// The kernel said no, and the tracker has no memory left to keep the site.
#[inline(never)]
pub(crate) fn exhausted_nowhere<P: Platform>(out: &Out<'_, P>, bytes: Option<usize>, site: &SiteStats) {
    let mut record = out.record();
    record.line("exhausted ");
    request(&mut record, bytes);
    place(&mut record, site);
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

fn site<P: Platform>(record: &mut Record<'_, P>, what: &str, site: &SiteStats) {
    record.line(what).text(" ");
    amount(record, site.figures.curr_blocks, site.figures.curr_bytes);
    place(record, site);
}

fn place<P: Platform>(record: &mut Record<'_, P>, site: &SiteStats) {
    record
        .text("  ")
        .foreign(site.file)
        .text(":")
        .number(site.line.into())
        .text(":")
        .number(site.column.into());
    record.text("  ").text(site.function.name()).text(" '");
    for byte in site.tag.bytes() {
        record.byte(byte);
    }
    record.text("' ").text(site.pool.name());
}

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
