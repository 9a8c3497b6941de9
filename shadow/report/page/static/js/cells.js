// SPDX-License-Identifier: GPL-2.0-only
// The cells of the map: a row for each slot that has a PTE page at some moment.

import { unpacked } from "./columns.js";

export const ENTRIES = 0x3fff;
const LIVE_SHIFT = 14;
export const POLICIES = ["none", "pt_reclaim", "dontneed_zero", "pte_ref"];
const LAZYFREE = 1 << (LIVE_SHIFT + POLICIES.length);

/** What a cell shows: nothing, or a PTE page with a number of entries. */
export const ABSENT = -1;

/** The cells of one process at all its moments. */
export class Cells {
  constructor(columns, slots, tables) {
    this.count = slots.length;
    this.slots = slots;
    this.owners = columns.owners;
    this.moments = columns.moments;
    this.owner = tables.owner;
    this.made = tables.made;
    this.emptied = tables.emptied;
    this.states = tables.states;
  }

  /** The states of a moment, or of the last moment before it that has some. */
  statesAt(moment) {
    let at = this.moments.length - 1;
    while (at > 0 && this.moments[at] > moment) at -= 1;
    return this.states[at];
  }

  /** The moment whose states `statesAt` gives. */
  momentOf(moment) {
    let at = this.moments.length - 1;
    while (at > 0 && this.moments[at] > moment) at -= 1;
    return this.moments[at];
  }

  ownerName(row) {
    return this.owner[row] < 0 ? null : this.owners[this.owner[row]];
  }
}

/** The number of entries under a policy, or ABSENT. */
export function entriesUnder(state, policy) {
  return (state >> (LIVE_SHIFT + policy)) & 1 ? state & ENTRIES : ABSENT;
}

export function isLazyfree(state) {
  return (state & LAZYFREE) !== 0;
}

/** Unpack the columns of a process. */
export async function unpackCells(columns) {
  const [steps, differences, owner, made, emptied] = await Promise.all([
    unpacked(columns.slot, Float64Array),
    unpacked(columns.states, Uint32Array),
    unpacked(columns.owner, Int32Array),
    unpackCauses(columns.made),
    unpackCauses(columns.emptied),
  ]);
  const slots = summed(steps);
  return new Cells(columns, slots, {
    owner,
    made,
    emptied,
    states: statesOf(differences, columns.moments.length, slots.length),
  });
}

function summed(steps) {
  const slots = new Float64Array(steps.length);
  let sum = 0;
  for (let at = 0; at < steps.length; at += 1) {
    sum += steps[at];
    slots[at] = sum;
  }
  return slots;
}

function statesOf(differences, moments, count) {
  const states = [];
  for (let moment = 0; moment < moments; moment += 1) {
    const line = differences.subarray(moment * count, (moment + 1) * count);
    const before = states[moment - 1];
    if (before) for (let at = 0; at < count; at += 1) line[at] += before[at];
    states.push(line);
  }
  return states;
}

async function unpackCauses(columns) {
  if (!columns) return null;
  const [call, pages, thread, ms] = await Promise.all([
    unpacked(columns.call, Uint8Array),
    unpacked(columns.pages, Uint32Array),
    unpacked(columns.thread, Uint32Array),
    unpacked(columns.ms, Float64Array),
  ]);
  return { calls: columns.calls, threads: columns.threads, call, pages, thread, ms };
}
