//! A new process on this one's memory, as `vfork(2)` makes it, but for a parent that sleeps as any other does.
//!
//! Whoever copies a process to execute a program copies its page tables, copies each page that either touches, and has the kernel take
//! all of it down again when the program begins. A process that borrows the memory does none of that.

use super::{Context as _, Error, Result, SingleThreaded};
use nix::libc;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use rustix::pipe::{PipeFlags, pipe_with};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

/// As much as Rust gives a thread. What is never touched is never there.
const STACK: usize = 2 << 20;
/// Below it there is nothing.
const FENCE: usize = 64 << 10;

/// A stack for processes that borrow this one's memory, one after the other.
#[derive(Debug)]
pub(crate) struct Stack(*mut c_void);

/// Whether who borrowed the memory left it in order: nothing in it is half done.
#[derive(Debug, Default)]
pub(crate) struct Order(AtomicBool);

impl Order {
    /// Says that it is, from now on; or that it need not be.
    pub(crate) fn set(&self, kept: bool) {
        self.0.store(kept, Ordering::Release);
    }
}

/// Strings as `execve(2)` takes them.
#[derive(Debug)]
pub(crate) struct Strings {
    pointers: Vec<*const c_char>,
    /// What these point to, which stays where it is when this is moved.
    _held: Vec<CString>,
}

impl From<Vec<CString>> for Strings {
    fn from(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|string| string.as_ptr());
        Self {
            pointers: pointers.chain([ptr::null()]).collect(),
            _held: strings,
        }
    }
}

/// Replaces this process by a program. Returns only the reason why that could not be. The memory is in order while the kernel tries.
pub(crate) fn execute(path: &CStr, argv: &Strings, env: &Strings, order: &Order) -> nix::Error {
    order.set(true);
    // SAFETY: both arrays are of strings that live as long as they do, and end with null.
    unsafe { libc::execve(path.as_ptr(), argv.pointers.as_ptr(), env.pointers.as_ptr()) };
    order.set(false);
    nix::Error::last()
}

impl Stack {
    pub(crate) fn new() -> Result<Self> {
        let may = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: no address is asked for, so nothing that is there is replaced.
        let mapped = unsafe { mmap_anonymous(ptr::null_mut(), STACK, may, MapFlags::PRIVATE) };
        let stack = Self(mapped.call("mmap", || "stack".into())?);
        // SAFETY: it was just mapped, and nobody uses it.
        let fenced = unsafe { mprotect(stack.0, FENCE, MprotectFlags::empty()) };
        fenced.call("mprotect", || "stack".into())?;
        Ok(stack)
    }

    fn top(&mut self) -> *mut c_void {
        self.0.wrapping_byte_add(STACK)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this size, and who borrowed the memory has given it back.
        let _ = unsafe { munmap(self.0, STACK) };
    }
}

/// Has `run` executed by a new process in the namespaces of `flags` (`CLONE_NEW…`), a child of *this process's parent*, which has this process's
/// memory until it executes a program or ends. Returns then, but not before there is something to be heard from `caller`. If the memory is not in
/// order by then, this process ends, and touches none of it.
///
/// The new process has its own descriptors, working directory, signals and credentials; what it drops, the caller must not. `line` is
/// its alone, so that whoever has the other end hears of its end. It must not `exit`, which would run what is for the end of this process.
pub(crate) fn lend_memory<F: FnOnce(BorrowedFd<'_>, &Order) -> i32>(
    _proof: &SingleThreaded,
    flags: i32,
    stack: &mut Stack,
    caller: BorrowedFd<'_>,
    line: OwnedFd,
    run: F,
) -> Result<()> {
    let (returned, borrowed) = pipe_with(PipeFlags::CLOEXEC).call("pipe2", String::new)?;
    let order = Order::default();
    let mut loan = Loan {
        run: Some(run),
        line: line.as_fd(),
        order: &order,
    };
    // SAFETY: the new process runs `begin` on a stack of its own, which nobody else uses. It is the only one to use the memory meanwhile:
    // this process has one thread (the proof), and that waits below, in system calls that write nothing but to its own stack, until the last
    // descriptor of the pipe is closed, which the kernel does after it has given up the memory. `loan` lives until then; the new process has
    // copies of the descriptors, which stay open when these are closed here.
    let pid = unsafe {
        libc::clone(
            begin::<F>,
            stack.top(),
            flags | libc::CLONE_VM | libc::CLONE_PARENT,
            (&raw mut loan).cast(),
        )
    };
    if pid == -1 {
        return Err(Error::last("clone", "CLONE_VM"));
    }
    drop((borrowed, line));
    // Were this process woken by the end of the pipe, it would take the processor from the program that has just begun.
    let mut called = [PollFd::from_borrowed_fd(caller, PollFlags::IN)];
    while poll(&mut called, None) == Err(Errno::INTR) {}
    let mut byte = [0];
    while rustix::io::read(&returned, &mut byte) == Err(Errno::INTR) {}
    match order.0.load(Ordering::Acquire) {
        true => Ok(()),
        // SAFETY: ends this process at once, and runs nothing that could trip over what is half done.
        false => unsafe { libc::_exit(1) },
    }
}

struct Loan<'a, F> {
    run: Option<F>,
    line: BorrowedFd<'a>,
    order: &'a Order,
}

extern "C" fn begin<F: FnOnce(BorrowedFd<'_>, &Order) -> i32>(loan: *mut c_void) -> c_int {
    // SAFETY: `lend_memory` gave a loan of this type, which nobody else touches.
    let loan = unsafe { &mut *loan.cast::<Loan<'_, F>>() };
    let code = loan.run.take().map_or(1, |run| run(loan.line, loan.order));
    // SAFETY: ends this process at once, and runs nothing of the one whose memory it has.
    unsafe { libc::_exit(code) }
}
