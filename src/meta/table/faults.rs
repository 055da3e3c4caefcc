//! A table that misbehaves as networks do: a decorator for tests and simulation.

use std::collections::VecDeque;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::{Append, Chunk, Table, TableError, TableRef};
use crate::types::Revision;

/// What happens to one append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendFault {
    None,
    /// It happens; the answer is lost.
    LoseAnswer,
    /// It never happens, and nobody is told.
    LoseRequest,
    /// It is on its way until [`FaultyTable::land`]; the caller gets no answer.
    Delay,
    /// It happens twice, as when a client library repeats it: the caller sees its own entry in its way.
    Duplicate,
    /// The table says no for good.
    Deny,
}

/// Takes one fault off a list for each append, and fails reads as often as it is told.
pub struct FaultyTable {
    inner: TableRef,
    faults: Mutex<Faults>,
}

#[derive(Default)]
struct Faults {
    appends: VecDeque<AppendFault>,
    otherwise: Option<AppendFault>,
    failing_reads: usize,
    on_the_way: Vec<(Revision, Bytes)>,
    sent: usize,
}

impl FaultyTable {
    pub fn new(inner: TableRef) -> Self {
        FaultyTable { inner, faults: Mutex::default() }
    }

    /// Faults of the next appends, in order.
    pub fn script(&self, faults: impl IntoIterator<Item = AppendFault>) {
        self.faults.lock().appends.extend(faults);
    }

    /// What happens to appends when the script is empty.
    pub fn otherwise(&self, fault: AppendFault) {
        self.faults.lock().otherwise = Some(fault);
    }

    pub fn fail_reads(&self, count: usize) {
        self.faults.lock().failing_reads = count;
    }

    /// Appends attempted so far.
    pub fn sent(&self) -> usize {
        self.faults.lock().sent
    }

    pub fn on_the_way(&self) -> usize {
        self.faults.lock().on_the_way.len()
    }

    /// Lets all delayed appends reach the table, in the order in which they were sent.
    pub async fn land(&self) {
        let on_the_way = std::mem::take(&mut self.faults.lock().on_the_way);
        for (revision, body) in on_the_way {
            let _nobody_listens = self.inner.append(revision, body).await;
        }
    }

    fn next_fault(&self, revision: Revision, body: &Bytes) -> AppendFault {
        let mut faults = self.faults.lock();
        faults.sent += 1;
        let fault = faults.appends.pop_front().or(faults.otherwise).unwrap_or(AppendFault::None);
        if fault == AppendFault::Delay {
            faults.on_the_way.push((revision, body.clone()));
        }
        fault
    }
}

#[async_trait]
impl Table for FaultyTable {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn append(&self, revision: Revision, body: Bytes) -> Result<Append, TableError> {
        let unknown = || Append::Unknown { reason: "injected time-out".to_owned() };
        match self.next_fault(revision, &body) {
            AppendFault::None => self.inner.append(revision, body).await,
            AppendFault::LoseAnswer => {
                self.inner.append(revision, body).await?;
                Ok(unknown())
            }
            AppendFault::Duplicate => {
                self.inner.append(revision, body.clone()).await?;
                self.inner.append(revision, body).await
            }
            AppendFault::LoseRequest | AppendFault::Delay => Ok(unknown()),
            AppendFault::Deny => Err(TableError::Permanent("injected refusal".to_owned())),
        }
    }

    fn may_lose(&self) -> bool {
        self.inner.may_lose()
    }

    async fn read(&self, from: Revision, limit: usize) -> Result<Chunk, TableError> {
        {
            let mut faults = self.faults.lock();
            if faults.failing_reads > 0 {
                faults.failing_reads -= 1;
                return Err(TableError::Unavailable("injected time-out".to_owned()));
            }
        }
        self.inner.read(from, limit).await
    }

    async fn at_or_after(&self, from: Revision) -> Result<Option<Revision>, TableError> {
        self.inner.at_or_after(from).await
    }

    async fn delete_through(&self, last: Revision) -> Result<(), TableError> {
        self.inner.delete_through(last).await
    }

    async fn changed(&self, known: Revision) {
        self.inner.changed(known).await;
    }
}
