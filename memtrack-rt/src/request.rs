//! An allocation: asked of the kernel with room for guards, and written down.

use core::mem::{ManuallyDrop, needs_drop};
use core::panic::Location;

use crate::act::Act;
use crate::arguments::Arguments;
use crate::block::Live;
use crate::books::is_entry;
use crate::extension::Extension;
use crate::guard::{Body, Guard, Layout};
use crate::platform::{DISPATCH_LEVEL, Irql, Platform};
use crate::pool::{Function, Pool, Tag};
use crate::report;
use crate::site::Key;
use crate::taking::may_touch;
use crate::tracker::Tracker;
use crate::violation::{Case, Caught, Next, Violation};
use crate::word;

// Where the arguments of an allocation stand, in every function that has them.
const POOL: usize = 0;
const BYTES: usize = 1;
const TAG: usize = 2;
const PARAMETERS: usize = 3;

/// What the driver asks for, as numbers.
struct Asked {
    location: &'static Location<'static>,
    function: Function,
    guard: Guard,
    pool: Option<u64>,
    bytes: Option<usize>,
    tag: Option<u32>,
    extension: Extension,
}

/// What the kernel is to be asked for.
struct Plan {
    key: Key,
    bytes: Option<usize>,
    layout: Layout,
    irql: Irql,
    tagged: bool,
    secure: bool,
    private: bool,
    /// The pool argument to use instead.
    pool: Option<u64>,
    /// How many bytes to ask for.
    total: usize,
}

impl<P: Platform> Tracker<P> {
    /// Asks the kernel for what the driver asks for, and more for the guards, and writes the block down under
    /// `location`. `kernel` makes the driver's own call of `function`, of the arguments that it is given: with
    /// whatever types the driver's binding has. Returns what the kernel returned; with [`Guard::Full`], a block that
    /// begins behind the guard.
    ///
    /// `guard` is this call's choice; without one, it is the driver's.
    ///
    /// A kernel that raises instead of returning leaves the books as they were. One that returns null is asked again
    /// without guards, after the quarantines were emptied, so that the driver is refused no more than it would be
    /// without memtrack.
    ///
    /// IRQL <= DISPATCH_LEVEL. Above, where there is no pool, the call is reported and passed on, and not recorded.
    ///
    /// # Safety
    ///
    /// `kernel` gives memory as long as its second argument says, or null, and may be called twice with the same
    /// arguments; numbers among them, of any type that is as wide, may be other numbers.
    #[inline]
    pub unsafe fn allocate<A: Arguments, R>(
        &self,
        location: &'static Location<'static>,
        function: Function,
        guard: Option<Guard>,
        mut arguments: A,
        kernel: impl Fn(A) -> R,
    ) -> R {
        let asked = Asked {
            location,
            function,
            guard: fitting::<R>(guard.unwrap_or_else(|| self.guard())),
            pool: arguments.word(POOL),
            bytes: arguments.word(BYTES).and_then(|word| usize::try_from(word).ok()),
            tag: arguments.word(TAG).and_then(|word| u32::try_from(word).ok()),
            extension: Extension::of(function, &arguments, PARAMETERS),
        };
        let mut plan = self.plan(&asked);
        plan.pool = plan.pool.filter(|word| arguments.set(POOL, *word));
        let unguarded = arguments.again();
        // What cannot be asked again without guards is not asked with them.
        let can_grow = unguarded.is_some() && arguments.set(BYTES, plan.total as u64);
        if plan.layout != Layout::BARE && !can_grow {
            plan.layout = Layout::BARE;
        }
        if plan.is_odd() {
            self.odd(&plan);
        }
        let mut block = kernel(arguments);
        if word::size(&block) == Some(0) && self.makes_room(&plan) {
            if let Some(unguarded) = unguarded {
                plan.layout = Layout::BARE;
                block = kernel(ManuallyDrop::into_inner(unguarded));
            }
        }
        if let Some(address) = self.granted(&plan, word::size(&block)) {
            word::set_address(&mut block, address);
        }
        block
    }

