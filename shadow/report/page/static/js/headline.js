// SPDX-License-Identifier: GPL-2.0-only
// The finding in one sentence, and three answers: what is wasted, by whom, what to do.

import { element, figure } from "./dom.js";
import { bytes, callSize, count, counted, pagesSize, seconds, share } from "./format.js";
import { mappingName } from "./model.js";

const LITTLE_BYTES = 256 * 1024;
const LITTLE_SHARE = 0.05;
const MUCH_SHARE = 0.25;
const MUCH_BYTES = 16 * 1024 * 1024;
const CALLS = {
  MADV_DONTNEED: "gives memory back to the kernel and keeps its addresses",
  MADV_FREE: "lets the kernel take memory back when it needs some",
  "MADV_FREE, then reclaim": "let the kernel take memory back, and it did",
  MADV_REMOVE: "gives memory of a file back to the kernel",
  munmap: "gives addresses and their memory back to the kernel",
};
export const LITTLE_RULES = ["nothing_to_do", "little_to_save"];

/** How bad it is: "none", "little", "share", "some" or "much"; advice knows what is little. */
export function severity({ now, advice, kernel }) {
  if (!now.empty) return "none";
  const part = now.empty / now.pte_pages;
  const wasted = now.empty * kernel.page_size;
  if (LITTLE_RULES.includes(advice?.[0]?.rule)) return part < MUCH_SHARE ? "little" : "share";
  if (wasted >= MUCH_BYTES || (part >= MUCH_SHARE && wasted >= LITTLE_BYTES)) return "much";
  return wasted < LITTLE_BYTES || part < LITTLE_SHARE ? "little" : "some";
}

export const VERDICTS = {
  none: "✓ nothing wasted",
  little: "✓ little wasted",
  share: "▲ a large share of a small amount wasted",
  some: "▲ some wasted",
  much: "✖ much wasted",
};

/**
 * The section at the top of a process.
 * @param {Object} model the process
 * @param {Function} choose shows a moment, by its index
 */
export function headline(model, choose) {
  const { plain } = model;
  const { now, process } = plain;
  const { geometry } = model;
  const kind = severity(plain);
  return element(
    "section",
    { id: "finding", class: `finding ${kind}` },
    element("p.verdict", {}, VERDICTS[kind]),
    element("h1", {}, ...sentence(process.comm, plain)),
    element("p.explanation", {}, ...meaning(now, geometry), ...worst(model, choose)),
    element("div.answers", {}, what(model), whom(model), todo(model)),
  );
}

function sentence(name, { now, kernel }) {
  const known = kernel.seed === "none" ? " known" : "";
  if (!now.pte_pages) return [`ptescope saw no page tables of ${name}.`];
  const all = figure("now.pte_pages", count(now.pte_pages));
  if (!now.empty) {
    return [`${name} wastes no page tables: all of its `, all, `${known} PTE pages map something.`];
  }
  return [
    `${name} wastes `,
    element("strong", {}, pagesSize(now.empty, kernel.page_size)),
    " of kernel memory: ",
    figure("now.empty", count(now.empty)),
    " of its ",
    all,
    `${known} PTE pages map nothing (${share(now.empty, now.pte_pages)}).`,
  ];
}

function meaning(now, { page, slot }) {
  if (!now.pte_pages) return [];
  return [
    `A PTE page is a page of ${bytes(page)} in which the kernel keeps where ${bytes(slot)} of a ` +
      "process's memory are. When the memory is given back but the PTE page stays, it is empty: it costs memory " +
      "and maps nothing. ",
  ];
}

/** The worst point of the run, if it was much worse than the end. */
function worst(model, choose) {
  const { points, plain } = model;
  const empty = points?.empty[plain.kernel.policy];
  if (!empty) return [];
  const most = empty.reduce((best, value, at) => (value > empty[best] ? at : best), 0);
  if (empty[most] < 8 || empty[most] < 2 * plain.now.empty) return [];
  const pages = points.pte_pages[plain.kernel.policy][most];
  return [
    element(
      "strong",
      {},
      `At the worst time, ${seconds(points.seconds[most])} after the start, ` +
        `${count(empty[most])} of ${count(pages)} were empty (${pagesSize(empty[most], model.geometry.page)}).`,
    ),
    " ",
    element(
      "button",
      { type: "button", onclick: () => choose(worstMoment(model)) },
      "Show that moment",
    ),
  ];
}

