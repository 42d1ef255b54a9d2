// One model: its versions, its traffic, what may be done with it. Nodes are made once and then kept up to date.

import { element, percent } from "/playground/results.js";
import { DriftPanel } from "./drift.js";
import { count, Past, rate, time } from "./numbers.js";

const COLUMNS = ["Version", "State", "Requests/s", "p50", "p95", "p99", "Waiting", "Errors", "Drift", ""];

const put = (node, text) => {
  if (node.textContent !== text) node.textContent = text;
};

export class ModelCard {
  /** `act` does something that needs the right for it, and says what was done; `open` hears whose drift is shown. */
  constructor(name, { act, open }) {
    this.name = name;
    this.act = act;
    this.open = open;
    this.rows = new Map();
    this.root = element("section", "card model");
    this.root.dataset.model = name;
    const title = element("h2", "", name);
    title.id = `model-${name}`;
    this.root.setAttribute("aria-labelledby", title.id);
    const head = element("div", "model-head");
    this.chips = element("div", "chips");
    const actions = element("div", "actions");
    this.buttons = [
      this.button("Reload", "small", () => act("load", name)),
      this.button("Roll back", "small", () => act("rollback", name)),
      this.armed("Unload", () => act("unload", name)),
    ];
    actions.append(...this.buttons);
    head.append(title, this.chips, actions);

    const table = element("table", "versions");
    const headings = element("tr");
    for (const [place, words] of COLUMNS.entries()) {
      const cell = element("th", place === 1 ? "left" : "", words);
      cell.scope = "col";
      headings.append(cell);
    }
    table.append(element("thead"), (this.body = element("tbody")));
    table.tHead.append(headings);
    this.drift = new DriftPanel({ reset: () => act("reset", name, this.shown) });
    this.drift.root.hidden = true;
    this.drift.root.id = `drift-${name}`;
    this.buttons.push(this.drift.reset);
    this.root.append(head, table, this.traffic(), this.drift.root);
  }

  button(words, kind, press) {
    const button = element("button", `button ${kind}`, words);
    button.type = "button";
    button.addEventListener("click", () => press());
    return button;
  }

  /** A button that asks once before it does what cannot be taken back at once. */
  armed(words, press) {
    let timer;
    const calm = () => {
      clearTimeout(timer);
      timer = undefined;
      button.textContent = words;
    };
    const button = this.button(words, "small danger", () => {
      if (timer === undefined) {
        button.textContent = `${words}, really?`;
        timer = setTimeout(calm, 4000);
      } else {
        calm();
        press();
      }
    });
    return button;
  }

  /** The split of the traffic: a bar, and a weight for each version. */
  traffic() {
    this.trafficPanel = element("section", "panel");
    const head = element("div", "panel-head");
    head.append(element("h3", "", "Traffic"), (this.trafficWords = element("p", "help")));
    this.splitBar = element("div", "split-bar");
    this.splitBar.setAttribute("aria-hidden", "true");
    this.weights = element("form", "weights");
    this.weights.addEventListener("submit", (event) => {
      event.preventDefault();
      const given = [...this.weights.querySelectorAll("input")].filter((input) => Number(input.value) > 0);
      const split = Object.fromEntries(given.map((input) => [input.dataset.version, Math.round(Number(input.value))]));
      this.touched = false;
      this.act("split", this.name, split);
    });
    this.weights.addEventListener("input", () => (this.touched = true));
    this.apply = element("button", "button small", "Set weights");
    this.apply.type = "submit";
    this.buttons.push(this.apply);
    this.weights.append(this.apply);
    const split = element("div", "split");
    split.append(this.splitBar, this.weights);
    this.history = element("ol", "history");
    this.trafficPanel.append(head, split, this.history);
    return this.trafficPanel;
  }

  /** Whether anything may be done here. */
  allow(allowed, why) {
    for (const button of this.allButtons()) {
      button.disabled = !allowed;
      button.title = allowed ? "" : why;
    }
    for (const input of this.weights.querySelectorAll("input")) input.disabled = !allowed;
  }

  *allButtons() {
    yield* this.buttons;
    for (const row of this.rows.values()) yield row.promote;
  }

