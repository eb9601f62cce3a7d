//! A free: looked at, and then the kernel's, or held for a while. How held blocks go back stands in `parting.rs`.

use core::hint;
use core::mem::size_of;
use core::panic::Location;

use crate::act::Act;
use crate::arguments::Arguments;
use crate::block::{Live, Ticket};
use crate::book::Struck;
use crate::books::entry_at;
use crate::extension::Extension;
use crate::guard::{GRANULE, Wounds};
use crate::ledger::Cursor;
use crate::lists::List;
use crate::lookaside::LookasideList;
use crate::parting::{self, Settling};
use crate::platform::{DISPATCH_LEVEL, Irql, Platform, Tenant};
use crate::pool::{Function, PAGE, Tag};
use crate::quarantine::{GiveBack, Stage};
use crate::site::Key;
use crate::taking::{Release, Taken, Taking, may_touch};
use crate::tracker::Tracker;
use crate::violation::{Case, Caught, Next, Violation};
use crate::word;

// Where the arguments of a free stand, in every function that has them.
const BLOCK: usize = 0;
const TAG: usize = 1;
const PARAMETERS: usize = 2;

/// What the driver asks for, as numbers, and what can be done about it.
struct Asked {
    location: &'static Location<'static>,
    function: Function,
    block: Option<usize>,
    tag: Option<Tag>,
    extension: Extension,
    give_back: Option<GiveBack>,
    /// The call can be left out.
    can_skip: bool,
    /// The tag can be another one.
    can_retag: bool,
}

impl Asked {
    fn act(&self) -> Act {
        Act { location: self.location, function: self.function }
    }

    fn release(&self, address: usize, irql: Irql) -> Release {
        let Self { location, function, give_back, .. } = *self;
        Release { address, location, function, tag: self.tag.unwrap_or(Tag(0)), give_back, irql }
    }
}

/// What becomes of the call.
enum Order {
    /// It goes on as it is.
    Pass,
    /// It goes on with this block, and this tag if there is one.
    PassAs(usize, Option<Tag>),
    /// It is not made.
    Skip,
}

/// What the books know, without the lock, of a block that does not simply go.
enum Found {
    /// The call says no address.
    NoAddress,
    /// They were not asked: that takes the lock, or is not possible at this IRQL.
    Unseen(Irql),
    /// They do not know it.
    Stranger,
    /// It was live until now; a list may live in it.
    Live(Irql, Key, Live, bool),
}

impl<P: Platform> Tracker<P> {
    /// Frees a block of the driver's: looks at its guards and its tag, and holds it in the quarantine or has the
    /// kernel free it. `kernel` makes the driver's own call of `function`, of the arguments that it is given; it may
    /// be made later, from another call, and then with that block's address and tag.
    ///
    /// A block that the books do not know is passed on as it is.
    ///
    /// IRQL <= DISPATCH_LEVEL. Above, where there is no pool, the call is reported and passed on.
    ///
    /// # Safety
    ///
    /// `kernel` frees the block that its first argument says, and nobody uses that block any more, but for mistakes. If
    /// it captures nothing, it may be called later, by any thread, with the address and the tag of this block.
    #[inline]
    pub unsafe fn free<A: Arguments, R, K: Fn(A) -> R>(
        &self,
        location: &'static Location<'static>,
        function: Function,
        mut arguments: A,
        kernel: K,
    ) -> R {
        let tag = arguments.word(TAG);
        let extension = Extension::of(function, &arguments, PARAMETERS);
        let can_skip = word::has_nothing::<R>();
        // A result would be seen to be made up, extended parameters are gone after the call, and a tag that cannot be
        // read cannot be given again.
        let can_hold = can_skip
            && size_of::<R>() == 0
            && extension == Extension::None
            && A::REMADE
            && tag.is_none_or(|tag| u32::try_from(tag).is_ok())
            && size_of::<K>() == 0;
        let asked = Asked {
            location,
            function,
            block: arguments.word(BLOCK).and_then(|word| usize::try_from(word).ok()),
            tag: tag.and_then(|tag| u32::try_from(tag).ok()).map(Tag),
            extension,
            give_back: can_hold.then_some(parting::give_back::<A, R, K> as GiveBack),
            can_skip,
            can_retag: tag.is_some_and(|tag| arguments.set(TAG, tag)),
        };
        let order = match self.goes_at_once(&asked) {
            Ok(block) => {
                arguments.set_block(block);
                return kernel(arguments);
            }
            Err(order) => order,
        };
        match order {
            Order::Pass => {}
            Order::PassAs(block, tag) => {
                arguments.set_block(block);
                if let Some(tag) = tag {
                    arguments.set(TAG, tag.0.into());
                }
            }
            Order::Skip => {
                if let Some(nothing) = word::nothing() {
                    return nothing;
                }
            }
        }
        kernel(arguments)
    }

