//! The list of past deploys: lines of commas with a heading, read strictly, so that a mistyped time is not taken for
//! another deploy.
//!
//! What ran before a deploy is what the one before it brought, unless the list says otherwise; a deploy that the list calls
//! bad is taken to have been taken back.

use std::collections::BTreeMap;

use crate::domain::{Revision, Text, Timestamp};

/// Most deploys of one list.
pub(super) const DEPLOYS_MAX: usize = 500;
/// Most bytes of a list.
pub(super) const BYTES_MAX: u64 = 1 << 20;
/// Longest time between the first deploy of a list and the last, in days.
pub(super) const SPAN_DAYS_MAX: u64 = 400;
/// Most things that are said to be wrong at once.
const PROBLEMS_MAX: usize = 20;
/// The columns there are; the first two have to be there.
const COLUMNS: [&str; 5] = ["time", "revision", "stable", "end", "outcome"];
const DAY_MILLIS: u64 = 86_400_000;

/// What people found a deploy to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Label {
    /// Nothing was wrong with it.
    Good,
    /// It should not have gone out.
    Bad,
}

/// One past deploy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Deploy {
    /// When the revision began to get traffic.
    pub(super) at: Timestamp,
    pub(super) revision: Revision,
    /// What ran before; `None` where nobody knows.
    pub(super) stable: Option<Revision>,
    /// When it was taken back, or otherwise not what it was any more.
    pub(super) end: Option<Timestamp>,
    pub(super) label: Option<Label>,
}

/// Reads a list, sorted by time and with what ran before each filled in. `Err` says everything that is wrong, a line each,
/// up to a number.
pub(super) fn read(text: &str, now: Timestamp) -> Result<Vec<Deploy>, Vec<String>> {
    let mut problems = Vec::new();
    let mut lines = text.trim_start_matches('\u{feff}').lines().zip(1_usize..).filter(|(line, _)| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#')
    });
    let Some((heading, at)) = lines.next() else {
        return Err(vec!["it is empty: write a heading `time,revision` and a line for each deploy".into()]);
    };
    let columns = columns(heading).map_err(|why| vec![format!("line {at}: {why}")])?;
    let mut deploys: Vec<(usize, Deploy)> = Vec::new();
    for (line, at) in lines {
        match deploy(line, &columns, now) {
            Ok(deploy) => deploys.push((at, deploy)),
            Err(why) => problems.push(format!("line {at}: {why}")),
        }
        if problems.len() >= PROBLEMS_MAX {
            problems.push("and perhaps more".into());
            return Err(problems);
        }
        if deploys.len() > DEPLOYS_MAX {
            return Err(vec![format!("line {at}: more than {DEPLOYS_MAX} deploys; leave out the oldest")]);
        }
    }
    deploys.sort_by_key(|(_, deploy)| deploy.at);
    for pair in deploys.windows(2) {
        if let [(one, earlier), (other, later)] = pair
            && earlier.at == later.at
        {
            problems.push(format!("line {other}: as line {one}, deployed at {}: remove one of them", later.at));
        }
    }
    if problems.is_empty() { in_order(deploys.into_iter().map(|(_, deploy)| deploy).collect()) } else { Err(problems) }
}

/// Sorts deploys by time, and fills in what ran before each.
pub(super) fn in_order(mut deploys: Vec<Deploy>) -> Result<Vec<Deploy>, Vec<String>> {
    deploys.sort_by_key(|deploy| deploy.at);
    let (Some(first), Some(last)) = (deploys.first(), deploys.last()) else {
        return Err(vec!["there is no deploy in it: write a line for each".into()]);
    };
    if last.at.since(first.at).as_millis() > u128::from(SPAN_DAYS_MAX * DAY_MILLIS) {
        let days = last.at.since(first.at).as_secs() / 86_400;
        return Err(vec![format!("it spans {days} days, more than {SPAN_DAYS_MAX}: leave out the oldest")]);
    }
    let mut standing: Option<Revision> = None;
    for deploy in &mut deploys {
        let is_other = |before: &Revision| !before.names_same_commit(&deploy.revision);
        if deploy.stable.is_none() {
            deploy.stable = standing.clone().filter(is_other);
        }
        if deploy.label != Some(Label::Bad) {
            standing = Some(deploy.revision.clone());
        } else if deploy.stable.is_some() {
            standing = deploy.stable.clone();
        }
    }
    Ok(deploys)
}

