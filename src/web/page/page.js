// The page: takes views from the live stream and shows them. It computes nothing that the view does not say, except
// countdowns and the course of the evidence since the page was opened.

import { bar, clock, count, exposureChart, fixed, h, morph, rate, share, show, span, sparkline } from "./charts.js";

const POINTS_MAX = 240, NOTICES_MAX = 12, CHECK_HEALTH_EVERY = 20000, RECONNECT_AFTER = 3000;
const GOOD = "good", BAD = "bad", WARN = "warn", CALM = "calm", BUSY = "busy";
const OUTCOMES = { promoted: GOOD, rolled_back: BAD, handed_over: WARN, superseded: CALM, cancelled: CALM };
const PHASES = { quarantined: BAD, draining: WARN, baking: BUSY, shifting: BUSY, watching: BUSY };
const FINDINGS = { healthy: [GOOD, "✓"], inconclusive: [CALM, "?"], no_data: [WARN, "∅"], degraded: [BAD, "✕"] };
const ORIGINS = { slo: "from the service's objectives", model: "proposed by the model", heuristic: "from plain rules over the diff" };

let fleet = null, heardAt = 0, clockOffset = 0, source = null, retrying = 0, lost = false;
const notices = [], courses = new Map(), looked = new Map();

const now = () => Date.now() + clockOffset;
const words = (term) => String(term).replaceAll("_", " ");
const badge = (tone, text, mark) => h("span", { class: `badge ${tone}` }, mark && h("span", { "aria-hidden": "true" }, mark), text);
const isOpen = (rollout) => !rollout.outcome;

function stateBadge(rollout) {
  if (rollout.outcome) return badge(OUTCOMES[rollout.outcome] || CALM, words(rollout.outcome));
  return badge(PHASES[rollout.phase] || CALM, rollout.paused ? `${words(rollout.phase)}, paused` : words(rollout.phase));
}

/* The list */

function listItem(rollout, isChosen) {
  const { id, service, title, repository, pull_request: number, author } = rollout;
  return h("li", { "data-key": id },
    h("a", { href: `#r${id}`, "aria-current": isChosen ? "true" : null },
      h("span", { class: "row" }, h("strong", null, service), h("span", { class: "muted" }, `r${id}`), h("span", { class: "push" }), stateBadge(rollout)),
      h("span", { class: "title" }, title || "untitled"),
      h("span", { class: "row muted small" }, h("span", { class: "clip" }, `${repository}#${number} by ${author}`), h("span", { class: "push" }), h("span", { class: "number" }, rollout.exposure)),
      bar("thin", rollout.share / 10000, `exposure ${share(rollout.share)}`)));
}

function showList(chosen) {
  const rollouts = fleet.rollouts;
  show("list", rollouts.length
    ? h("ol", null, rollouts.map((rollout) => listItem(rollout, chosen && rollout.id === chosen.id)))
    : h("p", { class: "empty" }, "No rollouts yet. The next merged pull request that touches a service starts one."));
  show("notices", notices.length > 0 && [
    h("h2", null, "Notices"),
    h("ol", null, notices.map((notice) => h("li", { "data-key": notice.key },
      badge({ info: CALM, warning: WARN, page: BAD }[notice.severity] || CALM, notice.severity),
      h("span", { class: "muted number" }, ` ${clock(notice.at)} `),
      notice.rollout !== null && h("a", { href: `#r${notice.rollout}` }, `r${notice.rollout}`), " ", notice.text,
      notice.next && h("span", { class: "muted" }, ` Next: ${notice.next.what}, ${clock(notice.next.at)}.`)))),
  ]);
}

