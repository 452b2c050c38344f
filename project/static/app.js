// Small comforts only: every page works without this file.
const YEAR = 365 * 24 * 3600;

function changeTheme() {
  const root = document.documentElement;
  const chosen = root.dataset.theme;
  const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  remember("theme", root.dataset.theme);
}

// The server reads the cookie and renders what was chosen, so that the next page does not flash.
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
    // There is no clipboard outside https and localhost: select the text and ask the browser the old way.
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

// Addresses to pass on stay short: what was left empty does not go into them.
document.addEventListener("formdata", (event) => {
  if (!("brief" in event.target.dataset)) return;
  const data = event.formData;
  for (const [name, value] of [...data]) if (!value) data.delete(name);
  if (data.get("period") !== "dates") { data.delete("from"); data.delete("to"); }
});

document.addEventListener("change", (event) => {
  if (event.target.id === "follow") remember("follow", event.target.checked ? "on" : "off");
});

// htmx looks for new attempts, or for an end of an outage, only while somebody looks at the page and wants them;
// and it takes no form away from who fills it in.
document.addEventListener("htmx:before:request", (event) => {
  const { id } = event.target;
  const follows = id !== "newer" || document.getElementById("follow").checked;
  const writes = id === "back" && document.activeElement?.closest("form");
  if (["newer", "back"].includes(id) && (document.hidden || !follows || writes)) event.preventDefault();
});

// Who asked for the new rows goes on reading at the log.
document.addEventListener("htmx:after:swap", (event) => {
  if (event.detail.ctx.select) document.getElementById("list")?.focus();
});