/// Which column each name of the heading is.
fn columns(heading: &str) -> Result<BTreeMap<&'static str, usize>, String> {
    let mut columns = BTreeMap::new();
    for (name, at) in fields(heading)?.into_iter().zip(0..) {
        let Some(known) = COLUMNS.into_iter().find(|known| known.eq_ignore_ascii_case(name)) else {
            let name = Text::new(name);
            return Err(format!("`{name}` is no column: begin with a heading of {}", COLUMNS.join(", ")));
        };
        if columns.insert(known, at).is_some() {
            return Err(format!("column {known} stands there twice"));
        }
    }
    match COLUMNS.into_iter().take(2).find(|needed| !columns.contains_key(needed)) {
        Some(missing) => Err(format!("column {missing} is missing: begin with a heading such as `time,revision`")),
        None => Ok(columns),
    }
}

fn deploy(line: &str, columns: &BTreeMap<&'static str, usize>, now: Timestamp) -> Result<Deploy, String> {
    let fields = fields(line)?;
    if fields.len() != columns.len() {
        return Err(format!("{} fields where the heading has {}", fields.len(), columns.len()));
    }
    let field =
        |name: &str| columns.get(name).and_then(|at| fields.get(*at)).copied().filter(|field| !field.is_empty());
    let needed = |name: &str| field(name).ok_or_else(|| format!("{name} is empty"));
    let revision = |name: &str, text: &str| text.parse::<Revision>().map_err(|why| format!("{name}: {why}"));
    let deploy = Deploy {
        at: time("time", needed("time")?)?,
        revision: revision("revision", needed("revision")?)?,
        stable: field("stable").map(|text| revision("stable", text)).transpose()?,
        end: field("end").map(|text| time("end", text)).transpose()?,
        label: field("outcome").map(label).transpose()?,
    };
    if deploy.at >= now {
        return Err(format!("time: {} is not past", deploy.at));
    }
    if deploy.end.is_some_and(|end| end <= deploy.at) {
        return Err("end: it is not later than time".into());
    }
    if deploy.stable.as_ref().is_some_and(|stable| stable.names_same_commit(&deploy.revision)) {
        return Err("stable: it is the revision itself; write what ran before, or leave it empty".into());
    }
    Ok(deploy)
}

/// A time with its offset from UTC, or seconds since the epoch: a time without either is no time.
fn time(name: &str, text: &str) -> Result<Timestamp, String> {
    let told = || {
        let text = Text::new(text);
        format!(
            "{name}: `{text}` is no time: write one with its offset, such as 2026-11-20T14:00:00Z, or seconds since 1970"
        )
    };
    let is_number = text.len() <= 11 && text.bytes().all(|byte| byte.is_ascii_digit());
    let millis = if is_number {
        text.parse::<u64>().ok().map(|seconds| seconds * 1_000)
    } else {
        text.parse::<jiff::Timestamp>().ok().and_then(|at| u64::try_from(at.as_millisecond()).ok())
    };
    millis.map(Timestamp::from_millis).ok_or_else(told)
}

fn label(text: &str) -> Result<Label, String> {
    match text.to_ascii_lowercase().as_str() {
        "good" => Ok(Label::Good),
        "bad" => Ok(Label::Bad),
        _ => Err(format!("outcome: `{}` is none: write good or bad, or leave it empty", Text::new(text))),
    }
}