function showHead() {
  const open = fleet.rollouts.filter(isOpen).length;
  document.title = open ? `Tollgate: ${open} open` : "Tollgate";
  show("facts",
    h("span", null, h("b", null, open), " open"),
    h("span", null, h("b", null, fleet.rollouts.length - open), " ended"),
    fleet.fetching > 0 && h("span", null, h("b", null, fleet.fetching), " being fetched"),
    h("span", { class: "wide" }, h("b", null, count(fleet.stale_replies)), " stale replies"),
    h("span", { class: "wide" }, "policy ", h("code", null, fleet.policy_version.slice(0, 10) || "none")),
    h("span", null, "kill switch ", fleet.kill_switch ? badge(BAD, "on") : badge(CALM, "off")));
  show("switch", fleet.kill_switch && h("p", null, h("strong", null, "Kill switch on."), " No rollout expands; rollbacks still happen. ", h("code", null, "tollgate kill-switch off"), " allows expansion again."));
}

/* Who planned, and what a model said */

const TRIALS = { admitted: GOOD, demoted: WARN, rejected: BAD };
const EFFECTS = { confirmed: GOOD, not_seen: CALM, opposite: WARN };
const dollars = (micro) => `$${(micro / 1e6).toFixed(micro < 1e6 ? 3 : 2)}`;

function usageOf({ input_tokens: input, cached_tokens: cached, output_tokens: output, micro_dollars: cost }) {
  return `${count(input + output)} tokens${cached ? ` (${count(cached)} cached)` : ""}${Number.isFinite(cost) ? `, ${dollars(cost)}` : ""}`;
}

/** Who made the plan. A model's name comes from the configuration, why it failed from its server: both are shown as text. */
function sourceOf({ source, usage }) {
  if (!source) return null;
  const used = usage ? `; the model used ${usageOf(usage)}` : "";
  if (source.model) return `by ${source.model.model}${source.model.is_cached ? ", for the same change before" : ""}${used}`;
  if (source.fallback) return `by rules, since the model was of no use (${words(source.fallback.why)}): ${source.fallback.detail}${used}`;
  return `by rules${used}`;
}

/** What came of trying a check on the service's past. */
function trialOf(trial) {
  const { standing, reason, detail, baseline, alarms, rollouts, power } = trial;
  const sees = power.filter((stage) => Number.isFinite(stage.smallest)).map((stage) => `${share(stage.share)} sees ${fixed(stage.smallest, 1)}×`);
  return h("p", { class: "small muted" }, badge(TRIALS[standing] || CALM, `tried: ${standing}`), ` ${words(reason)}`, detail && `: ${detail}`,
    baseline && `; before: ${rate("ratio", baseline.rate)} of ${fixed(baseline.per_second, 1)}/s over ${span(baseline.seconds * 1000)}`,
    rollouts > 0 && `; ${alarms} false alarms in ${rollouts} rollouts of nothing`,
    power.length > 0 && `; ${sees.length ? sees.join(", ") : "no stage sees anything"}`);
}

function explanationOf({ explanation }) {
  return explanation && section("In a model's words", ` ${explanation.model || "a model"} wrote this; nothing was decided by it, and it may be wrong`,
    h("blockquote", { class: "model" }, String(explanation.words).split("\n").filter((line) => line.trim()).map((line) => h("p", null, line))));
}

/* One rollout */

function section(title, note, ...body) {
  return h("section", { "data-key": title, class: "panel" }, h("h3", null, title, note && h("span", { class: "muted" }, note)), ...body);
}

function heading(rollout) {
  const fact = (name, ...value) => h("div", null, h("dt", null, name), h("dd", null, ...value));
  const code = (revision) => h("code", { title: revision }, revision.slice(0, 7));
  return h("div", { "data-key": "heading", class: "heading" },
    h("div", { class: "row" }, h("h2", null, rollout.service, h("span", { class: "muted" }, ` r${rollout.id}`)), stateBadge(rollout), rollout.verdict && isOpen(rollout) && h("span", { class: "muted" }, "verdict ", h("b", null, rollout.verdict))),
    h("p", { class: "headline" }, rollout.title || "untitled"),
    h("dl", { class: "facts" },
      fact("Change", `${rollout.repository}#${rollout.pull_request}`), fact("Author", rollout.author),
      fact("Canary", code(rollout.revision)), fact("Control", rollout.control_revision ? code(rollout.control_revision) : "unknown"),
      rollout.autonomy && fact("Autonomy", rollout.autonomy), rollout.risk && fact("Risk", rollout.risk), fact("Exposure", rollout.exposure),
      fact("Opened", clock(rollout.opened)),
      rollout.ended ? fact("Took", span(rollout.ended - rollout.opened)) : fact("Open for", span(now() - rollout.opened)),
      rollout.source && fact("Planned", sourceOf(rollout))));
}

