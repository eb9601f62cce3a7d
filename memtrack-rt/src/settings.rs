//! What a driver's author may choose once for the whole driver.

use crate::guard::Guard;
use crate::pool::Pool;

/// How much freed memory is held before it goes back to the kernel, in each pool.
///
/// A freed block is filled with poison and held, so that a second free of it is certain to be one, and a write to it
/// is seen when it leaves. The oldest leave first. A block that is longer than `bytes` is remembered without its
/// memory, and counts as one block.
///
/// ```
/// use memtrack_rt::Quarantine;
///
/// assert_eq!(Quarantine::OFF, Quarantine::new(0, 0));
/// assert_eq!(Quarantine::default(), Quarantine::new(256 * 1024, 1024));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quarantine {
    /// Bytes of pool that are held at most, guards included. With 0 nothing is held, only remembered.
    pub bytes: usize,
    /// Blocks that are held or remembered at most. With 0 there is no quarantine.
    pub blocks: usize,
}

impl Quarantine {
    /// No quarantine: a freed block goes back at once, and is forgotten.
    pub const OFF: Self = Self::new(0, 0);

    /// A quarantine of so many bytes and blocks.
    #[must_use]
    pub const fn new(bytes: usize, blocks: usize) -> Self {
        Self { bytes, blocks }
    }
}

impl Default for Quarantine {
    fn default() -> Self {
        Self::new(256 * 1024, 1024)
    }
}

/// What happens after a violation was reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Policy {
    /// The driver goes on.
    #[default]
    Report,
    /// A debugger breaks in, where one is attached; otherwise the driver goes on.
    Break,
    /// The machine stops: a bugcheck with the code [`BUGCHECK`], on memtrack-sim a panic with the report's first line.
    BugCheck,
}

impl Policy {
    pub(crate) const ALL: [Self; 3] = [Self::Report, Self::Break, Self::BugCheck];
}

/// The code of the bugcheck that [`Policy::BugCheck`] makes: `MEMT`.
///
/// | parameter | meaning |
/// |---|---|
/// | 1 | the violation's number, in the table of `docs/detection.md` |
/// | 2 | the block's address |
/// | 3 | the address of the report's first line, which names the site: `da` shows it |
/// | 4 | the site's line in the upper half, its column in the lower |
pub const BUGCHECK: u32 = u32::from_be_bytes(*b"MEMT");

/// What a driver's author chooses for the whole driver.
///
/// ```
/// use memtrack_rt::{Guard, Policy, Pool, Quarantine, Settings};
///
/// let settings = Settings::new()
///     .guard(Guard::Full)
///     .quarantine(Pool::Paged, Quarantine::new(1 << 20, 4096))
///     .policy(Policy::Break);
/// assert_eq!(settings.nonpaged, Quarantine::default());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// The guard of blocks whose `#[memtrack::instrument]` names none.
    pub guard: Guard,
    /// The quarantine of nonpaged pool.
    pub nonpaged: Quarantine,
    /// The quarantine of paged pool.
    pub paged: Quarantine,
    /// What happens after a violation was reported.
    pub policy: Policy,
}

impl Settings {
    /// Tail guards, quarantines of 256 KB and 1,024 blocks, report and go on.
    #[must_use]
    pub const fn new() -> Self {
        let quarantine = Quarantine::new(256 * 1024, 1024);
        Self { guard: Guard::Tail, nonpaged: quarantine, paged: quarantine, policy: Policy::Report }
    }

    /// With this guard.
    #[must_use]
    pub const fn guard(self, guard: Guard) -> Self {
        Self { guard, ..self }
    }

    /// With this quarantine of one pool.
    #[must_use]
    pub const fn quarantine(self, pool: Pool, quarantine: Quarantine) -> Self {
        match pool {
            Pool::NonPaged => Self { nonpaged: quarantine, ..self },
            Pool::Paged => Self { paged: quarantine, ..self },
            Pool::Unknown => self,
        }
    }

    /// With this quarantine of each pool.
    #[must_use]
    pub const fn quarantines(self, quarantine: Quarantine) -> Self {
        Self { nonpaged: quarantine, paged: quarantine, ..self }
    }

    /// With this policy.
    #[must_use]
    pub const fn policy(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }
}
