fn main() {
    let free = |_: *mut u8| {};
    memtrack::record_alloc!(ExFreePool, free(core::ptr::null_mut()));
    memtrack::record_free!(ExFreePoolWithTags, free(core::ptr::null_mut()));
    memtrack::record_free!(ExFreePoolWithTag, free(core::ptr::null_mut()));
    memtrack::record_free!(ExFreePool, free);
}
