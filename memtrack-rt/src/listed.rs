//! What a call on a lookaside list does: made, asked, and given to under the eyes of the books.
//!
//! An entry of a list is a block of its site, with its list. It is written down when the list hands it out and struck out
//! when it comes back; what the list keeps meanwhile is nobody's. A list that no tracked call has initialised is passed by.

use core::mem::ManuallyDrop;
use core::panic::Location;

use crate::act::Act;
use crate::arguments::Arguments;
use crate::block::Live;
use crate::books::entry_at;
use crate::guard::{Body, Guard, Layout};
use crate::lists::{List, ListRef, Made};
use crate::lookaside::{self, Counters, InterlockedLists, LookasideList};
use crate::platform::{DISPATCH_LEVEL, Irql, Platform};
use crate::pool::{Function, Pool, Tag};
use crate::site::Key;
use crate::taking::{Release, Taken, may_touch};
use crate::tracker::Tracker;
use crate::violation::{Case, Caught, Next, Violation};
use crate::word;

// Where the arguments stand, in every function that has them.
const LIST: usize = 0;
const ENTRY: usize = 1;
const ALLOCATE: usize = 1;
const FREE: usize = 2;

/// The least that an entry is long.
const SMALLEST: usize = 8;

/// In a `POOL_TYPE`.
const SESSION_POOL: u64 = 32;

/// No list lives there, nor anything else of a driver's.
const FIRST_PAGE: usize = 4096;

/// What can be said of the list of a call.
enum Found {
    /// Tracked code has initialised it.
    Known(ListRef, List),
    /// It was deleted, by this; or `None`, it was never initialised.
    Gone(Option<List>),
    /// Others have, as far as can be seen.
    Unknown,
}

impl<P: Platform> Tracker<P> {
    /// Makes a list: by hand where it is to have a depth of its own, else by `kernel`, which makes the driver's own call.
    /// Where the pool makes its entries, they are longer by a guard.
    ///
    /// `guard` is this list's choice; without one, it is the driver's. [`Guard::Full`] is [`Guard::Tail`] here: an entry
    /// begins where the list's link does.
    ///
    /// IRQL: as of the kernel's initialiser.
    ///
    /// # Safety
    ///
    /// The arguments are what the kernel's `function` may be called with, and so they are with a larger size.
    pub unsafe fn initialize_list<A: Arguments, R>(
        &self,
        lists: &impl InterlockedLists,
        location: &'static Location<'static>,
        function: Function,
        guard: Option<Guard>,
        mut arguments: A,
        kernel: impl Fn(A) -> R,
    ) -> R {
        let act = Act { location, function };
        if self.is_misplaced(act) {
            return kernel(arguments);
        }
        let guard = guard.unwrap_or_else(|| self.guard());
        let mut made = made(act, guard, &arguments);
        if let Some(made) = &mut made {
            let place = lookaside::size_place(function);
            let bytes = made.bytes.max(SMALLEST);
            let total = made.layout.total(bytes).unwrap_or(bytes);
            if made.layout != Layout::BARE && !arguments.set(place, total as u64) {
                made.layout = Layout::BARE;
            }
        }
        let total = made.map(|made| made.layout.total(made.bytes.max(SMALLEST)));
        let before = made.and_then(|made| self.lives_there(&made));
        // SAFETY: the caller's promise.
        let result = unsafe { lookaside::initialize(lists, function, &arguments) };
        let result = result.unwrap_or_else(|| kernel(arguments));
        // A status that is no number is not known; one that is, is zero where there is a list now.
        let refused = size_of::<R>() > 0 && word::word(&result).is_some_and(|status| status != 0);
        if let Some(made) = made.filter(|_| !refused) {
            if let Some((list, is_list)) = before {
                self.made_again(list, is_list, made.by);
            }
            // SAFETY: the list was initialised just now.
            let counters = unsafe { LookasideList::counters(made.address) };
            // SAFETY: as above.
            let size_and_tag = unsafe { LookasideList::size_and_tag(made.address) };
            // A size that does not fit into a list is cut by the kernel; and a result that is no number may say that there
            // is none.
            if (total.flatten(), made.tag.0) == (usize::try_from(size_and_tag.0).ok(), size_and_tag.1) {
                self.persist(|books| books.made(&Made { size_and_tag, ..made }, counters));
            }
        }
        result
    }

