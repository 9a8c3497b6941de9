// SPDX-License-Identifier: GPL-2.0-only
// What is known of one cell of the map, as names and texts.

import { ABSENT, entriesUnder, isLazyfree } from "./cells.js";
import { bytes, count, seconds, slotAddress } from "./format.js";

/**
 * The lines about a cell.
 * @param {Object} model the process
 * @param {number} cell the row of the cell
 * @param {number} moment the moment that is shown
 * @param {number} policy the policy that is shown
 */
export function describeCell(model, cell, moment, policy) {
  const { cells, moments, geometry } = model;
  const state = cells.statesAt(moment)[cell];
  const entries = entriesUnder(state, policy);
  const shown = moments[cells.momentOf(moment)].seconds;
  const lines = [
    ["Address", `${slotAddress(cells.slots[cell], geometry.slot)}, ${bytes(geometry.slot)}`],
    ["Mapping", cells.ownerName(cell) ?? "not known"],
    ["Entries", entriesText(entries, isLazyfree(state), geometry.entries)],
  ];
  const page = geometry.page;
  if (cells.made) {
    lines.push(["Made", causeText(cells.made, cell, shown, entries === ABSENT, page)]);
  }
  if (cells.emptied && entries === 0) {
    lines.push(["Emptied", causeText(cells.emptied, cell, shown, false, page)]);
  }
  return lines;
}

function entriesText(entries, lazy, all) {
  if (entries === ABSENT) return "no PTE page now";
  if (entries === 0) return `0 of ${count(all)}: EMPTY`;
  return `${count(entries)} of ${count(all)}${lazy ? ", all lazyfree" : ""}`;
}

/** What made or emptied a cell, when it was there last. */
function causeText(causes, cell, shown, gone, page) {
  const ms = causes.ms[cell];
  if (ms < 0) return "before the window";
  const call = causes.calls[causes.call[cell]];
  const pages = causes.pages[cell];
  const size = pages ? ` of ${bytes(pages * page)}` : "";
  const thread = causes.threads[causes.thread[cell]];
  const by = thread ? ` by ${thread}` : "";
  const when = ms / 1000 <= shown + 0.001 ? "" : " (later than the moment shown)";
  return `${call}${size}${by}, ${seconds(ms / 1000)} after the start${when}${gone ? ", freed since" : ""}`;
}