    /// Strikes a block out with which nothing is wrong, and returns where the kernel's begins: most frees, where nothing is
    /// held, end here.
    #[inline]
    fn goes_at_once(&self, asked: &Asked) -> Result<usize, Order> {
        let later = |found| Err(self.released(asked, &found));
        let Some(address) = asked.block else { return later(Found::NoAddress) };
        let irql = self.platform().irql();
        if irql > DISPATCH_LEVEL || self.holds() {
            return later(Found::Unseen(irql));
        }
        let struck = self.within(|book, inside| match book.freed(inside, address, irql) {
            Struck::Live(kind, live) => Ok((*kind.key(), live, book.may_have_list(address, live.bytes()))),
            Struck::Nothing => Err(Found::Stranger),
            Struck::Special => Err(Found::Unseen(irql)),
        });
        match struck {
            Ok((key, live, false)) if self.is_fine(asked, &key, live, address, irql) => {
                Ok(live.body(address).base())
            }
            Ok((key, live, has_list)) => later(Found::Live(irql, key, live, has_list)),
            Err(found) => later(found),
        }
    }

    /// What becomes of a free that takes a closer look.
    #[inline(never)]
    fn released(&self, asked: &Asked, found: &Found) -> Order {
        let address = asked.block.unwrap_or_default();
        match *found {
            Found::NoAddress => {
                self.foreign_free();
                Order::Pass
            }
            Found::Unseen(irql) if irql > DISPATCH_LEVEL => self.misplaced(asked, address, irql),
            Found::Unseen(irql) => self.goes_with_the_lock(asked, &asked.release(address, irql)),
            Found::Stranger => self.stranger(asked, address),
            Found::Live(irql, key, live, has_list) => {
                let release = asked.release(address, irql);
                self.taken(asked, &release, &Taking { key, live, has_list, ..release.taking() })
            }
        }
    }

    /// Whether nothing is wrong with the free of a block that was live until now. Where that takes a closer look, it is not.
    #[inline]
    fn is_fine(&self, asked: &Asked, key: &Key, live: Live, address: usize, irql: Irql) -> bool {
        let body = live.body(address);
        let is_its_tag = |tag: Tag| tag.0 == 0 || !live.is_tagged() || tag == key.tag;
        let is_there =
            || live.stamp() == 0 || self.platform().tenant(body.base(), live.stamp()) == Tenant::Same;
        live.is_open()
            && !live.is_reported()
            && asked.extension != Extension::Secure
            && asked.tag.is_none_or(is_its_tag)
            && may_touch(key.pool, irql)
            && is_there()
            // SAFETY: as in `taken`.
            && unsafe { body.is_intact() }
    }

    /// The free of a block that may be held or was freed before, or of an entry of a list.
    #[inline(never)]
    fn goes_with_the_lock(&self, asked: &Asked, release: &Release) -> Order {
        let mut taking = release.taking();
        match self.take(release, &mut taking) {
            Taken::Live => self.taken(asked, release, &taking),
            Taken::Again => self.again(asked, &taking),
            Taken::Entry => self.entry_to_pool(asked, release),
            _ => self.stranger(asked, release.address),
        }
    }

    pub(crate) fn foreign_free(&self) {
        self.within(|book, inside| book.foreign_free(inside));
    }