    /// The list that lives where another is to be made, and whether it is still one: its memory may have come again.
    fn lives_there(&self, made: &Made) -> Option<(ListRef, bool)> {
        let (list, known) = self.with(|books| books.list(made.address))?;
        // SAFETY: the driver is about to have the kernel write a list there.
        let is_list =
            || unsafe { is_still(&known) && known.is_in_use(&LookasideList::counters(made.address)) };
        known.deleted.is_none().then(|| (list, is_list()))
    }

    /// A list was made where one lived: that one is no more.
    #[cold]
    #[inline(never)]
    fn made_again(&self, list: ListRef, is_list: bool, by: Act) {
        let known = self.with(|books| {
            let known = books.list_at(list);
            books.deleted(list, by);
            known
        });
        if let Some(known) = known.filter(|_| is_list) {
            self.list_violated(Violation::MadeAgain, Some(known), by, Next::PassedOn);
        }
    }

    /// Takes an entry from a list. `kernel` makes the driver's own call.
    ///
    /// IRQL <= DISPATCH_LEVEL; for a list of paged pool <= APC_LEVEL: above, it is reported, and refused where the
    /// driver's binding has a null.
    ///
    /// # Safety
    ///
    /// `kernel` returns an entry of the list that its argument says, or null.
    pub unsafe fn allocate_from_list<A: Arguments, R>(
        &self,
        location: &'static Location<'static>,
        function: Function,
        arguments: A,
        kernel: impl Fn(A) -> R,
    ) -> R {
        let act = Act { location, function };
        let (reference, list) = match self.list_of(act, &arguments) {
            Ok(found) => found,
            Err(left_out) => return left_out.unwrap_or_else(|| kernel(arguments)),
        };
        let irql = self.platform().irql();
        if !may_touch(list.pool, irql) {
            let next = skipped(word::has_nothing::<R>());
            self.list_violated(Violation::PagedList(irql), Some(list), act, next);
            if let Some(nothing) = word::nothing() {
                return nothing;
            }
        }
        let key = Key { location, function, tag: list.tag, pool: list.pool, list: Some(reference.id) };
        self.with(|books| books.counts(reference, true));
        let again = arguments.again();
        let mut entry = kernel(arguments);
        if word::size(&entry) == Some(0) && self.empty(Caught::Leaving(act)) {
            // What the quarantines held may serve it.
            if let Some(again) = again {
                self.with(|books| books.counts(reference, true));
                entry = kernel(ManuallyDrop::into_inner(again));
            }
        }
        // SAFETY: the list lives: a call on it has just been made, and is not over for the driver.
        let counters = unsafe { LookasideList::counters(list.address) };
        self.with(|books| books.counted(reference, counters));
        match word::size(&entry) {
            Some(0) => self.refused(&key, Some(list.bytes)),
            Some(address) => self.handed_out(reference, &key, &list, address, irql),
            None => self.with(|books| books.unrecorded(&key, None)),
        }
        entry
    }

    /// Writes an entry down that the list has handed out.
    fn handed_out(&self, reference: ListRef, key: &Key, list: &List, entry: usize, irql: Irql) {
        let layout = if may_touch(list.pool, irql) { list.layout } else { Layout::BARE };
        let body = Body { address: entry, bytes: list.bytes, layout };
        // SAFETY: the entry is the driver's from now on and nobody has it yet; the list's entries are as long as the layout
        // says, because the list was made so, and may be touched here.
        unsafe { body.sign() };
        let live = Live::new(list.bytes, layout);
        match live.and_then(|live| self.persist(|books| books.entered(reference, key, entry, live))) {
            Some(wish) => {
                if let Some(wish) = wish {
                    self.bring(wish);
                }
            }
            None => self.with(|books| books.unrecorded(key, None)),
        }
    }

