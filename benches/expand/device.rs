//! One device of the driver that `benches/expand.rs` compiles: 25 copies of this file are its one annotated module.

use core::ffi::c_void;
use core::ptr::{self, null_mut};

use crate::CHANGED;
use crate::ntddk::{
    DbgPrint, ExAllocatePool2, ExAllocatePoolWithTag, ExAllocatePoolZero, ExFreePool, ExFreePoolWithTag,
};

const POOL_FLAG_NON_PAGED: u64 = 0x40;
const POOL_FLAG_PAGED: u64 = 0x100;
const NON_PAGED_POOL_NX: i32 = 512;
const QUEUE_TAG: u32 = u32::from_le_bytes(*b"Dque");
const TABLE_TAG: u32 = u32::from_le_bytes(*b"Dtbl");
const TEXT_TAG: u32 = u32::from_le_bytes(*b"Dtxt");
const SLOTS: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Success,
    InvalidParameter,
    InsufficientResources,
    BufferTooSmall { needed: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    Read,
    Write,
    Query(u32),
    Reset,
    Unknown(u32),
}

impl Code {
    pub fn parse(number: u32) -> Self {
        match (number >> 2) & 0xFFF {
            0x801 => Self::Read,
            0x802 => Self::Write,
            query @ 0x900..=0x9FF => Self::Query(query - 0x900),
            0x803 if number & 3 == 0 => Self::Reset,
            other => Self::Unknown(other),
        }
    }
}

#[repr(C)]
pub struct Request {
    next: *mut Request,
    code: u32,
    length: usize,
    data: [u8; 32],
}

#[repr(C)]
pub struct Table {
    used: usize,
    keys: [u32; SLOTS],
    values: [*mut c_void; SLOTS],
}

#[repr(C)]
pub struct Device {
    first: *mut Request,
    last: *mut Request,
    waiting: usize,
    table: *mut Table,
    bytes_read: u64,
    bytes_written: u64,
}

impl Device {
    /// A device with an empty queue and an empty table.
    pub unsafe fn start() -> Result<*mut Device, Status> {
        let device = unsafe { ExAllocatePoolZero(NON_PAGED_POOL_NX, size_of::<Device>(), TABLE_TAG) };
        let device = device.cast::<Device>();
        if device.is_null() {
            return Err(Status::InsufficientResources);
        }
        let table = unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED, size_of::<Table>() as u64, TABLE_TAG) };
        if table.is_null() {
            unsafe { ExFreePoolWithTag(device.cast(), TABLE_TAG) };
            return Err(Status::InsufficientResources);
        }
        unsafe { (*device).table = table.cast() };
        Ok(device)
    }

    /// Puts a request behind those that wait.
    pub unsafe fn enqueue(&mut self, code: u32, data: &[u8]) -> Result<(), Status> {
        let mut request = Request { next: null_mut(), code, length: data.len(), data: [0; 32] };
        let Some(room) = request.data.get_mut(..data.len()) else {
            return Err(Status::BufferTooSmall { needed: data.len() });
        };
        room.copy_from_slice(data);
        let block: *mut Request =
            unsafe { ExAllocatePool2(POOL_FLAG_NON_PAGED, size_of::<Request>() as _, QUEUE_TAG).cast() };
        if block.is_null() {
            return Err(Status::InsufficientResources);
        }
        unsafe { block.write(request) };
        if self.last.is_null() {
            self.first = block;
        } else {
            unsafe { (*self.last).next = block };
        }
        self.last = block;
        self.waiting += 1;
        Ok(())
    }

    /// Answers all requests; how many of them well?
    pub unsafe fn serve(&mut self) -> usize {
        let mut served = 0;
        while let Some(request) = unsafe { self.first.as_ref() } {
            let status = match Code::parse(request.code) {
                Code::Read => self.read(request),
                Code::Write => self.write(request),
                Code::Query(which) => unsafe { self.query(which, request.length) },
                Code::Reset => {
                    self.bytes_read = 0;
                    self.bytes_written = 0;
                    Status::Success
                }
                Code::Unknown(number) => {
                    unsafe { DbgPrint(c"device: unknown request\n".as_ptr(), number) };
                    Status::InvalidParameter
                }
            };
            if status == Status::Success {
                served += 1;
            }
            let gone = self.first;
            self.first = request.next;
            self.waiting -= 1;
            unsafe { ExFreePoolWithTag(gone.cast(), QUEUE_TAG) };
        }
        self.last = null_mut();
        served
    }

    fn read(&mut self, request: &Request) -> Status {
        let mut sum = u64::from(CHANGED);
        for (place, byte) in request.data.iter().take(request.length).enumerate() {
            sum = sum.rotate_left(5) ^ (u64::from(*byte) << (place % 8));
        }
        self.bytes_read = self.bytes_read.wrapping_add(sum & 0xFFFF);
        Status::Success
    }

    fn write(&mut self, request: &Request) -> Status {
        let words =
            request.data.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
        let Some(largest) = words.filter(|word| word % 2 == 0).max() else {
            return Status::InvalidParameter;
        };
        self.bytes_written += u64::from(largest) + request.length as u64;
        Status::Success
    }

    unsafe fn query(&mut self, which: u32, length: usize) -> Status {
        let text = unsafe { ExAllocatePoolWithTag(1, length.max(16), TEXT_TAG) }.cast::<u8>();
        if text.is_null() {
            return Status::InsufficientResources;
        }
        let mut number = match which {
            0 => self.bytes_read,
            1 => self.bytes_written,
            _ => self.waiting as u64,
        };
        let mut digits = 0;
        while digits < length && (number > 0 || digits == 0) {
            unsafe { text.add(digits).write(b'0' + (number % 10) as u8) };
            number /= 10;
            digits += 1;
        }
        unsafe { ExFreePool(text.cast()) };
        if number > 0 { Status::BufferTooSmall { needed: digits + 1 } } else { Status::Success }
    }

    /// Keeps a copy of the value until the device goes.
    pub unsafe fn remember(&mut self, key: u32, value: &[u8]) -> Status {
        let table = unsafe { &mut *self.table };
        if table.used == SLOTS || table.keys[..table.used].contains(&key) {
            return Status::InvalidParameter;
        }
        let copy = unsafe { ExAllocatePool2(POOL_FLAG_PAGED, value.len() as u64, TABLE_TAG) };
        if copy.is_null() {
            return Status::InsufficientResources;
        }
        unsafe { ptr::copy_nonoverlapping(value.as_ptr(), copy.cast(), value.len()) };
        table.keys[table.used] = key;
        table.values[table.used] = copy;
        table.used += 1;
        Status::Success
    }
}
