//! docs/FAULTS.md is what the tests and the mutants are: each number has its row, each name leads somewhere.

use std::collections::BTreeSet;

use highwater_base::Mutant;
use highwater_tests::source::root;

/// One row: its number, what happens, the tests' column, the mutants' column.
struct Row {
    number: String,
    what: String,
    tests: String,
    mutants: String,
}

fn rows() -> Vec<Row> {
    let text = std::fs::read_to_string(root().join("docs/FAULTS.md")).expect("docs/FAULTS.md");
    let rows = text.lines().filter(|line| line.starts_with('|') && !line.starts_with("|---"));
    let columns = rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
    let numbered = columns.filter(|columns| columns[0] != "number");
    numbered
        .map(|columns| {
            assert_eq!(columns.len(), 4, "four columns: {columns:?}");
            let [number, what, tests, mutants] = [0, 1, 2, 3].map(|i| columns[i].to_owned());
            Row { number, what, tests, mutants }
        })
        .collect()
}

/// What stands between backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_fault_and_scenario_of_one_node_has_its_row() {
    let faults = (1..=20).filter(|n| ![15, 17].contains(n)).map(|n| format!("F{n:02}"));
    let clocks = (1..=2).map(|n| format!("C{n:02}"));
    let scenarios = (53..=95).map(|n| format!("R{n}"));
    let own = (1..=2).map(|n| format!("D{n:02}"));
    let expected: Vec<String> = faults.chain(clocks).chain(scenarios).chain(own).collect();
    let found: Vec<String> = rows().into_iter().map(|row| row.number).collect();
    assert_eq!(found, expected);
}

#[test]
fn every_test_named_exists_and_every_row_says_what_is_missing() {
    let mut findings = Vec::new();
    for Row { number, what, tests, .. } in rows() {
        assert!(!what.is_empty(), "{number}");
        let mut named = 0;
        for test in quoted(&tests) {
            let Some((file, name)) = test.split_once("::") else {
                findings.push(format!("{number}: {test} is no file::test"));
                continue;
            };
            let text = std::fs::read_to_string(root().join(file)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            let declared = lines.windows(2).any(|pair| {
                pair[0] == "#[test]"
                    && pair[1].strip_prefix("fn ").is_some_and(|f| f.starts_with(&format!("{name}(")))
            });
            if !declared {
                findings.push(format!("{number}: no test {name} in {file}"));
            }
            named += 1;
        }
        if named == 0 && !tests.starts_with("not yet") && !tests.starts_with("elsewhere: ") {
            findings.push(format!("{number}: neither a test nor a reason"));
        }
    }
    assert!(findings.is_empty(), "docs/FAULTS.md:\n  {}", findings.join("\n  "));
}

#[test]
fn every_mutant_named_exists_and_every_mutant_is_named() {
    let mut named = BTreeSet::new();
    for Row { number, mutants, tests, .. } in rows() {
        for quoted_name in quoted(&mutants) {
            let name = quoted_name.trim_start_matches("HIGHWATER_MUTANT=");
            let mutant = Mutant::named(name).unwrap_or_else(|| panic!("{number}: there is no mutant {name}"));
            named.insert(name.to_owned());
            let mut texts = quoted(&tests)
                .filter_map(|test| test.split_once("::"))
                .map(|(file, _)| std::fs::read_to_string(root().join(file)).unwrap_or_default());
            let by_hand = quoted_name != name;
            let switched_on = texts.any(|text| text.contains(&format!("Mutant::{mutant:?}")));
            assert!(by_hand || switched_on, "{number}: no test named there switches on {name}");
        }
        // A scenario of Kafka's history comes with the rule that was wrong.
        let scenario = number.starts_with('R') && quoted(&tests).next().is_some();
        let in_part = tests.contains("the rest is elsewhere");
        assert!(!scenario || in_part || quoted(&mutants).next().is_some(), "{number} has no mutant");
    }
    let all: BTreeSet<String> = Mutant::ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(all.difference(&named).collect::<Vec<_>>(), Vec::<&String>::new(), "mutants without a row");
}
