//! The smallest programs of other processors: an ELF header, one segment, and `exit(0)`.

/// What a processor's programs begin with.
struct Machine {
    /// As Go's GOARCH.
    architecture: &'static str,
    /// `e_machine`
    number: u16,
    /// `e_flags`
    flags: u32,
    is_64_bit: bool,
    is_big_endian: bool,
    /// The instructions of `exit(0)`.
    exit: &'static [u8],
}

const MACHINES: [Machine; 9] = [
    Machine {
        architecture: "amd64",
        number: 62,
        flags: 0,
        is_64_bit: true,
        is_big_endian: false,
        // mov eax, 60; xor edi, edi; syscall
        exit: &[0xb8, 0x3c, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05],
    },
    Machine {
        architecture: "386",
        number: 3,
        flags: 0,
        is_64_bit: false,
        is_big_endian: false,
        // mov eax, 1; xor ebx, ebx; int 0x80
        exit: &[0xb8, 1, 0, 0, 0, 0x31, 0xdb, 0xcd, 0x80],
    },
    Machine {
        architecture: "arm64",
        number: 183,
        flags: 0,
        is_64_bit: true,
        is_big_endian: false,
        // mov x8, #93; mov x0, #0; svc #0
        exit: &[0xa8, 0x0b, 0x80, 0xd2, 0, 0, 0x80, 0xd2, 0x01, 0, 0, 0xd4],
    },
    Machine {
        architecture: "arm",
        number: 40,
        flags: 0x0500_0200, // EABI 5
        is_64_bit: false,
        is_big_endian: false,
        // mov r7, #1; mov r0, #0; svc #0
        exit: &[0x01, 0x70, 0xa0, 0xe3, 0, 0, 0xa0, 0xe3, 0, 0, 0, 0xef],
    },
    Machine {
        architecture: "riscv64",
        number: 243,
        flags: 0,
        is_64_bit: true,
        is_big_endian: false,
        // li a7, 93; li a0, 0; ecall
        exit: &[0x93, 0x08, 0xd0, 0x05, 0x13, 0x05, 0, 0, 0x73, 0, 0, 0],
    },
    Machine {
        architecture: "ppc64le",
        number: 21,
        flags: 2, // ELFv2
        is_64_bit: true,
        is_big_endian: false,
        // li r0, 1; li r3, 0; sc
        exit: &[0x01, 0, 0, 0x38, 0, 0, 0x60, 0x38, 0x02, 0, 0, 0x44],
    },
    Machine {
        architecture: "s390x",
        number: 22,
        flags: 0,
        is_64_bit: true,
        is_big_endian: true,
        // lghi %r2, 0; svc 1
        exit: &[0xa7, 0x29, 0, 0, 0x0a, 0x01],
    },
    Machine {
        architecture: "mips64le",
        number: 8,
        flags: 0x8000_0007, // MIPS64r2, position independent
        is_64_bit: true,
        is_big_endian: false,
        // li v0, 5058; move a0, zero; syscall
        exit: &[0xc2, 0x13, 0x02, 0x24, 0x25, 0x20, 0, 0, 0x0c, 0, 0, 0],
    },
    Machine {
        architecture: "loong64",
        number: 258,
        flags: 0x43, // LP64D
        is_64_bit: true,
        is_big_endian: false,
        // li.w a7, 93; li.w a0, 0; syscall 0
        exit: &[0x0b, 0x74, 0x81, 0x02, 0x04, 0, 0x80, 0x02, 0, 0, 0x2b, 0],
    },
];

/// Where the segment is put: a multiple of every page size there is.
const ADDRESS: u64 = 0x40_0000;
const PAGE: u64 = 0x1_0000;

/// A program of a processor that ends at once, with status 0; `None` for one that isn't known.
pub(super) fn of(architecture: &str) -> Option<Vec<u8>> {
    let machine = MACHINES
        .iter()
        .find(|machine| machine.architecture == architecture)?;
    Some(machine.program())
}

impl Machine {
    fn program(&self) -> Vec<u8> {
        let (header, segment) = if self.is_64_bit { (64, 56) } else { (52, 32) };
        let size = (header + segment) as u64 + self.exit.len() as u64;
        let mut elf = Elf {
            bytes: b"\x7fELF".to_vec(),
            machine: self,
        };
        let class = if self.is_64_bit { 2 } else { 1 };
        let order = if self.is_big_endian { 2 } else { 1 };
        elf.bytes.extend([class, order, 1, 0]);
        elf.bytes.extend([0; 8]);
        elf.half(2); // an executable
        elf.half(self.number);
        elf.word(1);
        elf.address(ADDRESS + (header + segment) as u64); // entry
        elf.address(header as u64); // program headers
        elf.address(0); // no sections
        elf.word(self.flags);
        elf.half(header);
        elf.half(segment);
        elf.half(1);
        elf.half(if self.is_64_bit { 64 } else { 40 });
        elf.half(0);
        elf.half(0);
        elf.segment(size);
        elf.bytes.extend(self.exit);
        elf.bytes
    }
}

/// An ELF file being written.
struct Elf<'m> {
    bytes: Vec<u8>,
    machine: &'m Machine,
}

impl Elf<'_> {
    /// One segment with the whole file, to be read and executed.
    fn segment(&mut self, size: u64) {
        const LOAD: u32 = 1;
        const READ_EXECUTE: u32 = 5;
        self.word(LOAD);
        if self.machine.is_64_bit {
            self.word(READ_EXECUTE);
        }
        for value in [0, ADDRESS, ADDRESS, size, size] {
            self.address(value);
        }
        if !self.machine.is_64_bit {
            self.word(READ_EXECUTE);
        }
        self.address(PAGE);
    }

    fn half(&mut self, value: u16) {
        match self.machine.is_big_endian {
            true => self.bytes.extend(value.to_be_bytes()),
            false => self.bytes.extend(value.to_le_bytes()),
        }
    }

    fn word(&mut self, value: u32) {
        match self.machine.is_big_endian {
            true => self.bytes.extend(value.to_be_bytes()),
            false => self.bytes.extend(value.to_le_bytes()),
        }
    }

    /// As wide as the processor's addresses.
    fn address(&mut self, value: u64) {
        match (self.machine.is_64_bit, self.machine.is_big_endian) {
            (true, true) => self.bytes.extend(value.to_be_bytes()),
            (true, false) => self.bytes.extend(value.to_le_bytes()),
            (false, _) => self.word(u32::try_from(value).expect("all values here are small")),
        }
    }
}