  show(model, now) {
    this.showChips(model);
    const known = new Set(model.versions.map(({ version }) => version));
    for (const [version, row] of this.rows) {
      if (known.has(version)) continue;
      row.root.remove();
      row.reason.remove();
      this.rows.delete(version);
      if (this.shown === version) this.toggle(version);
    }
    // The newest first.
    for (const view of [...model.versions].sort((a, b) => a.version - b.version)) {
      let row = this.rows.get(view.version);
      if (!row) {
        row = new VersionRow(view.version, this);
        this.rows.set(view.version, row);
        this.body.prepend(row.root, row.reason);
      }
      row.show(view, model, now);
    }
    this.showTraffic(model);
  }

  showChips({ default: answers, aliases, traffic }) {
    const chips = Object.entries(aliases).map(([alias, version]) => ["", `${alias} → ${version}`]);
    if (answers !== null && !Object.values(aliases).includes(answers)) chips.unshift(["", `answers: ${answers}`]);
    if (traffic?.plan?.auto) chips.push(["warn", `${traffic.plan.auto.candidate} comes in by steps: ${traffic.step?.percent ?? 0} %`]);
    if (traffic?.shadow) {
      const agreement = traffic.shadow.agreement;
      const agreed = agreement === null || agreement === undefined ? "" : `, agrees ${percent(agreement)}`;
      chips.push(["", `shadow: ${traffic.shadow.version}${agreed}`]);
    }
    const text = JSON.stringify(chips);
    if (this.chipText === text) return;
    this.chipText = text;
    this.chips.replaceChildren(...chips.map(([kind, words]) => element("span", `chip ${kind}`, words)));
  }

  showTraffic({ versions, default: answers, traffic }) {
    const ready = versions.filter(({ state }) => state === "ready").map(({ version }) => version);
    const split = Object.entries(traffic?.split ?? {}).filter(([, weight]) => weight > 0);
    this.trafficPanel.hidden = !traffic || (ready.length < 2 && split.length === 0 && traffic.history.length === 0);
    const shares = split.length > 0 ? split : answers === null ? [] : [[String(answers), 1]];
    const sum = shares.reduce((sum, [, weight]) => sum + weight, 0);
    put(this.trafficWords, shares.map(([version, weight]) => `${version}: ${percent(weight / sum)}`).join(" · "));
    const bar = JSON.stringify(shares);
    if (this.barText !== bar) {
      this.barText = bar;
      this.splitBar.replaceChildren(
        ...shares.map(([, weight]) => {
          const part = element("span");
          part.style.setProperty("--share", weight);
          return part;
        }),
      );
    }
    const fields = JSON.stringify(ready);
    if (this.fieldText !== fields) {
      this.fieldText = fields;
      this.touched = false;
      for (const field of this.weights.querySelectorAll(".field")) field.remove();
      const inputs = ready.map((version) => {
        const label = element("label", "field");
        const input = element("input");
        Object.assign(input, { type: "number", min: "0", max: "1000000", step: "1", inputMode: "numeric" });
        input.dataset.version = version;
        label.append(element("span", "", `Weight of ${version}`), input);
        return label;
      });
      this.apply.before(...inputs);
    }
    // What somebody is typing is not overwritten.
    if (!this.touched && !this.weights.contains(document.activeElement)) {
      const weights = Object.fromEntries(shares);
      for (const input of this.weights.querySelectorAll("input")) {
        const weight = String(weights[input.dataset.version] ?? 0);
        if (input.value !== weight) input.value = weight;
      }
    }
    const past = JSON.stringify(traffic?.history ?? []);
    if (this.pastText !== past) {
      this.pastText = past;
      const lines = [...(traffic?.history ?? [])].slice(-3).reverse().map(({ at, what, why }) => {
        const line = element("li");
        if (at) line.append(element("time", "", at.replace("T", " ").replace(/(\.\d+)?Z$/, "")));
        line.append(element("b", "", what.replaceAll("_", " ")), `: ${why}`);
        return line;
      });
      this.history.replaceChildren(...lines);
    }
  }

  /** Shows or hides the drift of a version. */
  toggle(version) {
    this.shown = this.shown === version ? undefined : version;
    this.drift.root.hidden = this.shown === undefined;
    for (const [number, row] of this.rows) row.button.setAttribute("aria-expanded", String(number === this.shown));
    this.open(this.name, this.shown);
  }
}

