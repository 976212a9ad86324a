//! Running a process in namespaces over a root filesystem.