    /// Gives an entry back to a list. `kernel` makes the driver's own call. What would corrupt the list does not reach it,
    /// where the driver's call can be left out.
    ///
    /// IRQL <= DISPATCH_LEVEL; for a list of paged pool <= APC_LEVEL: above, it is reported and left out.
    ///
    /// # Safety
    ///
    /// `kernel` gives the entry that its second argument says to the list that the first one says.
    pub unsafe fn free_to_list<A: Arguments, R>(
        &self,
        location: &'static Location<'static>,
        function: Function,
        arguments: A,
        kernel: impl Fn(A) -> R,
    ) -> R {
        let act = Act { location, function };
        let can_skip = word::has_nothing::<R>();
        let (reference, list) = match self.list_of(act, &arguments) {
            Ok(found) => found,
            Err(left_out) => return left_out.unwrap_or_else(|| kernel(arguments)),
        };
        let irql = self.platform().irql();
        let mut goes_on = true;
        if !may_touch(list.pool, irql) {
            self.list_violated(Violation::PagedList(irql), Some(list), act, skipped(can_skip));
            goes_on = false;
        } else if let Some(entry) = arguments.word(ENTRY).and_then(|word| usize::try_from(word).ok()) {
            goes_on = self.came_back(reference, &list, entry, act, irql, skipped(can_skip));
        } else {
            self.foreign_free();
        }
        let nothing = if goes_on { None } else { word::nothing() };
        nothing.unwrap_or_else(|| {
            self.with(|books| books.counts(reference, false));
            let result = kernel(arguments);
            // SAFETY: the list lives: a call on it has just been made, and is not over for the driver.
            let counters = unsafe { LookasideList::counters(list.address) };
            self.with(|books| books.counted(reference, counters));
            result
        })
    }

    /// Strikes an entry out that the driver gives back; false where it should not reach the list.
    #[inline(never)]
    fn came_back(
        &self,
        reference: ListRef,
        list: &List,
        entry: usize,
        act: Act,
        irql: Irql,
        next: Next,
    ) -> bool {
        if let Some((violation, key, bytes, own)) = self.misplaced_entry(reference, list, entry) {
            self.entry_violated(violation, entry, &key, bytes, Some(&own), None, act, next);
            return false;
        }
        let Act { location, function } = act;
        let release = Release {
            address: entry_at(entry, list.number),
            location,
            function,
            tag: Tag(0),
            give_back: None,
            irql,
        };
        let mut taking = release.taking();
        match self.take(&release, &mut taking) {
            Taken::Live => {
                let body = taking.live.body(entry);
                // SAFETY: the entry was live in the books and is nobody's now, until the list gets it; it may be touched.
                if unsafe { !body.is_intact() } {
                    self.entry_wounded(&body, &taking.key, act);
                }
                true
            }
            // Code that is not annotated may have taken the entry from the list again.
            Taken::Again if !self.is_all_taken_here(reference, list) => {
                self.foreign_free();
                true
            }
            Taken::Again => {
                let freed =
                    taking.before.map(|freed| Act { location: freed.location, function: freed.function });
                let bytes = taking.before.map_or(list.bytes, |freed| freed.live.bytes());
                self.entry_violated(Violation::DoubleFree, entry, &taking.key, bytes, None, freed, act, next);
                false
            }
            _ => {
                self.foreign_free();
                true
            }
        }
    }

    /// Why an entry is none of this list's, where that is certain: what code that is not annotated has done with it in the
    /// meantime is as good.
    fn misplaced_entry(
        &self,
        reference: ListRef,
        list: &List,
        entry: usize,
    ) -> Option<(Violation, Key, usize, List)> {
        if self.with(|books| books.is_out(reference, entry)) {
            return None;
        }
        if let Some((key, live, own)) = self.with(|books| books.entry(entry)) {
            // SAFETY: the list was not deleted, as far as anybody knows, and its owner's.
            let certain =
                unsafe { is_still(&own) && own.is_all_given_here(&LookasideList::counters(own.address)) };
            if !certain {
                self.with(|books| books.entries_vanish(entry));
            }
            return certain.then_some((Violation::AnothersEntry, key, live.bytes(), own));
        }
        let (key, live) = self.with(|books| books.block(entry)).filter(|_| !list.has_callbacks)?;
        self.is_there(entry, live).then_some((Violation::BlockToList, key, live.bytes(), *list))
    }

