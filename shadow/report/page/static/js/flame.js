// SPDX-License-Identifier: GPL-2.0-only
// Stacks as a flame graph: d3-hierarchy computes the rectangles, buttons show them.

import { element, fill } from "./dom.js";
import { count, counted, share } from "./format.js";

const ROW = 22;
const NARROWEST = 0.002;
const HUES = [24, 30, 36, 42, 48];

/** The graph of a tree of {name, value, children}; a value includes those of the children. */
export class FlameGraph {
  constructor(tree) {
    this.root = d3.hierarchy(tree).each((node) => {
      node.value = node.data.value;
    });
    this.root.sort((one, other) => other.value - one.value);
    d3.partition()(this.root);
    this.node = element("div.flame", { role: "tree", "aria-label": "Stacks" });
    this.path = element("p.small", { "aria-live": "polite" });
    this.focus(this.root);
  }

  /** Show a frame over the whole width, with its callers above it. */
  focus(chosen) {
    this.chosen = chosen;
    const shown = chosen.ancestors().reverse();
    chosen.each((node) => {
      if (node !== chosen && this.width(node) >= NARROWEST) shown.push(node);
    });
    fill(this.node, ...shown.map((node) => this.frame(node)));
    this.node.style.blockSize = `${(Math.max(...shown.map((node) => node.depth)) + 1) * ROW}px`;
    this.say(chosen);
  }

  width(node) {
    return (node.x1 - node.x0) / (this.chosen.x1 - this.chosen.x0);
  }

  frame(node) {
    const inside = node.x0 >= this.chosen.x0 && node.x1 <= this.chosen.x1;
    const left = inside ? (node.x0 - this.chosen.x0) / (this.chosen.x1 - this.chosen.x0) : 0;
    const button = element(
      "button.frame",
      {
        type: "button",
        role: "treeitem",
        "aria-label": this.text(node),
        title: this.text(node),
        onclick: () => this.focus(node),
        onfocus: () => this.say(node),
        onpointerenter: () => this.say(node),
      },
      node.data.name,
    );
    button.style.left = `${100 * left}%`;
    button.style.inlineSize = `${100 * (inside ? this.width(node) : 1)}%`;
    button.style.top = `${node.depth * ROW}px`;
    button.style.setProperty("--hue", HUES[hash(node.data.name) % HUES.length]);
    return button;
  }

  text(node) {
    return `${node.data.name}: ${counted(node.value, "PTE page")}, ${share(node.value, this.root.value)}`;
  }

  say(node) {
    const names = node
      .ancestors()
      .reverse()
      .map((each) => each.data.name);
    const all = count(this.root.value);
    fill(this.path, `${names.join(" › ")}: ${count(node.value)} of ${all} PTE pages`);
  }
}

function hash(text) {
  let sum = 7;
  for (const character of text) sum = (sum * 31 + character.codePointAt(0)) >>> 0;
  return sum;
}
