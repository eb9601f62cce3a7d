//! `DbgPrint` and `DbgPrintEx` take variable arguments, which stable Rust can call but not define. So each
//! is a few instructions that put the argument registers in a row and call [`arrived`] with three things:
//! the format, that row, and where on the caller's stack the other arguments begin.
//!
//! The conventions, from the ABI documents:
//!
//! | machine | fixed and variable arguments |
//! | --- | --- |
//! | x86-64, System V | `rdi rsi rdx rcx r8 r9`, then the stack above the return address |
//! | x86-64, Windows | `rcx rdx r8 r9`, then the stack above the return address and 32 bytes of home space, in which the registers are stored: all arguments are then in one row |
//! | AArch64, AAPCS and Windows | `x0` to `x7`, then the stack |
//! | AArch64, Apple | fixed ones as above, variable ones on the stack only |
//!
//! Every trampoline carries unwind information, for a panic that leaves [`arrived`].
//!
//! x86-64 was run, on Linux and, as a Windows program under Wine, by the Windows convention. The others were assembled
//! for their targets, and read.

#![allow(non_snake_case, reason = "the kernel's names")]

use core::ffi::c_char;

use super::{arguments::Arguments, format, write};
use crate::{
    bugcheck::{BugCheck, stop},
    constants::{IRQL_NOT_LESS_OR_EQUAL, STATUS_INVALID_PARAMETER, STATUS_SUCCESS},
    irql,
    types::{PCSTR, ULONG},
};

unsafe extern "C-unwind" {
    /// Prints to the debug output.
    ///
    /// The format language is that of the kernel's C runtime: `%%`, `%c %C %d %i %u %x %X %o %p %s %S`,
    /// counted strings as `%Z` (a pointer to an `ANSI_STRING`) and `%wZ` (to a `UNICODE_STRING`), the flags
    /// `- + 0 #` and space, width and precision as numbers or `*`, and the sizes `hh h l ll w I I32 I64 z j
    /// t`. `l` is 32 bits wide, as everywhere in Windows. Floating point is not supported: such a
    /// specification is printed as it stands, as is any unknown one.
    ///
    /// One call prints at most 512 bytes, the size of the kernel's buffer. From a longer text the first 511
    /// are printed, and a newline.
    ///
    /// IRQL: any, but UTF-16 (`%C %S %lc %ls %wc %ws %wZ`) only at `PASSIVE_LEVEL`. Above, the machine
    /// stops with `IRQL_NOT_LESS_OR_EQUAL` (the string's address, the current IRQL, 0, 0).
    ///
    /// Returns `STATUS_SUCCESS`, or `STATUS_INVALID_PARAMETER` where the format is NULL.
    ///
    /// # Safety
    ///
    /// `Format` is NULL or ends in a zero, and the arguments are what it says they are.
    #[link_name = "memtrack_sim_0_1_DbgPrint"]
    pub fn DbgPrint(Format: PCSTR, ...) -> ULONG;

    /// Prints to the debug output, as [`DbgPrint`] does.
    ///
    /// The component and the level are ignored: on the desk all filters are open.
    ///
    /// IRQL: as for [`DbgPrint`].
    ///
    /// # Safety
    ///
    /// As for [`DbgPrint`].
    #[link_name = "memtrack_sim_0_1_DbgPrintEx"]
    pub fn DbgPrintEx(ComponentId: ULONG, Level: ULONG, Format: PCSTR, ...) -> ULONG;
}

/// Where the trampolines lead.
///
/// # Safety
///
/// `format` is as `DbgPrint` wants it, the first `registers_used` variable arguments lie at `registers`, and
/// the others at `stack`.
unsafe extern "C-unwind" fn arrived(
    format: *const c_char,
    registers: *const u64,
    stack: *const u64,
    registers_used: u32,
) -> ULONG {
    if format.is_null() {
        return STATUS_INVALID_PARAMETER as ULONG;
    }
    // SAFETY: the trampoline's promise.
    let mut arguments = unsafe { Arguments::new(registers, registers_used as usize, stack) };
    // SAFETY: the caller of `DbgPrint` promises it.
    match unsafe { format::render(format, &mut arguments) } {
        Ok(text) => write(&String::from_utf8_lossy(&text)),
        Err(unicode) => {
            stop(BugCheck::new(IRQL_NOT_LESS_OR_EQUAL, [unicode.string, irql::current().into(), 0, 0]));
        }
    }
    STATUS_SUCCESS as ULONG
}

