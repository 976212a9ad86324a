//! What all filters that send calls say about extended attributes ([`crate::sandbox::attribute`]).

use super::*;
use crate::sandbox::attribute::{self, FOREIGN};

const NOTIFY: Instruction = returns(libc::SECCOMP_RET_USER_NOTIF);

/// Calls that are answered as not existing.
pub(super) const ABSENT_CALLS: [u32; 2] = attribute::ABSENT;

/// The beginning of a filter: the verdict on programs of other architectures than the machine's own. What follows sees none of them.
pub(super) fn foreign_attributes() -> Vec<Instruction> {
    let numbers = FOREIGN.map(|call| u32::try_from(call).expect("numbers of calls are small"));
    let mut block = vec![load(NUMBER)];
    block.extend(
        numbers
            .into_iter()
            .flat_map(|call| [jump_if_equal(call, 0, 1), NOTIFY]),
    );
    block.extend(
        ABSENT_CALLS
            .into_iter()
            .flat_map(|call| [jump_if_equal(call, 0, 1), ABSENT]),
    );
    block.push(ALLOW);
    let (own, _) = ARCHITECTURES[0];
    let length = u8::try_from(block.len()).expect("a few instructions");
    let mut program = vec![load(ARCHITECTURE), jump_if_equal(own, length, 0)];
    program.extend(block);
    program
}

#[cfg(test)]
mod tests {
    use super::super::tests::verdict;
    use super::*;
    use crate::sandbox::attribute::CALLS;
    use crate::sandbox::recorder::Scope;

    #[test]
    fn whatever_changes_attributes_is_sent_on_all_architectures() {
        let filters = [
            notifying(Scope::Everything, None),
            notifying(Scope::Devices { looks: true }, None),
            asking().into(),
        ];
        for program in filters {
            let said = |column: usize, call: i64| {
                let call = u32::try_from(call).expect("a number");
                verdict(&program, ARCHITECTURES[column].0, call, 0)
            };
            for index in 0..6 {
                assert_eq!(said(0, CALLS[index]), NOTIFY.k);
                assert_eq!(said(1, FOREIGN[index]), NOTIFY.k);
            }
            for column in [0, 1] {
                assert_eq!(said(column, 463), ABSENT.k);
                assert_eq!(said(column, 466), ABSENT.k);
            }
            assert_eq!(said(1, 229), ALLOW.k);
            assert_eq!(said(0, libc::SYS_read), ALLOW.k);
        }
    }
}
