// SPDX-License-Identifier: GPL-2.0-only
// The cell that a key of the map leads to.

import { entriesUnder } from "./cells.js";

/** The cell that `key` leads to from the selected one, or null if the key is not one of the map. */
export function keyTarget(key, map) {
  const { cells } = map.model;
  const last = cells.count - 1;
  const from = map.selected ?? -1;
  switch (key) {
    case "ArrowRight":
      return Math.min(from + 1, last);
    case "ArrowLeft":
      return Math.max(from - 1, 0);
    case "ArrowDown":
      return vertical(map, Math.max(from, 0), 1);
    case "ArrowUp":
      return vertical(map, Math.max(from, 0), -1);
    case "PageDown":
      return vertical(map, Math.max(from, 0), 10);
    case "PageUp":
      return vertical(map, Math.max(from, 0), -10);
    case "Home":
      return 0;
    case "End":
      return last;
    case "e":
      return nextEmpty(map, from, 1);
    case "E":
      return nextEmpty(map, from, -1);
    default:
      return null;
  }
}

/** The cell nearest in the column, some rows further. */
function vertical({ layout, model }, from, by) {
  const at = layout.rowOf(from);
  const row = layout.rows[Math.min(Math.max(at + by, 0), layout.rows.length - 1)];
  const { slots } = model.cells;
  const wanted = row.base + (slots[from] - layout.rows[at].base);
  let best = row.first;
  for (let cell = row.first; cell < row.end; cell += 1) {
    if (Math.abs(slots[cell] - wanted) < Math.abs(slots[best] - wanted)) best = cell;
  }
  return best;
}

function nextEmpty({ model, states, policy }, from, by) {
  const { count } = model.cells;
  for (let step = 1; step <= count; step += 1) {
    const at = (from + by * step + 2 * count) % count;
    if (entriesUnder(states[at], policy) === 0) return at;
  }
  return Math.max(from, 0);
}