/// A trampoline's body between what its object format needs to make it a function with unwind information.
macro_rules! trampoline {
    ($name:literal, $($instruction:literal,)*) => {
        #[cfg(target_vendor = "apple")]
        core::arch::global_asm!(
            ".text",
            ".p2align 4",
            concat!(".globl _", $name),
            concat!("_", $name, ":"),
            ".cfi_startproc",
            $($instruction,)*
            ".cfi_endproc",
            arrived = sym arrived,
        );
        #[cfg(windows)]
        core::arch::global_asm!(
            ".text",
            ".p2align 4",
            concat!(".def ", $name),
            ".scl 2",
            ".type 32",
            ".endef",
            concat!(".globl ", $name),
            concat!(".seh_proc ", $name),
            concat!($name, ":"),
            $($instruction,)*
            ".seh_endproc",
            arrived = sym arrived,
        );
        #[cfg(not(any(target_vendor = "apple", windows)))]
        core::arch::global_asm!(
            ".text",
            ".p2align 4",
            concat!(".globl ", $name),
            concat!(".type ", $name, ", %function"),
            concat!($name, ":"),
            ".cfi_startproc",
            $($instruction,)*
            ".cfi_endproc",
            concat!(".size ", $name, ", . - ", $name),
            arrived = sym arrived,
        );
    };
}

// The return address makes 8 bytes and the frame 56: the stack stays aligned to 16.
#[cfg(all(target_arch = "x86_64", not(windows)))]
trampoline! { "memtrack_sim_0_1_DbgPrint",
    "sub rsp, 56",
    ".cfi_adjust_cfa_offset 56",
    "mov [rsp], rsi",
    "mov [rsp + 8], rdx",
    "mov [rsp + 16], rcx",
    "mov [rsp + 24], r8",
    "mov [rsp + 32], r9",
    "mov rsi, rsp",
    "lea rdx, [rsp + 64]",
    "mov ecx, 5",
    "call {arrived}",
    "add rsp, 56",
    ".cfi_adjust_cfa_offset -56",
    "ret",
}

#[cfg(all(target_arch = "x86_64", not(windows)))]
trampoline! { "memtrack_sim_0_1_DbgPrintEx",
    "sub rsp, 56",
    ".cfi_adjust_cfa_offset 56",
    "mov [rsp], rcx",
    "mov [rsp + 8], r8",
    "mov [rsp + 16], r9",
    "mov rdi, rdx",
    "mov rsi, rsp",
    "lea rdx, [rsp + 64]",
    "mov ecx, 3",
    "call {arrived}",
    "add rsp, 56",
    ".cfi_adjust_cfa_offset -56",
    "ret",
}

// Once the registers are in their home space the row is complete, so that no register is passed on. The frame
// is the callee's home space and 8 bytes of alignment. Stores to the home space need no unwind information.
#[cfg(all(target_arch = "x86_64", windows))]
trampoline! { "memtrack_sim_0_1_DbgPrint",
    "sub rsp, 40",
    ".seh_stackalloc 40",
    ".seh_endprologue",
    "mov [rsp + 56], rdx",
    "mov [rsp + 64], r8",
    "mov [rsp + 72], r9",
    "lea r8, [rsp + 56]",
    "mov rdx, r8",
    "xor r9d, r9d",
    "call {arrived}",
    "nop",
    "add rsp, 40",
    "ret",
}

#[cfg(all(target_arch = "x86_64", windows))]
trampoline! { "memtrack_sim_0_1_DbgPrintEx",
    "sub rsp, 40",
    ".seh_stackalloc 40",
    ".seh_endprologue",
    "mov [rsp + 72], r9",
    "mov rcx, r8",
    "lea r8, [rsp + 72]",
    "mov rdx, r8",
    "xor r9d, r9d",
    "call {arrived}",
    "nop",
    "add rsp, 40",
    "ret",
}

// Frame pointer and return address make 16 bytes, seven registers 56, and 8 keep the stack aligned.
#[cfg(all(target_arch = "aarch64", not(any(windows, target_vendor = "apple"))))]
trampoline! { "memtrack_sim_0_1_DbgPrint",
    "stp x29, x30, [sp, #-80]!",
    ".cfi_def_cfa_offset 80",
    ".cfi_offset x29, -80",
    ".cfi_offset x30, -72",
    "mov x29, sp",
    "stp x1, x2, [sp, #16]",
    "stp x3, x4, [sp, #32]",
    "stp x5, x6, [sp, #48]",
    "str x7, [sp, #64]",
    "add x1, sp, #16",
    "add x2, sp, #80",
    "mov w3, #7",
    "bl {arrived}",
    "ldp x29, x30, [sp], #80",
    ".cfi_def_cfa_offset 0",
    ".cfi_restore x29",
    ".cfi_restore x30",
    "ret",
}

