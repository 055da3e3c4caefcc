//! A store that fails on purpose: for tests and simulation. It stands before a real one and breaks what passes through, by a
//! script (next call of this kind gets this fault) or at random from a seed. The worst of them is the commonest in the field:
//! *it happened, and you got an error*.
//!
//! Late landing runs in a task of its own, as the write of a cut-off connection does: it must outlive whoever asked for it, so a
//! simulation that crashes whole hosts gives a [`Spawn`] that runs elsewhere.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;

use super::{ListedObject, ReadBytes, ReadRange, Store, StoreError, StoreRef};
use crate::types::env::Entropy;

/// Which answer a fault gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 412.
    Taken,
    /// 409, 429 or 503.
    Busy,
    /// Time-out, reset, 500.
    Maybe,
    /// 403.
    Denied,
}

/// What happens to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens, and this is the answer.
    Refused(Answer),
    /// It happens (or not, if the store refuses), and this is the answer all the same.
    LostAnswer(Answer),
    /// The answer comes now, the create lands later, if the name is free then.
    LandsLate {
        answer: Answer,
        after: Duration,
    },
    DelayBefore(Duration),
    DelayAfter(Duration),
    /// Nothing happens, and no answer comes.
    Hang,
    /// It happens, and no answer comes.
    HangAfter,
    /// A read gives only the first half.
    Truncated,
    /// A read gives one wrong bit.
    Corrupt,
}

/// Kinds of calls, for scripts and rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Create,
    Read,
    /// `delete`, `list`, `list_folders`.
    Other,
}

/// Chances in 1,000 of each fault on a call, and how long delays are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultRates {
    pub refused: u32,
    pub lost_answer: u32,
    /// Creates only.
    pub lands_late: u32,
    pub delay: u32,
    pub hang: u32,
    /// Reads only.
    pub truncated: u32,
    /// Reads only.
    pub corrupt: u32,
    /// Delays, also of late landings, lie below this.
    pub max_delay: Duration,
}

/// How often each fault was injected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Injected {
    pub refused: u64,
    pub lost_answers: u64,
    pub late_landings: u64,
    pub delays: u64,
    pub hangs: u64,
    pub truncated: u64,
    pub corrupt: u64,
    /// Of all these, answers that said 409, 429 or 503, and 412.
    pub said_busy: u64,
    pub said_taken: u64,
}

/// Runs a task to its end.
pub type Spawn = Arc<dyn Fn(BoxFuture<'static, ()>) + Send + Sync>;

/// The store that fails. Rates may be changed while it runs: `set_rates(FaultRates::default())` is fair weather.
pub struct FaultStore {
    inner: StoreRef,
    entropy: Arc<dyn Entropy>,
    spawn: Spawn,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rates: FaultRates,
    scripts: Vec<(Call, String, VecDeque<Fault>)>,
    denied: bool,
    unconditional: bool,
    injected: Injected,
}

impl FaultStore {
    pub fn new(inner: StoreRef, entropy: Arc<dyn Entropy>, rates: FaultRates) -> Arc<FaultStore> {
        let spawn: Spawn = Arc::new(|task| drop(tokio::spawn(task)));
        FaultStore::with_spawn(inner, entropy, rates, spawn)
    }

    pub fn with_spawn(inner: StoreRef, entropy: Arc<dyn Entropy>, rates: FaultRates, spawn: Spawn) -> Arc<FaultStore> {
        Arc::new(FaultStore { inner, entropy, spawn, state: Mutex::new(State { rates, ..State::default() }) })
    }

    pub fn set_rates(&self, rates: FaultRates) {
        self.state.lock().rates = rates;
    }

    /// The next calls of this kind whose key contains `key_part` get these faults, one each, before any random one.
    pub fn script(&self, call: Call, key_part: &str, faults: impl IntoIterator<Item = Fault>) {
        self.state.lock().scripts.push((call, key_part.to_owned(), faults.into_iter().collect()));
    }

    /// From now on every call is denied, or none is: a revoked key, a deleted bucket.
    pub fn set_denied(&self, denied: bool) {
        self.state.lock().denied = denied;
    }

    /// From now on creates ignore their condition and replace what has the name, as on servers that never heard of it.
    pub fn set_unconditional(&self, unconditional: bool) {
        self.state.lock().unconditional = unconditional;
    }

    pub fn injected(&self) -> Injected {
        self.state.lock().injected
    }

    /// The fault for this call, counted.
    fn next_fault(&self, call: Call, key: &str) -> Option<Fault> {
        let mut state = self.state.lock();
        let fault = if state.denied {
            Some(Fault::Refused(Answer::Denied))
        } else {
            scripted(&mut state.scripts, call, key).or_else(|| self.random_fault(&state.rates, call))
        };
        let injected = &mut state.injected;
        if let Some(Fault::Refused(answer) | Fault::LostAnswer(answer) | Fault::LandsLate { answer, .. }) = fault {
            injected.said_busy += u64::from(answer == Answer::Busy);
            injected.said_taken += u64::from(answer == Answer::Taken);
        }
        match fault {
            None => {}
            Some(Fault::Refused(_)) => injected.refused += 1,
            Some(Fault::LostAnswer(_)) => injected.lost_answers += 1,
            Some(Fault::LandsLate { .. }) => injected.late_landings += 1,
            Some(Fault::DelayBefore(_) | Fault::DelayAfter(_)) => injected.delays += 1,
            Some(Fault::Hang | Fault::HangAfter) => injected.hangs += 1,
            Some(Fault::Truncated) => injected.truncated += 1,
            Some(Fault::Corrupt) => injected.corrupt += 1,
        }
        fault
    }

    fn random_fault(&self, rates: &FaultRates, call: Call) -> Option<Fault> {
        let of = |wanted: Call, rate: u32| if call == wanted { rate } else { 0 };
        let kinds = [
            rates.refused,
            rates.lost_answer,
            of(Call::Create, rates.lands_late),
            rates.delay,
            rates.hang,
            of(Call::Read, rates.truncated),
            of(Call::Read, rates.corrupt),
        ];
        if kinds.iter().all(|rate| *rate == 0) {
            return None;
        }
        let mut dice = u32::try_from(self.entropy.next_u64() % 1000).unwrap_or(0);
        let kind = kinds.iter().position(|rate| {
            let hit = dice < *rate;
            dice = dice.saturating_sub(*rate);
            hit
        })?;
        let random = self.entropy.next_u64();
        let unclear = if random.is_multiple_of(2) { Answer::Maybe } else { Answer::Busy };
        let delay = self.random_delay(rates.max_delay);
        Some(match kind {
            0 => Fault::Refused(unclear),
            // A create that met itself behind a proxy is told that the name is taken.
            1 if call == Call::Create && random.is_multiple_of(3) => Fault::LostAnswer(Answer::Taken),
            1 => Fault::LostAnswer(unclear),
            2 => Fault::LandsLate { answer: unclear, after: delay },
            3 if random.is_multiple_of(2) => Fault::DelayBefore(delay),
            3 => Fault::DelayAfter(delay),
            4 if random.is_multiple_of(2) => Fault::Hang,
            4 => Fault::HangAfter,
            5 => Fault::Truncated,
            _ => Fault::Corrupt,
        })
    }

    fn random_delay(&self, max: Duration) -> Duration {
        let max_micros = u64::try_from(max.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.entropy.next_u64() % max_micros.max(1))
    }

    /// What happens around a call that has no body to spoil.
    async fn around<T>(
        &self,
        key: &str,
        fault: Option<Fault>,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        match fault {
            Some(Fault::Refused(answer)) => Err(error(key, answer)),
            Some(Fault::LostAnswer(answer)) => {
                let _lost = call.await;
                Err(error(key, answer))
            }
            Some(Fault::DelayBefore(delay)) => {
                tokio::time::sleep(delay).await;
                call.await
            }
            Some(Fault::DelayAfter(delay)) => {
                let result = call.await;
                tokio::time::sleep(delay).await;
                result
            }
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::HangAfter) => {
                let _lost = call.await;
                std::future::pending().await
            }
            Some(Fault::LandsLate { .. } | Fault::Truncated | Fault::Corrupt) | None => call.await,
        }
    }
}