    fn plan(&self, asked: &Asked) -> Plan {
        let Asked { location, function, guard, pool, bytes, tag, extension } = *asked;
        let irql = self.platform().irql();
        let kind = function.pool(pool);
        let key = Key { location, function, tag: tag.map_or(Tag::NONE, Tag), pool: kind, list: None };
        let mut plan = Plan {
            key,
            bytes,
            layout: Layout::BARE,
            irql,
            tagged: tag.is_some(),
            secure: false,
            private: false,
            pool: None,
            total: bytes.unwrap_or_default(),
        };
        let (Some(word), Some(bytes)) = (pool, bytes) else { return plan };
        if irql > DISPATCH_LEVEL {
            return plan;
        }
        if !may_touch(kind, irql) {
            plan.pool = Some(function.nonpaged_instead(word));
        }
        plan.secure = extension == Extension::Secure;
        plan.private = extension == Extension::Unknown || function.is_of_a_session(word);
        let refused = bytes == 0 && function.refuses_nothing();
        if !plan.secure && !plan.private && !refused {
            if let Some((layout, total)) = Layout::with_total(guard, bytes, function, word) {
                (plan.layout, plan.total) = (layout, total);
            }
        }
        plan
    }

    /// Says what is wrong with a request.
    #[cold]
    #[inline(never)]
    fn odd(&self, plan: &Plan) {
        let Key { location, function, pool, .. } = plan.key;
        let case = |violation, next| Case {
            violation,
            address: 0,
            bytes: plan.bytes.unwrap_or_default(),
            site: Some(plan.key),
            list: None,
            freed: None,
            caught: Caught::At(Act { location, function }),
            next,
        };
        if plan.irql > DISPATCH_LEVEL {
            return self.violated(&case(Violation::HighIrql(plan.irql), Next::PassedOn));
        }
        if plan.bytes == Some(0) {
            self.violated(&case(Violation::ZeroBytes, Next::PassedOn));
        }
        if !may_touch(pool, plan.irql) {
            let next = if plan.pool.is_some() { Next::NonPagedInstead } else { Next::PassedOn };
            self.violated(&case(Violation::PagedRequest(plan.irql), next));
        }
    }

    /// The kernel has refused: gives back what is held, and says whether it should be asked once more.
    #[cold]
    #[inline(never)]
    fn makes_room(&self, plan: &Plan) -> bool {
        if plan.irql > DISPATCH_LEVEL {
            return false;
        }
        let Key { location, function, .. } = plan.key;
        let gave = self.empty(Caught::Leaving(Act { location, function }));
        gave || plan.layout != Layout::BARE
    }

    /// Writes down what the kernel gave, and returns where the driver's block begins if that is not there.
    fn granted(&self, plan: &Plan, address: Option<usize>) -> Option<usize> {
        if plan.irql > DISPATCH_LEVEL {
            return None;
        }
        let recorded;
        let key = if plan.pool.is_none() {
            &plan.key
        } else {
            recorded = plan.recorded();
            &recorded
        };
        let (address, bytes) = match (address, plan.bytes) {
            (Some(0), _) => {
                self.refused(key, plan.bytes);
                return None;
            }
            (Some(address), Some(bytes)) if key.pool != Pool::Unknown => (address, bytes),
            (address, _) => {
                self.unrecorded(key, address);
                return None;
            }
        };
        // Paged memory that the kernel gave at DISPATCH_LEVEL all the same is not to be touched there.
        // Nor is what no pool gives: the books need the lowest bits of addresses.
        let is_usual = may_touch(key.pool, plan.irql) && !is_entry(address);
        let layout = if is_usual { plan.layout } else { Layout::BARE };
        let start = address.wrapping_add(layout.front());
        // The kernel gave the block just now, as long as the layout says, and nobody else has it yet. It may be touched
        // at this IRQL, and it is no secure pool's, which has no layout.
        let body = Body { address: start, bytes, layout };
        // SAFETY: as just said.
        unsafe { body.sign() };
        // A pool that only the kernel, or one session, can reach is not to be looked at.
        let stamp = if plan.secure || plan.private { 0 } else { self.platform().stamp(address, key.pool) };
        let private = plan.private || stamp == 0 && !self.platform().vouches();
        let live = Live::new(bytes, layout)
            .map(|live| live.stamped(stamp).tagged(plan.tagged).secure(plan.secure).private(private));
        if live.is_some_and(|live| self.writes_down(key, address, start, live)) {
            return (start != address).then_some(start);
        }
        // SAFETY: as above. The driver gets the kernel's own pointer, and may count on zeros there.
        unsafe { body.clear_front() };
        self.unrecorded(key, Some(address));
        None
    }

