//! Keys as a whole: two different steps never share one, and equal steps have the same wherever and by whomever they are done.

#![allow(clippy::unwrap_used)]

use kiln_cache::{Field, Preimage, Value};
use kiln_image::Digest;
use proptest::prelude::*;

/// Few texts, made of few letters: what is put together wrongly collides soon.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "[ab]{1,3}",
        Just("a\0b".to_owned()),
        Just("b=a".to_owned())
    ]
}

fn digest() -> impl Strategy<Value = Digest> {
    text().prop_map(|text| Digest::of(text.as_bytes()))
}

fn value() -> impl Strategy<Value = Value> {
    let pair = || (text(), text());
    let leaf = prop_oneof![
        Just(Value::Absent),
        any::<bool>().prop_map(Value::Flag),
        (0_u64..3).prop_map(Value::Number),
        text().prop_map(Value::Text),
        prop::collection::vec(text(), 0..3).prop_map(Value::List),
        prop::collection::vec(pair(), 0..3).prop_map(Value::Pairs),
        digest().prop_map(Value::Digest),
        prop::collection::vec((text().prop_map(String::into_bytes), digest()), 0..3)
            .prop_map(Value::Contents),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop::collection::vec((text(), inner), 0..3).prop_map(|fields| {
            let field = |(name, value)| Field { name, value };
            Value::Group(fields.into_iter().map(field).collect())
        })
    })
}

fn preimage() -> impl Strategy<Value = Preimage> {
    let fields = prop::collection::vec((text(), value()), 0..4);
    (text(), fields).prop_map(|(kind, fields)| {
        let empty = Preimage::new(&kind);
        fields.into_iter().fold(empty, |preimage, (name, value)| {
            preimage.field(&name, value)
        })
    })
}

proptest! {
    /// Every pair of many small steps: equal keys mean equal steps, and the other way round.
    #[test]
    fn two_different_steps_never_share_a_key(steps in prop::collection::vec(preimage(), 2..40)) {
        for (at, one) in steps.iter().enumerate() {
            for other in &steps[at..] {
                prop_assert_eq!(one.key() == other.key(), one == other, "{:?} {:?}", one, other);
            }
        }
    }

    /// Which folder, which user's store and which build a step belongs to is not what it is.
    #[test]
    fn equal_steps_have_one_key_on_every_machine(
        step in preimage(),
        here in "[a-z/]{0,12}",
        there in "[a-z/]{0,12}",
    ) {
        let one = step.clone().of_step(here.clone()).by_build(Some(here));
        let other = step.clone().of_step(there).by_build(None);
        prop_assert_eq!(one.key(), step.key());
        prop_assert_eq!(other.key(), step.key());
    }

    /// What is stored of a key is read back as it was, and still has it.
    #[test]
    fn a_stored_step_keeps_its_key(step in preimage()) {
        let json = serde_json::to_vec(&step).unwrap();
        let read: Preimage = serde_json::from_slice(&json).unwrap();
        prop_assert_eq!(read.key(), step.key());
    }
}
