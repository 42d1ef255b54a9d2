// The drift of one version: its index and, bin by bin, the training data beside what came.

import { element, percent } from "/playground/results.js";
import { count, range } from "./numbers.js";

const WIDEST = 0.5; // the index at the right end of the gauge

/** Fills a panel; nodes are kept where they are, so that bars move instead of jumping. */
export class DriftPanel {
  constructor({ reset }) {
    this.root = element("section", "panel");
    this.span = "window";
    const head = element("div", "panel-head");
    this.title = element("h3");
    this.tools = element("div", "row");
    this.choice = element("div", "segmented");
    this.choice.setAttribute("role", "radiogroup");
    this.choice.setAttribute("aria-label", "Compared with the training data");
    const group = `span-${Math.random().toString(36).slice(2)}`;
    for (const [name, words] of [["window", "Window"], ["total", "Since loaded"]]) {
      const label = element("label");
      const input = element("input");
      Object.assign(input, { type: "radio", name: group, value: name, checked: name === this.span });
      input.addEventListener("change", () => {
        this.span = name;
        this.show(this.drift);
      });
      label.append(input, element("span", "", words));
      this.choice.append(label);
    }
    this.reset = element("button", "button small", "Reset");
    this.reset.type = "button";
    this.reset.addEventListener("click", () => reset());
    this.tools.append(this.choice, this.reset);
    head.append(this.title, this.tools);
    this.words = element("p", "help");
    this.legend = element("p", "legend");
    this.legend.append(element("span", "was", "training data"), element("span", "", "requests"));
    this.list = element("div", "features");
    this.features = new Map();
    this.root.append(head, this.words, this.legend, this.list);
  }

  fail(message) {
    this.drift = null;
    this.title.textContent = "Drift";
    this.words.textContent = message;
    for (const node of [this.tools, this.legend, this.list]) node.hidden = true;
  }

  show(drift) {
    if (!drift) return;
    this.drift = drift;
    this.title.textContent = `Drift of version ${drift.version}`;
    const watched = drift.status !== "unwatched";
    for (const node of [this.tools, this.legend, this.list]) node.hidden = !watched;
    if (!watched) {
      this.words.textContent = `Not watched: ${drift.reason}.`;
      return;
    }
    const rows = this.span === "window" ? drift.window_rows : drift.total_rows;
    const span = this.span === "window" ? `in the last ${lasting(drift.window_s)}` : "since it was loaded or reset";
    const skipped = drift.skipped_rows > 0 ? `, ${count(drift.skipped_rows)} more were not looked at` : "";
    const few = rows < drift.min_samples ? ` Levels are told from ${count(drift.min_samples)} on.` : "";
    this.words.textContent =
      `${count(rows)} ${rows === 1 ? "row" : "rows"} ${span}${skipped}.${few} Population stability index: ` +
      `moderate from ${drift.moderate}, significant from ${drift.significant}.`;
    const known = new Set();
    for (const feature of drift.features) {
      const name = `${feature.side} ${feature.name}`;
      known.add(name);
      let block = this.features.get(name);
      if (!block || block.bins.length !== feature.bins.length) {
        const fresh = new Feature(feature);
        if (block) block.root.replaceWith(fresh.root);
        else this.list.append(fresh.root);
        this.features.set(name, (block = fresh));
      }
      block.show(feature, feature[this.span], this.span, drift);
    }
    for (const [name, block] of this.features) {
      if (known.has(name)) continue;
      block.root.remove();
      this.features.delete(name);
    }
  }
}

class Feature {
  constructor(feature) {
    this.root = element("article", "feature");
    const head = element("div", "feature-head");
    const name = element("h4", "", feature.name);
    if (feature.side === "output") name.append(" ", element("small", "", "predicted"));
    this.psi = element("span", "psi");
    head.append(name, this.psi);
    this.gauge = element("div", "gauge");
    this.gauge.setAttribute("aria-hidden", "true");
    this.fill = element("i");
    this.marks = [element("b"), element("b")];
    this.gauge.append(this.fill, ...this.marks);
    this.chart = element("div", "bins");
    this.chart.setAttribute("role", "img");
    this.bins = feature.bins.map(() => {
      const bin = element("div", "bin");
      const [was, is] = [element("i", "was"), element("i", "is")];
      bin.append(was, is);
      this.chart.append(bin);
      return { bin, was, is };
    });
    const ends = element("div", "ends");
    this.ends = [element("span"), element("span")];
    ends.append(...this.ends);
    this.root.append(head, this.gauge, this.chart, ends);
  }

  show(feature, index, span, { moderate, significant }) {
    this.root.className = `feature ${index.status}`;
    this.root.dataset.feature = feature.name;
    this.root.dataset.status = index.status;
    this.psi.className = `psi ${index.status}`;
    this.psi.textContent = index.psi === null ? "–" : index.psi.toFixed(index.psi < 9.995 ? 3 : 1);
    this.psi.title = `${index.status}; chance alone stays below ${index.chance.toFixed(3)}`;
    this.fill.style.setProperty("--share", Math.min(1, (index.psi ?? 0) / WIDEST));
    [moderate, significant].forEach((at, place) => this.marks[place].style.setProperty("--at", at / WIDEST));
    // Another version, or the same one loaded anew, has ranges of its own.
    const [first, last] = [feature.bins[0], feature.bins.at(-1)];
    this.ends[0].textContent = first ? range(first) : "";
    this.ends[1].textContent = last && last !== first ? range(last) : "";
    const most = Math.max(0.001, ...feature.bins.flatMap((bin) => [bin.reference, bin[span]]));
    feature.bins.forEach((bin, place) => {
      const { bin: node, was, is } = this.bins[place];
      was.style.setProperty("--share", bin.reference / most);
      is.style.setProperty("--share", bin[span] / most);
      node.title = `${range(bin)}: ${percent(bin.reference)} in the training data, ${percent(bin[span])} of the requests`;
    });
    const moved = feature.bins.reduce((a, b) => (Math.abs(b[span] - b.reference) > Math.abs(a[span] - a.reference) ? b : a), feature.bins[0]);
    this.chart.setAttribute(
      "aria-label",
      moved
        ? `${feature.name}: ${index.status}. The largest change is ${range(moved)}, from ${percent(moved.reference)} to ${percent(moved[span])}.`
        : feature.name,
    );
  }
}

const lasting = (seconds) =>
  seconds % 3600 === 0 ? (seconds === 3600 ? "hour" : `${seconds / 3600} hours`)
  : seconds % 60 === 0 ? (seconds === 60 ? "minute" : `${seconds / 60} minutes`)
  : `${seconds} seconds`;
