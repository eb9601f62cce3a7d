//! Calls inside of the macros that everybody uses. A self test that a driver runs when it is loaded.
#![allow(clippy::assertions_on_constants, clippy::useless_vec)]

#[allow(non_snake_case, reason = "the kernel's names")]
mod ntddk {
    use core::ffi::c_void;

    pub unsafe extern "system" fn ExAllocatePoolWithTag(_: i32, bytes: usize, _: u32) -> *mut c_void {
        crate::host::allocate(bytes)
    }
    pub unsafe extern "system" fn ExFreePoolWithTag(block: *mut c_void, _: u32) {
        crate::host::release(block);
    }
}

const TAG: u32 = 0x7473_6554;

#[memtrack::instrument]
#[rustfmt::skip]
mod tests {
    use super::TAG;
    use super::ntddk::{ExAllocatePoolWithTag, ExFreePoolWithTag as free};
    use core::ffi::c_void;
    use core::ptr::null_mut;

    #[derive(Debug, PartialEq, Eq)]
    pub struct Findings {
        pub refused: bool,
        pub text: String,
        pub kept: *mut c_void,
    }

    fn pool() -> *mut c_void {
        assert_ne!(unsafe { /*@*/ExAllocatePoolWithTag(0, 1, TAG) }, null_mut(), "a byte of {}", "pool");
        let kept = unsafe { /*@*/ExAllocatePoolWithTag(1, 24, TAG) };
        assert!(!kept.is_null());
        kept
    }

    fn refusals() -> bool {
        // More than there is.
        let refused = matches!(unsafe { /*@*/ExAllocatePoolWithTag(0, 1 << 20, TAG) }, block if block.is_null());
        debug_assert!(refused, "{}", "the pool is larger than it was");
        refused
    }

    fn text() -> String {
        let blocks = vec![(unsafe { /*@*/ExAllocatePoolWithTag(0, 8, TAG) }, 8); 1];
        let text = blocks.iter().map(|(block, bytes)| format!("{}/{bytes}", block.is_null()));
        let text: Vec<_> = text.collect();
        for (block, bytes) in blocks {
            println!("{:?} {bytes}", unsafe { free(block, TAG) });
        }
        format!("{text} {}", stringify!(ExAllocatePoolWithTag(0, 8, TAG)), text = text.concat())
    }

    pub fn run() -> Findings {
        let (kept, refused) = (pool(), refusals());
        assert_eq!(
            unsafe { free(/*@*/ExAllocatePoolWithTag(0, 5, TAG), TAG) },
            (),
            "{}", if refused { "in order" } else { "out of order" },
        );
        Findings { refused, text: text(), kept }
    }
}

pub fn drive() {
    let findings = tests::run();
    assert!(findings.refused && !findings.kept.is_null());
    assert_eq!(findings.text, "false/8 ExAllocatePoolWithTag(0, 8, TAG)");
}
