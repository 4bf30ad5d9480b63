//! What may be spent: for a run, for a pull request, for a day by UTC, in tokens and in money, enforced outside the loop.
//!
//! Before each call the most that it can use is reserved; after it, what it did use is settled. A reservation counts as
//! spent until then, so runs side by side cannot together go where none of them could go alone. It covers every attempt
//! that may be charged for: where the budgets have no room for all that a client would make, fewer are made.
//!
//! A reservation that is dropped before the call was sent is given back. One that is dropped after it was sent is settled
//! at the most of each attempt that was begun: a run that is cut off has mostly been charged for, and a budget that is told too much ends in a
//! heuristic plan, one that is told too little in a bill. An attempt that was sent and not wholly answered counts the same
//! way, once each, beside what the answer used; one that was answered with an error was not charged for.
//!
//! What a call uses beyond its reservation is counted too, and refuses what comes after it. Memory is bounded: pull requests
//! are forgotten some days after their last call, and at a number those that were quiet longest; the day's budget holds
//! against whoever opens many.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    Budgets, Limits, Price,
    model::{Asked, CallError, Question, Tries},
};
use crate::domain::{Message, Repository, ServiceName, Timestamp, Usage};

/// Most pull requests whose spending is remembered.
pub const PULL_REQUESTS_MAX: usize = 4_096;
/// How long one is remembered after its last call.
const PULL_REQUEST_KEPT: Duration = Duration::from_secs(14 * DAY_SECONDS);
const DAY_SECONDS: u64 = 86_400;
const DAY_MILLIS: u64 = DAY_SECONDS * 1_000;

/// Most attempts at one call that are set aside for, whatever a client would make.
const ATTEMPTS_MAX: u32 = 100;
/// Bytes that make a token at least, as they are reserved: half of what is usual for text and code.
const BYTES_A_TOKEN: u64 = 2;
/// What the form of one message or tool costs besides its words.
const TOKENS_A_MESSAGE: u64 = 16;

/// Who spends: one pull request's rollout to one service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Payer {
    /// The service it ships to.
    pub service: ServiceName,
    /// Where the pull request was merged.
    pub repository: Repository,
    /// Its number.
    pub pull_request: u64,
}

/// The most that one attempt at a call can use, in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Most {
    /// Tokens that go in.
    pub input: u64,
    /// Tokens that come out.
    pub output: u64,
}

impl Most {
    /// For a question. Tokens are reckoned at two bytes each, which text and code in any language stay well under; the
    /// little that does not is counted when it is settled.
    pub fn of(question: &Question<'_>) -> Self {
        let said = question.messages.iter().map(|message| match message {
            Message::System(text) | Message::User(text) => text.len(),
            Message::Assistant { text, refusal, calls } => {
                let calls: usize =
                    calls.iter().map(|call| call.id.len() + call.name.len() + call.arguments.len()).sum();
                calls + text.as_ref().map_or(0, String::len) + refusal.as_ref().map_or(0, String::len)
            }
            Message::Tool { id, answer } => id.len() + answer.len(),
        });
        let offered = question.tools.iter().map(|tool| tool.sheet.len() + tool.schema.to_string().len());
        let input = said.chain(offered).fold(0_u64, |sum, bytes| {
            let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
            sum.saturating_add(bytes.div_ceil(BYTES_A_TOKEN)).saturating_add(TOKENS_A_MESSAGE)
        });
        Self { input, output: u64::from(question.output_tokens_max) }
    }
}

/// A limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Tokens of a run.
    RunTokens,
    /// Tokens of a pull request.
    PullRequestTokens,
    /// Millionths of a dollar of a pull request.
    PullRequestMicroDollars,
    /// Tokens of a day.
    DayTokens,
    /// Millionths of a dollar of a day.
    DayMicroDollars,
    /// Pull requests whose calls are under way at once.
    PullRequests,
}

