//! Programs of one system call, for calls that no shell has a word for and no crate a safe function. They are i386's, as a machine's 32-bit
//! programs have to be held like its own.

/// Bytes that a program brings along.
pub(crate) struct Data<'a>(pub(crate) &'a [&'a [u8]]);

const BASE: u32 = 0x0804_8000;
const HEADERS: u32 = 52 + 32;
const CODE: u32 = 6 * 5 + 2 + 5 + 5;

impl Data<'_> {
    /// The address of one of them.
    pub(crate) fn at(&self, index: usize) -> u32 {
        BASE + HEADERS + CODE + length(&self.0[..index])
    }
}

fn length(parts: &[&[u8]]) -> u32 {
    parts
        .iter()
        .map(|part| u32::try_from(part.len()).unwrap())
        .sum()
}

/// An ELF file whose program makes one call and ends with the number of its error.
pub(crate) fn program(call: u32, arguments: [u32; 5], data: &Data<'_>) -> Vec<u8> {
    let end = HEADERS + CODE + length(data.0);
    let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x03\0".to_vec();
    let words = |file: &mut Vec<u8>, words: &[u32]| {
        file.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    };
    words(
        &mut file,
        &[1, BASE + HEADERS, 52, 0, 0, 32 << 16 | 52, 1, 0],
    ); // e_version … e_shstrndx
    words(&mut file, &[1, 0, BASE, BASE, end, end, 5, 0x1000]); // a segment to be loaded
    // eax is the call; ebx, ecx, edx, esi and edi are the arguments.
    let [first, second, third, fourth, fifth] = arguments;
    let registers = [
        (0, call),
        (3, first),
        (1, second),
        (2, third),
        (6, fourth),
        (7, fifth),
    ];
    for (register, value) in registers {
        file.push(0xb8 + register);
        file.extend(value.to_le_bytes());
    }
    file.extend([0xcd, 0x80]);
    file.extend([0xf7, 0xd8, 0x93, 0x31, 0xc0]); // the negative of what it returned is the first argument
    file.extend([0x40, 0xcd, 0x80, 0x90, 0x90]); // of exit
    assert_eq!(file.len(), usize::try_from(HEADERS + CODE).unwrap());
    data.0.iter().for_each(|part| file.extend(*part));
    file
}