    /// Takes a block out of the driver's hands, with the lock. Where there is no memory to remember it by, it is forgotten.
    #[inline(never)]
    pub(crate) fn take(&self, release: &Release, taking: &mut Taking) -> Taken {
        // How long a check may take to look at one block: only a block of paged pool, and a free that cannot be put off,
        // waits for it at all; and not for ever, where the check has lost this very processor.
        let mut patience = 1_u32 << 20;
        let mut may_remember = true;
        loop {
            match self.with(|books| books.take(release, may_remember, patience > 0, taking)) {
                Taken::InUse => {
                    patience -= 1;
                    hint::spin_loop();
                }
                Taken::NeedsMemory(shortage) => may_remember = self.bring(shortage),
                taken => return taken,
            }
        }
    }

    /// What is to be done with a block that was live until now.
    // Out of line: with it, its caller's frame would be larger than a driver can spare.
    #[inline(never)]
    fn taken(&self, asked: &Asked, release: &Release, taking: &Taking) -> Order {
        let Taking { key, live, held, .. } = *taking;
        match self.tenant(release.address, live) {
            Tenant::Same | Tenant::Unknown => {}
            Tenant::Another => return self.anothers(&key, held),
            Tenant::Nobody => return self.nobodys(asked, &key, live, held),
        }
        if taking.has_list {
            self.list_inside(asked, release, &key, live);
        }
        let body = live.body(release.address);
        let touchable = may_touch(key.pool, release.irql);
        let is_open = live.is_open();
        let looks = touchable && !live.is_reported() && (is_open || self.is_within_reach(&body));
        // SAFETY: the block was live in the books, is still there as far as the machine can tell, and is nobody's but
        // ours now; it may be touched here. Where the machine cannot tell, there is memory.
        let mut intact = !looks || unsafe { body.is_intact() };
        if !intact && !is_open {
            // SAFETY: as above. What has nothing of a guard may be another block, and no mistake.
            intact = !unsafe { body.is_signed_in_part() };
        }
        let mistakes = Mistakes {
            guards: !intact,
            tag: asked.tag.filter(|tag| tag.0 != 0 && live.is_tagged() && *tag != key.tag),
            function: match asked.extension {
                Extension::Unknown => false,
                extension => live.is_secure() != (extension == Extension::Secure),
            },
            too_high: !touchable,
        };
        if held.is_some() || taking.overdue || mistakes.any() {
            return self.parts_with(asked, release, taking, &mistakes);
        }
        Order::PassAs(body.base(), None)
    }

    /// The same where the block is to be held, or something is wrong with it.
    #[inline(never)]
    fn parts_with(&self, asked: &Asked, release: &Release, taking: &Taking, mistakes: &Mistakes) -> Order {
        let Taking { key, live, held, .. } = *taking;
        let body = live.body(release.address);
        // SAFETY: guards are only wrong of a block that is there, ours, and may be touched here: see `taken`.
        let wounds = if mistakes.guards { unsafe { body.wounds() } } else { Wounds::NONE };
        let poisoned = held.is_some() && !mistakes.too_high;
        if poisoned {
            // SAFETY: the block is ours alone, and there; it is of no secure pool, and may be touched at this IRQL.
            unsafe { body.poison() };
        }
        let live = live.reported(false);
        let caught = Caught::Leaving(asked.act());
        let kept = match held {
            Some(ticket) => self.holds_on(&Settling { taking, ticket, live, poisoned }, release.irql, caught),
            None => {
                if taking.overdue {
                    self.keep_bounds_soon(caught);
                }
                false
            }
        };
        if mistakes.any() {
            self.objects(asked, release, &key, live, (&wounds, mistakes), kept);
        }
        if kept {
            Order::Skip
        } else {
            Order::PassAs(body.base(), mistakes.tag.filter(|_| asked.can_retag).map(|_| key.tag))
        }
    }

    /// An entry of a lookaside list goes to the pool. Where the pool made it, the pool can have it back.
    #[cold]
    #[inline(never)]
    fn entry_to_pool(&self, asked: &Asked, release: &Release) -> Order {
        let Some((key, live, list)) = self.with(|books| books.entry(release.address)) else {
            return Order::Pass;
        };
        self.violated(&Case {
            violation: Violation::EntryToPool,
            address: release.address,
            bytes: live.bytes(),
            site: Some(key),
            list: Some(list),
            freed: None,
            caught: Caught::At(asked.act()),
            next: Next::PassedOn,
        });
        let mut taking = release.taking();
        let address = entry_at(release.address, list.number);
        self.take(&Release { address, give_back: None, ..*release }, &mut taking);
        Order::Pass
    }

