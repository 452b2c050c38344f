// Conveniences only: every page works without this file.
const YEAR = 365 * 24 * 3600;

function changeTheme() {
  const root = document.documentElement;
  const current = root.dataset.theme;
  const dark = current ? current === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  remember("theme", root.dataset.theme);
}

// The server reads the cookie and renders the selected theme, so that the next page does not flash.
function remember(name, value) {
  const secure = location.protocol === "https:" ? "; secure" : "";
  document.cookie = `${name}=${value}; path=/; max-age=${YEAR}; samesite=lax${secure}`;
}

function reveal(button) {
  const input = document.getElementById(button.dataset.reveal);
  const show = input.type === "password";
  const label = button.querySelector("span");
  input.type = show ? "text" : "password";
  button.setAttribute("aria-pressed", show);
  button.setAttribute("aria-label", show ? button.dataset.hide : button.dataset.show);
  label.textContent = show ? label.dataset.hide : label.dataset.show;
}

async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent);
  } catch {
    // The Clipboard API needs https or localhost: select the text and use execCommand instead.
    getSelection().selectAllChildren(source);
    if (!document.execCommand("copy")) return;
  }
  const label = button.querySelector("span");
  button.dataset.label ??= label.textContent;
  label.textContent = button.dataset.done;
  setTimeout(() => { label.textContent = button.dataset.label; }, 1500);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if ("themeToggle" in button.dataset) changeTheme();
  if (button.dataset.reveal) reveal(button);
  if (button.dataset.copy) copy(button);
});

// Leave empty fields out of the URL, so that it stays short enough to share.
document.addEventListener("formdata", (event) => {
  if (!("brief" in event.target.dataset)) return;
  const data = event.formData;
  for (const [name, value] of [...data]) if (!value) data.delete(name);
  if (data.get("period") !== "dates") { data.delete("from"); data.delete("to"); }
});

document.addEventListener("change", (event) => {
  if (event.target.id === "follow") remember("follow", event.target.checked ? "on" : "off");
});

// Poll for new attempts, or for the end of an outage, only while the page is visible and the reader follows new
// attempts; do not replace a form while it is being filled in.
document.addEventListener("htmx:before:request", (event) => {
  const { id } = event.target;
  const following = id !== "newer" || document.getElementById("follow").checked;
  const typing = id === "back" && document.activeElement?.closest("form");
  if (["newer", "back"].includes(id) && (document.hidden || !following || typing)) event.preventDefault();
});

// After the new rows are loaded, move the focus to the table. The title of the tab counts those that are offered.
const title = document.title;
document.addEventListener("htmx:after:swap", (event) => {
  if (event.detail.ctx.select) document.getElementById("list")?.focus({ preventScroll: true });
  const count = document.querySelector("#newer [data-count]")?.dataset.count;
  document.title = count ? `(${count}) ${title}` : title;
});

// A click anywhere in a row opens it, unless it ends the selection of text.
document.addEventListener("click", (event) => {
  const row = event.target.closest("#rows tbody tr");
  if (!row || event.target.closest("a, button, input") || String(getSelection())) return;
  const { ctrlKey, metaKey, shiftKey } = event;
  row.querySelector("th a")?.dispatchEvent(new MouseEvent("click", { ctrlKey, metaKey, shiftKey, bubbles: true, cancelable: true }));
});

// Show within seconds that the database or the network is lost, and when it is back.
const WATCH_MS = 1500;

async function readState(line) {
  try {
    const options = { headers: { Accept: "application/json" }, cache: "no-store", signal: AbortSignal.timeout(2000) };
    const response = await fetch(line.dataset.watch, options);
    if (response.ok) return await response.json();
  } catch { /* no connection */ }
  return { is_well: false, sentence: line.dataset.lost, lines: [] };
}

function showState(line, state) {
  const wasWell = line.classList.contains("fine");
  if (wasWell && state.is_well) return; // the page may show more: the time of the last request
  line.classList.toggle("fine", state.is_well);
  line.classList.toggle("away", !state.is_well);
  line.querySelector("[data-as-of]")?.removeAttribute("hidden");
  const sentence = state.is_well ? line.dataset.back : state.sentence;
  const now = line.querySelector("[data-now]");
  if (now.textContent !== sentence) now.textContent = sentence; // screen readers announce changes only
}

async function watchState() {
  const line = document.querySelector("#state[data-watch]");
  if (!line || document.hidden) return;
  const state = await readState(line);
  showState(line, state);
  document.querySelectorAll("[data-line]").forEach((text, index) => {
    const now = state.lines[index];
    if (!now) return;
    text.textContent = now.text;
    text.className = now.is_well ? "fine" : "away";
  });
}

(async () => {
  for (;;) {
    await new Promise((resolve) => { setTimeout(resolve, WATCH_MS); });
    await watchState();
  }
})();
for (const event of ["offline", "online"]) addEventListener(event, watchState);
document.addEventListener("visibilitychange", watchState);
