//! Layer tars: changesets written as, read from and applied from tar streams (R-LAY-1..13).