function banners(rollout) {
  const banner = (key, tone, title, ...text) => h("div", { "data-key": key, class: `banner ${tone}` }, h("strong", null, title), " ", ...text);
  const next = rollout.next;
  return [
    rollout.phase === "quarantined" && banner("quarantine", BAD, "Quarantined.", "A check of our own failed; traffic stands where it was, and a person is needed."),
    rollout.one_way && banner("one-way", WARN, "One-way change.", rollout.one_way),
    Number.isFinite(rollout.held_by_advice_until) && isOpen(rollout) && banner("advice", WARN, "Held by a model's advice", `until ${clock(rollout.held_by_advice_until)}, unless the evidence decides before.`),
    Number.isFinite(rollout.warming_up_until) && isOpen(rollout) && banner("warm-up", WARN, "Warming up", `until ${clock(rollout.warming_up_until)}; ${rollout.cold.bad} bad of ${rollout.cold.total} requests are not held against it. Hard limits hold.`),
    rollout.shares_off && isOpen(rollout) && banner("shares", WARN, "Another share than was set.", `The canary gets ${rate("ratio", rollout.shares_off.seen)} of the requests where ${rate("ratio", rollout.shares_off.set)} was set: the split or the telemetry is wrong.`),
    rollout.concentration && isOpen(rollout) && banner("concentration", WARN, "One tenant weighs on one arm.", `${rollout.concentration.tenant} makes ${rate("ratio", rollout.concentration.canary)} of the canary's requests and ${rate("ratio", rollout.concentration.control)} of control's.`),
    rollout.paused && isOpen(rollout) && banner("paused", WARN, "Paused by a person.", "It still rolls back by itself."),
    next && isOpen(rollout) && h("div", { "data-key": "next", class: "banner next" },
      h("span", { class: "muted" }, "Next, if nobody does anything"), h("span", { class: "what" }, next.what),
      h("b", { class: "number" }, next.at > now() ? `in ${span(next.at - now())}` : "any moment now"), h("span", { class: "muted number" }, clock(next.at))),
  ];
}

function ladder(rollout) {
  const rungs = rollout.stages.map((stage, place) => {
    const isHeld = rollout.stage === place && isOpen(rollout);
    const left = rollout.stages[place + 1] && rollout.stages[place + 1].entered;
    const held = isHeld && stage.entered ? now() - stage.entered : 0;
    let told = "not reached";
    if (isHeld) told = stage.entered ? `${span(held)} of ${span(stage.bake_time_ms)}` : "being entered";
    else if (stage.entered) told = left ? `held ${span(left - stage.entered)}` : rollout.ended ? `held ${span(rollout.ended - stage.entered)}` : "reached";
    const part = isHeld ? (stage.bake_time_ms > 0 ? held / stage.bake_time_ms : Number(Boolean(stage.entered))) : stage.entered ? 1 : 0;
    const state = isHeld ? "held" : stage.entered ? (rollout.outcome === "rolled_back" && !left ? "failed" : "passed") : "ahead";
    const mark = { held: "▶", passed: "✓", failed: "✕", ahead: "" }[state];
    return h("li", { class: state, "aria-current": isHeld ? "step" : null },
      h("span", { class: "row" }, h("b", null, stage.exposure), h("span", { class: "mark", "aria-hidden": "true" }, mark)),
      bar("thin", part, `stage ${place + 1}: ${told}`), h("span", { class: "small muted" }, told), h("span", { class: "small muted" }, `bake ${span(stage.bake_time_ms)}`),
      stage.baseline && h("span", { class: "small muted", title: stage.baseline }, stage.baseline.split(":")[0]));
  });
  const room = document.getElementById("detail").clientWidth || 800;
  return section("Stages", rollout.stages.length ? ` ${rollout.stages.filter((stage) => stage.entered).length} of ${rollout.stages.length} reached` : "",
    h("ol", { class: "ladder" }, rungs),
    exposureChart(rollout, now(), Math.max(260, room - 34)));
}

