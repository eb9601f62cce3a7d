//! A list keeps its depth, with memtrack on and off.

memtrack::instrument_items! {
    use core::mem::MaybeUninit;
    use core::ptr::null_mut;

    use memtrack::ntddk::{
        ExAllocateFromNPagedLookasideList, ExDeleteNPagedLookasideList, ExFreeToNPagedLookasideList,
        ExInitializeNPagedLookasideList,
    };
    use wdk_sys::ntddk::{DbgPrint, ExQueryDepthSList};
    use wdk_sys::{NPAGED_LOOKASIDE_LIST, PVOID};

    const TAG: u32 = u32::from_le_bytes(*b"List");

    static mut LIST: MaybeUninit<NPAGED_LOOKASIDE_LIST> = MaybeUninit::uninit();

    /// Takes twelve entries of a list of depth 7 and gives them back, and says what the list kept.
    pub fn keep_their_depth() {
        let list: *mut NPAGED_LOOKASIDE_LIST = (&raw mut LIST).cast();
        let mut entries: [PVOID; 12] = [null_mut(); 12];
        unsafe {
            ExInitializeNPagedLookasideList(list, None, None, 0, 48, TAG, 7);
            for entry in &mut entries {
                *entry = ExAllocateFromNPagedLookasideList(list);
            }
            for entry in entries {
                ExFreeToNPagedLookasideList(list, entry);
            }
            let kept = u32::from(ExQueryDepthSList(list.cast()));
            let depth = u32::from((*list).L.Depth);
            DbgPrint(c"exercise: depth %u, kept %u\n".as_ptr(), depth, kept);
            ExDeleteNPagedLookasideList(list);
        }
    }
}
