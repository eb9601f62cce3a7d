//! Threads that allocate, and free what another one has allocated.

memtrack::instrument_items! {
    use core::ptr::null_mut;
    use core::sync::atomic::{AtomicPtr, Ordering};

    use wdk_sys::ntddk::{
        ExAllocatePool2, ExFreePoolWithTag, KeWaitForSingleObject, ObReferenceObjectByHandle, ObfDereferenceObject,
        PsCreateSystemThread, PsTerminateSystemThread, ZwClose,
    };
    use wdk_sys::{
        _KWAIT_REASON, _MODE, NT_SUCCESS, POOL_FLAG_NON_PAGED, POOL_FLAG_PAGED, PVOID, STATUS_SUCCESS,
        THREAD_ALL_ACCESS,
    };

    const TAG: u32 = u32::from_le_bytes(*b"Thrd");
    const THREADS: usize = 4;
    const ROUNDS: usize = 20_000;

    static WORKERS: [AtomicPtr<()>; THREADS] = [const { AtomicPtr::new(null_mut()) }; THREADS];
    /// Blocks on their way from one thread to another, of each pool.
    static NONPAGED: [AtomicPtr<()>; 64] = [const { AtomicPtr::new(null_mut()) }; 64];
    static PAGED: [AtomicPtr<()>; 64] = [const { AtomicPtr::new(null_mut()) }; 64];

    pub fn start() {
        for (number, worker) in WORKERS.iter().enumerate() {
            let context = core::ptr::without_provenance_mut(number + 1);
            let mut handle = null_mut();
            let mut thread = null_mut();
            unsafe {
                let status = PsCreateSystemThread(
                    &raw mut handle, THREAD_ALL_ACCESS, null_mut(), null_mut(), null_mut(), Some(work), context,
                );
                if !NT_SUCCESS(status) {
                    return;
                }
                let status = ObReferenceObjectByHandle(
                    handle, THREAD_ALL_ACCESS, null_mut(), _MODE::KernelMode as i8, &raw mut thread, null_mut(),
                );
                if NT_SUCCESS(status) {
                    worker.store(thread.cast(), Ordering::Release);
                }
                let _ = ZwClose(handle);
            }
        }
    }

    unsafe extern "C" fn work(context: PVOID) {
        let mut random = context.addr() as u32;
        for round in 0..ROUNDS {
            if round % (ROUNDS / 4) == 0 {
                memtrack::report("exercise");
            }
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            let place = random as usize % 64;
            let bytes = 1 + u64::from(random >> 8) % 500;
            unsafe {
                let block = ExAllocatePool2(POOL_FLAG_NON_PAGED, bytes, TAG);
                give(&NONPAGED[place], block);
                let block = ExAllocatePool2(POOL_FLAG_PAGED, 2 * bytes, TAG);
                give(&PAGED[place], block);
            }
        }
        let _ = unsafe { PsTerminateSystemThread(STATUS_SUCCESS) };
    }

    /// Puts a block where another thread finds it, and frees what was there.
    unsafe fn give(slot: &AtomicPtr<()>, block: PVOID) {
        let before = slot.swap(block.cast(), Ordering::AcqRel);
        if !before.is_null() {
            unsafe { ExFreePoolWithTag(before.cast(), TAG) };
        }
    }

    /// Waits for the threads, and frees all but one block.
    pub fn stop() {
        for worker in &WORKERS {
            let thread: PVOID = worker.load(Ordering::Acquire).cast();
            if !thread.is_null() {
                unsafe {
                    let _ = KeWaitForSingleObject(
                        thread, _KWAIT_REASON::Executive, _MODE::KernelMode as i8, 0, null_mut(),
                    );
                    ObfDereferenceObject(thread);
                }
            }
        }
        for slot in NONPAGED.iter().chain(&PAGED) {
            unsafe { give(slot, null_mut()) };
        }
        // What the report at unload shows to be all that is left.
        let _ = unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED, 123, TAG) };
    }
}
