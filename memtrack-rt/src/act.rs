//! What a driver does: a call, and where it stands.

use core::panic::Location;

use crate::pool::Function;

/// A call of the driver's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Act {
    pub(crate) location: &'static Location<'static>,
    pub(crate) function: Function,
}
