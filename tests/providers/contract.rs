//! What every source of buckets owes, whoever the vendor is. A vendor gives the shapes its documentation shows; what is
//! asked of it and what must come of it is here.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tollgate::{
    domain::{Absence, Arm, CheckId, Counts, Match, Selector, ServiceName, Sli, Split, Tally, Timestamp},
    telemetry::{
        Answer, Ask, AskedCheck, Clock, Provider,
        buckets::{Arms, Setting},
    },
};

use super::server::{Seen, Server, Shows};

pub(crate) const STEP: u64 = 60_000;
pub(crate) const SETTLE: Duration = Duration::from_secs(60);
pub(crate) const BEGIN: u64 = 1_700_000_040_000;
pub(crate) const SECRET: &str = "s3cret-0123456789";
pub(crate) const OLD: &str = "cafe0001";
pub(crate) const NEW: &str = "beef0002";
const TIMEOUT: Duration = Duration::from_millis(300);

/// What a vendor was asked, as its shape says.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Whether the bad ones are asked for.
    pub(crate) bad: bool,
    pub(crate) canary: bool,
    /// The time asked for, in milliseconds.
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// One vendor's shapes, as its documentation shows them.
pub(crate) trait Vendor: 'static {
    fn provider(url: &str, setting: Setting, clock: Clock) -> Arc<dyn Provider>;
    /// Whether the bad ones are asked for by themselves.
    const TELLS_BAD_APART: bool = true;
    /// A ratio as it is asked of it.
    fn sli() -> Sli {
        ratio()
    }
    /// What a request asks for. Checks that it is signed or bears its key.
    fn asked(seen: &Seen) -> Asked;
    /// An answer with these buckets; none of them where nothing was counted.
    fn data(asked: &Asked, buckets: &[(u64, f64)]) -> String;
    /// Answers that say that they are not whole.
    fn partial() -> Vec<String>;
    /// Answers of the vendor's form but for one type.
    fn wrong_types() -> Vec<String>;
    /// What it says to a key that has expired.
    fn expired() -> (u16, String);
}

/// What was truly counted of an arm in a bucket.
fn truth(at: u64, canary: bool) -> Counts {
    let n = at / STEP;
    Counts { bad: n % 3 + u64::from(canary), total: 100 + n % 7 }
}

fn sum(from: u64, to: u64, canary: bool) -> Result<Tally, Absence> {
    let buckets = (from / STEP..to / STEP).map(|n| truth(n * STEP, canary));
    Ok(Tally::Counts(buckets.fold(Counts::default(), Counts::plus)))
}

/// The truth, in the vendor's shape.
pub(crate) fn truly<V: Vendor>(seen: &Seen) -> Shows {
    let asked = V::asked(seen);
    let count = |at: u64| {
        let Counts { bad, total } = truth(at, asked.canary);
        (at, if asked.bad { bad } else { total } as f64)
    };
    let buckets: Vec<_> = (asked.from.div_ceil(STEP)..asked.to.div_ceil(STEP)).map(|n| count(n * STEP)).collect();
    Shows::Body(V::data(&asked, &buckets))
}

pub(crate) struct Setup {
    sli: Sli,
    pub(crate) server: Server,
    pub(crate) provider: Arc<dyn Provider>,
    now: Arc<AtomicU64>,
}

impl Setup {
    pub(crate) async fn of<V: Vendor>() -> Self {
        let server = Server::start().await;
        let url = server.url.clone();
        Self { sli: V::sli(), ..Self::with(server, &url, V::provider) }
    }

    /// The same with a source of another address.
    pub(crate) async fn at(url: &str, provider: fn(&str, Setting, Clock) -> Arc<dyn Provider>) -> Self {
        Self::with(Server::start().await, url, provider)
    }

    fn with(server: Server, url: &str, provider: fn(&str, Setting, Clock) -> Arc<dyn Provider>) -> Self {
        let now = Arc::new(AtomicU64::new(BEGIN));
        let clock: Clock = {
            let now = Arc::clone(&now);
            Arc::new(move || Timestamp::from_millis(now.load(Ordering::SeqCst)))
        };
        let label = |value: &str| BTreeMap::from([("version".to_owned(), value.to_owned())]);
        let arms = Arms { control: label("{revision}"), canary: label("{revision}"), pod_label: None };
        let setting = Setting {
            services: BTreeMap::from([(ServiceName::new("shop"), arms)]),
            step: Duration::from_millis(STEP),
            settle: SETTLE,
            timeout: TIMEOUT,
            queries_at_once: 4,
        };
        let provider = provider(url, setting, clock);
        Self { sli: ratio(), server, provider, now }
    }

