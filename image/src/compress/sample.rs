//! Telling from a sample how hard it is worth to look for repeats.

/// Blocks below this are not worth a look.
const SMALL: usize = 64 << 10;

/// How many slices of a block are looked at, and how long each is.
const SLICES: usize = 32;
const SLICE: usize = 1 << 10;

/// Bits a byte from which on the bytes' frequencies alone say that a code of them saves nothing. Of a sample of 32 KiB
/// of random bytes it is 7.994; machine code has 6 to 7, text 4 to 5.
const NO_ORDER: f64 = 7.98;

/// Below this a block shrinks so much that little is lost by looking for repeats in haste: of what images are made of, text,
/// data and tables are below, most machine code is above. Where it is set, a layer of programs and text loses about one part
/// in a hundred, and takes an eighth less time.
const ORDER: f64 = 5.8;

/// A trial that saves less than one part in this finds nothing worth the time.
const WORTH_IT: usize = 64;

/// What a block is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Nothing would be saved by compressing it: its bytes are as frequent as chance has them, and a fast trial finds no
    /// repeats either.
    None,
    /// As in machine code; what is too small to tell counts as this.
    Some,
    /// It will shrink much however it is compressed.
    Much,
}

/// What `block` is like. A pure function of it.
pub(super) fn order(block: &[u8]) -> Order {
    if block.len() < SMALL {
        return Order::Some;
    }
    match entropy(block) {
        bits if bits > NO_ORDER && has_no_repeats(block) => Order::None,
        bits if bits < ORDER => Order::Much,
        _ => Order::Some,
    }
}

/// Bits a byte of the sample, by how often each byte is in it.
fn entropy(block: &[u8]) -> f64 {
    let step = block.len() / SLICES;
    let mut counts = [0_u32; 256];
    for slice in block.chunks(step).take(SLICES) {
        for &byte in &slice[..SLICE.min(slice.len())] {
            counts[usize::from(byte)] += 1;
        }
    }
    let total = f64::from(counts.iter().sum::<u32>());
    let share = counts.iter().filter(|&&count| count > 0);
    share
        .map(|&count| f64::from(count) / total)
        .map(|share| -share * share.log2())
        .sum()
}

fn has_no_repeats(block: &[u8]) -> bool {
    let trial = ::zstd::bulk::compress(block, 1);
    trial.is_ok_and(|bytes| bytes.len() > block.len() - block.len() / WORTH_IT)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn numbers() -> impl Iterator<Item = u64> {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        std::iter::repeat_with(move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        })
    }

    /// Text-like bytes that are the same everywhere: words chosen by a small generator.
    pub(in crate::compress) fn words(length: usize) -> Vec<u8> {
        let words: [&[u8]; 8] = [
            b"layer ",
            b"digest\n",
            b"of ",
            b"\0\x01\xfe",
            b"root ",
            b"7",
            b"== ",
            b"kiln",
        ];
        let mut bytes = Vec::with_capacity(length + 8);
        let mut numbers = numbers();
        while let Some(number) = numbers.next().filter(|_| bytes.len() < length) {
            bytes.extend_from_slice(words[(number >> 40) as usize % words.len()]);
        }
        bytes.truncate(length);
        bytes
    }

    /// Bytes without any order, the same everywhere.
    pub(in crate::compress) fn noise(length: usize) -> Vec<u8> {
        let bytes =
            numbers().flat_map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        bytes.take(length).collect()
    }

    #[test]
    fn only_what_has_neither_order_nor_repeats_has_none() {
        let half = [noise(1 << 19), words(1 << 19)].concat();
        for (what, block, expected) in [
            ("noise", noise(1 << 20), Order::None),
            ("words", words(1 << 20), Order::Much),
            ("zeros", vec![0; 1 << 20], Order::Much),
            ("half of each", half, Order::Some),
            ("too small to tell", noise(1 << 15), Order::Some),
            ("repeats", noise(1 << 18).repeat(4), Order::Some),
        ] {
            assert_eq!(order(&block), expected, "{what}");
        }
    }
}
