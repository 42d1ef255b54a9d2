// The page: chooses a model and its versions, sends what the inputs make, shows the answers.

import { ask as askWithKey } from "./key.js";
import { agreement, metrics, precision, verdict, Versus } from "./compare.js";
import { Inputs } from "./inputs.js";
import { bytes, element, quick, result, serverTiming, spoken } from "./results.js";

const $ = (id) => document.getElementById(id);

const state = { models: [], details: new Map(), shown: [], request: null, sent: 0 };

let speaking; // the timer of the next announcement

const inputs = new Inputs({ send, reset, announce, fail });
const versus = new Versus($("versus"));

function announce(text) {
  $("announce").textContent = text;
}

function fail(message) {
  $("alert").textContent = message;
  $("alert").hidden = !message;
}

function reset(hint) {
  state.sent += 1; // an answer that is still under way comes too late
  state.request = null;
  clearTimeout(speaking);
  announce("");
  $("empty").textContent = hint;
  $("empty").hidden = false;
  $("results").replaceChildren();
  $("quick").replaceChildren();
  fail("");
  curl();
}

async function get(path) {
  const response = await askWithKey(path, { headers: { accept: "application/json" } });
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.error ?? `The server answered ${response.status}.`);
  return body;
}

// Models and versions

async function start() {
  try {
    const { models, default: preferred } = await get("/models");
    state.models = models.filter((model) => ready(model).length > 0);
    if (state.models.length === 0) {
      status("", "Loading models…");
      setTimeout(start, 700);
      return;
    }
    const count = state.models.length;
    status("ready", `${count} model${count === 1 ? "" : "s"} ready`);
    $("model").replaceChildren(...state.models.map(({ name }) => new Option(name, name)));
    const known = (name) => state.models.some((model) => model.name === name);
    $("model").value = known(preferred) ? preferred : state.models[0].name;
    await follow();
    // Models that come later are listed, too.
    if (models.some((model) => model.versions.some(({ state }) => state === "loading"))) setTimeout(start, 1500);
  } catch (error) {
    status("failed", "Not connected");
    fail(`The server cannot be reached: ${error.message}`);
    setTimeout(start, 3000);
  }
}

/** Chooses what the address names after the `#`: `model`, `model@version`, or `model@version,other` to compare. */
async function follow() {
  const [name, chosen = ""] = decodeURIComponent(location.hash.slice(1)).split("@");
  if (state.models.some((model) => model.name === name)) $("model").value = name;
  const [version, other = ""] = chosen.split(",");
  versions(version, other);
  await choose();
}

function status(className, text) {
  $("dot").className = `dot ${className}`;
  $("status-text").textContent = text;
}

const ready = (model) => model.versions.filter((version) => version.state === "ready");

const current = () => state.models.find((model) => model.name === $("model").value);

function title(model, version) {
  const names = Object.entries(model.aliases).filter(([, number]) => number === version).map(([alias]) => alias);
  return [`version ${version}`, ...names].join(" · ");
}

function versions(preferred, other) {
  const model = current();
  const newestFirst = [...model.versions].reverse();
  const options = newestFirst.map(({ version, state: is }) => {
    const option = new Option(is === "ready" ? title(model, version) : `version ${version} (${is})`, version);
    option.disabled = is !== "ready";
    return option;
  });
  $("version").replaceChildren(...options);
  const usable = ready(model).map(({ version }) => version);
  const wanted = [Number(preferred), model.aliases[preferred], model.answers].find((version) => usable.includes(version));
  $("version").value = wanted ?? usable.at(-1);
  others(String(model.aliases[other] ?? other));
}

/** The versions to compare with: those that are not chosen. */
function others(before) {
  const model = current();
  const chosen = Number($("version").value);
  const rest = ready(model).filter(({ version }) => version !== chosen).reverse();
  const options = rest.map(({ version }) => new Option(title(model, version), version));
  $("compare").replaceChildren(new Option("nothing", ""), ...options);
  $("compare").value = rest.some(({ version }) => String(version) === before) ? before : "";
  $("compare-field").hidden = rest.length === 0;
}

async function details(name, version) {
  const path = `/models/${encodeURIComponent(name)}/versions/${version}`;
  if (!state.details.has(path)) state.details.set(path, await get(path));
  return state.details.get(path);
}

async function choose() {
  try {
    fail("");
    const name = $("model").value;
    const chosen = [$("version").value, $("compare").value].filter(Boolean);
    state.shown = await Promise.all(chosen.map((version) => details(name, version)));
    history.replaceState(null, "", `#${encodeURIComponent(name)}@${chosen}`);
    facts(state.shown[0]);
    // The table tells more about two versions than a line about one.
    $("facts").hidden = state.shown.length > 1;
    versus.show(state.shown, state.shown.map((model) => title(current(), model.version)));
    inputs.show({ samples: [], ...state.shown[0] });
    curl();
  } catch (error) {
    fail(error.message);
  }
}