    /// The answer for what came after `after`, asked at `now`, with `within` left.
    pub(crate) async fn answer(&self, sli: &Sli, after: u64, now: u64, within: Duration) -> Answer {
        self.now.store(now, Ordering::SeqCst);
        let now = Timestamp::from_millis(now);
        let ask = Ask {
            service: ServiceName::new("shop"),
            control: Some(OLD.parse().unwrap()),
            canary: NEW.parse().unwrap(),
            checks: vec![AskedCheck { check: CheckId(0), sli: sli.clone(), split: Split::default() }],
            after: Timestamp::from_millis(after),
            through: now,
            no_later_than: now + within,
        };
        self.provider.measure(ask).await
    }

    /// Three buckets after the beginning.
    pub(crate) async fn window(&self, within: Duration) -> [Result<Tally, Absence>; 2] {
        arms(&self.answer(&self.sli, BEGIN, BEGIN + 4 * STEP, within).await)
    }

    /// Why the canary has nothing, whatever else is asked.
    async fn absent(&self, within: Duration) -> Absence {
        let answer = self.answer(&self.sli, BEGIN, BEGIN + 4 * STEP, within).await;
        assert_eq!(answer.through.as_millis(), BEGIN, "nothing is used up");
        let [control, canary] = arms(&answer);
        assert!(control.is_err());
        let why = canary.unwrap_err();
        assert!(!why.to_string().contains(SECRET), "{why}");
        why
    }
}

pub(crate) fn ratio() -> Sli {
    let total = Selector::metric("requests");
    Sli::Ratio { bad: total.clone().with("code", Match::Is("500".into())), total }
}

pub(crate) fn arms(answer: &Answer) -> [Result<Tally, Absence>; 2] {
    [Arm::Control, Arm::Canary].map(|arm| {
        let found = answer.measurements.iter().find(|measurement| measurement.arm == arm);
        found.unwrap().tally.clone()
    })
}

const SOON: Duration = Duration::from_secs(10);

#[track_caller]
fn unavailable(absence: &Absence, what: &str) {
    assert!(matches!(absence, Absence::Unavailable(why) if why.as_str().contains(what)), "{absence}");
}

pub(crate) async fn data_add_up_from_window_to_window<V: Vendor>() {
    let setup = Setup::of::<V>().await;
    setup.server.shows(truly::<V>);
    let (mut after, mut now) = (BEGIN - 5_000, BEGIN + 2 * STEP);
    let begun = BEGIN;
    let mut sums = [Counts::default(); 2];
    for pause in [0, STEP, 10_000, 50_000, 3 * STEP + 7, 1] {
        now += pause;
        let answer = setup.answer(&V::sli(), after, now, Duration::from_millis(400)).await;
        let settled = (now - SETTLE.as_millis() as u64) / STEP * STEP;
        if settled <= after.div_ceil(STEP) * STEP {
            assert_eq!(answer.through.as_millis(), after, "no bucket has settled");
            assert_eq!(arms(&answer), [Err(Absence::NoData), Err(Absence::NoData)]);
            continue;
        }
        assert_eq!(answer.through.as_millis(), settled);
        for (sum, told) in sums.iter_mut().zip(arms(&answer)) {
            let Ok(Tally::Counts(counts)) = told else { panic!("{told:?}") };
            *sum = sum.plus(counts);
        }
        after = settled;
    }
    assert_eq!(Ok(Tally::Counts(sums[0])), sum(begun, after, false));
    assert_eq!(Ok(Tally::Counts(sums[1])), sum(begun, after, true));
    assert!(after > begun + 4 * STEP);
}

pub(crate) async fn nothing_there_is_no_data_and_no_errors_are_none<V: Vendor>() {
    let setup = Setup::of::<V>().await;
    setup.server.shows(|seen| Shows::Body(V::data(&V::asked(seen), &[])));
    assert_eq!(setup.window(SOON).await, [Err(Absence::NoData), Err(Absence::NoData)]);
    if !V::TELLS_BAD_APART {
        return;
    }
    setup.server.shows(|seen| {
        let asked = V::asked(seen);
        if asked.bad { Shows::Body(V::data(&asked, &[])) } else { truly::<V>(seen) }
    });
    let Ok(Tally::Counts(canary)) = setup.window(SOON).await[1].clone() else { panic!("no counts") };
    assert!(canary.bad == 0 && canary.total >= 300, "{canary:?}");
}

