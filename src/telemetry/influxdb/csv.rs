//! Annotated CSV, which Flux answers: tables one after the other, each with a head of its own, and an error in place of a
//! table where one came up after the answer had begun.

use std::collections::BTreeMap;

use super::{
    super::{
        Error,
        call::{malformed, unavailable},
    },
    points::Raw,
};
use crate::domain::Timestamp;

/// Most columns of a table.
const COLUMNS_MAX: usize = 256;

/// The head of the tables that are being read.
#[derive(Default)]
struct Head {
    kinds: Vec<String>,
    defaults: Vec<String>,
    names: Vec<String>,
}

/// Columns that are no tags.
const OURS: [&str; 8] = ["", "result", "table", "_start", "_stop", "_time", "_value", "_field"];

pub(super) fn read(body: &[u8], shown: impl Fn(&str) -> String) -> Result<Vec<Raw>, Error> {
    let text = std::str::from_utf8(body).map_err(|_| malformed("the answer is not UTF-8"))?;
    let mut head = Head::default();
    let mut series: BTreeMap<BTreeMap<String, String>, Vec<(Timestamp, f64)>> = BTreeMap::new();
    if text.is_empty() {
        return Err(malformed("the answer is empty, where no data is a line end"));
    }
    for row in rows(text)? {
        match row.first().map(String::as_str) {
            None => head = Head::default(),
            Some("#datatype") => head = Head { kinds: row, ..Head::default() },
            Some("#default") => head.defaults = row,
            Some(other) if other.starts_with('#') => {}
            Some(_) if head.names.is_empty() => {
                let is_error = row.iter().any(|name| name == "error");
                let is_table = ["_time", "_value"].iter().all(|name| row.iter().any(|column| column == name));
                if !is_error && !is_table {
                    return Err(malformed("the answer is no annotated CSV with times and values"));
                }
                head.names = row;
            }
            Some(_) => record(&head, &row, &mut series, &shown)?,
        }
    }
    Ok(series.into_iter().map(|(labels, points)| Raw { labels, points }).collect())
}

fn record(
    head: &Head,
    row: &[String],
    series: &mut BTreeMap<BTreeMap<String, String>, Vec<(Timestamp, f64)>>,
    shown: impl Fn(&str) -> String,
) -> Result<(), Error> {
    if row.len() != head.names.len() {
        return Err(malformed("a row has another number of columns than its head"));
    }
    let mut cells: BTreeMap<&str, &str> = BTreeMap::new();
    for (at, (name, cell)) in head.names.iter().zip(row).enumerate() {
        let default = head.defaults.get(at).map_or("", String::as_str);
        cells.insert(name, if cell.is_empty() { default } else { cell });
    }
    if let Some(error) = cells.get("error") {
        return Err(unavailable(format!("the query broke off: {}", shown(error))));
    }
    let kind = head.names.iter().position(|name| name == "_value").and_then(|at| head.kinds.get(at));
    if kind.is_some_and(|kind| !matches!(kind.as_str(), "double" | "long" | "unsignedLong")) {
        return Err(malformed("the values are no numbers"));
    }
    let value = cells.get("_value").copied().unwrap_or_default();
    if value.is_empty() {
        return Ok(());
    }
    let value: f64 = value.parse().map_err(|_| malformed("a value is no number"))?;
    let at: jiff::Timestamp =
        cells.get("_time").copied().unwrap_or_default().parse().map_err(|_| malformed("a time is none"))?;
    let millis = u64::try_from(at.as_millisecond()).map_err(|_| malformed("a time before all times"))?;
    let is_tag = |name: &str| !OURS.contains(&name) && name != "_measurement";
    let labels = cells.iter().filter(|(name, value)| is_tag(name) && !value.is_empty());
    let labels = labels.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    series.entry(labels).or_default().push((Timestamp::from_millis(millis), value));
    Ok(())
}

/// The rows; an empty line is an empty row.
fn rows(text: &str) -> Result<Vec<Vec<String>>, Error> {
    let (mut rows, mut row, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            '"' if quoted || cell.is_empty() => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\r' if !quoted && chars.peek() == Some(&'\n') => {}
            '\n' if !quoted => {
                let is_empty = row.is_empty() && cell.is_empty();
                if !is_empty {
                    row.push(std::mem::take(&mut cell));
                }
                rows.push(std::mem::take(&mut row));
            }
            c => cell.push(c),
        }
        if row.len() > COLUMNS_MAX {
            return Err(malformed(format!("more than {COLUMNS_MAX} columns")));
        }
    }
    if quoted || !cell.is_empty() || !row.is_empty() {
        return Err(malformed("the last line was cut"));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "#datatype,string,long,dateTime:RFC3339,double,string,string\n#default,_result,,,,,\n\
                        ,result,table,_time,_value,_field,host\n";

    fn read(body: &str) -> Result<Vec<Raw>, Error> {
        super::read(body.as_bytes(), str::to_owned)
    }

    #[test]
    fn tables_are_series_by_their_tags() {
        let body = format!(
            "{HEAD},,0,1970-01-01T00:00:01Z,15.5,mem,\"a,\"\"b\"\"\"\n,,0,1970-01-01T00:00:02Z,,mem,c\n\r\n{HEAD},,1,\
             1970-01-01T00:00:03.5Z,2,mem,c\n"
        );
        let raw = read(&body).unwrap();
        let told: Vec<_> = raw.iter().map(|one| (one.labels["host"].as_str(), one.points.clone())).collect();
        let at = Timestamp::from_millis;
        assert_eq!(told, [("a,\"b\"", vec![(at(1_000), 15.5)]), ("c", vec![(at(3_500), 2.0)])]);
        assert_eq!(read("\n"), Ok(Vec::new()), "no data");
    }

    #[test]
    fn an_error_after_some_tables_is_no_answer() {
        let body = format!(
            "{HEAD},,0,1970-01-01T00:00:01Z,15.5,mem,a\n\n#datatype,string,string\n#default,,\n,error,reference\n,\
             memory allocation limit reached,897\n"
        );
        let broke = read(&body).unwrap_err();
        assert_eq!(broke.to_string(), "the query broke off: memory allocation limit reached");
        assert!(matches!(broke, Error::Unavailable(_)));
    }

    #[test]
    fn what_is_cut_or_of_another_form_is_malformed() {
        for wrong in [
            format!("{HEAD},,0,1970-01-01T00:00:01Z,15"),
            format!("{HEAD},,0,1970-01-01T00:00:01Z,15.5,mem\n"),
            format!("{HEAD},,0,yesterday,15.5,mem,a\n"),
            format!("{HEAD},,0,1970-01-01T00:00:01Z,many,mem,a\n"),
            HEAD.replace("double", "string") + ",,0,1970-01-01T00:00:01Z,15.5,mem,a\n",
            format!("{}\n", ",".repeat(COLUMNS_MAX + 1)),
            "<html>\n".into(),
            String::new(),
        ] {
            assert!(matches!(read(&wrong), Err(Error::Malformed(_))), "{wrong}");
        }
    }
}