    fn is_all_taken_here(&self, reference: ListRef, list: &List) -> bool {
        // SAFETY: the driver is about to have the kernel give an entry to the list.
        let now = unsafe { LookasideList::counters(list.address) };
        self.with(|books| books.list_at(reference)).is_some_and(|list| list.is_all_taken_here(&now))
    }

    /// Says what an entry's guard shows.
    #[cold]
    #[inline(never)]
    fn entry_wounded(&self, body: &Body, key: &Key, act: Act) {
        // SAFETY: as where it was found to be broken.
        let wounds = unsafe { body.wounds() };
        for violation in Violation::of(&wounds) {
            self.entry_violated(violation, body.address, key, body.bytes, None, None, act, Next::Goes);
        }
    }

    #[cold]
    #[inline(never)]
    #[allow(clippy::too_many_arguments, reason = "what there is to say")]
    fn entry_violated(
        &self,
        violation: Violation,
        entry: usize,
        key: &Key,
        bytes: usize,
        list: Option<&List>,
        freed: Option<Act>,
        act: Act,
        next: Next,
    ) {
        self.violated(&Case {
            violation,
            address: entry,
            bytes,
            site: Some(*key),
            list: list.copied(),
            freed,
            caught: Caught::At(act),
            next,
        });
    }

    /// Deletes a list. `kernel` makes the driver's own call. Entries that are outstanding are named.
    ///
    /// IRQL: as of the kernel's.
    ///
    /// # Safety
    ///
    /// `kernel` deletes the list that its argument says.
    pub unsafe fn delete_list<A: Arguments, R>(
        &self,
        location: &'static Location<'static>,
        function: Function,
        arguments: A,
        kernel: impl Fn(A) -> R,
    ) -> R {
        let act = Act { location, function };
        let (reference, list) = match self.list_of(act, &arguments) {
            Ok(found) => found,
            Err(left_out) => return left_out.unwrap_or_else(|| kernel(arguments)),
        };
        // SAFETY: the list lives, until the call below.
        let counters = unsafe { LookasideList::counters(list.address) };
        if list.figures.curr_blocks > 0 && list.is_all_given_here(&counters) {
            self.leaked_entries(reference, list, act);
        }
        self.with(|books| books.counted(reference, Counters { cached: 0, ..counters }));
        let result = kernel(arguments);
        self.with(|books| books.deleted(reference, act));
        // SAFETY: the memory is the driver's until this returns, and the list is nobody's any more.
        unsafe { LookasideList::strike(list.address) };
        result
    }

    /// Says which entries of a list that is deleted are still out.
    #[cold]
    #[inline(never)]
    fn leaked_entries(&self, reference: ListRef, list: List, act: Act) {
        self.list_violated(Violation::EntriesOut(list.figures.curr_blocks), Some(list), act, Next::Goes);
        let mut place = 0;
        while let Some(site) = self.with(|books| books.nth_leak(reference, place)) {
            crate::report::leak_of_list(&self.out(), &site, &list);
            place += 1;
        }
    }

    /// Empties a list. `kernel` makes the driver's own call.
    ///
    /// IRQL: as of the kernel's.
    ///
    /// # Safety
    ///
    /// `kernel` flushes the list that its argument says.
    pub unsafe fn flush_list<A: Arguments, R>(
        &self,
        location: &'static Location<'static>,
        function: Function,
        arguments: A,
        kernel: impl Fn(A) -> R,
    ) -> R {
        let act = Act { location, function };
        let (reference, list) = match self.list_of(act, &arguments) {
            Ok(found) => found,
            Err(left_out) => return left_out.unwrap_or_else(|| kernel(arguments)),
        };
        let result = kernel(arguments);
        // SAFETY: the list lives: a call on it has just been made, and is not over for the driver.
        let counters = unsafe { LookasideList::counters(list.address) };
        self.with(|books| books.counted(reference, counters));
        result
    }