class VersionRow {
  constructor(version, card) {
    this.past = new Past();
    this.root = element("tr");
    this.root.dataset.version = version;
    const heading = element("th");
    heading.scope = "row";
    this.done = element("small");
    heading.append(String(version), this.done);
    const cell = (name, className = "") => {
      const node = element("td", className);
      if (name) node.dataset.name = name;
      return node;
    };
    this.state = cell("", "left state");
    this.chip = element("span", "chip");
    this.state.append(this.chip);
    this.rate = cell("Requests/s");
    const inner = element("div", "rate");
    this.spark = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    this.spark.setAttribute("class", "spark");
    this.spark.setAttribute("viewBox", "0 0 60 20");
    this.spark.setAttribute("preserveAspectRatio", "none");
    this.spark.setAttribute("aria-hidden", "true");
    this.paths = ["area", "line"].map((name) => {
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      path.setAttribute("class", name);
      this.spark.append(path);
      return path;
    });
    this.number = element("span");
    inner.append(this.spark, this.number);
    this.rate.append(inner);
    this.quantiles = ["p50", "p95", "p99"].map((name) => cell(name));
    this.waiting = cell("Waiting");
    this.errors = cell("Errors");
    const drift = cell("Drift");
    this.button = card.button("", "small drift-button", () => card.toggle(version));
    this.button.setAttribute("aria-expanded", "false");
    this.button.setAttribute("aria-controls", `drift-${card.name}`);
    drift.append((this.none = element("span", "none", "–")), this.button);
    const last = cell("", "last");
    this.promote = card.button("Promote", "small", () => card.act("promote", card.name, version));
    last.append(this.promote);
    this.root.append(heading, this.state, this.rate, ...this.quantiles, this.waiting, this.errors, drift, last);
    this.reason = element("tr", "reason");
    this.reasonCell = element("td");
    this.reasonCell.colSpan = COLUMNS.length;
    this.reason.append(this.reasonCell);
  }

  show({ version, state, reason, work, drift }, model, now) {
    put(this.chip, state);
    this.chip.className = `chip ${{ ready: "good", failed: "bad", loading: "warn", unloading: "warn" }[state] ?? ""}`;
    this.reason.hidden = !reason;
    this.reason.className = state === "failed" ? "reason bad" : "reason";
    this.root.classList.toggle("idle", !work);
    put(this.reasonCell, reason ?? "");
    this.promote.hidden = state !== "ready" || model.versions.length < 2 || model.aliases.production === version;
    if (work) this.past.add(now, work);
    else this.past = new Past();
    put(this.done, work ? `${count(work.succeeded)} answered` : "");
    const requests = ({ succeeded, failed }) => succeeded + failed;
    const rates = this.past.rates(requests);
    const current = this.past.rate(requests);
    put(this.number, current === null ? "–" : rate(current));
    this.spark.toggleAttribute("hidden", !work);
    this.draw(rates);
    const quantiles = this.past.quantiles("latency", [0.5, 0.95, 0.99]);
    this.quantiles.forEach((cell, place) => put(cell, quantiles ? time(quantiles[place]) : "–"));
    put(this.waiting, work ? count(work.waiting_requests) : "–");
    put(this.errors, work ? count(work.failed) : "–");
    this.errors.classList.toggle("some", (work?.failed ?? 0) > 0);
    this.errors.title = work
      ? `${work.rejected} rejected by a full queue, ${work.expired} out of time, ${work.cancelled} clients went away`
      : "";
    this.button.hidden = !drift;
    this.none.hidden = Boolean(drift);
    if (drift) {
      const words = { unwatched: "not watched" }[drift.status] ?? drift.status;
      put(this.button, drift.psi === undefined ? words : `${words} ${drift.psi.toFixed(2)}`);
      this.button.className = `button small drift-button ${drift.status}`;
      this.button.title = drift.reason ?? (drift.feature ? `most: ${drift.feature}` : "too few rows to say anything yet");
    }
  }

  /** The line of the last minute, the newest at the right. */
  draw(rates) {
    const most = Math.max(1, ...rates);
    const points = rates.map((value, place) => `${(60 - (rates.length - 1 - place)).toFixed(1)},${(19 - (18 * value) / most).toFixed(1)}`);
    const line = points.length > 1 ? `M${points.join("L")}` : "";
    this.paths[0].setAttribute("d", line && `${line}L60,20L${61 - points.length},20Z`);
    this.paths[1].setAttribute("d", line);
  }
}
