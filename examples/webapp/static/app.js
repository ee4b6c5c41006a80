// The pages work without this file. With it, the buttons of the dashboard update
// the page in place, the countdowns run, and the events of the cache appear.
"use strict";

// Buttons. The server answers a form with a page, with or without this file;
// here the parts that may have changed are taken out of it.
document.addEventListener("submit", async (submitted) => {
  const form = submitted.target;
  if (!form.hasAttribute("data-inline")) {
    closeEvents(); // leaving: what comes now is not for this page
    return;
  }
  submitted.preventDefault();
  const button = form.querySelector("button");
  if (button.ariaBusy === "true") return;
  button.ariaBusy = "true";
  try {
    const response = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
    show(new DOMParser().parseFromString(await response.text(), "text/html"), response.status);
  } catch {
    tell("This app does not answer.", true);
  } finally {
    button.ariaBusy = null;
  }
});

// show updates the dashboard, or becomes the other page that came.
function show(page, status) {
  if (page.querySelector("#dashboard")) {
    for (const id of ["last", "tokens"]) replace(id, page);
    tell(page.querySelector("#notice").textContent);
  } else if (status === 503) {
    tell(page.querySelector("#notice").textContent, true);
  } else {
    closeEvents();
    document.title = page.title;
    replace("main", page);
    document.querySelector("h1").focus();
  }
}

function replace(id, page) {
  document.getElementById(id).replaceChildren(...page.getElementById(id).childNodes);
  countDown();
}

// tell speaks through the status region, which screen readers read out.
function tell(text, bad = false) {
  const notice = document.getElementById("notice");
  notice.textContent = text;
  notice.classList.toggle("bad", bad);
}

// Countdowns.
function countDown() {
  for (const time of document.querySelectorAll("[data-countdown]")) {
    const left = Math.max(0, Math.round((Date.parse(time.dateTime) - Date.now()) / 1000));
    time.textContent = left > 0 ? "in " + duration(left) : "expired";
    const bar = time.closest("li").querySelector("progress");
    if (bar) bar.value = left;
  }
}

function duration(seconds) {
  const pad = (n) => String(n).padStart(2, "0");
  const hours = Math.floor(seconds / 3600), minutes = Math.floor(seconds / 60) % 60;
  return hours ? `${hours}:${pad(minutes)}:${pad(seconds % 60)}` : `${minutes}:${pad(seconds % 60)}`;
}

countDown();
setInterval(countDown, 1000);

// Events.
const titles = {
  lookup: { l1: "Found in L1", provider: "Found in the provider", none: "Not cached: the server has to be asked" },
  refreshed: { server: "Refreshed at the identity server" },
  "signed in": { server: "Signed in: tokens stored" },
  expired: { none: "Access token expired" },
  removed: { none: "Tokens removed" },
};
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

if (source) {
  source.onopen = () => live("live", true);
  source.onerror = () => live(source.readyState === EventSource.CLOSED ? "ended" : "connecting…", false);
  source.onmessage = (message) => {
    const event = JSON.parse(message.data);
    append(event);
    if (event.changed) update();
  };
  addEventListener("pagehide", closeEvents);
}

// append shows an event on top. The same thing again only counts.
function append(event) {
  const title = event.error ? `Failed: ${event.error}` : titles[event.what]?.[event.source] ?? event.what;
  const same = `${title} ${event.node}`;
  const first = log.firstChild;
  const count = first?.dataset.same === same ? Number(first.dataset.count) + 1 : 1;
  if (count > 1) first.remove();
  const item = document.createElement("li");
  item.className = event.error ? "failed" : event.source;
  Object.assign(item.dataset, { same, count });
  const at = new Date(event.at).toLocaleTimeString();
  for (const [tag, name, text] of [
    ["span", "", count > 1 ? `${title} × ${count}` : title],
    ["span", "ms", `${event.ms.toFixed(2)} ms`],
    ["small", "", `${at}, node ${event.node}`],
  ]) {
    const part = document.createElement(tag);
    part.className = name;
    part.textContent = text;
    item.append(part);
  }
  log.prepend(item);
  while (log.children.length > 50) log.lastChild.remove();
}

// update shows the tokens anew, one request at a time. If they are gone, because
// the user has signed out in another browser, the answer is the page to become:
// the first one knows why.
let updating = false, again = false;
async function update() {
  again = true;
  if (updating) return;
  updating = true;
  while (again && source) {
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
