//! The item lists of `flowyard-cas` beside an independent JSON parser: what one takes the other takes, with the same meaning.

use flowyard_cas::items::{ItemsReader, items_from_json};
use proptest::prelude::*;
use serde_json::Value;

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,8}|[\\x00-\\x1f\"\\\\]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 20, 4, |inner| {
        let key = "[a-z\"\\\\ é]{0,4}";
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((key, inner), 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn every_item_of_a_list_comes_back_compact(list in proptest::collection::vec(value(), 0..6)) {
        let written = serde_json::to_string_pretty(&list).unwrap();
        let (blob, count) = items_from_json(written.as_bytes(), Vec::new()).unwrap();
        prop_assert_eq!(count as usize, list.len());
        let mut reader = ItemsReader::from_bytes(&blob).unwrap();
        for (index, value) in (0..count).zip(&list) {
            prop_assert_eq!(reader.item(index).unwrap(), value.to_string());
        }
    }

    #[test]
    fn both_parsers_agree_on_what_is_a_list(text in "\\[[\\[\\]{}:, \"atrue1lnf0.eE+-]{0,12}\\]") {
        let other = serde_json::from_str::<Value>(&text);
        // Out of range is a matter of meaning, not of grammar: the item keeps its digits.
        let agrees = other.as_ref().is_err_and(|error| error.to_string().contains("out of range"));
        let ours = items_from_json(text.as_bytes(), Vec::new()).is_ok();
        prop_assert!(agrees || ours == other.is_ok(), "{text}: {ours}, {other:?}");
    }
}