pub(crate) async fn part_of_the_data_is_unavailable<V: Vendor>() {
    for partial in V::partial() {
        let setup = Setup::of::<V>().await;
        setup.server.shows(move |_| Shows::Body(partial.clone()));
        unavailable(&setup.absent(SOON).await, "");
    }
}

pub(crate) async fn too_many_requests_are_waited_for_if_there_is_time<V: Vendor>() {
    let setup = Setup::of::<V>().await;
    let throttled = |wait: &str| Shows::Status(429, vec![("retry-after", wait.into())], SECRET.into());
    let mut left = 2;
    setup.server.shows(move |seen| {
        left -= 1;
        if left >= 0 { throttled("1") } else { truly::<V>(seen) }
    });
    assert_eq!(setup.window(SOON).await[1], sum(BEGIN, BEGIN + 3 * STEP, true));
    setup.server.shows(move |_| throttled("11"));
    let before = setup.server.seen().len();
    unavailable(&setup.absent(SOON).await, "too many requests: wait 11 s");
    assert_eq!(setup.server.seen().len() - before, 4, "one try of each query");
}

pub(crate) async fn a_failing_server_is_tried_again_and_then_unavailable<V: Vendor>() {
    let setup = Setup::of::<V>().await;
    let mut left = 2;
    setup.server.shows(move |seen| {
        left -= 1;
        if left >= 0 { Shows::Status(500, Vec::new(), String::new()) } else { truly::<V>(seen) }
    });
    assert_eq!(setup.window(SOON).await[1], sum(BEGIN, BEGIN + 3 * STEP, true));
    setup.server.shows(|_| Shows::Status(500, Vec::new(), format!("key {SECRET} broke us")));
    unavailable(&setup.absent(SOON).await, "answered status 500: key *** broke us");
}

pub(crate) async fn silence_is_unavailable_after_the_timeout_and_the_deadline<V: Vendor>() {
    let setup = Setup::of::<V>().await;
    setup.server.shows(|_| Shows::Nothing);
    unavailable(&setup.absent(SOON).await, "no whole answer within 300 ms");
    unavailable(&setup.absent(Duration::from_millis(150)).await, "no answer within the");
}

pub(crate) async fn garbage_and_wrong_types_are_malformed<V: Vendor>() {
    let garbage = ["<html>sign in</html>", "", "[]", "{\"a\":", "\u{0}\u{1}"].map(str::to_owned);
    for body in garbage.into_iter().chain(V::wrong_types()) {
        let setup = Setup::of::<V>().await;
        let shown = body.clone();
        setup.server.shows(move |_| Shows::Body(shown.clone()));
        let why = setup.absent(SOON).await;
        assert!(matches!(why, Absence::Malformed(_)), "{body}: {why}");
    }
}

pub(crate) async fn refused_credentials_and_redirects_are_unavailable<V: Vendor>() {
    let (status, body) = V::expired();
    for (status, body) in [(status, body), (401, String::new()), (403, format!("no {SECRET}"))] {
        let setup = Setup::of::<V>().await;
        setup.server.shows(move |_| Shows::Status(status, Vec::new(), body.clone()));
        unavailable(&setup.absent(SOON).await, "credentials were refused: ");
        assert!(setup.server.seen().len() <= 4, "not tried again");
    }
    let setup = Setup::of::<V>().await;
    let elsewhere = setup.server.url.clone() + "/elsewhere";
    setup.server.shows(move |_| Shows::Status(302, vec![("location", elsewhere.clone())], String::new()));
    unavailable(&setup.absent(SOON).await, "answered a redirect");
    assert!(setup.server.seen().iter().all(|seen| seen.uri.path() != "/elsewhere"));
}

/// The whole contract, a test each.
macro_rules! holds {
    ($vendor:ty: $($name:ident),* $(,)?) => {
        $(#[tokio::test]
        async fn $name() {
            $crate::contract::$name::<$vendor>().await;
        })*
    };
    ($vendor:ty) => {
        $crate::contract::holds!($vendor: data_add_up_from_window_to_window,
            nothing_there_is_no_data_and_no_errors_are_none, part_of_the_data_is_unavailable,
            too_many_requests_are_waited_for_if_there_is_time, a_failing_server_is_tried_again_and_then_unavailable,
            silence_is_unavailable_after_the_timeout_and_the_deadline, garbage_and_wrong_types_are_malformed,
            refused_credentials_and_redirects_are_unavailable);
    };
}
pub(crate) use holds;
