// SPDX-License-Identifier: GPL-2.0-only
// Light and dark: style sheets follow by themselves, drawings listen and draw again.

const listeners = new Set();
const probe = document.createElement("span");
probe.hidden = true;

/** The colour that a custom property has now. */
export function colour(name) {
  if (!probe.isConnected) document.body.append(probe);
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}

/** Call a function whenever colours change. */
export function onColours(redraw) {
  listeners.add(redraw);
}

export function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  for (const redraw of listeners) redraw();
}

/** Obey the menu, the system and the printer. */
export function watchTheme() {
  const menu = document.getElementById("theme");
  menu.addEventListener("change", () => setTheme(menu.value));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTheme(menu.value));
  addEventListener("beforeprint", () => setTheme("light"));
  addEventListener("afterprint", () => setTheme(menu.value));
}