function objections(rollout) {
  if (!rollout.objections.length) return null;
  return section("Objections of the rails", " why the verdict is no bolder",
    h("ul", { class: "objections" }, rollout.objections.map((o) => h("li", null,
      h("code", { class: "rail" }, o.rail), badge(o.at_most === "rollback" ? BAD : WARN, o.at_most === "rollback" ? "rollback" : `at most ${o.at_most}`), o.page && badge(BAD, "a person is called"), h("span", null, o.why)))));
}

function arms(check) {
  const { kind, control_rate: control, canary_rate: canary, evidence } = check;
  const most = Math.max(control || 0, canary || 0);
  const arm = (name, value, counts) => h("div", { class: `arm ${name}` },
    h("span", { class: "name" }, name), bar(name, most > 0 ? value / most : 0, `${name}: ${rate(kind, value)}`),
    h("b", { class: "number" }, value === null ? "nothing" : rate(kind, value)), h("span", { class: "muted number" }, `${count(counts.bad)} of ${count(counts.total)}`));
  const range = check.interval || evidence.interval;
  return h("div", { class: "arms" }, arm("control", control, evidence.control), arm("canary", canary, evidence.canary),
    h("p", { class: "small muted" }, effect(check),
      range && ` (${fixed(range.low, 2)} to ${fixed(range.high, 2)})`, `; tolerated ${fixed(check.ratio_max, 2)}×`,
      check.limit && `; never above ${rate("ratio", check.limit.bad_share_max)}`));
}

function effect({ kind, evidence }) {
  if (!Number.isFinite(evidence.effect)) return "nothing to compare yet";
  const told = fixed(evidence.effect, 2);
  if (kind === "level") return [h("b", null, evidence.effect > 0 ? `+${told}` : told), " against control"];
  return kind === "mix" ? [h("b", null, told), " PSI"] : [h("b", null, `${told}×`), " control"];
}

const SAFE_AT = Math.log(20);

function safety({ log_e_value: value, log_threshold: threshold, log_e_safe: safe, more_seconds: more }) {
  const isSafe = safe >= SAFE_AT && value < threshold;
  return h("p", { class: "small muted" }, isSafe ? badge(GOOD, "shown safe", "✓") : `shown safe: ${fixed(Math.max(0, safe), 1)} of ${fixed(SAFE_AT, 1)}`,
    Number.isFinite(more) && more > 0 && `; about ${span(more * 1000)} more at this traffic`);
}

function evidenceOf(rollout, check) {
  const { log_e_value: value, log_threshold: threshold } = check.evidence;
  const told = `evidence ${fixed(value, 1)} of ${fixed(threshold, 1)}`;
  const mark = (100 * Math.min(1, threshold / Math.max(threshold, value || 0)));
  const scale = Math.max(threshold, value || 0);
  return h("div", { class: "evidence" },
    h("div", null, h("span", { class: "small muted" }, "Evidence"), h("span", { class: "number" }, h("b", null, fixed(value, 1)), h("span", { class: "muted" }, ` of ${fixed(threshold, 1)}`))),
    bar(value >= threshold ? "proof" : "doubt", scale > 0 ? value / scale : 0, told, mark < 100 ? mark : NaN),
    sparkline(courses.get(`${rollout.id}/${check.name}`) || [], threshold, `its course since this page was opened: ${told}`),
    safety(check.evidence),
    check.outlook && sight(check.outlook),
    check.concern && h("p", { class: "small" }, badge(WARN, "look"), " ", concern(check.concern)));
}

