// Elements, words for numbers, and the three small charts. Text enters as text nodes only: titles are strangers' words.

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "g", "path", "rect", "line", "circle", "text"]);

/** Makes an element. Attributes that are null or false are left out; kids are nodes, strings, or nothing. */
export function h(tag, attributes, ...kids) {
  const element = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(name, String(value));
  }
  element.append(...kids.flat().filter((kid) => kid !== null && kid !== undefined && kid !== false && kid !== ""));
  return element;
}

/** Makes `old` look like `next` with as little change as there can be, so that focus and opened details stay. */
export function morph(old, next) {
  const key = (node) => (node.dataset ? node.dataset.key : undefined);
  if (old.nodeName !== next.nodeName || key(old) !== key(next)) return void old.replaceWith(next);
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== next.data) old.data = next.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (!next.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  let at = old.firstChild;
  for (const kid of [...next.childNodes]) {
    const wanted = key(kid);
    if (wanted !== undefined && at && key(at) !== wanted) {
      const found = [...old.children].find((child) => key(child) === wanted);
      if (!found) {
        old.insertBefore(kid, at);
        continue;
      }
      old.insertBefore(found, at);
      at = found;
    }
    if (!at) {
      old.append(kid);
      continue;
    }
    const following = at.nextSibling;
    morph(at, kid);
    at = following;
  }
  while (at) {
    const following = at.nextSibling;
    at.remove();
    at = following;
  }
}

/** Puts `kids` into the element with this id. */
export function show(id, ...kids) {
  const old = document.getElementById(id);
  const next = old.cloneNode(false);
  next.append(...kids.flat().filter((kid) => kid !== null && kid !== undefined && kid !== false));
  morph(old, next);
}

const whole = new Intl.NumberFormat("en");
export const count = (n) => whole.format(n);
export const share = (points) => `${Number((points / 100).toFixed(2))}%`;
export const fixed = (x, places) => (Number.isFinite(x) ? x.toFixed(places) : "–");

/** A rate: per cent of requests, or events for each unit of traffic. */
export function rate(kind, x) {
  if (!Number.isFinite(x)) return "nothing";
  if (kind === "events_per_traffic") return `${x.toPrecision(3)} each`;
  const percent = x * 100;
  return `${percent.toFixed(percent === 0 || percent >= 0.1 ? 2 : 4)}%`;
}

/** A span in milliseconds by its two largest units. */
export function span(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return `${s}s`;
  if (s < 3600) return s % 60 ? `${Math.floor(s / 60)}m ${s % 60}s` : `${s / 60}m`;
  if (s < 86400) return `${Math.floor(s / 3600)}h ${Math.floor(s / 60) % 60}m`;
  return `${Math.floor(s / 86400)}d ${Math.floor(s / 3600) % 24}h`;
}

const two = (n) => String(n).padStart(2, "0");

/** The local time of day; the date as well when it is not today. */
export function clock(at, seconds = true) {
  const date = new Date(at);
  const time = `${two(date.getHours())}:${two(date.getMinutes())}${seconds ? `:${two(date.getSeconds())}` : ""}`;
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return date.toDateString() === new Date().toDateString() ? time : `${day} ${time}`;
}

/** A horizontal bar, `part` of its width full, with an optional mark. */
export function bar(kind, part, label, mark) {
  const full = Math.min(1, Math.max(0, Number.isFinite(part) ? part : 0)) * 100;
  return h("svg", { class: `bar ${kind}`, role: "img", "aria-label": label },
    h("rect", { class: "track", width: "100%", height: "100%", rx: 3 }),
    full > 0 && h("rect", { class: "fill", width: `${full.toFixed(2)}%`, height: "100%", rx: 3 }),
    Number.isFinite(mark) && h("line", { class: "mark", x1: `${mark}%`, x2: `${mark}%`, y1: 0, y2: "100%" }));
}

/** How a check's evidence went, with the line it must reach. `points` are [time, log e-value]. */
export function sparkline(points, threshold, label) {
  const width = 186, height = 40;
  const known = points.filter(([, y]) => Number.isFinite(y));
  const low = Math.min(0, ...known.map(([, y]) => y));
  const high = Math.max(threshold * 1.15, ...known.map(([, y]) => y)) || 1;
  const [begin, end] = [known.length ? known[0][0] : 0, known.length ? known[known.length - 1][0] : 0];
  const x = (t) => (end > begin ? ((t - begin) / (end - begin)) * (width - 6) + 2 : width - 4);
  const y = (e) => height - 3 - ((e - low) / (high - low || 1)) * (height - 6);
  const last = known[known.length - 1];
  return h("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "xMinYMid", role: "img", "aria-label": label },
    h("line", { class: "threshold", x1: 0, x2: width, y1: y(threshold), y2: y(threshold) }),
    known.length > 1 && h("path", { d: known.map(([t, e], i) => `${i ? "L" : "M"}${x(t).toFixed(1)} ${y(e).toFixed(1)}`).join("") }),
    last && h("circle", { cx: x(last[0]), cy: y(last[1]), r: 2.5 }));
}

/** Exposure over time as steps. The height is the square root of the share, so that one per cent can be seen. */
export function exposureChart(rollout, now, width) {
  const height = 168, left = 42, right = 14, top = 12, bottom = 24;
  const end = rollout.ended || now;
  const begin = Math.min(rollout.opened, ...rollout.exposures.map(([at]) => at));
  const length = Math.max(1000, end - begin);
  const x = (at) => left + ((at - begin) / length) * (width - left - right);
  const y = (points) => top + (1 - Math.sqrt(points / 10000)) * (height - top - bottom);
  let line = `M${x(begin).toFixed(1)} ${y(0)}`;
  for (const [at, points] of rollout.exposures) line += `H${x(at).toFixed(1)}V${y(points).toFixed(1)}`;
  line += `H${x(end).toFixed(1)}`;
  const grid = [];
  let above = Infinity;
  for (const points of [...new Set([0, 10000, ...rollout.stages.map((stage) => stage.share)])].sort((a, b) => a - b)) {
    const at = y(points);
    grid.push(h("line", { class: "grid", x1: left, x2: width - right, y1: at, y2: at }));
    if (above - at >= 12) {
      grid.push(h("text", { x: left - 7, y: at + 3.5, "text-anchor": "end" }, share(points)));
      above = at;
    }
  }
  const ticks = width > 560 ? 4 : 2;
  for (let i = 0; i <= ticks; i += 1) {
    const at = begin + (length * i) / ticks;
    const anchor = i === 0 ? "start" : i === ticks ? "end" : "middle";
    grid.push(h("text", { x: x(at), y: height - 7, "text-anchor": anchor }, clock(at, length < 600000).slice(-8)));
  }
  const label = rollout.exposures.map(([at, points]) => `${share(points)} from ${clock(at)}`).join(", ");
  return h("svg", { class: "exposure", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `Exposure: ${label || "nobody yet"}` },
    grid,
    h("path", { class: "area", d: `${line}V${y(0)}Z` }),
    h("path", { class: "line", d: line }),
    h("circle", { class: rollout.outcome ? `end ${rollout.outcome}` : "end", cx: x(end), cy: y(rollout.share), r: 4 }));
}
