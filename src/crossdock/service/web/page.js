// Asks for the page again and puts its imports in place of those shown. All of it is rendered by the service.
"use strict";

const PAUSE_MS = 1000;
const PAUSE_HIDDEN_MS = 15000;
const TIMEOUT_MS = 10000;

const live = document.getElementById("live");
const signature = live.textContent;
const filter = document.getElementById("filter");

async function refresh() {
  const asked = location.search;
  const answer = await fetch(`./${asked}`, {
    credentials: "same-origin",
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  if (!answer.ok) {
    throw new Error(`the service answered ${answer.status}`);
  }
  const next = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("imports");
  const shown = document.getElementById("imports");
  if (asked !== location.search || !document.getSelection().isCollapsed) {
    return; // another filter meanwhile, or somebody copies text
  }
  for (const each of shown.querySelectorAll("details[id]")) {
    next.querySelector(`#${CSS.escape(each.id)}`)?.toggleAttribute("open", each.open);
  }
  const focused = shown.contains(document.activeElement) ? document.activeElement.id : "";
  shown.replaceWith(next);
  if (focused) {
    document.getElementById(focused)?.focus({ preventScroll: true });
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

filter?.addEventListener("input", () => {
  const wanted = new URLSearchParams([...new FormData(filter)].filter(([, value]) => value));
  history.replaceState(null, "", wanted.size ? `?${wanted}` : "./");
  refresh().catch(() => {});
});

watch();
