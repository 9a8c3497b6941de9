// SPDX-License-Identifier: GPL-2.0-only
// The advice as cards: the problem, the change, what it saves and costs, and the text to copy.

import { element, visible } from "./dom.js";
import { saving } from "./headline.js";

/** The cards of a list of findings, and what could not be judged. */
export function adviceCards(findings, limits) {
  if (!findings) {
    return element(
      "p.lack",
      {},
      "This page has no advice: ptescope report and ptescope advise give it, from a trace or a followed process.",
    );
  }
  const cards = findings.map((finding, at) => card(finding, at + 1));
  return element(
    "div.cards",
    {},
    ...(cards.length
      ? cards
      : [element("p", {}, "No rule has anything to say about this process.")]),
    ...(limits ?? []).map((limit) => element("p.lack", {}, limit)),
  );
}

function card(finding, number) {
  const { change, effect, risks } = finding;
  return element(
    "article.card",
    { class: finding.urgent ? "card urgent" : "card" },
    element("h3", {}, `${number}. ${finding.title}`),
    element("p", {}, finding.why),
    effect
      ? element(
          "p.saves",
          {},
          element("strong", {}, `Saves ${saving(effect)}`),
          ` (${effect.basis})`,
        )
      : null,
    change ? element("p", {}, change.what) : null,
    change?.how.length ? copyable(change.how) : null,
    risks.length ? named("Costs and risks", risks) : null,
    finding.verify ? named("Verify", [finding.verify]) : null,
    finding.source ? element("p.small", {}, `Source: ${finding.source}`) : null,
  );
}

function named(title, sentences) {
  return element(
    "div",
    {},
    element("h4", {}, title),
    element("ul", {}, ...sentences.map((sentence) => element("li", {}, sentence))),
  );
}

/** Lines to copy; as in the other reports, no name of a process can end a line. */
function copyable(lines) {
  const text = lines.map(visible).join("\n");
  const code = element("pre", { tabindex: 0 }, document.createTextNode(text));
  const button = element(
    "button",
    { type: "button", onclick: () => copy(text, code, button) },
    "Copy",
  );
  return element("div.copyable", {}, code, button);
}

/** Copy a text; where the browser does not allow it, select it instead. */
async function copy(text, code, button) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(code);
    button.textContent = "Selected: press Ctrl+C";
  }
}
