// The live view of what the cache does. It comes after app.js.
"use strict";

const log = document.getElementById("log");
let source = log && new EventSource(log.dataset.events);

function closeEvents() {
  if (source) source.close();
  source = null;
}

function live(text, on) {
  const mark = document.getElementById("live");
  mark.textContent = text;
  mark.classList.toggle("on", on);
}

// After these the tokens on the page may be others. An invalidation comes when
// this node has dropped a copy that another node has overtaken.
const changes = new Set(["save", "merge", "unsaved", "invalidation", "sign-in", "sign-out"]);

if (source) {
  source.onopen = () => live("live", true);
  source.onerror = () => live(source.readyState === EventSource.CLOSED ? "ended" : "connecting…", false);
  source.onmessage = (message) => {
    const event = JSON.parse(message.data);
    if (held) hold(event);
    else append(event);
    if (changes.has(event.kind)) update();
  };
  addEventListener("pagehide", closeEvents);
}

// Pause. What happens meanwhile is held back, the latest of it.
const pause = document.getElementById("pause");
let held = null;
if (pause) {
  pause.hidden = false;
  pause.addEventListener("click", () => {
    const events = held;
    held = events ? null : [];
    pause.textContent = held ? "Resume" : "Pause";
    events?.forEach(append);
  });
}

function hold(event) {
  held.push(event);
  if (held.length > 200) held.shift();
}

// Events stand with the others of their request. Requests that begin alike at the
// same moment share a place, where the same step of another request only counts,
// so that a crowd is told of in a few lines.
const places = new Map(); // by request
const latest = new Map(); // place, by node

function append(event) {
  const request = event.request && `${event.request} ${event.node}`;
  const text = event.error && event.error !== event.kind ? `${event.text}: ${event.error}` : event.text;
  let place = places.get(request);
  if (!place) {
    place = latest.get(event.node);
    if (!place || !shared(place, text)) place = begin(event.node, text);
    if (request) places.set(request, place);
  }
  place.at = Date.now();
  place.when.textContent = `${new Date(event.at).toLocaleTimeString()}, node ${event.node}`;
  step(place, event, text, request);
}

function shared(place, text) {
  if (place.first !== text) return false;
  return place.item === log.firstChild && place.rows.size === 1 || Date.now() - place.at < 1000;
}

function begin(node, first) {
  const place = { first, rows: new Map(), steps: new Map(), item: element("li"), when: element("div", "when"), list: element("ol", "steps") };
  place.item.append(place.when, place.list);
  log.prepend(place.item);
  latest.set(node, place);
  while (log.children.length > 50) log.lastChild.remove();
  for (const map of [places, latest]) {
    for (const [key, old] of map) if (!old.item.isConnected) map.delete(key);
  }
  return place;
}

// step adds a row, or counts in one: that of the same request's step before, or
// where another request stands that did the same, as often.
function step(place, event, text, request) {
  let row = place.last;
  if (row?.text !== text || place.by !== request) {
    const times = (place.steps.get(`${request} ${text}`) ?? 0) + 1;
    place.steps.set(`${request} ${text}`, times);
    row = place.rows.get(`${times} ${text}`);
    if (!row) {
      row = { text, count: 0, ms: 0, item: element("li", colour(event)) };
      place.rows.set(`${times} ${text}`, row);
      place.list.append(row.item);
    }
  }
  place.last = row;
  place.by = request;
  row.count++;
  row.ms = Math.max(row.ms, event.ms);
  const parts = [element("span", "text", row.count > 1 ? `${text} × ${row.count}` : text)];
  if (row.ms > 0) parts.push(element("span", "ms", `${row.count > 1 ? "≤ " : ""}${row.ms.toFixed(2)} ms`));
  row.item.replaceChildren(...parts);
}

// The text says the same: colours only help to find it.
function colour(event) {
  if (event.error || event.kind === "degraded" || ["kept", "dropped", "began", "lost"].includes(event.detail)) return "failed";
  if (event.source !== "none") return event.source;
  return ["save", "unsaved", "lease", "conflict", "merge", "outage", "restore", "upkeep"].includes(event.kind) ? "provider" : "";
}

function element(tag, name = "", text = "") {
  const made = document.createElement(tag);
  made.className = name;
  made.textContent = text;
  return made;
}

// update shows the tokens anew, one request at a time, and a moment later:
// changes come in threes. If the tokens are gone, because the user has signed
// out in another browser, the answer is the page to become: the first one knows why.
let updating = false, again = false;
async function update() {
  again = true;
  if (updating) return;
  updating = true;
  while (again && source) {
    await new Promise((done) => setTimeout(done, 50));
    again = false;
    try {
      const response = await fetch("/tokens");
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      if (response.ok) {
        document.getElementById("tokens").replaceChildren(...page.body.childNodes);
        countDown();
      } else if (source) {
        show(page, response.status);
      }
    } catch { /* the stream shows that the app is gone */ }
  }
  updating = false;
}