/** The moment with the most empty PTE pages; there are fewer moments than points. */
function worstMoment({ moments }) {
  return moments.reduce(
    (best, { now }, at) => (now.empty > moments[best].now.empty ? at : best),
    0,
  );
}

function answer(title, big, ...children) {
  return element(
    "div.answer",
    {},
    element("h2", {}, title),
    element("p.big", {}, ...big),
    ...children,
  );
}

function what({ plain, geometry }) {
  const { now, policies } = plain;
  const others = Object.entries(policies)
    .filter(([label]) => label !== plain.kernel.policy)
    .map(([label, outcome]) => `${count(outcome.empty)} under ${label}`);
  return answer(
    "What is wasted",
    [pagesSize(now.empty, geometry.page)],
    element(
      "p",
      {},
      `in ${counted(now.empty, "empty PTE page")}, of ${pagesSize(now.pte_pages, geometry.page)}`,
    ),
    others.length
      ? element("p.small", {}, `With other policies of the kernel: ${others.join(", ")}.`)
      : null,
  );
}

function whom({ plain, page }) {
  const { allocator } = plain.process;
  const served = allocator
    ? element("p.small", {}, `Allocator: ${allocator.name} ${allocator.version ?? ""}`)
    : null;
  const [first] = plain.origins?.emptied ?? [];
  if (!plain.now.empty) return answer("By whom", ["nobody"], served);
  if (!first) {
    const [owner] = [...(plain.mappings ?? [])].sort((one, other) => other.empty - one.empty);
    const text = owner?.empty ? `Most are in ${mappingName(owner, page)}.` : "";
    return answer("By whom", ["not known"], element("p", {}, text), served);
  }
  const total = plain.origins.emptied.reduce((sum, origin) => sum + origin.pte_pages, 0);
  const thread = first.thread ? `, by ${threadName(first.thread)}` : "";
  const where = first.kind ? `, in ${mappingName(first, page)}` : "";
  return answer(
    "By whom",
    [`${first.call}${callSize(first.least_bytes, first.most_bytes)}`],
    element("p", {}, `${count(first.pte_pages)} of the ${count(total)}${thread}${where}`),
    CALLS[first.call] ? element("p.small", {}, `${first.call} ${CALLS[first.call]}.`) : null,
    served,
  );
}

function todo({ plain, page }) {
  const [first] = plain.advice ?? [];
  if (!first) {
    const text = plain.advice
      ? "No rule has anything to say."
      : `Run ptescope advise -p ${plain.process.pid}, or make a report from a trace.`;
    return answer("What to do", [plain.advice ? "nothing" : "get advice"], element("p", {}, text));
  }
  const other = LITTLE_RULES.includes(first.rule) ? worthwhile(plain.advice) : null;
  return answer(
    "What to do",
    [first.title],
    first.effect ? element("p", {}, `Saves ${saving(first.effect)}`) : null,
    other
      ? element("p", {}, `If it matters here: ${other.title}. Saves ${saving(other.effect)}.`)
      : null,
    page.live
      ? null
      : element("p.small", {}, element("a", { href: "#advice" }, "How, and at what cost")),
  );
}

/** The first finding with a saving, rather one that the reader can follow than its makers. */
function worthwhile(advice) {
  const saving = advice.filter((finding) => finding.effect && finding.change);
  return saving.find((finding) => finding.audience === "anyone") ?? saving[0] ?? null;
}

/** A thread by its name; one without a known name is called by its number. */
function threadName(name) {
  return name.startsWith("thread ") ? name : `thread ${name}`;
}

/** What a change saves, as a range. */
export function saving(effect) {
  const [least, most] = effect.pte_pages;
  const [low, high] = effect.bytes;
  const upper = effect.upper_pages ? ` and up to ${count(effect.upper_pages[1])} upper tables` : "";
  if (least === most) return `${counted(most, "PTE page")}${upper}, ${bytes(high)}`;
  if (!least) return `at most ${counted(most, "PTE page")}${upper}, ${bytes(high)}`;
  return `${count(least)} to ${counted(most, "PTE page")}${upper}, ${bytes(low)} to ${bytes(high)}`;
}
