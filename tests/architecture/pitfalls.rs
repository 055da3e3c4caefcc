//! `tests/PITFALLS.md` and the tests that it names are in step.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Source, is_word, read_folder};

const PITFALLS: usize = 20;

/// What stands where nothing needs to be tested.
const NO_TEST: &str = "can't happen: ";

#[test]
fn every_pitfall_has_its_test_or_a_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = std::fs::read_to_string(root.join("tests/PITFALLS.md")).unwrap();
    let mut sources = Vec::new();
    for folder in ["src", "tests"] {
        read_folder(root, &root.join(folder), &mut sources);
    }
    let faults = check(&list, &tests_of(&sources));
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// Functions that stand behind an attribute of tests.
fn tests_of(sources: &[Source]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for source in sources {
        let mut is_test = false;
        for line in source.text.lines().map(str::trim) {
            is_test |= line == "#[test]" || line.starts_with("#[tokio::test");
            if let Some((_, rest)) = line.split_once("fn ").filter(|_| is_test) {
                names.insert(rest.chars().take_while(|letter| is_word(*letter)).collect());
                is_test = false;
            }
        }
    }
    names
}

/// The number of a test that is named after one.
fn number_of(test: &str) -> Option<usize> {
    let (number, _) = test.strip_prefix('p')?.split_once('_')?;
    if number.len() == 2 { number.parse().ok() } else { None }
}

fn check(list: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let rows: Vec<(usize, &str)> = list
        .lines()
        .filter_map(|line| {
            let (number, rest) = line.strip_prefix("| P")?.split_once(' ')?;
            Some((number.parse().ok()?, rest))
        })
        .collect();
    let mut faults = Vec::new();
    let found: Vec<usize> = rows.iter().map(|(number, _)| *number).collect();
    if found != (1..=PITFALLS).collect::<Vec<_>>() {
        faults.push(format!("the rows are {found:?}, not 1 to {PITFALLS} in order"));
    }
    let mut named = BTreeSet::new();
    for (number, row) in rows {
        // Tests have several words; settings and the like, which are quoted as well, have no more than one underscore.
        let quoted = row.split('`').skip(1).step_by(2).filter(|word| word.matches('_').count() > 1);
        let here: BTreeSet<&str> = quoted.collect();
        faults.extend(
            here.iter().filter(|test| !tests.contains(**test)).map(|test| format!("P{number:02}: no test {test}")),
        );
        let own = here.iter().any(|test| number_of(test) == Some(number));
        match (own, row.contains(NO_TEST)) {
            (true, true) => faults.push(format!("P{number:02}: a test, and a reason against one")),
            (false, false) => faults.push(format!("P{number:02}: no test of its own, and no reason ({NO_TEST}…)")),
            _ => {}
        }
        named.extend(here);
    }
    let forgotten = tests.iter().filter(|test| number_of(test).is_some() && !named.contains(test.as_str()));
    faults.extend(forgotten.map(|test| format!("{test} is not in the list")));
    faults
}

#[test]
fn a_list_out_of_step_is_found() {
    let rows = |change: &dyn Fn(usize) -> Option<String>| {
        let row = |number| change(number).unwrap_or_else(|| format!("`p{number:02}_has_a_test`"));
        (1..=PITFALLS).map(|number| format!("| P{number:02} | bug | {} |\n", row(number))).collect::<String>()
    };
    let tests: BTreeSet<String> = (1..=PITFALLS).map(|number| format!("p{number:02}_has_a_test")).collect();
    assert_eq!(check(&rows(&|_| None), &tests), [""; 0]);
    type Change<'a> = &'a dyn Fn(usize) -> Option<String>;
    let at = |wanted: usize, text: &'static str| move |number| (number == wanted).then(|| text.to_owned());
    let table: [(Change, &[&str]); 5] = [
        (
            &at(3, "nothing"),
            &["P03: no test of its own, and no reason (can't happen: …)", "p03_has_a_test is not in the list"],
        ),
        (&at(3, "`p03_has_a_test`, `no_such_test_is_there`"), &["P03: no test no_such_test_is_there"]),
        (
            &at(3, "`p04_has_a_test`"),
            &["P03: no test of its own, and no reason (can't happen: …)", "p03_has_a_test is not in the list"],
        ),
        (&at(3, "`p03_has_a_test` can't happen: so"), &["P03: a test, and a reason against one"]),
        (&at(3, "can't happen: so"), &["p03_has_a_test is not in the list"]),
    ];
    for (change, faults) in table {
        assert_eq!(check(&rows(change), &tests), faults);
    }
    let short = rows(&|_| None).replace("| P07", "| Q07");
    assert_eq!(check(&short, &tests).len(), 2, "a row that is missing, and its test");
}
