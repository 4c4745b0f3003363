// Asks for the page again and puts its imports in place of those shown. All of it is rendered by the service.
"use strict";

const PAUSE_MS = 1000;
const PAUSE_HIDDEN_MS = 15000;
const TIMEOUT_MS = 10000;

const live = document.getElementById("live");
const signature = live.textContent;

async function refresh() {
  const answer = await fetch("./", { credentials: "same-origin", signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (!answer.ok) {
    throw new Error(`the service answered ${answer.status}`);
  }
  const next = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("imports");
  const shown = document.getElementById("imports");
  for (const each of shown.querySelectorAll("tr[id] details[open]")) {
    next.querySelector(`#${CSS.escape(each.closest("tr").id)} details`)?.setAttribute("open", "");
  }
  if (!shown.contains(document.activeElement) && document.getSelection().isCollapsed) {
    shown.replaceWith(next); // not under the cursor of somebody who reads or copies
  }
}

async function watch() {
  try {
    await refresh();
    live.textContent = [signature, "live"].filter(Boolean).join(", ");
    live.className = "";
  } catch (error) {
    live.textContent = `not live: ${error.message}`;
    live.className = "lost";
  }
  setTimeout(watch, document.hidden ? PAUSE_HIDDEN_MS : PAUSE_MS);
}

watch();