/// The fields of a line. Quotes may stand around a field, and no comma within them: nothing that belongs here has one.
fn fields(line: &str) -> Result<Vec<&str>, String> {
    let bare = |field: &'_ str| {
        let field = field.trim();
        let within = field.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        (!within.unwrap_or(field).contains('"')).then_some(())
    };
    line.split(',')
        .map(|field| {
            bare(field).ok_or("a quote stands where none belongs: write fields without quotes and commas")?;
            Ok(field.trim().trim_matches('"').trim())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn wrong(text: &str) -> String {
        read(text, NOW).unwrap_err().join("\n")
    }

    #[test]
    fn a_list_is_read_in_any_order_with_what_ran_before_each() {
        let text = "\u{feff}revision,time,outcome,end\r\n# the newest first\r\n\r\n\
                    ccccccc,2026-11-20 16:00:00+01:00,,\r\n\
                    \"bbbbbbb\",2026-11-20T14:00:00Z,bad,1795183800\r\naaaaaaa,2026-11-20T13:00:00Z,good,\r\n";
        let deploys = read(text, NOW).unwrap();
        let told: Vec<_> = deploys
            .iter()
            .map(|d| (d.revision.as_str(), d.stable.as_ref().map(Revision::as_str), d.label, d.at.to_string()))
            .collect();
        assert_eq!(
            told,
            [
                ("aaaaaaa", None, Some(Label::Good), "2026-11-20T13:00:00.000Z".to_owned()),
                ("bbbbbbb", Some("aaaaaaa"), Some(Label::Bad), "2026-11-20T14:00:00.000Z".to_owned()),
                // What was bad was taken back, so the one after it replaced the one before it.
                ("ccccccc", Some("aaaaaaa"), None, "2026-11-20T15:00:00.000Z".to_owned()),
            ]
        );
        assert_eq!(deploys[1].end.unwrap().to_string(), "2026-11-20T14:10:00.000Z");
    }

    #[test]
    fn everything_wrong_is_said_at_once_by_line_with_the_fix() {
        let text = "time,revision,stable,end,outcome\nyesterday,abcdef0,,,\n2026-11-20T14:00:00Z,main,,,\n\
                    2026-11-20T14:00:00Z,abcdef0,abcdef01,,\n2026-11-20T14:00:00Z,abcdef0,,2026-11-20T13:00:00Z,\n\
                    2026-11-20T14:00:00Z,abcdef0,,,fine\n2026-11-20T14:00:00Z\n,abcdef0,,,\n\
                    2126-11-20T14:00:00Z,abcdef0,,,\n2026-11-20T14:00:00Z,\"a\"b,,,\n2026-11-20T14:00:00,abcdef0,,,\n";
        let told = wrong(text);
        for said in [
            "line 2: time: `yesterday` is no time: write one with its offset",
            "line 3: revision: `main` is no revision",
            "line 4: stable: it is the revision itself",
            "line 5: end: it is not later than time",
            "line 6: outcome: `fine` is none: write good or bad",
            "line 7: 1 fields where the heading has 5",
            "line 8: time is empty",
            "is not past",
            "line 10: a quote stands where none belongs",
            "line 11: time: `2026-11-20T14:00:00` is no time",
        ] {
            assert!(told.contains(said), "{said} in {told}");
        }
    }

    #[test]
    fn a_heading_is_needed_and_has_the_columns_that_there_are() {
        assert!(wrong("").contains("it is empty"));
        assert!(wrong("2026-11-20T14:00:00Z,abcdef0\n").contains("is no column: begin with a heading"));
        assert!(wrong("time,outcome\n").contains("column revision is missing"));
        assert!(wrong("time,revision,time\n").contains("column time stands there twice"));
        assert!(wrong("time,revision\n").contains("there is no deploy in it"));
    }

    #[test]
    fn the_number_and_the_span_of_deploys_have_limits_and_no_two_are_at_one_time() {
        let list = |count: usize, apart: u64| {
            let line = |n: usize| format!("{},{:07x}\n", 1_700_000_000 + n as u64 * apart, 0xabc_0000 + n);
            format!("time,revision\n{}", (0..count).map(line).collect::<String>())
        };
        assert_eq!(read(&list(DEPLOYS_MAX, 60), NOW).unwrap().len(), DEPLOYS_MAX);
        assert!(wrong(&list(DEPLOYS_MAX + 1, 60)).contains("line 502: more than 500 deploys"));
        assert!(read(&list(2, SPAN_DAYS_MAX * 86_400), NOW).is_ok());
        assert!(wrong(&list(2, SPAN_DAYS_MAX * 86_400 + 1)).contains("it spans 400 days, more than 400"));
        assert!(wrong(&list(2, 0)).contains("line 3: as line 2, deployed at"));
        let many: String = (0..100).map(|_| "x,y\n").collect();
        assert_eq!(read(&format!("time,revision\n{many}"), NOW).unwrap_err().len(), PROBLEMS_MAX + 1);
    }
}
