//! What images of tests are made of.

use kiln_image::{Descriptor, Digest};
use oci_spec::image::MediaType;

/// A tar with one empty file, padded with noise behind its end.
pub fn layer(name: &str, blocks: usize) -> Vec<u8> {
    let mut header = [0_u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..107].copy_from_slice(b"0000644");
    header[108..115].copy_from_slice(b"0000000");
    header[116..123].copy_from_slice(b"0000000");
    header[124..135].copy_from_slice(b"00000000000");
    header[136..147].copy_from_slice(b"00000000000");
    header[148..156].copy_from_slice(b"        ");
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut tar = header.to_vec();
    tar.resize(512 * 4, 0);
    let noise = (0..).flat_map(|at: u32| at.wrapping_mul(2_654_435_761).to_le_bytes());
    tar.extend(noise.take(512 * blocks.saturating_sub(4)));
    tar
}

/// Of a blob with these bytes.
pub fn descriptor(media_type: &str, bytes: &[u8]) -> Descriptor {
    let digest = Digest::of(bytes).to_oci();
    Descriptor::new(MediaType::from(media_type), bytes.len() as u64, digest)
}
