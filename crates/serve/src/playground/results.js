// What the models answer: the winner, a bar for each class, the time it took.

const MOST = 12; // bars that are shown in the order of the classes; with more classes, the best ten

export const percent = (share) => `${(share * 100).toFixed(1)} %`;

const number = (value) => new Intl.NumberFormat("en", { maximumSignificantDigits: 6 }).format(value);

/** A number of bytes as the commands print it: 361 kB, 1.4 MB. */
export function bytes(count) {
  const [value, unit] = count < 999_500 ? [count / 1e3, "kB"] : [count / 1e6, "MB"];
  return `${value < 10 ? value.toFixed(1) : value.toFixed(0)} ${unit}`;
}

export function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

/** One answer as a block; `previous` is the block it replaces, whose bars then move instead of jumping. */
export function result(answer, labels, previous) {
  const block = element("div", "result");
  const title = element("p", "result-title");
  title.append(element("span", "", answer.title));
  block.append(title);
  if (answer.error) {
    block.append(element("p", "failure", answer.error));
    return block;
  }
  const { prediction } = answer;
  const winner = element("p", "winner");
  winner.append(...headline(prediction));
  block.append(winner);
  if (prediction.probabilities) block.append(bars(prediction, labels, previous));
  else if (Object.keys(prediction.values).length > 1) block.append(values(prediction.values));
  const shown = labels.length > MOST && prediction.probabilities ? `The best 10 of ${labels.length}. ` : "";
  if (shown) block.append(element("p", "more", shown));
  block.append(timing(answer));
  return block;
}

function headline(prediction) {
  if (prediction.class !== undefined) {
    return [element("span", "winner-name", prediction.class), element("span", "winner-share", percent(prediction.probability))];
  }
  if (prediction.labels) return [element("span", "winner-name", prediction.labels.join(", ") || "none of the labels")];
  const [[name, value]] = Object.entries(prediction.values);
  return [element("span", "winner-name", number(value)), element("span", "winner-share", name)];
}

function bars(prediction, labels, previous) {
  let entries = labels.map((name) => ({ name, share: prediction.probabilities[name] }));
  if (entries.length > MOST) entries = entries.sort((a, b) => b.share - a.share).slice(0, 10);
  const won = prediction.class !== undefined ? [prediction.class] : prediction.labels;
  const list = element("ol", labels.some((name) => name.length > 3) ? "bars named" : "bars");
  for (const { name, share } of entries) {
    const item = element("li", won.includes(name) ? "bar top" : "bar");
    item.dataset.class = name;
    const track = element("span", "bar-track");
    track.setAttribute("aria-hidden", "true");
    const fill = element("div", "bar-fill");
    const before = previous?.querySelector(`[data-class="${CSS.escape(name)}"] .bar-fill`);
    fill.style.setProperty("--share", before?.style.getPropertyValue("--share") || "0");
    requestAnimationFrame(() => requestAnimationFrame(() => fill.style.setProperty("--share", share)));
    track.append(fill);
    item.append(element("span", "bar-name", name), track, element("span", "bar-share", percent(share)));
    list.append(item);
  }
  return list;
}

function values(all) {
  const list = element("ol", "bars named");
  for (const [name, value] of Object.entries(all)) {
    const item = element("li", "bar");
    item.append(element("span", "bar-name", name), element("span"), element("span", "bar-share", number(value)));
    list.append(item);
  }
  return list;
}

const milliseconds = (value) => (value < 10 ? value.toFixed(2) : value.toFixed(0));

function timing({ server, roundTrip }) {
  const line = element("p", "timing");
  const { queue = 0, prepare = 0, infer = 0 } = server;
  line.append(element("b", "", `${milliseconds(queue + prepare + infer)} ms`), " in the server: ");
  line.append(`network ${milliseconds(infer)}, preparation ${milliseconds(prepare)}. `);
  line.append(`${milliseconds(roundTrip)} ms there and back.`);
  return line;
}

/** The answer in a word and a number, for the small line under the drawing. */
export function quick({ prediction }) {
  return prediction?.class === undefined ? [] : [`${prediction.class} `, element("span", "", percent(prediction.probability))];
}

/** Reads a `Server-Timing` header: {queue, prepare, infer} in milliseconds. */
export function serverTiming(header) {
  const parts = (header ?? "").split(",").map((part) => /^\s*(\w+);dur=([\d.]+)/.exec(part));
  return Object.fromEntries(parts.filter(Boolean).map(([, name, value]) => [name, Number(value)]));
}

/** One sentence for people who listen. */
export function spoken(answer) {
  if (answer.error) return `${answer.title}: ${answer.error}`;
  const { prediction } = answer;
  if (prediction.class !== undefined) return `${answer.title}: ${prediction.class}, ${percent(prediction.probability)}`;
  if (prediction.labels) return `${answer.title}: ${prediction.labels.join(", ") || "none of the labels"}`;
  const all = Object.entries(prediction.values).map(([name, value]) => `${name} ${number(value)}`);
  return `${answer.title}: ${all.join(", ")}`;
}
