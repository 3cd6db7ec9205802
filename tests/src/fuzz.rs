//! Damaged inputs by the thousand: a corpus, mutations of it by seed, and what came of each.
//!
//! An input whose outcome (its error, without the numbers in it) was not seen before joins the corpus, so that later ones
//! get further than the first check.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use highwater_base::Prng;

/// The largest input.
const LARGEST: usize = 64 << 10;
/// So many kept inputs at most.
const MOST_KEPT: usize = 4096;

/// What came of one input.
///
/// ```
/// let fine = highwater_tests::fuzz::Outcome { said: "taken".into(), allocated: 10, allowed: 20 };
/// assert!(fine.allocated <= fine.allowed);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// In words: the error, or what it was taken for.
    pub said: String,
    /// The most bytes that were allocated at once.
    pub allocated: u64,
    /// How many may be.
    pub allowed: u64,
}

/// How long to go on.
///
/// ```
/// use highwater_tests::fuzz::Until;
/// assert_ne!(Until::Inputs(10), Until::Passed(std::time::Duration::from_secs(60)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Until {
    /// So many inputs: the same ones each time.
    Inputs(u64),
    /// So much time.
    Passed(Duration),
}

impl Until {
    /// `HIGHWATER_FUZZ_SECONDS`, or this many inputs.
    pub fn asked_or(inputs: u64) -> Until {
        match std::env::var("HIGHWATER_FUZZ_SECONDS") {
            Ok(seconds) => {
                let parsed = seconds.parse().map(Duration::from_secs).map(Until::Passed);
                parsed.unwrap_or_else(|_| panic!("HIGHWATER_FUZZ_SECONDS={seconds}: not a number"))
            }
            Err(_) => Until::Inputs(inputs),
        }
    }
}

/// Gives mutations of the corpus to `target`, until it is time to stop. Panics with the input if the target panics or
/// allocates more than is allowed. `mend` makes a mutation's checksums right again, which every other one needs to get
/// past them.
pub fn fuzz(
    name: &str,
    mut corpus: Vec<Vec<u8>>,
    until: Until,
    mend: impl Fn(&mut [u8]),
    target: impl Fn(&[u8]) -> Outcome,
) {
    assert!(!corpus.is_empty(), "{name}: no corpus");
    let (seeds, began) = (corpus.len(), Instant::now());
    let (mut prng, mut seen, mut inputs, mut most) = (Prng::new(1), BTreeSet::new(), 0, 0);
    loop {
        let finished = match until {
            Until::Inputs(count) => inputs >= count,
            Until::Passed(time) => began.elapsed() >= time,
        };
        // The corpus as it is comes first.
        let input = match corpus.get(inputs as usize).filter(|_| inputs < seeds as u64) {
            Some(whole) => whole.clone(),
            None if finished => break,
            None => mutated(&corpus, &mut prng, &mend),
        };
        inputs += 1;
        let judged = catch_unwind(AssertUnwindSafe(|| target(&input)));
        let shown = || format!("{name}, input {inputs} of {} bytes: {}", input.len(), hex(&input));
        let Ok(outcome) = judged else { panic!("it panicked; {}", shown()) };
        let Outcome { said, allocated, allowed } = outcome;
        assert!(allocated <= allowed, "{allocated} bytes allocated, {allowed} allowed ({said}); {}", shown());
        most = most.max(allocated);
        if seen.insert(without_numbers(&said)) && corpus.len() < MOST_KEPT {
            corpus.push(input);
        }
    }
    let outcomes = seen.len();
    println!(
        "figure: fuzz target={name} inputs={inputs} corpus={seeds} outcomes={outcomes} crashes=0 over_allowance=0 most_allocated={most}"
    );
}

