//! The pool functions and those of lookaside lists: their names, and what each does. What their arguments mean is the
//! runtime's to know.

use syn::Signature;
use syn::ext::IdentExt;

/// One pool function of the kernel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: &'static str,
    /// How many arguments it takes: a call with another number is some other function.
    pub(crate) arguments: usize,
    pub(crate) does: Does,
}

/// What a pool function does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    Allocate,
    Free,
    /// Makes a lookaside list: the one thing that is rewritten when memtrack is off, so that its depth stays.
    InitializeList,
    AllocateFromList,
    FreeToList,
    DeleteList,
    FlushList,
}

impl Does {
    /// The function of the runtime's that does it, tracked.
    pub(crate) fn door(self) -> &'static str {
        match self {
            Self::Allocate => "allocate",
            Self::Free => "free",
            Self::InitializeList => "initialize_list",
            Self::AllocateFromList => "allocate_from_list",
            Self::FreeToList => "free_to_list",
            Self::DeleteList => "delete_list",
            Self::FlushList => "flush_list",
        }
    }

    /// The macro with which a driver says that a call does it.
    pub(crate) fn recorder(self) -> Recorder {
        match self {
            Self::Allocate | Self::AllocateFromList => Recorder::Alloc,
            Self::Free | Self::FreeToList => Recorder::Free,
            Self::InitializeList | Self::DeleteList | Self::FlushList => Recorder::List,
        }
    }

    /// Whether its first argument is a lookaside list.
    pub(crate) fn is_of_a_list(self) -> bool {
        !matches!(self, Self::Allocate | Self::Free)
    }

    /// Whether a guard can be chosen where it is done.
    pub(crate) fn has_guard(self) -> bool {
        matches!(self, Self::Allocate | Self::InitializeList)
    }
}

/// The macros, by what the functions do that they are for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recorder {
    Alloc,
    Free,
    List,
}

/// What stays as the driver wrote it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    Nothing,
    /// Memtrack is off, and what remains of it are the depths of lookaside lists.
    AllButDepths,
}

impl Kept {
    pub(crate) fn rewrites(self, function: &Function) -> bool {
        self == Self::Nothing || function.does == Does::InitializeList
    }
}

const fn allocate(name: &'static str, arguments: usize) -> Function {
    Function { name, arguments, does: Does::Allocate }
}

const fn free(name: &'static str, arguments: usize) -> Function {
    Function { name, arguments, does: Does::Free }
}

const fn list(does: Does, name: &'static str, arguments: usize) -> Function {
    Function { name, arguments, does }
}

/// Signatures from `wdm.h` of kit 10.0.26100.
pub(crate) static FUNCTIONS: &[Function] = &[
    allocate("ExAllocatePool", 2),
    allocate("ExAllocatePoolWithTag", 3),
    allocate("ExAllocatePoolWithQuota", 2),
    allocate("ExAllocatePoolWithQuotaTag", 3),
    allocate("ExAllocatePoolWithTagPriority", 4),
    allocate("ExAllocatePool2", 3),
    allocate("ExAllocatePool3", 5),
    allocate("ExAllocatePoolZero", 3),
    allocate("ExAllocatePoolUninitialized", 3),
    allocate("ExAllocatePoolQuotaZero", 3),
    allocate("ExAllocatePoolQuotaUninitialized", 3),
    allocate("ExAllocatePoolPriorityZero", 4),
    allocate("ExAllocatePoolPriorityUninitialized", 4),
    free("ExFreePool", 1),
    free("ExFreePoolWithTag", 2),
    free("ExFreePool2", 4),
    list(Does::InitializeList, "ExInitializeNPagedLookasideList", 7),
    list(Does::InitializeList, "ExInitializePagedLookasideList", 7),
    list(Does::InitializeList, "ExInitializeLookasideListEx", 8),
    list(Does::AllocateFromList, "ExAllocateFromNPagedLookasideList", 1),
    list(Does::AllocateFromList, "ExAllocateFromPagedLookasideList", 1),
    list(Does::AllocateFromList, "ExAllocateFromLookasideListEx", 1),
    list(Does::FreeToList, "ExFreeToNPagedLookasideList", 2),
    list(Does::FreeToList, "ExFreeToPagedLookasideList", 2),
    list(Does::FreeToList, "ExFreeToLookasideListEx", 2),
    list(Does::DeleteList, "ExDeleteNPagedLookasideList", 1),
    list(Does::DeleteList, "ExDeletePagedLookasideList", 1),
    list(Does::DeleteList, "ExDeleteLookasideListEx", 1),
    list(Does::FlushList, "ExFlushLookasideListEx", 1),
];

/// The function of that very name.
pub(crate) fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

/// Whether a driver's own function has the name and as many parameters as a kernel's. It wraps the kernel's: its
/// calls are what is tracked, and its body is not. A method is called with a dot, which is no pool call.
pub(crate) fn is_wrapper(signature: &Signature) -> bool {
    signature.receiver().is_none()
        && find(&signature.ident.unraw().to_string())
            .is_some_and(|function| function.arguments == signature.inputs.len())
}
