//! `ptr::eq`, `addr_of_mut!`, `CONTAINING_RECORD`: code that is about addresses. A doubly linked queue of IRPs.
#![allow(
    clippy::borrow_as_ptr,
    clippy::ptr_as_ptr,
    clippy::ref_as_ptr,
    reason = "as it was written before `&raw`"
)]

#[allow(non_snake_case, non_camel_case_types, clippy::upper_case_acronyms, reason = "the kernel's names")]
mod wdm {
    use core::ffi::c_void;

    #[repr(C)]
    pub struct LIST_ENTRY {
        pub Flink: *mut LIST_ENTRY,
        pub Blink: *mut LIST_ENTRY,
    }

    pub unsafe extern "C" fn ExAllocatePoolWithTag(_: i32, bytes: u64, _: u32) -> *mut c_void {
        crate::host::allocate(bytes)
    }
    pub unsafe extern "C" fn ExFreePoolWithTag(block: *mut c_void, _: u32) {
        crate::host::release(block);
    }
}

#[memtrack::instrument]
mod queue {
    use super::wdm::{self, LIST_ENTRY};
    use core::mem::{offset_of, size_of};
    use core::ptr::{self, addr_of, addr_of_mut};

    const TAG: u32 = u32::from_le_bytes(*b"IrpQ");

    #[repr(C)]
    struct Irp {
        kind: u16,
        size: u16,
        link: LIST_ENTRY,
        status: [u32; 2],
    }

    unsafe fn insert_tail(head: *mut LIST_ENTRY, entry: *mut LIST_ENTRY) {
        unsafe {
            let last = (*head).Blink;
            entry.write(LIST_ENTRY { Flink: head, Blink: last });
            (*last).Flink = entry;
            (*head).Blink = entry;
        }
    }

    unsafe fn remove(entry: *mut LIST_ENTRY) {
        unsafe {
            let LIST_ENTRY { Flink, Blink } = entry.read();
            (*Blink).Flink = Flink;
            (*Flink).Blink = Blink;
        }
    }

    unsafe fn irp(head: *mut LIST_ENTRY, kind: u16) -> *mut Irp {
        unsafe {
            let irp = /*@*/wdm::ExAllocatePoolWithTag(512, size_of::<Irp>() as u64, TAG) as usize as *mut Irp;
            if ptr::eq(irp, ptr::null()) {
                return irp;
            }
            addr_of_mut!((*irp).kind).write(kind);
            addr_of_mut!((*irp).size).write(40);
            insert_tail(head, addr_of_mut!((*irp).link));
            *addr_of_mut!((*irp).status[1]) = u32::from(kind);
            irp
        }
    }

    unsafe fn containing(link: *mut LIST_ENTRY) -> *mut Irp {
        unsafe { link.byte_sub(offset_of!(Irp, link)).cast() }
    }

    unsafe fn complete(irp: *mut Irp) -> u32 {
        unsafe {
            remove(addr_of_mut!((*irp).link));
            let status = addr_of!((*irp).status).cast::<u32>().add(1).read();
            wdm::ExFreePoolWithTag(&mut *irp as *mut Irp as _, TAG);
            status
        }
    }

    pub fn drive() {
        unsafe {
            let mut head = LIST_ENTRY { Flink: ptr::null_mut(), Blink: ptr::null_mut() };
            let head = addr_of_mut!(head);
            head.write(LIST_ENTRY { Flink: head, Blink: head });
            let irps = [3, 4, 5, 6].map(|kind| irp(head, kind));
            assert!(
                ptr::eq(containing((*head).Flink), irps[0]) && ptr::addr_eq((*head).Blink, &(*irps[3]).link)
            );
            assert_eq!(complete(irps[1]), 4);
            let mut sum = 0;
            while !ptr::eq((*(*head).Flink).Flink, head) {
                sum += complete(containing((*head).Flink));
            }
            assert_eq!((sum, (*containing((*head).Blink)).kind), (3 + 5, 6));
        }
    }
}

pub use queue::drive;
