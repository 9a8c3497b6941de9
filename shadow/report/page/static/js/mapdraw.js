// SPDX-License-Identifier: GPL-2.0-only
// Draws the visible rows of the map. Empty PTE pages differ by shape, not only by colour.

import { ABSENT, entriesUnder, isLazyfree } from "./cells.js";
import { bytes, count, SLOT_BYTES, slotAddress } from "./format.js";
import { FOLD_HEIGHT } from "./maplayout.js";
import { colour } from "./theme.js";

const FULL = 512;
const SHAPED = 7;

/** The colours of the map as they are now. */
export function mapColours() {
  const names = [
    "empty",
    "empty-ground",
    "cell-ground",
    "absent",
    "lazy",
    "text",
    "muted",
    "line",
    "accent",
    "ground",
  ];
  const found = Object.fromEntries(names.map((name) => [name, colour(`--${name}`)]));
  found.scale = [1, 2, 3, 4].map((step) => colour(`--scale-${step}`));
  return found;
}

/** Draw one cell; the map and its legend use it. */
export function drawCell(ctx, x, y, size, height, entries, lazy, colours) {
  const gap = size >= 5 ? 1 : 0;
  const width = size - gap;
  if (entries === ABSENT) {
    if (size < 5) return;
    ctx.fillStyle = colours.absent;
    ctx.fillRect(x + width / 2 - 1, y + height / 2 - 1, 2, 2);
  } else if (entries === 0) drawEmpty(ctx, x, y, width, height - gap, colours);
  else drawFilled(ctx, x, y, width, height - gap, entries, lazy, colours);
}

function drawEmpty(ctx, x, y, width, height, colours) {
  if (width < SHAPED - 1) {
    ctx.fillStyle = colours.empty;
    ctx.fillRect(x, y, Math.max(width, 1), height);
    return;
  }
  ctx.fillStyle = colours["empty-ground"];
  ctx.fillRect(x, y, width, height);
  ctx.strokeStyle = colours.empty;
  ctx.lineWidth = width >= 12 ? 2 : 1.4;
  const inset = ctx.lineWidth / 2;
  ctx.strokeRect(x + inset, y + inset, width - 2 * inset, height - 2 * inset);
  ctx.beginPath();
  ctx.moveTo(x + 2, y + 2);
  ctx.lineTo(x + width - 2, y + height - 2);
  ctx.moveTo(x + width - 2, y + 2);
  ctx.lineTo(x + 2, y + height - 2);
  ctx.stroke();
}

/** The fill rises with the number of entries, and darkens. */
function drawFilled(ctx, x, y, width, height, entries, lazy, colours) {
  const part = entries / FULL;
  const step = Math.min(Math.floor(part * colours.scale.length), colours.scale.length - 1);
  ctx.fillStyle = colours["cell-ground"];
  ctx.fillRect(x, y, width, height);
  const tall = Math.max(height * part, Math.min(2, height));
  ctx.fillStyle = lazy ? colours.lazy : colours.scale[step];
  ctx.fillRect(x, y + height - tall, width, tall);
}

/** Draw the rows that lie in the window. */
export function drawMap(ctx, layout, view, colours) {
  const { top, height, width } = view;
  ctx.fillStyle = colours.ground;
  ctx.fillRect(0, 0, width, height);
  ctx.textBaseline = "middle";
  const { rows } = layout;
  let labelled = -99;
  for (let at = layout.rowAt(top); at < rows.length; at += 1) {
    const row = rows[at];
    const y = row.y - top;
    if (y - FOLD_HEIGHT - 20 > height) break;
    if (row.fold) drawFold(ctx, layout, row, y, width, colours);
    drawRow(ctx, layout, row, y, view, colours);
    const roomy = y - labelled >= 13 || (row.isNew && y - labelled >= 10);
    if (roomy) {
      drawLabels(ctx, layout, row, y, view, colours);
      labelled = y;
    }
  }
}

function drawFold(ctx, layout, row, y, width, colours) {
  const middle = y - FOLD_HEIGHT / 2 - (row.isNew && !layout.wide ? 18 : 0);
  const text = `⋯ ${bytes(row.fold * SLOT_BYTES)} without PTE pages ⋯`;
  ctx.font = "12px system-ui, sans-serif";
  ctx.fillStyle = colours.muted;
  ctx.textAlign = "left";
  ctx.fillText(text, layout.gutter, middle);
  const from = layout.gutter + ctx.measureText(text).width + 8;
  ctx.strokeStyle = colours.line;
  ctx.lineWidth = 1;
  ctx.setLineDash([4, 4]);
  ctx.beginPath();
  ctx.moveTo(from, middle);
  ctx.lineTo(width - layout.margin, middle);
  ctx.stroke();
  ctx.setLineDash([]);
}

function drawRow(ctx, layout, row, y, view, colours) {
  const { slots } = layout.cells;
  for (let at = row.first; at < row.end; at += 1) {
    const state = view.states[at];
    const entries = entriesUnder(state, view.policy);
    const x = layout.x(slots[at], row);
    drawCell(ctx, x, y, layout.size, layout.height, entries, isLazyfree(state), colours);
    if (at === view.selected) {
      ctx.strokeStyle = colours.accent;
      ctx.lineWidth = 2;
      ctx.strokeRect(x - 2, y - 2, layout.size + 3, layout.height + 3);
    }
  }
}

/** The address at the left; the empty ones of the row and its mappings at the right. */
function drawLabels(ctx, layout, row, y, view, colours) {
  const middle = y + layout.height / 2;
  ctx.font = "11px ui-monospace, monospace";
  ctx.textAlign = "left";
  ctx.fillStyle = colours.muted;
  ctx.fillText(slotAddress(row.base), 2, middle);
  let empty = 0;
  for (let at = row.first; at < row.end; at += 1) {
    if (entriesUnder(view.states[at], view.policy) === 0) empty += 1;
  }
  const names = fitted(ctx, row.owners, layout.wide ? layout.margin - 74 : view.width - 60);
  if (layout.wide) {
    const x = view.width - layout.margin + 10;
    if (empty) drawEmptyCount(ctx, x, middle, empty, colours);
    ctx.fillStyle = colours.text;
    if (row.isNew) ctx.fillText(names, x + 62, middle);
  } else if (row.isNew) {
    ctx.fillStyle = colours.text;
    ctx.fillText(names, 2, y - 9);
  }
}

function drawEmptyCount(ctx, x, middle, empty, colours) {
  ctx.font = "bold 11px system-ui, sans-serif";
  ctx.fillStyle = colours.empty;
  ctx.fillText(`✕ ${count(empty)}`, x, middle);
  ctx.font = "11px system-ui, sans-serif";
}

function fitted(ctx, names, width) {
  ctx.font = "11px system-ui, sans-serif";
  const short = names.map((name) =>
    name.startsWith("/") ? name.slice(name.lastIndexOf("/") + 1) : name,
  );
  let text = short.join(", ");
  while (text.length > 4 && ctx.measureText(text).width > width)
    text = `${text.slice(0, -2).replace(/…$/, "")}…`;
  return text;
}
