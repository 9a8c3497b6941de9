// SPDX-License-Identifier: GPL-2.0-only
// Draws the visible rows of the map. Empty PTE pages differ by shape, not only by colour.

import { ABSENT, entriesUnder, isLazyfree } from "./cells.js";
import { visible } from "./dom.js";
import { bytes, count, slotAddress } from "./format.js";
import { FOLD_HEIGHT } from "./maplayout.js";
import { Paint } from "./mappaint.js";
import { colour } from "./theme.js";

const SHAPED = 7;
const SCALE = ["scale-1", "scale-2", "scale-3", "scale-4"];
const COLOURS = [
  ...SCALE,
  ...["empty", "cell-ground", "absent", "lazy", "text", "muted", "line", "accent", "ground"],
];

/** The colours of the map as they are now. */
export function mapColours() {
  return Object.fromEntries(COLOURS.map((name) => [name, colour(`--${name}`)]));
}

/**
 * Draw a single cell, for the legend; its canvas has `scale` pixels for one. `part` is the share of
 * entries, or ABSENT.
 */
export function drawCell(ctx, scale, size, [part, lazy], colours) {
  const paint = new Paint(ctx, scale, colours, "ground");
  addCell(paint, 0, 0, size, size, part, lazy);
  paint.finish();
}

function addCell(paint, x, y, size, height, part, lazy) {
  const gap = size >= 5 ? 1 : 0;
  const [wide, tall] = [size - gap, height - gap];
  if (part === ABSENT) {
    if (size >= 5) paint.rectangle("absent", x + (wide >> 1) - 1, y + (tall >> 1) - 1, 2, 2);
  } else if (part > 0) addFilled(paint, x, y, wide, tall, part, lazy);
  else if (wide < SHAPED - 1) paint.rectangle("empty", x, y, Math.max(wide, 1), tall);
  else paint.crossedBox(x, y, wide, tall);
}

/** The fill rises with the number of entries, and darkens. */
function addFilled(paint, x, y, width, height, part, lazy) {
  const step = Math.min(Math.floor(part * SCALE.length), SCALE.length - 1);
  const tall = Math.max(Math.round(height * part), Math.min(2, height));
  if (tall < height) paint.rectangle("cell-ground", x, y, width, height - tall);
  paint.rectangle(lazy ? "lazy" : SCALE[step], x, y + height - tall, width, tall);
}

/** Draw the rows that lie in the window. */
export function drawMap(ctx, layout, view, colours) {
  const rows = visibleRows(layout, view);
  const paint = new Paint(ctx, view.scale, colours, "ground");
  for (const row of rows) addRow(paint, layout, row, row.y - view.top, view);
  paint.finish();
  ctx.textBaseline = "middle";
  for (const row of rows) {
    const y = row.y - view.top;
    if (row.fold) drawFold(ctx, layout, row, y, view, colours);
    if (row.label) drawLabels(ctx, layout, row, y, view, colours);
  }
}

function visibleRows(layout, { top, height }) {
  const first = layout.rowAt(top);
  let end = first;
  while (end < layout.rows.length && layout.rows[end].y < top + height + 2 * FOLD_HEIGHT) end += 1;
  return layout.rows.slice(first, end);
}

function drawFold(ctx, layout, row, y, view, colours) {
  const middle = y - FOLD_HEIGHT / 2 - (row.isNew && !layout.wide ? 18 : 0);
  const text = `⋯ ${bytes(row.fold * view.geometry.slot)} without PTE pages ⋯`;
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
  ctx.lineTo(view.width - layout.margin, middle);
  ctx.stroke();
  ctx.setLineDash([]);
}

function addRow(paint, layout, row, y, view) {
  const { slots } = layout.cells;
  for (let at = row.first; at < row.end; at += 1) {
    const state = view.states[at];
    const entries = entriesUnder(state, view.policy);
    const x = layout.x(slots[at], row);
    const part = entries === ABSENT ? ABSENT : entries / view.geometry.entries;
    addCell(paint, x, y, layout.size, layout.height, part, isLazyfree(state));
  }
}

/** Draw the frame of the selected cell, on a canvas of its own above the map. */
export function drawSelection(ctx, layout, { selected, top, width, height }, colours) {
  ctx.clearRect(0, 0, width, height);
  if (selected === null) return;
  const row = layout.rows[layout.rowOf(selected)];
  const x = layout.x(layout.cells.slots[selected], row);
  ctx.strokeStyle = colours.accent;
  ctx.lineWidth = 2;
  ctx.strokeRect(x - 2, row.y - top - 2, layout.size + 3, layout.height + 3);
}

/** The address at the left; the empty ones of the row and its mappings at the right. */
function drawLabels(ctx, layout, row, y, view, colours) {
  const middle = y + layout.height / 2;
  ctx.font = "11px ui-monospace, monospace";
  ctx.textAlign = "left";
  ctx.fillStyle = colours.muted;
  ctx.fillText(slotAddress(row.base, view.geometry.slot), 2, middle);
  let empty = 0;
  for (let at = row.first; at < row.label.end; at += 1) {
    if (entriesUnder(view.states[at], view.policy) === 0) empty += 1;
  }
  const names = fitted(ctx, row.label.owners, layout.wide ? layout.margin - 74 : view.width - 60);
  if (layout.wide) {
    const x = view.width - layout.margin + 10;
    if (empty) drawEmptyCount(ctx, x, middle, empty, colours);
    ctx.fillStyle = colours.text;
    if (row.label.isNew) ctx.fillText(names, x + 62, middle);
  } else if (row.label.isNew) {
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

/** Names that fit into a width, without their folders. */
function fitted(ctx, names, width) {
  ctx.font = "11px system-ui, sans-serif";
  const short = names.map((name) =>
    name.startsWith("/") ? name.slice(name.lastIndexOf("/") + 1) : name,
  );
  let text = visible(short.join(", "));
  while (text.length > 4 && ctx.measureText(text).width > width)
    text = `${text.slice(0, -2).replace(/…$/, "")}…`;
  return text;
}
