//! `tollgate demo` as a person runs it: what it shows, how it ends, what it says when it cannot begin, and that it leaves
//! nothing behind.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::TcpListener,
    process::{Child, ChildStdout, Command, Output, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// How long the whole demonstration may take.
const WITHIN: Duration = Duration::from_secs(90);
/// How long it may take to say that it cannot begin, or to end once it is asked to, on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A demonstration with a folder of its own for whatever is temporary.
struct Demo {
    child: Child,
    out: BufReader<ChildStdout>,
    said: String,
    temporary: TempDir,
}

fn command(listen: &str, temporary: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.args(["demo", "--listen", listen]).env("TMPDIR", temporary.path()).stdin(Stdio::null());
    command
}

impl Demo {
    fn start() -> Self {
        let temporary = TempDir::new().unwrap();
        let mut child =
            command("127.0.0.1:0", &temporary).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out, said: String::new(), temporary }
    }

    /// Reads on to the first line that has these words.
    fn read_to(&mut self, words: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.out.read_line(&mut line).unwrap() > 0, "it ended without {words:?}:\n{}", self.said);
            self.said += &line;
            if line.contains(words) {
                return line;
            }
        }
    }

    /// Where its page is, as `127.0.0.1:port`.
    fn address(&mut self) -> String {
        let line = self.read_to("The page: http://");
        line.trim().trim_start_matches("The page: http://").trim_end_matches('/').to_owned()
    }

    fn interrupt(&self) {
        let kill = format!("kill -INT {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Reads to the end, sees that nothing is left behind, and returns the exit code and everything that was said.
    fn end(mut self) -> (Option<i32>, String) {
        self.out.read_to_string(&mut self.said).unwrap();
        let status = self.child.wait().unwrap();
        let mut complaints = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut complaints).unwrap();
        assert_eq!(complaints, "");
        assert_eq!(fs::read_dir(self.temporary.path()).unwrap().count(), 0, "something temporary is left");
        (status.code(), std::mem::take(&mut self.said))
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // A test that failed leaves no demonstration running; one that ended cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sees that a demonstration at this address says at once why it cannot begin, and how that is mended.
fn assert_taken(address: &str) {
    let (began, temporary) = (Instant::now(), TempDir::new().unwrap());
    let Output { status, stdout, stderr } = command(address, &temporary).output().unwrap();
    let complaint = String::from_utf8(stderr).unwrap();
    assert!(began.elapsed() < AT_ONCE, "it took {:?}", began.elapsed());
    assert_eq!((status.code(), stdout.as_slice()), (Some(1), &b""[..]), "{complaint}");
    for words in [address, "--listen 127.0.0.1:0", "demo may be running"] {
        assert!(complaint.contains(words), "no {words:?} in {complaint}");
    }
    assert!(!complaint.contains("panicked") && complaint.trim_end().lines().count() == 1, "{complaint}");
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
}

/// The cells of a row of the table at the end.
fn row<'a>(said: &'a str, beginning: &str) -> Vec<&'a str> {
    let table = &said[said.rfind("change ").unwrap()..];
    let line = table.lines().find(|line| line.starts_with(beginning)).unwrap();
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

#[test]
fn the_good_change_reaches_everyone_and_the_bad_one_is_rolled_back_with_the_reason() {
    let began = Instant::now();
    let mut demo = Demo::start();
    let address = demo.address();
    assert_taken(&address);
    let (code, said) = demo.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(began.elapsed() < WITHIN, "it took {:?}", began.elapsed());

    let head = row(&said, "change ");
    assert_eq!(head, ["change", "outcome", "stage reached", "seconds to decide", "users who saw it", "bad responses"]);
    let (good, bad) = (row(&said, "#41 "), row(&said, "#42 "));
    assert_eq!((good[1], good[2]), ("promoted", "100%"), "{said}");
    assert_eq!(bad[1], "rolled back", "{said}");
    let number = |cell: &str| cell.parse::<f64>().unwrap();
    assert!(number(bad[4]) < number(good[4]) / 2.0, "fewer users met the bad change: {said}");
    assert!(number(bad[5]) > 0.0, "{said}");

    let why = said.split("Why #42 was rolled back:").nth(1).unwrap();
    assert!(why.contains("errors on /checkout") && why.contains("from diff") && why.contains("generic"), "{why}");
    let line = why.lines().find(|line| line.contains("From the first bad response to traffic at 0%:")).unwrap();
    let seconds = line.rsplit(": ").next().unwrap().trim_end_matches(" s.");
    assert!((0.0..30.0).contains(&number(seconds)), "{line}");
    let proof = said.lines().find(|line| line.contains("rolling back: errors on /checkout")).unwrap();
    assert!(proof.contains("on the canary against") && proof.contains("proof of a regression"), "{proof}");
    assert!(!said.contains("! page:"), "nobody is called: {said}");
}

#[test]
fn a_taken_port_is_said_at_once() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_taken(&taken.local_addr().unwrap().to_string());
}

#[test]
fn it_shows_itself_on_loopback_only() {
    let temporary = TempDir::new().unwrap();
    let Output { status, stderr, .. } = command("0.0.0.0:0", &temporary).output().unwrap();
    let complaint = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(complaint.contains("loopback") && complaint.contains("0.0.0.0:0"), "{complaint}");
}

/// Sees that it ends as one who was stopped, soon after the line with these words.
fn assert_stops_after(words: &str) {
    let mut demo = Demo::start();
    demo.read_to(words);
    let began = Instant::now();
    demo.interrupt();
    let (code, said) = demo.end();
    assert!(began.elapsed() < AT_ONCE, "it took {:?}", began.elapsed());
    assert_eq!(code, Some(130), "{said}");
    assert!(said.ends_with("Stopped before the end.\n"), "{said}");
}

#[test]
fn ctrl_c_before_the_first_change_ends_it_cleanly() {
    assert_stops_after("The page:");
}

#[test]
fn ctrl_c_in_the_middle_of_a_rollout_ends_it_cleanly() {
    assert_stops_after("1% has the new version");
}

#[test]
fn ctrl_c_while_it_is_being_set_up_leaves_nothing_behind() {
    let mut demo = Demo::start();
    let deadline = Instant::now() + AT_ONCE;
    while fs::read_dir(demo.temporary.path()).unwrap().count() == 0 {
        assert!(Instant::now() < deadline && demo.child.try_wait().unwrap().is_none());
    }
    demo.interrupt();
    let (code, said) = demo.end();
    assert_eq!(code, Some(130), "{said}");
    assert!(said.ends_with("Stopped before the end.\n"), "{said}");
}
