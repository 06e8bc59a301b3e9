//! A short run of every decoder, and everything that was found before; `cargo xtask fuzz` runs longer.

use flowyard_fuzz::{fuzz, judge, regressions, targets};

#[test]
fn no_decoder_panics_hangs_or_takes_memory_over_hostile_bytes() {
    for target in targets::all() {
        let seen = fuzz(&target, 1, |inputs| inputs >= target.inputs);
        seen.unwrap_or_else(|finding| panic!("{}: {}: {:?}", target.name, finding.what, finding.input));
    }
}

#[test]
fn valid_inputs_are_accepted() {
    for target in targets::all().iter().filter(|target| !["flags", "units", "names"].contains(&target.name)) {
        let corpus = (target.corpus)();
        let accepted = corpus.iter().filter(|input| judge(target, input).is_ok_and(|(accepted, _)| accepted)).count();
        assert!(accepted > 0 || corpus.is_empty(), "{}: none of {} valid inputs", target.name, corpus.len());
    }
}

#[test]
fn what_was_found_before_stays_mended() {
    for target in targets::all() {
        for input in regressions(&target).expect("the folder can be read") {
            judge(&target, &input).unwrap_or_else(|finding| panic!("{}: {}", target.name, finding.what));
        }
    }
}
