//! What a step writes, checked as users write it, and read back item by item.

use std::io::Cursor;

use proptest::prelude::*;

use super::*;

fn listed(json: &str) -> Result<Vec<String>, String> {
    let (blob, count) = items_from_json(json.as_bytes(), Vec::new()).map_err(|error| error.to_string())?;
    let mut reader = ItemsReader::from_bytes(&blob).unwrap();
    assert_eq!(reader.count(), count);
    Ok((0..count).map(|index| reader.item(index).unwrap()).collect())
}

#[test]
fn items_are_compact_and_keep_every_digit_and_order() {
    let json = " [ 1.50e+3 ,\n {\"b\" : [ ] , \"a\":\t\"x y\\n\\u00e9\"}, null,true,\"\", [[],{ }], 123456789012345678901234567890 ]\n";
    let items = listed(json).unwrap();
    assert_eq!(
        items,
        [
            "1.50e+3",
            "{\"b\":[],\"a\":\"x y\\n\\u00e9\"}",
            "null",
            "true",
            "\"\"",
            "[[],{}]",
            "123456789012345678901234567890"
        ]
    );
    let again = encode_items(items.iter().map(String::as_str)).unwrap();
    assert_eq!(again, items_from_json(json.as_bytes(), Vec::new()).unwrap().0, "the same list is the same blob");
}

#[test]
fn an_empty_list_has_no_items() {
    assert_eq!(listed("[ ]\n"), Ok(Vec::new()));
    let blob = encode_items(std::iter::empty()).unwrap();
    let mut reader = ItemsReader::from_bytes(&blob).unwrap();
    assert_eq!(reader.item(0).unwrap_err().to_string(), "the list has 0 items, there is no item 0");
}

#[test]
fn what_is_no_list_says_what_it_is_and_where_it_breaks() {
    for (json, expected) in [
        ("", "it holds nothing, not a JSON list such as [1, 2, 3]"),
        ("{\"a\": 1}", "it holds an object, not a JSON list such as [1, 2, 3]"),
        ("\"x\"", "it holds a text, not a JSON list such as [1, 2, 3]"),
        ("42", "it holds a number, not a JSON list such as [1, 2, 3]"),
        ("null", "it holds a single value, not a JSON list such as [1, 2, 3]"),
        ("<html>", "line 1, column 1: expected a JSON list, starting with `[`"),
        ("[1,\n 2", "line 2, column 3: expected `,` or `]` after an item of the list"),
        ("[1,]", "line 1, column 4: expected a JSON value"),
        ("[1,", "line 1, column 4: the list is not closed"),
        ("[1 2]", "line 1, column 5: expected `,` or `]` after an item of the list"),
        ("[1] x", "line 1, column 5: something follows the end of the list"),
        ("[{a: 1}]", "line 1, column 3: expected a key in double quotes"),
        ("[{\"a\" 1}]", "line 1, column 7: expected `:` after a key"),
        ("[\"a\nb\"]", "line 1, column 4: a control character inside a text has to be escaped"),
        ("[\"\\x\"]", "line 1, column 4: an unknown escape after `\\`"),
        ("[\"\\u12g4\"]", "line 1, column 7: expected four hexadecimal digits after `\\u`"),
        ("[01]", "line 1, column 4: expected `,` or `]` after an item of the list"),
        ("[NaN]", "line 1, column 2: expected a JSON value"),
        ("[1.]", "line 1, column 4: expected a digit"),
        ("['a']", "line 1, column 2: expected a JSON value"),
    ] {
        assert_eq!(listed(json).unwrap_err(), expected, "{json:?}");
    }
    let not_utf8 = items_from_json(&b"[\"\xff\"]"[..], Vec::new()).unwrap_err();
    assert_eq!(not_utf8.to_string(), "line 1, column 5: the item before this place is not UTF-8");
}

#[test]
fn depth_and_size_are_bounded() {
    let deep = format!("[{}{}]", "[".repeat(100_000), "]".repeat(100_000));
    assert!(listed(&deep).unwrap_err().ends_with("lists and objects are nested too deeply"));
    let at_limit = format!("[\"{}\"]", "x".repeat(ITEM_BYTES - 2));
    assert_eq!(listed(&at_limit).unwrap()[0].len(), ITEM_BYTES);
    let over = format!("[1,\"{}\"]", "x".repeat(ITEM_BYTES - 1));
    assert!(listed(&over).unwrap_err().starts_with("item 1 of the list is larger than 1048576 bytes"));
}

#[test]
fn a_million_items_are_found_singly() {
    let json = format!("[{}]", (0..1_000_000).map(|number| number.to_string()).collect::<Vec<_>>().join(","));
    let (blob, count) = items_from_json(json.as_bytes(), Vec::new()).unwrap();
    assert_eq!(count, 1_000_000);
    let mut reader = ItemsReader::open(Cursor::new(&blob)).unwrap();
    for index in [0, 1, 9, 10, 499_999, 999_999] {
        assert_eq!(reader.item(index).unwrap(), index.to_string());
    }
}

#[test]
fn one_item_more_than_a_step_has_tasks_is_refused() {
    let mut writer = ItemsWriter::new(std::io::sink()).unwrap();
    for _ in 0..limits::TASKS_PER_STEP {
        writer.push(b"1").unwrap();
    }
    assert_eq!(writer.push(b"1").unwrap_err().to_string(), "the list has more than 10000000 items");
}

#[test]
fn blobs_that_are_no_lists_are_refused() {
    let good = encode_items(["1", "2"].into_iter()).unwrap();
    for bad in [&b""[..], b"FYITEMS1", &good[..good.len() - 1], &good[1..], &[0; 100]] {
        assert!(ItemsReader::from_bytes(bad).is_err(), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = items_from_json(&bytes[..], Vec::new());
        if let Ok(mut reader) = ItemsReader::from_bytes(&bytes) {
            let _ = reader.item(0);
        }
    }

    #[test]
    fn a_damaged_list_never_panics(at in 0_usize..60, byte in any::<u8>()) {
        let mut blob = encode_items(["10", "[2]", "{}"].into_iter()).unwrap();
        let at = at % blob.len();
        blob[at] = byte;
        if let Ok(mut reader) = ItemsReader::from_bytes(&blob) {
            for index in 0..reader.count().min(4) {
                let _ = reader.item(index);
            }
        }
    }
}
