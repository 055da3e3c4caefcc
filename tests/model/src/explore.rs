//! Visits every state of a specification, breadth first, so that the way to the first broken rule is a shortest one.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};

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
}

pub struct Explored<Step> {
    pub states: usize,
    /// The rule that was broken, and the steps that lead there.
    pub broken: Option<(&'static str, Vec<Step>)>,
    pub reached: u32,
    /// Not all states were visited: there are more than the limit.
    pub cut: bool,
}

/// States are told apart by a hash of 64 bits: among ten million of them the chance that one hides behind another is 1 in 300,000.
pub fn explore<S: Spec>(spec: &S, max_states: usize) -> Explored<S::Step> {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let start = spec.start();
    let mut known = HashSet::from([hasher.hash_one(&start)]);
    // How each state was reached: the state before it, and the step.
    let mut origins: Vec<Option<(usize, S::Step)>> = vec![None];
    let mut reached = 0;
    let mut broken = None;
    let mut frontier = vec![(0, start)];
    while !frontier.is_empty() && broken.is_none() && known.len() < max_states {
        let mut next = Vec::new();
        for (from, state) in frontier {
            spec.steps(&state, &mut |step, after| {
                reached |= spec.reached(step, &after);
                if broken.is_some() || !known.insert(hasher.hash_one(&after)) {
                    return;
                }
                origins.push(Some((from, step)));
                let at = origins.len() - 1;
                match spec.broken(&after) {
                    Some(rule) => broken = Some((rule, way(&origins, at))),
                    None => next.push((at, after)),
                }
            });
        }
        frontier = next;
    }
    Explored { states: known.len(), cut: broken.is_none() && !frontier.is_empty(), broken, reached }
}

fn way<Step: Copy>(origins: &[Option<(usize, Step)>], mut at: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    while let Some((before, step)) = origins[at] {
        steps.push(step);
        at = before;
    }
    steps.reverse();
    steps
}