impl Limit {
    /// The key that sets it, and what it counts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RunTokens => "run_tokens_max",
            Self::PullRequestTokens => "pull_request_tokens_max",
            Self::PullRequestMicroDollars => "pull_request_micro_dollars_max",
            Self::DayTokens => "day_tokens_max",
            Self::DayMicroDollars => "day_micro_dollars_max",
            Self::PullRequests => "pull requests at once",
        }
    }
}

/// A call that may not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Exhausted {
    /// Which limit stands in the way.
    pub limit: Limit,
    /// What it allows.
    pub most: u64,
    /// What is spent and reserved already.
    pub taken: u64,
    /// What the call could use.
    pub asked: u64,
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, most, taken, asked } = self;
        write!(f, "the budget {} of {most} is used up: {taken} taken, {asked} more asked for", limit.as_str())
    }
}

/// Tokens and money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amount {
    tokens: u64,
    micro_dollars: u64,
}

impl Amount {
    fn plus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_add(other.tokens),
            micro_dollars: self.micro_dollars.saturating_add(other.micro_dollars),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_sub(other.tokens),
            micro_dollars: self.micro_dollars.saturating_sub(other.micro_dollars),
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Account {
    spent: Amount,
    reserved: Amount,
}

impl Account {
    fn taken(&self) -> Amount {
        self.spent.plus(self.reserved)
    }
}

struct PullRequest {
    account: Account,
    /// Reservations that are open. What an account holds cannot tell: an amount may be nothing.
    open: u32,
    touched: Timestamp,
}

#[derive(Default)]
struct Books {
    /// The day that `today` is of, in days since the epoch.
    day: u64,
    today: Account,
    pull_requests: BTreeMap<Payer, PullRequest>,
}

struct Shared {
    limits: Limits,
    budgets: Budgets,
    price: Option<Price>,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    books: Mutex<Books>,
}

/// All that is spent and reserved. Cheap to clone; a clone is the same ledger.
#[derive(Clone)]
pub struct Ledger(Arc<Shared>);

/// What is spent and reserved of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spending {
    /// Tokens spent.
    pub tokens: u64,
    /// Tokens reserved by calls that are under way.
    pub tokens_reserved: u64,
    /// Millionths of a dollar spent, by the configured prices.
    pub micro_dollars: u64,
    /// Pull requests that are remembered.
    pub pull_requests: usize,
}

impl Ledger {
    /// An empty one.
    pub fn new(
        limits: Limits,
        budgets: Budgets,
        price: Option<Price>,
        clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    ) -> Self {
        Self(Arc::new(Shared { limits, budgets, price, clock, books: Mutex::default() }))
    }

    /// Counts what was used before this process began. Only what was used on this day by UTC matters.
    pub fn seed(&self, used: &[(Timestamp, Usage)]) {
        let mut books = self.books();
        let day = books.day;
        for (_, usage) in used.iter().filter(|(at, _)| day_of(*at) == day) {
            books.today.spent = books.today.spent.plus(self.0.amount(usage));
        }
    }

    /// Counts what was used for a pull request before this process began, on whichever days.
    pub fn seed_pull_request(&self, payer: &Payer, usage: &Usage) {
        let amount = self.0.amount(usage);
        let now = (self.0.clock)();
        let mut books = self.books();
        // Where there is no room for it, the day's budget holds.
        if books.remember(payer, now).is_ok()
            && let Some(pull) = books.pull_requests.get_mut(payer)
        {
            pull.account.spent = pull.account.spent.plus(amount);
        }
    }

    /// Opens a run for this pull request.
    pub fn run(&self, payer: Payer) -> Run {
        Run { ledger: self.clone(), payer, spent_tokens: 0 }
    }

    /// Today's spending.
    pub fn today(&self) -> Spending {
        let books = self.books();
        Spending {
            tokens: books.today.spent.tokens,
            tokens_reserved: books.today.reserved.tokens,
            micro_dollars: books.today.spent.micro_dollars,
            pull_requests: books.pull_requests.len(),
        }
    }

