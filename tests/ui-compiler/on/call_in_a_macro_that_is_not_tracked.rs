#![deny(deprecated)]

use memtrack_sim::{PVOID, ntddk::ExFreePool};

macro_rules! told {
    ($function:ident($($argument:expr),*)) => {
        println!("{}", stringify!($function));
        $function($($argument),*)
    };
    ($call:expr => $then:expr) => {
        $call;
        $then
    };
}

#[memtrack::instrument]
unsafe fn free(block: PVOID) {
    unsafe {
        told!(ExFreePool(block) => println!("freed"));
        #[memtrack::skip]
        told!(ExFreePool(block));
    }
}

fn main() {
    let _ = free as unsafe fn(PVOID);
}