/// Every word with a digit in it is `#`, and so is one of hexadecimal letters only.
fn without_numbers(said: &str) -> String {
    let number = |word: &str| {
        let letters = word.trim_end_matches(|c: char| !c.is_alphanumeric());
        word.contains(|c: char| c.is_ascii_digit())
            || letters.len() >= 6 && letters.chars().all(|c| c.is_ascii_hexdigit())
    };
    said.split_inclusive(|c: char| !c.is_alphanumeric()).map(|w| if number(w) { "#" } else { w }).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One of the corpus, changed in one to four places.
fn mutated(corpus: &[Vec<u8>], prng: &mut Prng, mend: &impl Fn(&mut [u8])) -> Vec<u8> {
    let pick = |prng: &mut Prng| &corpus[prng.below(corpus.len() as u64) as usize];
    let mut input = pick(prng).clone();
    for _ in 0..=prng.below(4) {
        mutate(&mut input, pick(prng), prng);
    }
    input.truncate(LARGEST);
    if prng.one_in(2) {
        mend(&mut input);
    }
    input
}

/// Numbers that sit at an edge.
const EDGES: [i64; 16] = [
    0,
    1,
    -1,
    -2,
    61,
    127,
    128,
    255,
    256,
    i16::MAX as i64,
    i32::MAX as i64,
    i32::MIN as i64,
    i32::MAX as i64 - 11,
    u32::MAX as i64,
    i64::MAX,
    i64::MIN,
];

fn mutate(input: &mut Vec<u8>, other: &[u8], prng: &mut Prng) {
    let len = input.len();
    if len == 0 {
        input.extend_from_slice(other);
        return;
    }
    // Headers are where most of the meaning is.
    let reach = if prng.one_in(2) { len.min(128) } else { len };
    let at = prng.below(reach as u64) as usize;
    let run = 1 + prng.below(64.min((len - at) as u64)) as usize;
    match prng.below(10) {
        0 => input[at] ^= 1 << prng.below(8),
        1 => input[at] = prng.next_u64() as u8,
        2 => input[at] = [0, 1, 0x7f, 0x80, 0xff, b'\n', b' ', b'-'][prng.below(8) as usize],
        3..=5 => {
            // A number at an edge, or as long as what is there; of any width, in either order.
            let lengths = [len as i64, len as i64 - 12, len as i64 + 1, (len - at) as i64];
            let near = prng.below(3) as i64 - 1;
            let number = match prng.one_in(3) {
                true => lengths[prng.below(4) as usize].wrapping_add(near),
                false => EDGES[prng.below(EDGES.len() as u64) as usize].wrapping_add(near),
            };
            let width = [1, 2, 4, 8][prng.below(4) as usize].min(len - at);
            let (big, little) = (number.to_be_bytes(), number.to_le_bytes());
            let bytes = if prng.one_in(4) { &little[..width] } else { &big[8 - width..] };
            input[at..at + width].copy_from_slice(bytes);
        }
        6 => input.truncate(at),
        7 => drop(input.drain(at..at + run)),
        8 => {
            let copy = input[at..at + run].to_vec();
            let to = prng.below(len as u64 + 1) as usize;
            input.splice(to..to, copy);
        }
        _ => {
            // The front of one, the back of another.
            let from = prng.below(other.len() as u64 + 1) as usize;
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(input: &[u8]) -> Outcome {
        assert!(input.len() < 3 || input[2] != 0xff, "a crash");
        let said = if input.len() > 4 { "long" } else { "short" };
        Outcome { said: said.into(), allocated: 4, allowed: 8 }
    }

    #[test]
    fn a_crash_is_found_and_so_is_an_allocation() {
        let corpus = vec![b"abcdef".to_vec()];
        let crash = catch_unwind(|| fuzz("t", corpus.clone(), Until::Inputs(20_000), |_| {}, target));
        assert!(crash.is_err());
        let greedy = |input: &[u8]| Outcome {
            said: "greedy".into(),
            allocated: input.len() as u64 * u64::from(input.first() == Some(&0)),
            allowed: 0,
        };
        assert!(catch_unwind(|| fuzz("t", corpus.clone(), Until::Inputs(20_000), |_| {}, greedy)).is_err());
    }

    #[test]
    fn outcomes_differ_by_words_not_by_numbers() {
        assert_eq!(without_numbers("12 bytes at 7, CRC 0a5f"), without_numbers("9 bytes at 31, CRC ff01"));
        assert_eq!(without_numbers("magic deadbeef, else"), without_numbers("magic 184d2204, else"));
        assert_ne!(without_numbers("12 bytes at 7"), without_numbers("12 records at 7"));
    }
}