#[cfg(all(target_arch = "aarch64", not(any(windows, target_vendor = "apple"))))]
trampoline! { "memtrack_sim_0_1_DbgPrintEx",
    "stp x29, x30, [sp, #-64]!",
    ".cfi_def_cfa_offset 64",
    ".cfi_offset x29, -64",
    ".cfi_offset x30, -56",
    "mov x29, sp",
    "stp x3, x4, [sp, #16]",
    "stp x5, x6, [sp, #32]",
    "str x7, [sp, #48]",
    "mov x0, x2",
    "add x1, sp, #16",
    "add x2, sp, #64",
    "mov w3, #5",
    "bl {arrived}",
    "ldp x29, x30, [sp], #64",
    ".cfi_def_cfa_offset 0",
    ".cfi_restore x29",
    ".cfi_restore x30",
    "ret",
}

#[cfg(all(target_arch = "aarch64", windows))]
trampoline! { "memtrack_sim_0_1_DbgPrint",
    "stp x29, x30, [sp, #-80]!",
    ".seh_save_fplr_x 80",
    "mov x29, sp",
    ".seh_set_fp",
    ".seh_endprologue",
    "stp x1, x2, [sp, #16]",
    "stp x3, x4, [sp, #32]",
    "stp x5, x6, [sp, #48]",
    "str x7, [sp, #64]",
    "add x1, sp, #16",
    "add x2, sp, #80",
    "mov w3, #7",
    "bl {arrived}",
    ".seh_startepilogue",
    "ldp x29, x30, [sp], #80",
    ".seh_save_fplr_x 80",
    ".seh_endepilogue",
    "ret",
}

#[cfg(all(target_arch = "aarch64", windows))]
trampoline! { "memtrack_sim_0_1_DbgPrintEx",
    "stp x29, x30, [sp, #-64]!",
    ".seh_save_fplr_x 64",
    "mov x29, sp",
    ".seh_set_fp",
    ".seh_endprologue",
    "stp x3, x4, [sp, #16]",
    "stp x5, x6, [sp, #32]",
    "str x7, [sp, #48]",
    "mov x0, x2",
    "add x1, sp, #16",
    "add x2, sp, #64",
    "mov w3, #5",
    "bl {arrived}",
    ".seh_startepilogue",
    "ldp x29, x30, [sp], #64",
    ".seh_save_fplr_x 64",
    ".seh_endepilogue",
    "ret",
}

#[cfg(all(target_arch = "aarch64", target_vendor = "apple"))]
trampoline! { "memtrack_sim_0_1_DbgPrint",
    "stp x29, x30, [sp, #-16]!",
    ".cfi_def_cfa_offset 16",
    ".cfi_offset x29, -16",
    ".cfi_offset x30, -8",
    "mov x29, sp",
    "add x2, sp, #16",
    "mov x1, x2",
    "mov w3, #0",
    "bl {arrived}",
    "ldp x29, x30, [sp], #16",
    ".cfi_def_cfa_offset 0",
    ".cfi_restore x29",
    ".cfi_restore x30",
    "ret",
}

#[cfg(all(target_arch = "aarch64", target_vendor = "apple"))]
trampoline! { "memtrack_sim_0_1_DbgPrintEx",
    "stp x29, x30, [sp, #-16]!",
    ".cfi_def_cfa_offset 16",
    ".cfi_offset x29, -16",
    ".cfi_offset x30, -8",
    "mov x29, sp",
    "mov x0, x2",
    "add x2, sp, #16",
    "mov x1, x2",
    "mov w3, #0",
    "bl {arrived}",
    "ldp x29, x30, [sp], #16",
    ".cfi_def_cfa_offset 0",
    ".cfi_restore x29",
    ".cfi_restore x30",
    "ret",
}

#[cfg(not(all(target_pointer_width = "64", any(target_arch = "x86_64", target_arch = "aarch64"))))]
compile_error!(
    "memtrack-sim runs on x86-64 and AArch64 hosts: DbgPrint's variable arguments are taken apart in assembly, \
     and this machine's calling convention is not written yet"
);
