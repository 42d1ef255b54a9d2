// Two versions side by side: what each is, how long its network takes, and whether they agree.

import { bytes, element, percent } from "./results.js";

const KEPT = 31; // times of which the median is shown

/** The metrics that are worth a look, with the names that people use. */
const METRICS = { accuracy: "accuracy", label_accuracy: "label accuracy", micro_f1: "micro F1", r2: "R²", rmse: "RMSE" };

/** The metrics of a model as pairs of name and text. */
export function metrics(model) {
  const known = Object.entries(METRICS).filter(([metric]) => model.metrics?.[metric] !== undefined);
  return known.map(([metric, name]) => {
    const value = model.metrics[metric];
    return [name, metric.endsWith("accuracy") ? `${(value * 100).toFixed(2)} %` : value.toPrecision(4)];
  });
}

/** What a model computes in, in words. */
export function precision({ precision: computes, quantization: plan }) {
  if (!plan) return computes;
  if (computes !== "int8") return `${computes}, from int8`;
  return plan.layers.length < plan.of ? `int8, ${plan.layers.length} of ${plan.of} layers` : computes;
}

/** The table below two answers. It is there before there are answers, with what is known of the versions. */
export class Versus {
  constructor(place) {
    this.place = place;
    this.models = [];
  }

  /** Compares two models, each with its title; with any other number there is nothing to compare. */
  show(models, titles) {
    const key = ({ name, version }) => `${name}@${version}`;
    const same = models.length === this.models.length && models.every((model, index) => key(model) === key(this.models[index]));
    if (!same) this.times = models.map(() => []);
    [this.models, this.titles] = [models, titles];
    this.paint();
  }

  /** Takes the times of answers, in the order of the models. */
  add(answers) {
    if (this.models.length !== 2 || answers.some((answer) => answer.server?.infer === undefined)) return;
    this.times = this.times.map((times, index) => [...times, answers[index].server.infer].slice(-KEPT));
    this.paint();
  }

  paint() {
    this.place.hidden = this.models.length !== 2;
    if (this.place.hidden) return;
    const { models } = this;
    const table = element("table", "versus");
    table.append(element("caption", "visually-hidden", "The two versions"));
    const head = element("tr");
    head.append(element("td"), ...this.titles.map((title) => heading("col", title)));
    const rows = [row("Precision", models.map(precision)), row("Runs on", models.map(kernels))];
    const records = models.map((model) => model.record_bytes);
    if (records.every(Boolean)) rows.push(row("Record", records.map(bytes), better(records, "smaller")));
    const [first, second] = models.map((model) => new Map(metrics(model)));
    for (const [name, value] of first) {
      if (second.has(name)) rows.push(row(name[0].toUpperCase() + name.slice(1), [value, second.get(name)]));
    }
    const count = this.times[0].length;
    if (count > 0) {
      const medians = this.times.map(median);
      const label = count === 1 ? "one answer" : `median of ${count} answers`;
      rows.push(row("Network", medians.map(duration), better(medians, "faster"), label));
    }
    const [top, body] = [element("thead"), element("tbody")];
    top.append(head);
    body.append(...rows);
    table.append(top, body);
    this.place.replaceChildren(table);
  }
}

function heading(scope, text, note) {
  const cell = element("th", "", text);
  cell.scope = scope;
  if (note) cell.append(" ", element("small", "", note));
  return cell;
}

/** A row; `notes` are small words behind the values. */
function row(name, values, notes = [], label = "") {
  const line = element("tr");
  const cells = values.map((value, index) => {
    const cell = element("td", "", value);
    if (notes[index]) cell.append(" ", element("small", "", notes[index]));
    return cell;
  });
  line.append(heading("row", name, label), ...cells);
  return line;
}

const kernels = ({ kernels: name, isa, device }) => (name === "engine" ? `engine, ${isa}` : `${name} on ${device}`);

/** What the lower of two numbers is better by, in words at its place; nothing for less than five per cent. */
function better([a, b], word) {
  const ratio = Math.max(a, b) / Math.min(a, b);
  if (!(ratio >= 1.05) || !Number.isFinite(ratio)) return [];
  const text = `${ratio.toFixed(1)}× ${word}`;
  return a < b ? [text, ""] : ["", text];
}

function median(times) {
  const sorted = [...times].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

const duration = (value) => (value < 1 ? `${(value * 1000).toFixed(0)} µs` : `${value.toFixed(1)} ms`);

/** Whether two answers agree: {agrees, words}, where `agrees` is undefined for numbers; null after a failure. */
export function agreement([a, b]) {
  const [first, second] = [a.prediction, b.prediction];
  if (!first || !second) return null;
  if (first.values) {
    const apart = Object.keys(first.values).map((name) => {
      const [one, other] = [first.values[name], second.values[name]];
      return one === other ? 0 : Math.abs(one - other) / Math.max(Math.abs(one), Math.abs(other));
    });
    return { words: `The values of the two differ by ${percent(Math.max(...apart))} at most.` };
  }
  const said = (prediction) => (prediction.labels ? prediction.labels.join(", ") || "none of the labels" : prediction.class);
  if (said(first) !== said(second)) return { agrees: false, words: `The two disagree: ${said(first)} and ${said(second)}.` };
  const apart = Object.entries(first.probabilities).map(([name, share]) => Math.abs(share - second.probabilities[name]));
  const points = (Math.ceil(Math.max(...apart) * 1000) / 10).toFixed(1);
  return { agrees: true, words: `The two agree; no probability differs by more than ${points} points.` };
}

/** The same as a paragraph, with a mark for those who look. */
export function verdict({ agrees, words }) {
  const line = element("p", agrees === undefined ? "agreement" : `agreement ${agrees ? "same" : "apart"}`);
  if (agrees !== undefined) {
    const mark = element("span", "mark", agrees ? "✓" : "≠");
    mark.setAttribute("aria-hidden", "true");
    line.append(mark);
  }
  line.append(element("span", "", words));
  return line;
}
