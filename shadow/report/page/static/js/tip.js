// SPDX-License-Identifier: GPL-2.0-only
// The box beside the pointer or the selected cell.

import { element, fill } from "./dom.js";

const GAP = 6;

/** Show lines of names and texts near a point of the window. */
export function showTip(lines, x, y) {
  const tip = document.getElementById("tip");
  const rows = lines.flatMap(([name, text]) => [element("dt", {}, name), element("dd", {}, text)]);
  fill(tip, element("dl", {}, ...rows));
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const left = x + GAP + width > innerWidth ? Math.max(x - width - 3 * GAP, 2) : x + GAP;
  const top = y + GAP + height > innerHeight ? Math.max(y - height - 4 * GAP, 2) : y + GAP;
  tip.style.left = `${left}px`;
  tip.style.top = `${top}px`;
}

export function hideTip() {
  document.getElementById("tip").hidden = true;
}
