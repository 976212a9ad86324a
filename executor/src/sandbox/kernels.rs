//! What is the kernel's own: files of `/proc` and `/sys`, and of what is mounted in them.

use super::remote::Answered;
use rustix::fs::{FsWord, PROC_SUPER_MAGIC, fstatfs};
use rustix::io::Errno;
use std::os::fd::AsFd;

/// By the numbers of `linux/magic.h`; of the last three, of the kernel's sources.
const FILESYSTEMS: [FsWord; 17] = [
    PROC_SUPER_MAGIC,
    0x6265_6572, // sysfs
    0x4249_4e4d, // binfmt_misc
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0x6165_676c, // pstore
    0xde5e_81e4, // efivarfs
    0xcafe_4a11, // bpf
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x0765_5821, // resctrl
    0xf97c_ff8c, // selinuxfs
    0x4341_5d53, // smackfs
    0x6e66_7364, // nfsd
    0x6265_6570, // configfs
    0x6573_5543, // fusectl
];

/// Whether something stands in the real `/proc` or `/sys`.
pub(super) fn is_kernels(object: impl AsFd) -> Answered<bool> {
    let found = fstatfs(object).map_err(Errno::raw_os_error)?;
    Ok(FILESYSTEMS.contains(&found.f_type))
}