    /// A block is freed in which a list lives that nobody has deleted.
    #[cold]
    #[inline(never)]
    fn list_inside(&self, asked: &Asked, release: &Release, key: &Key, live: Live) {
        let list = self.with(|books| books.list_goes_with(release.address, live.bytes(), asked.act()));
        // SAFETY: the block is the driver's until its free is over, and so is what lies in it; where it may be touched.
        let is_list = |list: &List| unsafe { list.is_in_use(&LookasideList::counters(list.address)) };
        let Some(list) = list.filter(|list| may_touch(key.pool, release.irql) && is_list(list)) else {
            return;
        };
        self.violated(&Case {
            violation: Violation::ListInBlock,
            address: release.address,
            bytes: live.bytes(),
            site: Some(*key),
            list: Some(list),
            freed: None,
            caught: Caught::At(asked.act()),
            next: Next::Goes,
        });
    }

    /// The block that was recorded here is long gone, and this one is not ours.
    #[cold]
    #[inline(never)]
    fn anothers(&self, key: &Key, held: Option<Ticket>) -> Order {
        self.with(|books| books.was_anothers(key, held));
        Order::Pass
    }

    /// The block that was recorded here was freed by code that is not annotated.
    #[cold]
    #[inline(never)]
    fn nobodys(&self, asked: &Asked, key: &Key, live: Live, held: Option<Ticket>) -> Order {
        if let Some(ticket) = held {
            self.with(|books| books.dismiss(key.pool, ticket));
        }
        self.violated(&Case {
            violation: Violation::DoubleFree,
            address: asked.block.unwrap_or_default(),
            bytes: live.bytes(),
            site: Some(*key),
            list: None,
            freed: None,
            caught: Caught::At(asked.act()),
            next: skipped(asked),
        });
        skip(asked)
    }

    /// Says everything that is wrong with a free, or that it shows.
    #[cold]
    #[inline(never)]
    fn objects(
        &self,
        asked: &Asked,
        release: &Release,
        key: &Key,
        live: Live,
        (wounds, mistakes): (&Wounds, &Mistakes),
        kept: bool,
    ) {
        let mut case = Case {
            violation: Violation::WrongFunction,
            address: release.address,
            bytes: live.bytes(),
            site: Some(*key),
            list: None,
            freed: None,
            caught: Caught::At(asked.act()),
            next: Next::Goes,
        };
        for violation in Violation::of(wounds) {
            case.violation = violation;
            self.violated(&case);
        }
        if mistakes.function {
            case.next = Next::PassedOn;
            self.violated(&case);
        }
        if let Some(tag) = mistakes.tag {
            case.violation = Violation::WrongTag(tag);
            case.next = if kept || asked.can_retag { Next::WithItsTag } else { Next::PassedOn };
            self.violated(&case);
        }
        if mistakes.too_high {
            case.violation = Violation::PagedFree(release.irql);
            case.next = if kept { Next::HeldBack } else { Next::PassedOn };
            self.violated(&case);
        }
    }

    /// A free of a block that was freed already.
    #[cold]
    #[inline(never)]
    fn again(&self, asked: &Asked, taking: &Taking) -> Order {
        let Some(freed) = &taking.before else { return skip(asked) };
        let mut case = Case {
            violation: Violation::DoubleFree,
            address: freed.address,
            bytes: freed.live.bytes(),
            site: Some(taking.key),
            list: None,
            freed: Some(Act { location: freed.location, function: freed.function }),
            caught: Caught::At(asked.act()),
            next: skipped(asked),
        };
        let mut order = skip(asked);
        if freed.stage == Stage::Remembered {
            case.violation = Violation::FreedBefore;
            match self.tenant(freed.address, freed.live) {
                // It may as well be another one.
                Tenant::Unknown if !freed.live.is_open() => {
                    self.foreign_free();
                    return Order::Pass;
                }
                Tenant::Same | Tenant::Nobody => {}
                Tenant::Another => {
                    self.foreign_free();
                    return Order::Pass;
                }
                Tenant::Unknown => {
                    case.next = Next::PassedOn;
                    order = Order::Pass;
                }
            }
        }
        if let (Order::Pass, Some(ticket)) = (&order, taking.held) {
            // The kernel frees it now, and must not do so once more.
            self.with(|books| books.dismiss(taking.key.pool, ticket));
        }
        self.violated(&case);
        order
    }