function sight({ smallest, twice_seconds: twice, safe_seconds: safe, is_blind: isBlind, bake_time_needed_seconds: bake, share_needed: needed }) {
  const time = (seconds) => Number.isFinite(seconds) ? span(seconds * 1000) : "never";
  const needs = [Number.isFinite(bake) && `a bake time of ${span(bake * 1000)}`, Number.isFinite(needed) && `a share of ${share(needed)}`].filter(Boolean);
  return h("p", { class: "small muted" },
    isBlind && [badge(WARN, "blind"), needs.length ? ` this stage needs ${needs.join(" or ")}; ` : " "],
    Number.isFinite(smallest) ? `this stage sees ${fixed(smallest, 1)}× in its bake time; ` : "", `2× takes ${time(twice)}, showing it safe ${time(safe)}`);
}

function concern(told) {
  if (told.one_pod !== undefined) return `only pod ${told.one_pod} is worse: restart it`;
  if (told.one_tenant !== undefined) return `only tenant ${told.one_tenant} is worse off`;
  const [difference, segment] = told.mismatch;
  return `the arms serve different mixes: ${segment} differs by ${fixed(100 * difference, 1)} points`;
}

function baselineOf({ words: what, why, says, is_unusual: isUnusual }) {
  return h("p", { class: "small baseline", title: why }, h("strong", null, "Compared with "), what, h("span", { class: "muted" }, `: ${why}`),
    says && [" ", isUnusual ? badge(WARN, "unusual") : "", ` ${says}`]);
}

function checkItem(rollout, check) {
  const [tone, mark] = FINDINGS[check.finding] || [CALM, ""];
  return h("li", { "data-key": check.name, class: `check ${tone}` },
    h("div", { class: "about" },
      h("div", { class: "row" }, badge(tone, words(check.finding), mark), h("h4", null, check.name)),
      h("p", { class: "row small" }, h("span", { class: `tag ${check.origin}`, title: ORIGINS[check.origin] }, check.origin), h("span", { class: "tag" }, check.weight), h("span", { class: "tag" }, words(check.kind)),
        check.aim === "improvement" && h("span", { class: "tag", title: "it says whether the change does what it is meant to; it decides nothing" }, "intended effect"), check.intended && badge(EFFECTS[check.intended] || CALM, words(check.intended))),
      check.rationale && h("p", null, check.rationale),
      check.absent && h("p", { class: "absent" }, h("strong", null, "No tally: "), check.absent),
      check.baseline && baselineOf(check.baseline),
      check.estimated && h("p", null, h("strong", null, "Estimated: "), "the server extrapolates these counts; four fifths of them count as evidence"),
      h("p", { class: "small muted" }, h("code", null, check.sli)),
      check.lines.length > 0 && h("p", { class: "small lines" }, check.lines.map((line) => h("code", null, line))),
      check.trial && trialOf(check.trial)),
    arms(check), evidenceOf(rollout, check));
}

function detail(rollout) {
  const more = (title, list, line) => list.length > 0 && h("details", { "data-key": title, class: "panel" }, h("summary", null, `${title} (${list.length})`), h("ul", null, list.map((entry) => h("li", null, line(entry)))));
  return [
    heading(rollout), ...banners(rollout), rollout.stages.length > 0 && ladder(rollout), objections(rollout),
    section("Checks", rollout.checks.length ? " evidence of harm, against what a rollback needs" : isOpen(rollout) ? " none yet: the plan is being made" : " none", rollout.checks.length > 0 && h("ul", { class: "checks" }, rollout.checks.map((check) => checkItem(rollout, check)))),
    explanationOf(rollout),
    more("Proposed and refused", rollout.rejections, ([name, why]) => [h("b", null, name), ` ${why}`]),
    more("Tried and rejected", rollout.rejected_trials || [], (trial) => [h("b", null, trial.check), trialOf(trial)]),
    more("Files that nobody looked at", rollout.uncovered || [], (path) => h("code", null, path)),
    more("Notes on the plan", rollout.notes, (note) => note),
    section("Timeline", " newest first", h("ol", { class: "timeline" }, [...rollout.timeline].reverse().map((moment) => h("li", null, h("time", { class: "muted number", datetime: new Date(moment.at).toISOString() }, clock(moment.at)), h("span", null, moment.text))))),
  ];
}