function facts(model) {
  const chip = (name, value, nameClass = "") => {
    const node = element("span", "chip");
    node.append(element("span", nameClass, name), " ", element("b", "", value));
    return node;
  };
  const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
  const chips = metrics(model).map(([name, value]) => chip(name, value));
  chips.push(chip("parameters", compact.format(model.parameters)));
  // `int8` needs no word before it for those who look.
  chips.push(chip("precision", precision(model), "visually-hidden"));
  if (model.size_bytes) chips.push(chip("size", bytes(model.size_bytes)));
  $("facts").replaceChildren(...chips);
}

// Requests

async function send(request) {
  state.request = request;
  state.sent += 1;
  const mine = state.sent;
  const models = state.shown;
  // One after the other, and each first in its turn: asked at once, they would share the processor's cores.
  const turns = mine % 2 === 0 ? [...models.keys()] : [...models.keys()].reverse();
  const answers = [];
  for (const index of turns) {
    answers[index] = await ask(models[index], request);
    if (mine !== state.sent) return;
  }
  fail("");
  curl();
  show(answers);
}

async function ask(model, { body, type }) {
  // Of two versions the table tells the rest; two short titles keep their bars side by side.
  const heading = state.shown.length > 1 ? `version ${model.version}` : `${model.name} ${title(current(), model.version)}`;
  const start = performance.now();
  try {
    const path = `/models/${encodeURIComponent(model.name)}/versions/${model.version}/predict`;
    const response = await askWithKey(path, { method: "POST", body, headers: { "content-type": type } });
    const answer = await response.json();
    if (!response.ok) return { title: heading, error: answer.error ?? `The server answered ${response.status}.` };
    const server = serverTiming(response.headers.get("server-timing"));
    return { title: heading, prediction: answer.prediction, server, roundTrip: performance.now() - start };
  } catch (error) {
    return { title: heading, error: `The server cannot be reached: ${error.message}` };
  }
}

function show(answers) {
  $("empty").hidden = true;
  const results = $("results");
  const before = results.querySelectorAll(".result");
  const blocks = answers.map((answer, index) => result(answer, state.shown[index].labels, before[index]));
  results.classList.toggle("two", answers.length === 2);
  $("quick").replaceChildren(...quick(answers[0]));
  const agreed = answers.length === 2 ? agreement(answers) : null;
  results.replaceChildren(...(agreed ? [verdict(agreed)] : []), ...blocks);
  versus.add(answers);
  // On a narrow screen the answer stands below the form; while someone draws, nothing may move.
  if (state.request?.sample !== undefined) blocks[0].scrollIntoView({ block: "nearest", behavior: "smooth" });
  // Someone who listens wants the last of many quick answers.
  clearTimeout(speaking);
  speaking = setTimeout(() => announce([...answers.map(spoken), agreed?.words].filter(Boolean).join(". ")), 400);
}

// The same from a terminal

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function curl() {
  const model = state.shown[0];
  if (!model) return;
  const version = current().answers === model.version ? "" : `/versions/${model.version}`;
  const url = `${location.origin}/models/${encodeURIComponent(model.name)}${version}/predict`;
  const example = state.request?.sample ?? (model.input.kind === "image" ? undefined : model.samples?.[0]);
  if (example !== undefined) {
    const text = JSON.stringify({ input: example });
    $("curl").textContent = `curl ${url} -H 'content-type: application/json' \\\n  -d ${quoted(text)}`;
  } else if (model.input.kind === "image") {
    const { file = "picture.png", type = "image/png" } = state.request ?? {};
    $("curl").textContent = `curl ${url} -H 'content-type: ${type}' --data-binary ${quoted(`@${file}`)}`;
  } else {
    $("curl").textContent = `curl ${url} -H 'content-type: text/csv' --data-binary @rows.csv`;
  }
}

$("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText($("curl").textContent);
    $("copy").textContent = "Copied";
  } catch {
    // Without permission (or without https) the text is selected instead.
    getSelection().selectAllChildren($("curl"));
    $("copy").textContent = "Selected";
  }
  setTimeout(() => ($("copy").textContent = "Copy"), 1500);
});

$("picker").addEventListener("submit", (event) => event.preventDefault());
$("model").addEventListener("change", () => {
  versions("", "");
  choose();
});
$("version").addEventListener("change", () => {
  others($("compare").value);
  choose();
});
$("compare").addEventListener("change", choose);
window.addEventListener("hashchange", follow);

start();
