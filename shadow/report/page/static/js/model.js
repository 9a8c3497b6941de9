// SPDX-License-Identifier: GPL-2.0-only
// One process as the sections of the page use it: its document, and what was unpacked.

import { POLICIES, unpackCells } from "./cells.js";
import { unpacked, unpackedJson } from "./columns.js";
import { geometryOf } from "./format.js";

/**
 * Unpack a process.
 * @param {Object} plain the process in the JSON document
 * @param {Object} more what the page has beside the document
 * @param {Object} page the whole page: kinds of mappings, version, sources
 */
export async function modelOf(plain, more, page) {
  const [cells, points, moments] = await Promise.all([
    more.cells ? unpackCells(more.cells) : null,
    more.points ? unpackPoints(more.points) : null,
    unpackedJson(more.moments),
  ]);
  const last = moments[moments.length - 1];
  last.mappings = plain.mappings ?? null;
  const geometry = geometryOf(plain.kernel);
  const source = page.sources?.[more.source];
  return { plain, more, page, cells, points, moments, geometry, source };
}

async function unpackPoints(columns) {
  const each = async (packed) => {
    const values = await Promise.all(
      POLICIES.map((policy) => unpacked(packed[policy], Int32Array)),
    );
    return Object.fromEntries(POLICIES.map((policy, at) => [policy, values[at]]));
  };
  return {
    seconds: await unpacked(columns.seconds, Float64Array),
    pte_pages: await each(columns.pte_pages),
    empty: await each(columns.empty),
  };
}

/** The name of a process with its pid. */
export function processName(plain) {
  return `${plain.process.comm} (pid ${plain.process.pid})`;
}

/** The name of a mapping, or else its kind in words. */
export function mappingName(use, page) {
  return use.name ?? page.kinds[use.kind] ?? use.kind ?? "an unknown mapping";
}

/** The last moment at or before some seconds, or the first one. */
export function momentAt(model, seconds) {
  let best = 0;
  model.moments.forEach((moment, at) => {
    const nearer =
      Math.abs(moment.seconds - seconds) < Math.abs(model.moments[best].seconds - seconds);
    if (nearer) best = at;
  });
  return best;
}