    /// Writes down that the kernel's block at `base`, and the driver's at `start`, is live. False where there is no memory.
    #[inline]
    fn writes_down(&self, key: &Key, base: usize, start: usize, live: Live) -> bool {
        match self.within(|book, inside| book.allocated(inside, key, base, start, live)) {
            Some(false) => true,
            Some(true) => {
                self.at_leisure();
                true
            }
            None => self.writes_down_with_the_lock(key, base, start, live),
        }
    }

    #[cold]
    #[inline(never)]
    fn writes_down_with_the_lock(&self, key: &Key, base: usize, start: usize, live: Live) -> bool {
        let done = self.persist(|books| {
            let wish = books.allocated(key, base, start, live)?;
            Ok((wish, books.retired()))
        });
        let Some((wish, retired)) = done else { return false };
        self.give_back_unused(retired);
        if let Some(wish) = wish {
            self.bring(wish);
        }
        true
    }

    /// What there is to do now and then: the ledger may be too small for what is in it.
    #[cold]
    #[inline(never)]
    fn at_leisure(&self) {
        if let Some(wish) = self.with(|books| books.wants_buckets()) {
            self.bring(wish);
        }
    }

    #[cold]
    #[inline(never)]
    fn unrecorded(&self, key: &Key, address: Option<usize>) {
        self.with(|books| books.unrecorded(key, address));
    }

    /// Counts the refusal, and says the first at a site and each doubling of their number.
    #[cold]
    #[inline(never)]
    pub(crate) fn refused(&self, key: &Key, bytes: Option<usize>) {
        let refusal = self.persist(|books| books.refused(key));
        let among_all = || self.with(|books| books.refused_nowhere());
        if refusal.unwrap_or_else(among_all).is_power_of_two() {
            self.exhausted(key, bytes, refusal);
        }
    }

    #[cold]
    #[inline(never)]
    fn exhausted(&self, key: &Key, bytes: Option<usize>, refusal: Option<u64>) {
        let out = self.out();
        match refusal {
            Some(refusal) => {
                let said = self.with(|books| books.exhaustion(key.pool));
                report::exhausted(&out, bytes, key, refusal, &said);
            }
            None => report::exhausted_nowhere(&out, bytes, key),
        }
    }
}

impl Plan {
    fn is_odd(&self) -> bool {
        self.irql >= DISPATCH_LEVEL && (self.irql > DISPATCH_LEVEL || !may_touch(self.key.pool, self.irql))
            || self.bytes == Some(0)
    }

    /// The site under which the block is recorded: in the pool that it comes from.
    fn recorded(&self) -> Key {
        let pool = if self.pool.is_some() { Pool::NonPaged } else { self.key.pool };
        Key { pool, ..self.key }
    }
}

/// The guard for a block that is returned as an `R`: none where that is no address, or owns what it points to.
fn fitting<R>(guard: Guard) -> Guard {
    if word::takes_address::<R>() && !needs_drop::<R>() { guard } else { Guard::None }
}