    /// The books, turned to today's page. What is reserved moves with them, for it is settled on the day it ends.
    fn books(&self) -> MutexGuard<'_, Books> {
        let now = (self.0.clock)();
        let today = day_of(now);
        // Every change under this lock is whole or not begun.
        let mut books = self.0.books.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that is put back a little around midnight must not give the day twice; one that is put back by days was
        // wrong before.
        if today > books.day || today + 1 < books.day {
            books.day = today;
            books.today.spent = Amount::default();
            books.pull_requests.retain(|_, pull| pull.open > 0 || now.since(pull.touched) < PULL_REQUEST_KEPT);
        }
        books
    }
}

impl Shared {
    fn amount(&self, usage: &Usage) -> Amount {
        let by_price =
            || self.price.map_or(0, |price| price.of(usage.input_tokens, usage.cached_tokens, usage.output_tokens));
        Amount {
            tokens: usage.input_tokens.saturating_add(usage.output_tokens),
            micro_dollars: usage.micro_dollars.unwrap_or_else(by_price),
        }
    }

    fn most(&self, most: Most) -> Usage {
        Usage {
            input_tokens: most.input,
            cached_tokens: 0,
            output_tokens: most.output,
            micro_dollars: self.price.map(|price| price.of(most.input, 0, most.output)),
        }
    }
}

/// One run: a planning, an advice or an explanation. It asks one thing after the other.
pub struct Run {
    ledger: Ledger,
    payer: Payer,
    spent_tokens: u64,
}

impl Run {
    /// Reserves the most that each of so many attempts at a call can use; where there is no room for all of them, for as
    /// many as there is. Without room for one it says which limit stands in the way, and nothing is taken.
    pub fn reserve(&mut self, most: Most, attempts_max: u32) -> Result<Reservation<'_>, Exhausted> {
        let each = self.ledger.0.most(most);
        let mut attempts = attempts_max.clamp(1, ATTEMPTS_MAX);
        while attempts > 1 && self.set_aside(times(each, attempts)).is_err() {
            attempts -= 1;
        }
        if attempts == 1 {
            self.set_aside(each)?;
        }
        let tries = Arc::new(Tries::of(attempts));
        Ok(Reservation { run: self, each, tries, is_sent: false, is_settled: false })
    }

    fn set_aside(&self, reserved: Usage) -> Result<(), Exhausted> {
        let shared = &*self.ledger.0;
        let asked = shared.amount(&reserved);
        let now = (shared.clock)();
        let mut books = self.ledger.books();
        let (day, pull) = (books.today.taken(), books.pull_requests.get(&self.payer));
        let pull = pull.map_or(Amount::default(), |pull| pull.account.taken());
        let Budgets { pull_request_tokens_max, day_tokens_max, pull_request_micro_dollars_max, day_micro_dollars_max } =
            shared.budgets;
        let unlimited = u64::MAX;
        for (limit, most, taken, asked) in [
            (Limit::RunTokens, shared.limits.run_tokens_max, self.spent_tokens, asked.tokens),
            (Limit::PullRequestTokens, pull_request_tokens_max, pull.tokens, asked.tokens),
            (Limit::DayTokens, day_tokens_max, day.tokens, asked.tokens),
            (
                Limit::PullRequestMicroDollars,
                pull_request_micro_dollars_max.unwrap_or(unlimited),
                pull.micro_dollars,
                asked.micro_dollars,
            ),
            (
                Limit::DayMicroDollars,
                day_micro_dollars_max.unwrap_or(unlimited),
                day.micro_dollars,
                asked.micro_dollars,
            ),
        ] {
            if taken.saturating_add(asked) > most {
                return Err(Exhausted { limit, most, taken, asked });
            }
        }
        books.remember(&self.payer, now)?;
        if let Some(pull) = books.pull_requests.get_mut(&self.payer) {
            pull.account.reserved = pull.account.reserved.plus(asked);
            pull.open += 1;
        }
        books.today.reserved = books.today.reserved.plus(asked);
        Ok(())
    }

    /// Tokens that this run has spent.
    pub fn tokens(&self) -> u64 {
        self.spent_tokens
    }
}