    /// A free of what the books do not know: of somebody else's block, or of the inside of one.
    #[inline(never)]
    fn stranger(&self, asked: &Asked, address: usize) -> Order {
        if let Some((key, start, live)) = self.around(address) {
            let begins_here = self.platform().tenant(address, u16::MAX) == Tenant::Another;
            let container = self.tenant(start, live);
            let is_there = match container {
                Tenant::Same => true,
                Tenant::Unknown => live.is_open(),
                _ => false,
            };
            if !begins_here && is_there {
                // Where the machine cannot tell, the block that is around may be long gone, and this a good free.
                let certain = container == Tenant::Same;
                self.violated(&Case {
                    violation: Violation::InnerFree(address.wrapping_sub(start)),
                    address: start,
                    bytes: live.bytes(),
                    site: Some(key),
                    list: None,
                    freed: None,
                    caught: Caught::At(asked.act()),
                    next: if certain { skipped(asked) } else { Next::PassedOn },
                });
                return if certain { skip(asked) } else { Order::Pass };
            }
        }
        self.foreign_free();
        Order::Pass
    }

    /// The live block that has `address` in its inside. Small books are read through; in large ones the kernel's rules
    /// tell where such a block may begin. Either way the lock is let go of now and then.
    fn around(&self, address: usize) -> Option<(Key, usize, Live)> {
        const AT_ONCE: usize = 32;
        let (blocks, reach) = self.with(|books| (books.blocks(), books.largest()));
        let starts = GRANULES + (reach / PAGE + 1).min(PAGES);
        let mut cursor = Cursor::default();
        for step in (0..blocks.min(starts)).step_by(AT_ONCE) {
            let found = self.with(|books| {
                if blocks <= starts {
                    books.next_around(address, &mut cursor, AT_ONCE)
                } else {
                    let starts = (step..step + AT_ONCE).map(|step| start_before(address, step));
                    books.around(address, starts)
                }
            });
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// A call at a level at which nothing can be done about it.
    #[cold]
    #[inline(never)]
    fn misplaced(&self, asked: &Asked, address: usize, irql: Irql) -> Order {
        self.violated(&Case {
            violation: Violation::HighIrql(irql),
            address,
            bytes: 0,
            site: None,
            list: None,
            freed: None,
            caught: Caught::At(asked.act()),
            next: Next::PassedOn,
        });
        Order::Pass
    }
}

/// What is wrong with a free.
struct Mistakes {
    guards: bool,
    /// The tag that was given.
    tag: Option<Tag>,
    function: bool,
    too_high: bool,
}

impl Mistakes {
    #[inline]
    fn any(&self) -> bool {
        self.guards || self.tag.is_some() || self.function || self.too_high
    }
}

fn skip(asked: &Asked) -> Order {
    if asked.can_skip { Order::Skip } else { Order::Pass }
}

fn skipped(asked: &Asked) -> Next {
    if asked.can_skip { Next::Swallowed } else { Next::PassedOn }
}

/// A block of less than a page begins on one of so many multiples of 16 before its last byte.
const GRANULES: usize = PAGE / GRANULE;

/// A larger one is looked for on so many pages: 16 MB.
const PAGES: usize = 4096;

/// Where a block may begin that has `address` in it, the nearest first: a block of less than a page less than a page
/// before, on a multiple of 16; a larger one on a page.
fn start_before(address: usize, step: usize) -> usize {
    if step < GRANULES {
        (address & !(GRANULE - 1)).wrapping_sub(step * GRANULE)
    } else {
        (address & !(PAGE - 1)).wrapping_sub((step - GRANULES) * PAGE)
    }
}
