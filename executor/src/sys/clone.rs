//! `clone3(2)`: a new process in new namespaces.
