//! The bodies that the stand-in answers with, under GitHub's names. They hold the part of GitHub's fields that has a
//! meaning here; what is held has the type that GitHub publishes.

use serde_json::{Value, json};

use super::{
    diff::{self, LIMITS},
    stand_in::{DEFAULT_BRANCH, Pull},
};
use crate::domain::{FileDiff, Timestamp, TouchKind};

/// `GET /repos/{owner}/{name}/pulls/{number}`.
pub(super) fn pull(pull: &Pull) -> Value {
    let files = sections(pull);
    let (additions, deletions) = files
        .iter()
        .fold((0, 0), |(more, less), (file, _)| (more + file.added().count(), less + file.removed().count()));
    let merged = pull.merged_at.is_some();
    json!({
        "url": api(pull),
        "id": pull.number,
        "html_url": page(pull),
        "diff_url": format!("{}.diff", page(pull)),
        "number": pull.number,
        "state": if merged { "closed" } else { "open" },
        "locked": false,
        "title": pull.title,
        "user": user(&pull.author),
        "body": Value::Null,
        "closed_at": instant(pull),
        "merged_at": instant(pull),
        "merge_commit_sha": pull.merge_commit_sha,
        "draft": false,
        "head": { "label": format!("{}:change", pull.author), "ref": "change", "sha": pull.head },
        "base": {
            "label": format!("{}:{}", pull.repository.owner(), pull.branch),
            "ref": pull.branch,
            "sha": pull.base,
            "repo": repository(pull),
        },
        "merged": merged,
        "merged_by": pull.merged_by.as_deref().filter(|_| merged).map(user),
        "comments": 0,
        "commits": 1,
        "additions": additions,
        "deletions": deletions,
        "changed_files": files.len(),
    })
}

/// `GET /repos/{owner}/{name}/pulls/{number}/files`, all of them.
pub(super) fn files(pull: &Pull) -> Vec<Value> {
    let describe = |(file, text): &(FileDiff, &str)| {
        let status = match file.kind {
            TouchKind::Added => "added",
            TouchKind::Modified => "modified",
            TouchKind::Removed => "removed",
            TouchKind::Renamed => "renamed",
        };
        let (additions, deletions) = (file.added().count(), file.removed().count());
        let blob = |place: &str| format!("{}/{place}/{}/{}", home(pull), pull.head, file.path.replace(' ', "%20"));
        let mut answer = json!({
            "sha": blob_of(text),
            "filename": file.path,
            "status": status,
            "additions": additions,
            "deletions": deletions,
            "changes": additions + deletions,
            "blob_url": blob("blob"),
            "raw_url": blob("raw"),
            "contents_url": format!("{}?ref={}", api(pull), pull.head),
        });
        // GitHub leaves these two out where they do not apply, rather than writing null.
        if let Some(fields) = answer.as_object_mut() {
            fields.extend(file.previous_path.clone().map(|path| ("previous_filename".into(), path.into())));
            let hunks = text.find("\n@@ ").and_then(|at| text.get(at + 1..));
            fields.extend(hunks.map(|hunks| ("patch".into(), hunks.trim_end_matches('\n').into())));
        }
        answer
    };
    sections(pull).iter().map(describe).collect()
}

/// The body of the delivery that announces the merge.
pub(super) fn merge_delivery(merged: &Pull) -> Value {
    json!({
        "action": "closed",
        "number": merged.number,
        "pull_request": pull(merged),
        "repository": repository(merged),
        "sender": user(merged.merged_by.as_deref().unwrap_or(&merged.author)),
    })
}

/// Each file of the diff, and its own part of the text. None where the diff cannot be read as a whole.
fn sections(pull: &Pull) -> Vec<(FileDiff, &str)> {
    let Ok(read) = diff::read(pull.diff.as_bytes(), &LIMITS) else { return Vec::new() };
    let mut starts: Vec<usize> = pull.diff.match_indices("\ndiff --git ").map(|(at, _)| at + 1).collect();
    starts.insert(0, 0);
    let ends = starts.iter().skip(1).copied().chain([pull.diff.len()]);
    let texts = starts.iter().zip(ends).filter_map(|(start, end)| pull.diff.get(*start..end));
    read.files.into_iter().zip(texts).collect()
}

/// The blob that the `index` line names: of the new side, or of the old one where that is gone.
fn blob_of(text: &str) -> Option<&str> {
    let index = text.lines().find_map(|line| line.strip_prefix("index "))?;
    let (old, new) = index.split(' ').next()?.split_once("..")?;
    Some(if new.bytes().all(|digit| digit == b'0') { old } else { new })
}

fn user(login: &str) -> Value {
    json!({ "login": login, "id": 1, "type": "User", "site_admin": false })
}

/// `GET /repos/{owner}/{name}`.
pub(super) fn repository(pull: &Pull) -> Value {
    json!({
        "id": 1,
        "name": pull.repository.name(),
        "full_name": pull.repository,
        "private": false,
        "owner": user(pull.repository.owner()),
        "html_url": home(pull),
        "default_branch": DEFAULT_BRANCH,
    })
}

/// GitHub writes instants to the second.
pub(super) fn time(at: Timestamp) -> String {
    let text = at.to_string();
    text.split_once('.').map(|(seconds, _)| format!("{seconds}Z")).unwrap_or(text)
}

fn instant(pull: &Pull) -> Option<String> {
    pull.merged_at.map(time)
}

fn home(pull: &Pull) -> String {
    format!("https://github.com/{}", pull.repository)
}

fn page(pull: &Pull) -> String {
    format!("{}/pull/{}", home(pull), pull.number)
}

fn api(pull: &Pull) -> String {
    format!("https://api.github.com/repos/{}/pulls/{}", pull.repository, pull.number)
}
