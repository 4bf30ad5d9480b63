//! InfluxDB: which of its two languages is spoken follows from what is written, and only one set of keys may be.

use crate::config::{
    default,
    key::Key,
    meant::{InfluxDbSource, InfluxLanguage, InfluxLayout},
    reading::{Reading, WordForm},
    written,
};

const NAME: WordForm = WordForm {
    name: "name in InfluxDB",
    fix: "a name without control characters",
    bytes_max: 500,
    is_legal: |word| !word.chars().any(char::is_control),
};

const USER: WordForm = WordForm {
    name: "user's name",
    fix: "a name without colons",
    bytes_max: 200,
    is_legal: |word| !word.contains(|c: char| c == ':' || c.is_control()),
};

impl Reading<'_> {
    pub(super) fn influxdb(&mut self, key: &Key, written: &written::Source) -> Option<InfluxDbSource> {
        let url = self.needed_url(key, written, "https://influx.example.com:8086");
        let speaks_flux = [&written.organisation, &written.bucket].iter().any(|name| name.is_some());
        let language =
            if speaks_flux || written.token.is_some() { self.flux(key, written) } else { self.influxql(key, written) };
        let layout = self.layout(key, written);
        let buckets = self.buckets(key, written, default::INFLUXDB_BUCKETS);
        let counters_are_deltas = written.counters == Some(written::Counters::Delta);
        Some(InfluxDbSource { url: url?, language: language?, layout, counters_are_deltas, buckets })
    }

    fn flux(&mut self, key: &Key, written: &written::Source) -> Option<InfluxLanguage> {
        let of_influxql = [
            ("database", written.database.is_some()),
            ("retention", written.retention.is_some()),
            ("user", written.user.is_some()),
            ("password", written.password.is_some()),
        ];
        for (name, _) in of_influxql.into_iter().filter(|(_, is_written)| *is_written) {
            let what = "is of InfluxQL, and organisation, bucket and token are of Flux";
            self.problems.add(&key.name(name), what, "keep the keys of one of the two");
        }
        let organisation = self.influx_name(key, "organisation", written.organisation.as_ref(), "the organisation");
        let bucket = self.influx_name(key, "bucket", written.bucket.as_ref(), "the bucket");
        let token = self.needed_secret(&key.name("token"), written.token.as_ref());
        Some(InfluxLanguage::Flux { organisation: organisation?, bucket: bucket?, token: token? })
    }

    fn influxql(&mut self, key: &Key, written: &written::Source) -> Option<InfluxLanguage> {
        let what = "the database, for InfluxQL; or organisation, bucket and token, for Flux";
        let database = self.influx_name(key, "database", written.database.as_ref(), what);
        if let Some(retention) = &written.retention {
            self.word(&key.name("retention"), retention, &NAME);
        }
        let password = self.secret(&key.name("password"), written.password.as_ref(), None);
        let user = match (&written.user, &written.password) {
            (Some(user), Some(_)) => {
                self.word(&key.name("user"), user, &USER);
                password.map(|password| (user.clone(), password))
            }
            (Some(_), None) => {
                self.missing(&key.name("password"), "{ env = \"NAME\" } or { file = \"path\" }");
                None
            }
            (None, Some(_)) => {
                self.missing(&key.name("user"), "the user whose password it is");
                None
            }
            (None, None) => None,
        };
        Some(InfluxLanguage::InfluxQl { database: database?, retention: written.retention.clone(), user })
    }

    fn layout(&mut self, key: &Key, written: &written::Source) -> InfluxLayout {
        let fields = [("counter_field", &written.counter_field), ("gauge_field", &written.gauge_field)];
        for (name, field) in fields {
            let key = key.name(name);
            if let Some(field) = field {
                self.word(&key, field, &NAME);
                if written.measurement.is_some() {
                    let what = "is of no use beside measurement: each metric is a field of that";
                    self.problems.add(&key, what, "keep one of the two");
                }
            }
        }
        if let Some(measurement) = &written.measurement {
            self.word(&key.name("measurement"), measurement, &NAME);
            return InfluxLayout::Field { measurement: measurement.clone() };
        }
        let or = |field: &Option<String>, default: &str| field.clone().unwrap_or_else(|| default.into());
        InfluxLayout::Measurement {
            counter: or(&written.counter_field, default::INFLUXDB_COUNTER_FIELD),
            gauge: or(&written.gauge_field, default::INFLUXDB_GAUGE_FIELD),
        }
    }

    fn influx_name(&mut self, key: &Key, name: &str, written: Option<&String>, what: &str) -> Option<String> {
        let key = key.name(name);
        match written {
            Some(text) => {
                self.word(&key, text, &NAME);
                Some(text.clone())
            }
            None => {
                self.missing(&key, what);
                None
            }
        }
    }
}
