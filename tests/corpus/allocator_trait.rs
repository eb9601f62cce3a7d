//! A trait like `core::alloc::Allocator`, for which a driver's pools stand. Sorted lists of ranges.

use core::alloc::Layout;
use core::ffi::c_void;
use core::ptr::NonNull;

#[allow(non_snake_case, reason = "the kernel's names")]
mod bindings {
    use core::ffi::c_void;

    pub unsafe extern "system" fn ExAllocatePoolZero(_: i32, bytes: usize, _: u32) -> *mut c_void {
        crate::host::allocate(bytes)
    }
    pub unsafe extern "system" fn ExFreePoolWithTag(block: *mut c_void, _: u32) {
        crate::host::release(block);
    }
}

#[derive(Debug, PartialEq)]
struct AllocError;

/// # Safety
///
/// Blocks are as long and aligned as asked for, and the caller's until given back.
unsafe trait Allocator {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError>;

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout);

    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let grown = self.allocate(new)?;
        unsafe {
            grown.cast::<u8>().copy_from_nonoverlapping(block, old.size());
            self.deallocate(block, old);
        }
        Ok(grown)
    }
}

#[derive(Clone, Copy)]
struct TaggedPool<const KIND: i32> {
    tag: u32,
}

#[memtrack::instrument]
unsafe impl<const KIND: i32> Allocator for TaggedPool<KIND> {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        use bindings::ExAllocatePoolZero as zeroed;
        let block: *mut c_void = unsafe {
            /*@*/
            zeroed(KIND, layout.size(), self.tag)
        };
        let block = NonNull::new(block.cast()).ok_or(AllocError)?;
        Ok(NonNull::slice_from_raw_parts(block, layout.size()))
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, _layout: Layout) {
        unsafe { bindings::ExFreePoolWithTag(block.as_ptr().cast(), self.tag) }
    }
}

type Range = (u64, u64);

/// Byte ranges that somebody has locked, in order.
struct Locks<A: Allocator> {
    pool: A,
    ranges: NonNull<Range>,
    count: usize,
}

impl<A: Allocator> Locks<A> {
    fn layout(count: usize) -> Layout {
        Layout::array::<Range>(count).expect("few ranges")
    }

    fn new(pool: A, first: Range) -> Result<Self, AllocError> {
        let ranges = pool.allocate(Self::layout(1))?.cast();
        unsafe { ranges.write(first) };
        Ok(Self { pool, ranges, count: 1 })
    }

    fn add(&mut self, range: Range) -> Result<(), AllocError> {
        let (old, new) = (Self::layout(self.count), Self::layout(self.count + 1));
        self.ranges = unsafe { self.pool.grow(self.ranges.cast(), old, new)? }.cast();
        unsafe { self.ranges.add(self.count).write(range) };
        self.count += 1;
        unsafe { core::slice::from_raw_parts_mut(self.ranges.as_ptr(), self.count) }.sort_unstable();
        Ok(())
    }
}

impl<A: Allocator> Drop for Locks<A> {
    fn drop(&mut self) {
        unsafe { self.pool.deallocate(self.ranges.cast(), Self::layout(self.count)) }
    }
}

pub fn drive() {
    let mut locks = Locks::new(TaggedPool::<1> { tag: 0x6B63_6F4C }, (100, 8)).unwrap();
    assert_eq!([(7, 1), (50, 3)].map(|range| locks.add(range)), [Ok(()), Ok(())]);
    assert_eq!(unsafe { locks.ranges.read() }, (7, 1));
    let resident = TaggedPool::<512> { tag: 0x7369_7652 };
    assert_eq!(resident.allocate(Layout::new::<[u64; 1 << 20]>()), Err(AllocError));
    core::mem::forget(Locks::new(resident, (0, u64::MAX)));
}