impl Books {
    /// Makes a place for a pull request; at the limit it is that of the one that was quiet longest.
    fn remember(&mut self, payer: &Payer, now: Timestamp) -> Result<(), Exhausted> {
        if let Some(pull) = self.pull_requests.get_mut(payer) {
            pull.touched = now;
            return Ok(());
        }
        if self.pull_requests.len() >= PULL_REQUESTS_MAX {
            let quiet = self.pull_requests.iter().filter(|(_, pull)| pull.open == 0);
            let Some(oldest) = quiet.min_by_key(|(_, pull)| pull.touched).map(|(payer, _)| payer.clone()) else {
                let most = u64::try_from(PULL_REQUESTS_MAX).unwrap_or(u64::MAX);
                return Err(Exhausted { limit: Limit::PullRequests, most, taken: most, asked: 1 });
            };
            self.pull_requests.remove(&oldest);
        }
        let new = PullRequest { account: Account::default(), open: 0, touched: now };
        self.pull_requests.insert(payer.clone(), new);
        Ok(())
    }
}

/// What is set aside for one call.
#[must_use = "dropping it gives the budget back"]
pub struct Reservation<'a> {
    run: &'a mut Run,
    /// The most of one attempt.
    each: Usage,
    tries: Arc<Tries>,
    is_sent: bool,
    is_settled: bool,
}

impl Reservation<'_> {
    /// The attempts that it covers.
    pub fn tries(&self) -> Arc<Tries> {
        Arc::clone(&self.tries)
    }

    /// Says that the call is about to be sent. Dropped from now on, it is settled at the most of each attempt that was
    /// begun.
    pub fn sent(&mut self) {
        self.is_sent = true;
    }

    /// Settles by what came of the call, and returns what was put down for it: what the answer used, and the reserved
    /// amount for each attempt that may have been charged for without an answer that can be read.
    pub fn settle(mut self, asked: &Asked) -> Usage {
        let none = times(self.each, 0);
        let (answered, unread) = match &asked.reply {
            Ok(reply) => (reply.usage, 0),
            Err(CallError::Malformed(_)) => (none, 1),
            Err(CallError::Unavailable(_) | CallError::Rejected(_)) => (none, 0),
        };
        let guessed = asked.unanswered.saturating_add(unread);
        // What was not guessed has the price that its server gave.
        let used = if guessed == 0 { answered } else { answered.plus(times(self.each, guessed)) };
        self.close(used);
        used
    }

    fn close(&mut self, used: Usage) {
        self.is_settled = true;
        let shared = self.run.ledger.0.clone();
        let (spent, reserved) = (shared.amount(&used), shared.amount(&times(self.each, self.tries.most())));
        let now = (shared.clock)();
        let mut books = self.run.ledger.books();
        books.today.reserved = books.today.reserved.minus(reserved);
        books.today.spent = books.today.spent.plus(spent);
        if let Some(pull) = books.pull_requests.get_mut(&self.run.payer) {
            pull.account.reserved = pull.account.reserved.minus(reserved);
            pull.account.spent = pull.account.spent.plus(spent);
            pull.open = pull.open.saturating_sub(1);
            pull.touched = now;
        }
        drop(books);
        self.run.spent_tokens = self.run.spent_tokens.saturating_add(spent.tokens);
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if !self.is_settled {
            self.close(times(self.each, if self.is_sent { self.tries.charged() } else { 0 }));
        }
    }
}

/// So many times what one attempt can use.
pub(super) fn times(each: Usage, attempts: u32) -> Usage {
    let times = |amount: u64| amount.saturating_mul(u64::from(attempts));
    Usage {
        input_tokens: times(each.input_tokens),
        cached_tokens: times(each.cached_tokens),
        output_tokens: times(each.output_tokens),
        micro_dollars: each.micro_dollars.map(times),
    }
}

