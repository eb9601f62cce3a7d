//! How much stack functions take, by the unwind information that Windows has of each:
//! <https://learn.microsoft.com/cpp/build/exception-handling-x64>.

use anyhow::{Context as _, Result, bail};

/// A function's frame: what it takes of the stack when it is called, in bytes, without what it calls.
pub struct Frame {
    pub function: u32,
    pub bytes: u32,
}

/// A `RUNTIME_FUNCTION`: where the function begins and ends, and where its unwind information is.
const ENTRY_BYTES: usize = 12;

const PUSH_NONVOLATILE: u8 = 0;
const ALLOCATE_LARGE: u8 = 1;
const ALLOCATE_SMALL: u8 = 2;
const SET_FRAME_POINTER: u8 = 3;
const SAVE_NONVOLATILE: u8 = 4;
const SAVE_NONVOLATILE_FAR: u8 = 5;
const SAVE_XMM128: u8 = 8;
const SAVE_XMM128_FAR: u8 = 9;
const PUSH_MACHINE_FRAME: u8 = 10;

/// The frames of the functions in an exception table; `at` gives the bytes that begin at an address of the image.
pub fn read<'i>(table: &[u8], at: impl Fn(u32) -> Option<&'i [u8]>) -> Result<Vec<Frame>> {
    let mut frames = Vec::new();
    for entry in table.chunks_exact(ENTRY_BYTES) {
        let [function, _, unwind] = [0, 4, 8].map(|place| number(entry, place));
        if function == 0 {
            break;
        }
        let information = at(unwind).context("unwind information lies in no section")?;
        frames.push(Frame { function, bytes: frame(information)? });
    }
    Ok(frames)
}

fn frame(information: &[u8]) -> Result<u32> {
    let count = usize::from(*information.get(2).context("unwind information is cut off")?);
    let codes = information.get(4..4 + 2 * count).context("unwind codes are cut off")?;
    let mut codes = codes.chunks_exact(2);
    let mut bytes = 0;
    while let Some(code) = codes.next() {
        let (operation, more) = (code[1] & 0xF, u32::from(code[1] >> 4));
        let mut next = || codes.next().map(|slot| u32::from(slot[0]) | u32::from(slot[1]) << 8);
        match (operation, more) {
            (PUSH_NONVOLATILE, _) => bytes += 8,
            (ALLOCATE_SMALL, units) => bytes += 8 * (units + 1),
            (ALLOCATE_LARGE, 0) => bytes += 8 * next().context("a size is missing")?,
            (ALLOCATE_LARGE, _) => {
                let (low, high) = (next(), next());
                bytes += low.zip(high).map(|(low, high)| low | high << 16).context("a size is missing")?;
            }
            (SET_FRAME_POINTER, _) => {}
            (SAVE_NONVOLATILE | SAVE_XMM128, _) => drop(next()),
            (SAVE_NONVOLATILE_FAR | SAVE_XMM128_FAR, _) => drop((next(), next())),
            (PUSH_MACHINE_FRAME, _) => bytes += 48,
            (operation, _) => bail!("there is no unwind operation {operation}"),
        }
    }
    Ok(bytes)
}

/// Four bytes of a slice that is long enough.
fn number(entry: &[u8], place: usize) -> u32 {
    let bytes = entry.get(place..place + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_what_is_pushed_and_what_is_taken() {
        // Pushes of rbp and rdi, and 0x28 bytes: three codes of one slot each.
        let small = [1, 8, 3, 0, 8, 0x42, 4, 0x50, 2, 0x70];
        assert_eq!(frame(&small).unwrap(), 8 + 8 + 40);
        // 0x1230 bytes, in units of eight, and a saved register.
        let large = [1, 8, 4, 0, 8, 0x64, 3, 0, 7, 0x01, 0x46, 0x02];
        assert_eq!(frame(&large).unwrap(), 0x1230);
        let huge = [1, 8, 3, 0, 7, 0x11, 0x00, 0x00, 0x02, 0x00];
        assert_eq!(frame(&huge).unwrap(), 0x2_0000);
    }

    #[test]
    fn what_is_cut_off_or_unknown_is_an_error() {
        for odd in [&[1, 8][..], &[1, 8, 2, 0, 8, 0x42], &[1, 8, 1, 0, 7, 0x01], &[1, 8, 1, 0, 7, 0x0F]] {
            assert!(frame(odd).is_err(), "{odd:?}");
        }
    }
}
