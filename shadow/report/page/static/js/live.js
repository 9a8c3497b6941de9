// SPDX-License-Identifier: GPL-2.0-only
// A live page: fetches its data from the daemon while somebody looks, and shows it.

import { element, fill } from "./dom.js";
import { HostView } from "./host.js";
import { LiveProcess } from "./liveprocess.js";

const EVERY_MS = 2000;
const LONGEST_WAIT_MS = 30000;

/** Fetch and show, again and again; a hidden page fetches nothing. */
export function startLive(place, page) {
  const isHost = location.pathname === "/";
  const address = isHost ? "/host.json" : `${location.pathname}.json`;
  const view = isHost ? new HostView(place) : new LiveProcess(place, page);
  const status = document.getElementById("status");
  let failures = 0;

  async function once() {
    try {
      const answer = await fetch(address, { cache: "no-store", credentials: "omit" });
      if (!answer.ok) throw new Error((await answer.text()).trim());
      await view.show(await answer.json());
      failures = 0;
      status.textContent = `live, ${new Date().toLocaleTimeString("en-GB")}`;
      status.className = "";
    } catch (error) {
      failures += 1;
      fill(status, `STALE: ${error.message}`);
      status.className = "stale";
      if (!place.childElementCount) fill(place, element("p.lack", {}, error.message));
    }
    document.documentElement.dataset.ready = "true";
  }

  async function loop() {
    for (;;) {
      if (!document.hidden) await once();
      const wait = Math.min(EVERY_MS * 2 ** Math.min(failures, 5), LONGEST_WAIT_MS);
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
  loop();
}