/* What is chosen, and when to show it again */

function chosenRollout() {
  const asked = /^#r(\d+)$/.exec(location.hash);
  if (!asked) return fleet.rollouts.find(isOpen) || fleet.rollouts[0] || null;
  const id = Number(asked[1]);
  const found = fleet.rollouts.find((rollout) => rollout.id === id);
  if (found || looked.has(id)) return found || looked.get(id);
  // Older than what the stream shows: ask for it once.
  looked.set(id, null);
  fetch(`/v1/rollouts/${id}`).then((answer) => (answer.ok ? answer.json() : null)).then((rollout) => { looked.set(id, rollout); render(); }).catch(() => looked.delete(id));
  return null;
}

function render() {
  if (!fleet) return;
  const chosen = chosenRollout();
  showHead();
  showList(chosen);
  show("detail", chosen ? h("article", { "data-key": `r${chosen.id}`, "aria-label": `Rollout r${chosen.id}` }, detail(chosen)) : h("p", { class: "empty" }, location.hash ? "There is no such rollout." : "Nothing to show yet."));
}

/** Keeps the course of each check's evidence, which a view does not hold. */
function remember(view) {
  const kept = new Set();
  for (const rollout of view.rollouts) {
    for (const check of rollout.checks) {
      const key = `${rollout.id}/${check.name}`;
      const course = courses.get(key) || [];
      const last = course[course.length - 1];
      if (!last || view.at > last[0]) course.push([view.at, check.evidence.log_e_value]);
      if (course.length > POINTS_MAX) course.shift();
      courses.set(key, course);
      kept.add(key);
    }
  }
  for (const key of [...courses.keys()]) if (!kept.has(key)) courses.delete(key);
}

/* The connection */

function say(state, ...text) {
  lost = state === "lost";
  document.body.classList.toggle("lost", lost);
  const old = document.getElementById("status");
  const next = old.cloneNode(false);
  next.dataset.state = state;
  next.append(h("span", null, ...text));
  morph(old, next);
}

function sayLost() {
  if (!lost) say("lost", heardAt ? `Connection lost. This is what was known at ${clock(heardAt)}; trying again.` : "No connection yet; trying again.");
}

function connect() {
  clearTimeout(retrying);
  if (source) source.close();
  source = new EventSource("/v1/events");
  source.addEventListener("view", (message) => {
    fleet = JSON.parse(message.data);
    heardAt = Date.now();
    // A clock here that is behind the server's would show countdowns too long.
    clockOffset = Math.max(clockOffset, fleet.at - Date.now());
    remember(fleet);
    if (lost || document.getElementById("status").dataset.state !== "live") say("live", "Live");
    render();
  });
  source.addEventListener("notice", (message) => {
    const notice = JSON.parse(message.data);
    notices.unshift({ ...notice, key: `${notice.at}-${notices.length ? Number(notices[0].key.split("-")[1]) + 1 : 0}` });
    notices.length = Math.min(notices.length, NOTICES_MAX);
    render();
  });
  source.addEventListener("error", () => {
    sayLost();
    // A refusal ends the source for good; a broken connection it takes up again by itself.
    if (source.readyState === EventSource.CLOSED) retrying = setTimeout(connect, RECONNECT_AFTER);
  });
}

/** A connection may die without a word; a question that must be answered finds out. */
async function checkHealth() {
  try {
    const answer = await fetch("/healthz", { cache: "no-store", signal: AbortSignal.timeout(CHECK_HEALTH_EVERY / 2) });
    if (answer.ok && lost && source.readyState === EventSource.OPEN) connect();
  } catch {
    sayLost();
  }
}

addEventListener("hashchange", () => {
  render();
  if (innerWidth < 860) document.getElementById("detail").scrollIntoView();
});
addEventListener("resize", render);
setInterval(() => { if (!document.hidden) render(); }, 1000);
setInterval(checkHealth, CHECK_HEALTH_EVERY);
connect();