fn day_of(at: Timestamp) -> u64 {
    at.as_millis() / DAY_MILLIS
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU64, Ordering},
        thread,
    };

    use proptest::prelude::*;

    use super::*;
    use crate::{
        agent::model::{Finish, Reply},
        domain::{Digest, Text},
    };

    const NOON: u64 = 20_000 * DAY_MILLIS + DAY_MILLIS / 2;

    fn payer(pull_request: u64) -> Payer {
        Payer { service: ServiceName::new("shop"), repository: "acme/shop".parse().unwrap(), pull_request }
    }

    fn limits(run: u64) -> Limits {
        Limits { run_tokens_max: run, ..Limits::default() }
    }

    fn budgets(pull: u64, day: u64) -> Budgets {
        Budgets { pull_request_tokens_max: pull, day_tokens_max: day, ..Budgets::default() }
    }

    fn ledger(run: u64, pull: u64, day: u64) -> (Ledger, Arc<AtomicU64>) {
        let now = Arc::new(AtomicU64::new(NOON));
        let clock = Arc::clone(&now);
        let clock = Arc::new(move || Timestamp::from_millis(clock.load(Ordering::Relaxed)));
        (Ledger::new(limits(run), budgets(pull, day), None, clock), now)
    }

    fn used(input: u64, output: u64) -> Usage {
        Usage { input_tokens: input, output_tokens: output, ..Usage::default() }
    }

    fn asked(reply: Result<Usage, CallError>, unanswered: u32) -> Asked {
        let message = Message::Assistant { text: None, refusal: None, calls: vec![] };
        let reply = reply.map(|usage| Reply { message, finish: Finish::Stop, served_by: Text::default(), usage });
        Asked { reply, request: Digest::new(""), attempts: 1, unanswered, millis: 0 }
    }

    fn most(input: u64, output: u64) -> Most {
        Most { input, output }
    }

    fn spend(run: &mut Run, tokens: u64) -> Result<(), Limit> {
        let reservation = run.reserve(most(tokens, 0), 1).map_err(|exhausted| exhausted.limit)?;
        reservation.settle(&asked(Ok(used(tokens, 0)), 0));
        Ok(())
    }

    #[test]
    fn each_limit_is_kept_to_the_last_token_and_named() {
        for (run, pull, day, limit) in [
            (100, 1_000, 1_000, Limit::RunTokens),
            (1_000, 100, 1_000, Limit::PullRequestTokens),
            (1_000, 1_000, 100, Limit::DayTokens),
        ] {
            let (ledger, _) = ledger(run, pull, day);
            let mut run = ledger.run(payer(1));
            assert_eq!(spend(&mut run, 60), Ok(()));
            assert_eq!(spend(&mut run, 41), Err(limit));
            assert_eq!(spend(&mut run, 40), Ok(()), "a refusal takes nothing");
            assert_eq!(spend(&mut run, 1), Err(limit));
            let words = run.reserve(most(1, 0), 1).err().unwrap().to_string();
            assert!(words.contains(limit.as_str()) && words.contains("of 100"), "{words}");
        }
    }

    #[test]
    fn money_is_counted_by_the_price_and_limited_apart() {
        let price = Price { input: 1_000_000, cached_input: 500_000, output: 4_000_000 };
        let budgets = Budgets {
            pull_request_micro_dollars_max: Some(100),
            day_micro_dollars_max: Some(150),
            ..Budgets::default()
        };
        let clock = Arc::new(|| Timestamp::from_millis(NOON));
        let ledger = Ledger::new(Limits::default(), budgets, Some(price), clock);
        let mut first = ledger.run(payer(1));
        assert_eq!(first.reserve(most(0, 26), 1).err().unwrap().limit, Limit::PullRequestMicroDollars);
        let reservation = first.reserve(most(20, 20), 1).unwrap();
        let cached = Usage { cached_tokens: 20, micro_dollars: Some(90), ..used(20, 20) };
        assert_eq!(reservation.settle(&asked(Ok(cached), 0)), cached);
        assert_eq!(ledger.today().micro_dollars, 90);
        assert_eq!(ledger.run(payer(2)).reserve(most(61, 0), 1).err().unwrap().limit, Limit::DayMicroDollars);
        assert!(ledger.run(payer(2)).reserve(most(60, 0), 1).is_ok());
    }

    #[test]
    fn a_reservation_that_is_dropped_unsent_is_given_back_and_one_that_was_sent_is_not() {
        let (ledger, _) = ledger(1_000, 1_000, 1_000);
        let mut run = ledger.run(payer(1));
        drop(run.reserve(most(300, 100), 1).unwrap());
        assert_eq!(ledger.today().tokens, 0);
        let mut reservation = run.reserve(most(300, 100), 1).unwrap();
        reservation.sent();
        drop(reservation);
        let today = ledger.today();
        assert_eq!((today.tokens, today.tokens_reserved, run.tokens()), (400, 0, 400));
    }

    #[test]
    fn what_a_failed_call_costs_depends_on_whether_it_may_have_been_charged() {
        let text = || Text::new("x");
        for (reply, unanswered, tokens) in [
            (Ok(used(5, 2)), 0, 7),
            (Ok(used(5, 2)), 2, 7 + 2 * 40),
            (Err(CallError::Unavailable(text())), 0, 0),
            (Err(CallError::Unavailable(text())), 3, 3 * 40),
            (Err(CallError::Rejected(text())), 0, 0),
            (Err(CallError::Malformed(text())), 0, 40),
        ] {
            let (ledger, _) = ledger(1_000, 1_000, 1_000);
            let mut run = ledger.run(payer(1));
            let mut reservation = run.reserve(most(30, 10), 1).unwrap();
            reservation.sent();
            let down = reservation.settle(&asked(reply.clone(), unanswered));
            assert_eq!(down.input_tokens + down.output_tokens, tokens, "{reply:?} {unanswered}");
            assert_eq!(ledger.today().tokens, tokens);
        }
    }

    #[test]
    fn every_attempt_that_may_be_charged_for_is_reserved_and_no_more_are_made_than_there_is_room_for() {
        let (ledger, _) = ledger(1_000, 100, 1_000);
        let mut run = ledger.run(payer(1));
        let reservation = run.reserve(most(30, 10), 3).unwrap();
        assert_eq!((reservation.tries().most(), ledger.today().tokens_reserved), (2, 80));
        // Both timed out after they had been sent.
        reservation.settle(&asked(Err(CallError::Unavailable(Text::new("x"))), 2));
        assert_eq!((ledger.today().tokens, ledger.today().tokens_reserved), (80, 0));
        assert_eq!(run.reserve(most(30, 10), 3).err().unwrap().limit, Limit::PullRequestTokens);
        assert_eq!(run.reserve(most(20, 0), 3).unwrap().tries().most(), 1, "there is room for one");
    }

    #[test]
    fn a_reservation_that_is_dropped_counts_the_attempts_that_were_begun() {
        for (begun, tokens) in [(0, 40), (1, 40), (2, 80), (9, 120)] {
            let (ledger, _) = ledger(1_000, 1_000, 1_000);
            let mut run = ledger.run(payer(1));
            let mut reservation = run.reserve(most(30, 10), 3).unwrap();
            let tries = reservation.tries();
            reservation.sent();
            (0..begun).for_each(|_| tries.begin());
            drop(reservation);
            assert_eq!((ledger.today().tokens, ledger.today().tokens_reserved), (tokens, 0), "{begun} begun");
        }
    }

    #[test]
    fn a_day_begins_at_midnight_by_utc_and_a_clock_put_back_a_little_gives_it_once() {
        let (ledger, now) = ledger(10_000, 10_000, 100);
        let midnight = NOON + DAY_MILLIS / 2;
        let set = |at| now.store(at, Ordering::Relaxed);
        set(midnight - 1);
        spend(&mut ledger.run(payer(1)), 100).unwrap();
        assert_eq!(spend(&mut ledger.run(payer(1)), 1), Err(Limit::DayTokens));
        set(midnight);
        spend(&mut ledger.run(payer(1)), 100).unwrap();
        set(midnight - 1);
        assert_eq!(spend(&mut ledger.run(payer(1)), 1), Err(Limit::DayTokens));
        set(midnight);
        assert_eq!(spend(&mut ledger.run(payer(1)), 1), Err(Limit::DayTokens));
        set(midnight - 5 * DAY_MILLIS);
        assert_eq!(spend(&mut ledger.run(payer(1)), 1), Ok(()), "a clock that was days ahead was wrong");
    }

    #[test]
    fn a_call_over_midnight_is_counted_on_the_day_it_ends() {
        let (ledger, now) = ledger(10_000, 10_000, 100);
        let mut run = ledger.run(payer(1));
        let reservation = run.reserve(most(80, 0), 1).unwrap();
        now.store(NOON + DAY_MILLIS, Ordering::Relaxed);
        assert_eq!(spend(&mut ledger.run(payer(2)), 21), Err(Limit::DayTokens));
        reservation.settle(&asked(Ok(used(70, 0)), 0));
        assert_eq!((ledger.today().tokens, ledger.today().tokens_reserved), (70, 0));
    }

    #[test]
    fn a_restart_goes_on_with_what_the_journal_says_of_today() {
        let (ledger, _) = ledger(10_000, 10_000, 100);
        let at = Timestamp::from_millis;
        ledger.seed(&[(at(NOON - DAY_MILLIS), used(500, 0)), (at(NOON - 5), used(50, 10)), (at(NOON), used(9, 0))]);
        assert_eq!(ledger.today().tokens, 69);
        assert_eq!(spend(&mut ledger.run(payer(1)), 32), Err(Limit::DayTokens));
        assert_eq!(spend(&mut ledger.run(payer(1)), 31), Ok(()));
    }

    #[test]
    fn a_restart_goes_on_with_what_a_pull_request_has_used() {
        let (ledger, _) = ledger(10_000, 100, 1_000);
        ledger.seed_pull_request(&payer(1), &used(60, 10));
        assert_eq!(ledger.today().tokens, 0, "days are counted apart");
        assert_eq!(spend(&mut ledger.run(payer(1)), 31), Err(Limit::PullRequestTokens));
        assert_eq!(spend(&mut ledger.run(payer(1)), 30), Ok(()));
        assert_eq!(spend(&mut ledger.run(payer(2)), 100), Ok(()));
    }

    #[test]
    fn no_more_pull_requests_are_remembered_than_allowed_and_the_quiet_ones_go_first() {
        let (ledger, now) = ledger(10_000, 100, u64::MAX);
        let most_of_them = u64::try_from(PULL_REQUESTS_MAX).unwrap();
        for n in 0..most_of_them {
            now.fetch_add(1, Ordering::Relaxed);
            spend(&mut ledger.run(payer(n)), 100).unwrap();
        }
        now.fetch_add(1, Ordering::Relaxed);
        drop(ledger.run(payer(most_of_them)).reserve(most(1, 0), 1).unwrap());
        assert_eq!(ledger.today().pull_requests, PULL_REQUESTS_MAX);
        assert_eq!(spend(&mut ledger.run(payer(1)), 1), Err(Limit::PullRequestTokens), "remembered");
        assert_eq!(spend(&mut ledger.run(payer(0)), 1), Ok(()), "forgotten");
        now.fetch_add(DAY_MILLIS * 14, Ordering::Relaxed);
        assert_eq!(ledger.today().pull_requests, 0);
    }

    #[test]
    fn no_place_is_taken_from_a_pull_request_whose_call_is_under_way() {
        let (ledger, _) = ledger(10_000, 100, u64::MAX);
        let all = 0..u64::try_from(PULL_REQUESTS_MAX).unwrap();
        let mut runs: Vec<Run> = all.map(|n| ledger.run(payer(n))).collect();
        let open: Vec<_> = runs.iter_mut().map(|run| run.reserve(most(1, 0), 1).unwrap()).collect();
        let mut late = ledger.run(payer(1_000_000));
        assert_eq!(late.reserve(most(1, 0), 1).err().unwrap().limit, Limit::PullRequests);
        drop(open);
        assert!(late.reserve(most(1, 0), 1).is_ok());
    }

    #[test]
    fn the_most_of_a_question_is_more_than_its_words() {
        let messages = [Message::User("x".repeat(1_000)), Message::Tool { id: "a".into(), answer: "y".repeat(9) }];
        let question = Question {
            messages: &messages,
            tools: &[],
            must_call: false,
            output_tokens_max: 7,
            tries: &Tries::of(1),
            cache_key: "k",
        };
        assert_eq!(Most::of(&question), most(500 + 5 + 2 * TOKENS_A_MESSAGE, 7));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Reserved, share of it that was used (in tenths), and whether it is sent, settled or dropped.
        #[test]
        fn runs_side_by_side_never_go_over_a_limit_together(
            runs in prop::collection::vec(prop::collection::vec((0_u64..60, 0_u64..=10, 0_u8..3), 1..20), 2..9),
            pull in 50_u64..600, day in 50_u64..900,
        ) {
            let (ledger, _) = ledger(u64::MAX, pull, day);
            let spent: Vec<AtomicU64> = (0..3).map(|_| AtomicU64::new(0)).collect();
            thread::scope(|scope| {
                for (n, calls) in runs.iter().enumerate() {
                    let (ledger, spent) = (&ledger, &spent);
                    scope.spawn(move || {
                        let mut run = ledger.run(payer(n as u64 % 3));
                        for &(tokens, tenths, end) in calls {
                            let Ok(mut reservation) = run.reserve(most(tokens, 0), 1) else { continue };
                            let seen = ledger.today();
                            assert!(seen.tokens + seen.tokens_reserved <= day);
                            thread::yield_now();
                            let down = match end {
                                0 => {
                                    drop(reservation);
                                    0
                                }
                                1 => {
                                    reservation.sent();
                                    drop(reservation);
                                    tokens
                                }
                                _ => {
                                    reservation.settle(&asked(Ok(used(tokens * tenths / 10, 0)), 0));
                                    tokens * tenths / 10
                                }
                            };
                            spent[n % 3].fetch_add(down, Ordering::Relaxed);
                        }
                    });
                }
            });
            let sums: Vec<u64> = spent.iter().map(|spent| spent.load(Ordering::Relaxed)).collect();
            let today = ledger.today();
            prop_assert_eq!((today.tokens, today.tokens_reserved), (sums.iter().sum(), 0));
            prop_assert!(today.tokens <= day && sums.iter().all(|&sum| sum <= pull), "{:?}", sums);
        }

        #[test]
        fn what_goes_beyond_its_reservation_is_counted_and_stops_what_comes_after(
            calls in prop::collection::vec((1_u64..60, 0_u64..200), 1..30)
        ) {
            let (ledger, _) = ledger(u64::MAX, u64::MAX, 500);
            let mut run = ledger.run(payer(1));
            let mut sum = 0;
            for (tokens, used_tokens) in calls {
                let before = sum;
                match run.reserve(most(tokens, 0), 1) {
                    Ok(reservation) => {
                        prop_assert!(before + tokens <= 500);
                        reservation.settle(&asked(Ok(used(used_tokens, 0)), 0));
                        sum += used_tokens;
                    }
                    Err(exhausted) => {
                        let Exhausted { limit, most, taken, asked } = exhausted;
                        prop_assert_eq!((limit, most, taken, asked), (Limit::DayTokens, 500, before, tokens));
                        prop_assert!(before + tokens > 500);
                    }
                }
            }
            prop_assert_eq!(ledger.today().tokens, sum);
        }
    }
}
