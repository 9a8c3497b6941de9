// SPDX-License-Identifier: GPL-2.0-only
// What the data of a process lacks, as sentences: damage, losses, missing readings.

import { count } from "./format.js";

/** The sentences; none if nothing is missing. */
export function lacksOf(model) {
  const { plain, more, source } = model;
  const { audit, kernel, reading, window: seen } = plain;
  const sentences = [];
  if (source?.problem) sentences.push(`The source is incomplete: ${source.problem}`);
  if (reading) {
    sentences.push(
      "This is one reading of the page tables: it has no course of time, no origins, and no other policies.",
    );
  } else if (kernel.seed === "none") {
    sentences.push(
      "The page tables from before the window were not read: only what events touched is known.",
    );
  }
  if (kernel.seed === "counted")
    sentences.push(
      "The page tables were counted, not read: empty PTE pages from before the window have no address.",
    );
  if (seen.lost) sentences.push(`${count(seen.lost)} events were lost.`);
  if (!reading && !audit.runs) sentences.push("Nothing was compared with the real page tables.");
  else if (audit.not_compared)
    sentences.push(
      `The last comparison left out ${count(audit.not_compared)} PTE pages, which changed during every reading.`,
    );
  if (plain.now.unplaced)
    sentences.push(
      `${count(plain.now.unplaced)} empty PTE pages have no known address, so the map does not show them.`,
    );
  if (!plain.mappings) sentences.push("The mappings are unknown.");
  else if (!plain.mappings_named)
    sentences.push("The mappings have no names: only their kinds are known.");
  if (more.redacted)
    sentences.push("The trace is redacted: names are removed and addresses are moved.");
  if (!more.cells) sentences.push("There is no map: the addresses of the PTE pages are unknown.");
  return [...sentences, ...plain.notes];
}

/** The sources of which this page has no process, and why. */
export function sourcesWithoutProcess({ sources, processes }) {
  const used = new Set(processes.map((process) => process.source));
  return sources
    .filter((source, at) => source.problem && !used.has(at))
    .map((source) => `Nothing of ${source.name} is shown: ${source.problem}`);
}