    /// The list that a call is made on. `Err` where that is none of ours: with what the call returns that is left out, or
    /// without, where it goes on as it is.
    #[inline]
    fn list_of<A: Arguments, R>(&self, act: Act, arguments: &A) -> Result<(ListRef, List), Option<R>> {
        if self.is_misplaced(act) {
            return Err(None);
        }
        match self.found(arguments.word(LIST)) {
            Found::Known(reference, list) => Ok((reference, list)),
            Found::Unknown => Err(None),
            Found::Gone(list) => {
                self.no_list(list, act, word::has_nothing::<R>());
                Err(word::nothing())
            }
        }
    }

    /// Whether a call is made at a level at which there are no lists, and no books to look into. Says so.
    fn is_misplaced(&self, act: Act) -> bool {
        let irql = self.platform().irql();
        if irql > DISPATCH_LEVEL {
            self.list_violated(Violation::HighIrql(irql), None, act, Next::PassedOn);
        }
        irql > DISPATCH_LEVEL
    }

    fn found(&self, word: Option<u64>) -> Found {
        let address =
            word.and_then(|word| usize::try_from(word).ok()).filter(|address| *address >= FIRST_PAGE);
        let Some(address) = address else { return Found::Unknown };
        let known = self.with(|books| books.list(address));
        match known {
            // SAFETY: the list was initialised there, and the driver is about to have the kernel read it.
            Some((reference, list)) if list.deleted.is_none() && unsafe { is_still(&list) } => {
                Found::Known(reference, list)
            }
            known => {
                // SAFETY: the driver is about to have the kernel read a list there.
                let is_none = unsafe { LookasideList::is_none(address) };
                if is_none { Found::Gone(known.map(|(_, list)| list)) } else { Found::Unknown }
            }
        }
    }

    /// A call on what is no list.
    #[cold]
    #[inline(never)]
    fn no_list(&self, list: Option<List>, act: Act, can_skip: bool) {
        let violation = if list.is_some() { Violation::DeletedList } else { Violation::NoList };
        self.list_violated(violation, list, act, skipped(can_skip));
    }

    #[cold]
    #[inline(never)]
    fn list_violated(&self, violation: Violation, list: Option<List>, act: Act, next: Next) {
        self.violated(&Case {
            violation,
            address: list.map_or(0, |list| list.address),
            bytes: list.map_or(0, |list| list.bytes),
            site: None,
            list,
            freed: list.and_then(|list| list.deleted),
            caught: Caught::At(act),
            next,
        });
    }
}

/// Whether the memory of a list still is that list, and not another one, which code that is not annotated has made there.
///
/// # Safety
///
/// The list was initialised where it is, and the memory may be read.
unsafe fn is_still(list: &List) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        !LookasideList::is_none(list.address)
            && LookasideList::size_and_tag(list.address) == list.size_and_tag
    }
}

fn skipped(can_skip: bool) -> Next {
    if can_skip { Next::Swallowed } else { Next::PassedOn }
}

/// What an initialiser's arguments say of the list; `None` where they are no numbers.
fn made<A: Arguments>(by: Act, guard: Guard, arguments: &A) -> Option<Made> {
    let number = |place| arguments.word(place);
    let size = lookaside::size_place(by.function);
    // The older initialisers have flags there, which are bits of a pool type.
    let pool_word = number(lookaside::POOL)?;
    let pool = match by.function {
        Function::ExInitializePagedLookasideList => Pool::Paged,
        Function::ExInitializeNPagedLookasideList => Pool::NonPaged,
        _ if pool_word & 1 != 0 => Pool::Paged,
        _ => Pool::NonPaged,
    };
    let bytes = usize::try_from(number(size)?).ok()?;
    let has_callbacks = number(ALLOCATE)? != 0 || number(FREE)? != 0;
    // A driver's own function may not look at the size that it is asked for.
    let is_private = pool_word & SESSION_POOL != 0;
    let guard = if has_callbacks || is_private || guard == Guard::None { Guard::None } else { Guard::Tail };
    Some(Made {
        address: usize::try_from(number(LIST)?).ok().filter(|address| *address >= FIRST_PAGE)?,
        by,
        tag: Tag(u32::try_from(number(size + 1)?).ok()?),
        pool,
        bytes,
        layout: Layout::of(guard, bytes.max(SMALLEST), by.function, 0).unwrap_or(Layout::BARE),
        has_callbacks,
        size_and_tag: (0, 0),
    })
}
