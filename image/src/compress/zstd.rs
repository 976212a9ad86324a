//! A zstd writer that uses every thread and always gives the same bytes.
//!
//! libzstd cuts the input into jobs of a fixed size that overlap by a window, and puts them together as one frame. Its
//! output is the same for any number of workers as long as there is one, so it is never used without.
//!
//! The window is 8 MiB at all levels: more than libzstd takes by itself at low ones, which pays in images with the same
//! libraries many times over, and less than at the highest ones, whose windows of 128 MiB readers need not allow.

use std::io::{self, Write};

use ::zstd::Encoder;
use ::zstd::zstd_safe::CParameter;

/// As power of two: 8 MiB.
const WINDOW_LOG: u32 = 23;

/// Input of one job in bytes. There is room for the input of three jobs more than there are workers, and for the output of twice as many.
const JOB: u32 = 4 << 20;

/// Half a window of the job before is looked back on, which is as much as a job has.
const HALF_OVERLAP: u32 = 8;

/// Workers, which bound memory.
const MOST_WORKERS: usize = 3;

/// From this level on a worker's tables are of 14 MiB or more.
const LARGE_LEVEL: i32 = 9;

/// From this level on a worker's tables alone take most of the memory there is.
const HEAVY_LEVEL: i32 = 10;

/// From this level on libzstd would have a hash table of 32 MiB and more, most of the time.
const HASH_LEVEL: i32 = 12;

/// As power of two, of 4 bytes each: 16 MiB.
const HASH_LOG: u32 = 22;

/// From this level on libzstd would have trees of 64 MiB.
const TREE_LEVEL: i32 = 19;

/// As power of two, of 4 bytes each: 32 MiB.
const TREE_LOG: u32 = 23;

/// A writer that compresses into `out` at a level of 0 (the library's default) to 22.
pub(super) fn encoder<W: Write>(out: W, level: i32) -> io::Result<Encoder<'static, W>> {
    let mut encoder = Encoder::new(out, level)?;
    let most = match level {
        HEAVY_LEVEL.. => 1,
        LARGE_LEVEL.. => 2,
        _ => MOST_WORKERS,
    };
    let workers = rayon::current_num_threads().clamp(1, most);
    let workers = u32::try_from(workers).expect("at most MOST_WORKERS");
    encoder.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
    encoder.set_parameter(CParameter::NbWorkers(workers))?;
    encoder.set_parameter(CParameter::JobSize(JOB))?;
    encoder.set_parameter(CParameter::OverlapSizeLog(HALF_OVERLAP))?;
    if level >= HASH_LEVEL {
        encoder.set_parameter(CParameter::HashLog(HASH_LOG))?;
    }
    if level >= TREE_LEVEL {
        encoder.set_parameter(CParameter::ChainLog(TREE_LOG))?;
    }
    Ok(encoder)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::Digest;
    use crate::compress::sample::tests::{noise, words};

    fn packed(input: &[u8], level: i32) -> Digest {
        let mut encoder = encoder(Vec::new(), level).unwrap();
        encoder.write_all(input).unwrap();
        let bytes = encoder.finish().unwrap();
        assert!(::zstd::decode_all(&bytes[..]).unwrap() == input);
        Digest::of(&bytes)
    }

    #[test]
    fn bytes_are_the_same_for_any_number_of_threads() {
        // Two jobs and a bit, of which the second repeats some of the first.
        let input = [noise(6 << 20), words(5 << 20), noise(6 << 20)].concat();
        let packed_by = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| packed(&input, 3))
        };
        let alone = packed_by(1);
        assert_eq!(packed_by(2), alone);
        assert_eq!(packed_by(8), alone);
    }

    #[test]
    fn bytes_are_the_pinned_ones() {
        let input = words(1_500_000);
        for (level, expected) in [
            (
                1,
                "15fb819b2b50ef7774140de28049403739b3b780b2ed3605e87090bb84c52788",
            ),
            (
                3,
                "04caf33509acb74a34e65adbd2446d0fe51973758a3ed86514b7330531b28c60",
            ),
            (
                19,
                "4de830524a874bcadd417d3ae36ba2eec374480901716619868baa7272c334f5",
            ),
        ] {
            let found = packed(&input, level).hex();
            assert_eq!(found, expected, "level {level}: layer digests would change");
        }
    }
}
