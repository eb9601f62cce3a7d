//! A driver's image: what it imports, where it keeps what, and what the linker called it.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use object::LittleEndian as LE;
use object::pe::{IMAGE_SCN_MEM_DISCARDABLE, IMAGE_SCN_MEM_EXECUTE, IMAGE_SCN_MEM_WRITE, ImageNtHeaders64};
use object::read::pe::PeFile64;

use crate::frames::{self, Frame};

/// A function or a static, as the linker's map has it.
pub struct Symbol {
    pub name: String,
    pub address: u32,
}

pub struct Section {
    pub name: String,
    pub bytes: Vec<u8>,
    pub start: u32,
    pub length: u32,
    pub characteristics: u32,
}

impl Section {
    pub fn is_writable(&self) -> bool {
        self.characteristics & IMAGE_SCN_MEM_WRITE != 0
    }

    pub fn is_code(&self) -> bool {
        self.characteristics & IMAGE_SCN_MEM_EXECUTE != 0
    }

    /// Whether the kernel keeps it in memory for as long as the driver is loaded. By its name: what begins with `PAGE` is
    /// paged, and `INIT` is thrown away after `DriverEntry`.
    pub fn is_resident(&self) -> bool {
        let is_named_otherwise = self.name.starts_with("PAGE") || self.name.starts_with("INIT");
        !is_named_otherwise && self.characteristics & IMAGE_SCN_MEM_DISCARDABLE == 0
    }

    fn holds(&self, address: u32) -> bool {
        (self.start..self.start + self.length).contains(&address)
    }
}

pub struct Image {
    bytes: Vec<u8>,
    pub sections: Vec<Section>,
    pub symbols: Vec<Symbol>,
    pub imports: Vec<(String, String)>,
}

impl Image {
    /// The image at `path`, and the linker's map beside it.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("{}", path.display()))?;
        let file = PeFile64::parse(&*bytes)?;
        let base = file.nt_headers().optional_header.image_base.get(LE);
        let mut sections = Vec::new();
        for section in file.section_table().iter() {
            sections.push(Section {
                name: String::from_utf8_lossy(section.raw_name()).into_owned(),
                bytes: section.pe_data(&*bytes)?.to_vec(),
                start: section.virtual_address.get(LE),
                length: section.virtual_size.get(LE),
                characteristics: section.characteristics.get(LE),
            });
        }
        let imports = imports(&file)?;
        let map = path.with_extension("map");
        let map = fs::read_to_string(&map).with_context(|| format!("{}", map.display()))?;
        let symbols = map.lines().filter_map(|line| symbol(line, base)).collect();
        Ok(Self { sections, symbols, imports, bytes })
    }

    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether these letters stand anywhere in it, in either case.
    pub fn contains(&self, word: &str) -> bool {
        self.bytes.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word.as_bytes()))
    }

    pub fn section(&self, name: &str) -> Result<&Section> {
        let section = self.sections.iter().find(|section| section.name == name);
        section.with_context(|| format!("there is no section {name}"))
    }

    /// Where a symbol lies.
    pub fn section_of(&self, symbol: &Symbol) -> Option<&Section> {
        self.sections.iter().find(|section| section.holds(symbol.address))
    }

    /// The functions' stack frames, with the names of those that have one.
    pub fn frames(&self) -> Result<Vec<(&str, Frame)>> {
        let frames = frames::read(&self.section(".pdata")?.bytes, |address| self.at(address))?;
        let named = |frame: Frame| {
            let symbol = self.symbols.iter().find(|symbol| symbol.address == frame.function);
            (symbol.map_or("", |symbol| symbol.name.as_str()), frame)
        };
        Ok(frames.into_iter().map(named).collect())
    }

    /// The bytes from an address to the end of its section.
    fn at(&self, address: u32) -> Option<&[u8]> {
        let section = self.sections.iter().find(|section| section.holds(address))?;
        section.bytes.get((address - section.start) as usize..)
    }
}

fn imports(file: &PeFile64<'_>) -> Result<Vec<(String, String)>> {
    let Some(table) = file.import_table()? else { bail!("it imports nothing") };
    let mut imports = Vec::new();
    let mut libraries = table.descriptors()?;
    while let Some(library) = libraries.next()? {
        let name = String::from_utf8_lossy(table.name(library.name.get(LE))?).into_owned();
        let mut thunks = table.thunks(library.original_first_thunk.get(LE))?;
        while let Some(thunk) = thunks.next::<ImageNtHeaders64>()? {
            let (_, function) = table.hint_name(object::read::pe::ImageThunkData::address(thunk))?;
            imports.push((name.clone(), String::from_utf8_lossy(function).into_owned()));
        }
    }
    Ok(imports)
}

/// ` 0001:00000040  name  0000000180001040  object`, in a line of lld's map.
fn symbol(line: &str, base: u64) -> Option<Symbol> {
    let mut words = line.split_whitespace();
    let (_, _) = words.next()?.split_once(':')?;
    let name = words.next()?.to_owned();
    let address = u64::from_str_radix(words.next()?, 16).ok()?;
    Some(Symbol { name, address: u32::try_from(address.checked_sub(base)?).ok()? })
}
