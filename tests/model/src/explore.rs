//! Visits every state of a specification, breadth first, so that the way to the first broken rule is a shortest one.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::{BuildHasherDefault, Hash, Hasher};

pub trait Spec {
    type State: Clone + Hash;
    type Step: Copy + Debug;

    fn start(&self) -> Self::State;
    /// All steps that are possible in a state, each with the state that it leads to.
    fn steps(&self, state: &Self::State, take: &mut dyn FnMut(Self::Step, Self::State));
    /// The rule that a state breaks.
    fn broken(&self, state: &Self::State) -> Option<&'static str>;
    /// One bit for each of [`Spec::situations`] that a step and the state behind it show.
    fn reached(&self, step: Self::Step, state: &Self::State) -> u32;
    fn situations(&self) -> &'static [&'static str];
    /// Those of the situations that a world of these bounds does not bring about.
    fn beyond(&self) -> &'static [&'static str] {
        &[]
    }
}

pub struct Explored {
    pub states: usize,
    /// The rule that was broken, and the steps that lead there.
    pub broken: Option<(&'static str, Vec<String>)>,
    /// Situations that no state showed.
    pub missing: Vec<&'static str>,
    /// Not all states were visited: there are more than the limit.
    pub cut: bool,
}

/// States are told apart by a hash of 64 bits: among ten million of them the chance that one hides behind another is 1 in 300,000.
pub fn explore<S: Spec>(spec: &S, max_states: usize) -> Explored {
    let start = spec.start();
    let mut known: HashSet<u64, BuildHasherDefault<Same>> = HashSet::default();
    known.insert(fingerprint(&start));
    // How each state was reached: the state before it, and the step.
    let mut origins: Vec<Option<(u32, S::Step)>> = vec![None];
    let mut reached = 0;
    let mut broken = None;
    let mut frontier = vec![(0, start)];
    while !frontier.is_empty() && broken.is_none() && known.len() < max_states {
        let mut next = Vec::new();
        for (from, state) in frontier {
            spec.steps(&state, &mut |step, after| {
                reached |= spec.reached(step, &after);
                if broken.is_some() || !known.insert(fingerprint(&after)) {
                    return;
                }
                let at = u32::try_from(origins.len()).expect("fewer states than that");
                origins.push(Some((from, step)));
                match spec.broken(&after) {
                    Some(rule) => broken = Some((rule, way(&origins, at))),
                    None => next.push((at, after)),
                }
            });
        }
        frontier = next;
    }
    let shown = |bit: usize| reached >> bit & 1 == 1;
    let expected = spec.situations().iter().enumerate().filter(|(_, name)| !spec.beyond().contains(name));
    let missing = expected.filter(|(bit, _)| !shown(*bit)).map(|(_, name)| *name).collect();
    Explored { states: known.len(), cut: broken.is_none() && !frontier.is_empty(), broken, missing }
}

fn way<Step: Copy + Debug>(origins: &[Option<(u32, Step)>], mut at: u32) -> Vec<String> {
    let mut steps = Vec::new();
    while let Some((before, step)) = origins[at as usize] {
        steps.push(format!("{step:?}"));
        at = before;
    }
    steps.reverse();
    steps
}

/// Bits for [`Spec::reached`], in the order of [`Spec::situations`].
pub fn bits(situations: &[bool]) -> u32 {
    situations.iter().rev().fold(0, |bits, situation| bits << 1 | u32::from(*situation))
}

fn fingerprint(state: &impl Hash) -> u64 {
    let mut hasher = Folding(0x9e37_79b9_7f4a_7c15);
    state.hash(&mut hasher);
    hasher.finish()
}

/// Multiplies to 128 bits and folds: several times as fast as the hasher of the standard library, which withstands attacks.
struct Folding(u64);

impl Folding {
    fn take(&mut self, word: u64) {
        let wide = u128::from(self.0 ^ word ^ 0xa076_1d64_78bd_642f) * 0xe703_7ed1_a0b4_28db_9e37_79b9_7f4a_7c15_u128;
        self.0 = (wide as u64) ^ ((wide >> 64) as u64) ^ self.0.rotate_left(29);
    }
}

impl Hasher for Folding {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.take(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.take(byte.into());
    }

    fn write_u64(&mut self, word: u64) {
        self.take(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.take(word as u64);
    }

    fn write_isize(&mut self, word: isize) {
        self.take(word as u64);
    }

    fn finish(&self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ (mixed >> 29)
    }
}

/// Fingerprints are hashes already.
#[derive(Default)]
struct Same(u64);

impl Hasher for Same {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only fingerprints are hashed")
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
