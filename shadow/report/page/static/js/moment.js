// SPDX-License-Identifier: GPL-2.0-only
// The moment that everything below shows: a slider, for which the keyboard works too.

import { element } from "./dom.js";
import { count, seconds } from "./format.js";

/** The control that chooses a moment. */
export class MomentControl {
  constructor(model, choose) {
    this.model = model;
    this.last = model.moments.length - 1;
    this.slider = element("input", {
      type: "range",
      id: "moment",
      min: 0,
      max: this.last,
      value: this.last,
      oninput: () => choose(Number(this.slider.value)),
    });
    this.text = element("output", { for: "moment" });
    const step = (by) => () =>
      choose(Math.min(Math.max(Number(this.slider.value) + by, 0), this.last));
    this.node = element(
      "div.moment",
      {},
      element("label", { for: "moment" }, "Moment"),
      element("button", { type: "button", "aria-label": "earlier", onclick: step(-1) }, "◀"),
      this.slider,
      element("button", { type: "button", "aria-label": "later", onclick: step(1) }, "▶"),
      this.text,
    );
    this.node.hidden = this.last === 0;
  }

  show(index) {
    const { moments } = this.model;
    this.slider.value = index;
    const end = seconds(moments[this.last].seconds);
    const where = index === this.last ? "the end" : seconds(moments[index].seconds);
    this.text.textContent =
      `${where} of ${end}, after ${count(moments[index].events)} events; ` +
      `moment ${index + 1} of ${this.last + 1}`;
    this.slider.setAttribute("aria-valuetext", this.text.textContent);
  }
}