fn scripted(scripts: &mut Vec<(Call, String, VecDeque<Fault>)>, call: Call, key: &str) -> Option<Fault> {
    let index = scripts.iter().position(|(of, part, _)| *of == call && key.contains(part.as_str()))?;
    let fault = scripts[index].2.pop_front();
    if scripts[index].2.is_empty() {
        scripts.remove(index);
    }
    fault
}

fn error(key: &str, answer: Answer) -> StoreError {
    match answer {
        Answer::Taken => StoreError::taken(key),
        Answer::Busy => StoreError::busy(key, "injected"),
        Answer::Maybe => StoreError::maybe(key, "injected"),
        Answer::Denied => StoreError::permanent(key, "injected denial"),
    }
}

/// The read with its body spoilt.
fn spoil(mut read: ReadBytes, fault: Fault, random: u64) -> ReadBytes {
    let length = read.bytes.len();
    if fault == Fault::Truncated {
        read.bytes.truncate(length / 2);
    } else if length > 0 {
        let mut bytes = read.bytes.to_vec();
        let position = usize::try_from(random % length as u64).unwrap_or(0);
        bytes[position] ^= 1 << (random >> 61);
        read.bytes = Bytes::from(bytes);
    }
    read
}

#[async_trait]
impl Store for FaultStore {
    async fn create(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
        let fault = self.next_fault(Call::Create, key);
        if let Some(Fault::LandsLate { answer, after }) = fault {
            let (inner, key) = (Arc::clone(&self.inner), key.to_owned());
            let answer = error(&key, answer);
            let landing = async move {
                tokio::time::sleep(after).await;
                // Nobody is there to hear how it went.
                let _unheard = inner.create(&key, body).await;
            };
            (self.spawn)(Box::pin(landing));
            return Err(answer);
        }
        let unconditional = self.state.lock().unconditional;
        let create = async {
            if unconditional {
                self.inner.delete(key).await?;
            }
            self.inner.create(key, body).await
        };
        self.around(key, fault, create).await
    }

    async fn read(&self, key: &str, range: ReadRange) -> Result<ReadBytes, StoreError> {
        let fault = self.next_fault(Call::Read, key);
        let read = self.around(key, fault, self.inner.read(key, range)).await?;
        match fault {
            Some(fault @ (Fault::Truncated | Fault::Corrupt)) => Ok(spoil(read, fault, self.entropy.next_u64())),
            _ => Ok(read),
        }
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let fault = self.next_fault(Call::Other, key);
        self.around(key, fault, self.inner.delete(key)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ListedObject>, StoreError> {
        let fault = self.next_fault(Call::Other, prefix);
        self.around(prefix, fault, self.inner.list(prefix, after, limit)).await
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let fault = self.next_fault(Call::Other, prefix);
        self.around(prefix, fault, self.inner.list_folders(prefix)).await
    }

    fn describe(&self) -> String {
        format!("{} (with injected faults)", self.inner.describe())
    }

    fn endpoint(&self) -> String {
        self.inner.endpoint()
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }
}
