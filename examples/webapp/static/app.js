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
    if (response.headers.get("Content-Type").startsWith("application/json")) {
      // Only the user can go on: at the identity server, and then back here.
      closeEvents();
      location.assign((await response.json()).signin);
      return;
    }
    show(new DOMParser().parseFromString(await response.text(), "text/html"), response.status);
  } catch {
    tell("This app does not answer.", true);
  } finally {
    button.ariaBusy = null;
  }
});

// A page that the browser has kept, for its back button, may be of somebody who has
// signed out since. It is not shown; the server is asked.
addEventListener("pagehide", (leaving) => {
  if (leaving.persisted) document.body.hidden = true;
});
addEventListener("pageshow", (coming) => {
  if (coming.persisted) location.reload();
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
