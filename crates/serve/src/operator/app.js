// The operator's page: asks the server every second, shows what it says, and hands on what an operator wants changed.

import { key, remember } from "/playground/key.js";
import { bytes, element } from "/playground/results.js";
import { get, paths, post, Refused } from "./client.js";
import { ModelCard } from "./model.js";
import { count, rate, uptime } from "./numbers.js";

const EVERY = 1000; // milliseconds

const $ = (id) => document.getElementById(id);

const cards = new Map();
let operations = null; // the last answer
let denied = ""; // why the last change was refused, until there is another key
let totals = []; // answered requests of all versions, at the last moments
let opened = null; // the version whose drift is shown, as { name, version }
let turn = 0; // grows when what is under way is of no use any more

function announce(text) {
  $("announce").textContent = text;
}

function fail(message) {
  if ($("alert").textContent !== message) $("alert").textContent = message;
  $("alert").hidden = !message;
}

function status(className, text) {
  $("dot").className = `dot ${className}`;
  if ($("status-text").textContent !== text) $("status-text").textContent = text;
}

// What is shown

function tile(name, value, unit = "", bad = false) {
  let node = $("tiles").querySelector(`[data-tile="${name}"]`);
  if (!node) {
    node = element("div", "tile");
    node.dataset.tile = name;
    node.append(element("dt", "", name), element("dd"));
    $("tiles").append(node);
  }
  node.classList.toggle("bad", bad);
  const shown = unit ? [value, element("small", "", ` ${unit}`)] : [value];
  node.lastChild.replaceChildren(...shown);
}

function overview(now) {
  const works = operations.models.flatMap((model) => model.versions.map(({ work }) => work).filter(Boolean));
  const sum = (of) => works.reduce((sum, work) => sum + of(work), 0);
  totals.push({ now, answered: sum((work) => work.succeeded), failed: sum((work) => work.failed) });
  // A version that was unloaded takes its numbers along.
  if (totals.length > 1 && totals.at(-1).answered < totals.at(-2).answered) totals = totals.slice(-1);
  totals = totals.slice(-4);
  const [first, last] = [totals[0], totals.at(-1)];
  const took = last.now - first.now;
  const drifted = operations.models
    .flatMap(({ versions }) => versions)
    .filter(({ drift }) => drift?.status === "significant").length;
  tile("Requests", took > 0 ? rate((last.answered - first.answered) / took) : "–", "/s");
  tile("Waiting", count(sum((work) => work.waiting_requests)));
  tile("Errors", count(last.failed), "", last.failed > first.failed);
  tile("Drifted versions", count(drifted), "", drifted > 0);
  const [memory, unit] = operations.resident_bytes === null ? ["–", ""] : bytes(operations.resident_bytes).split(" ");
  tile("Memory", memory, unit);
  tile("Running for", uptime(operations.uptime_s));
}

function show(now) {
  const { fault, models } = operations;
  status(fault ? "failed" : "ready", fault ? `Not ready: ${fault}` : "Ready");
  overview(now);
  const known = new Set(models.map(({ name }) => name));
  for (const [name, card] of cards) {
    if (known.has(name)) continue;
    card.root.remove();
    cards.delete(name);
  }
  for (const model of models) {
    let card = cards.get(model.name);
    if (!card) {
      card = new ModelCard(model.name, { act, open });
      cards.set(model.name, card);
      $("models").append(card.root);
    }
    card.show(model, now);
  }
  $("models").querySelector(":scope > .empty")?.remove();
  if (models.length === 0) $("models").append(element("p", "empty", "There is no model to serve yet."));
  rights();
}

/** Whether buttons may be pressed: the server takes changes, and has not refused the last one. */
function rights() {
  const allowed = Boolean(operations?.changes_allowed) && !denied;
  const why = denied || "Changes need a key with the scope admin.";
  const help = allowed ? "Changes are sent with the key below, if there is one." : why;
  const words = key() ? `${help} The key is kept until this tab is closed.` : help;
  if ($("key-help").textContent !== words) $("key-help").textContent = words;
  $("forget").disabled = !key();
  for (const card of cards.values()) card.allow(allowed, why);
}

async function drift() {
  if (!opened) return;
  const { name, version } = opened;
  const card = cards.get(name);
  const versions = operations.models.find((model) => model.name === name)?.versions ?? [];
  if (!versions.find((view) => view.version === version)?.drift) {
    card?.drift.fail(`Version ${version} is not loaded.`);
    return;
  }
  try {
    const found = await get(paths.drift(name, version));
    if (opened?.name === name && opened.version === version) card?.drift.show(found);
  } catch (error) {
    card?.drift.fail(error.message);
  }
}

function open(name, version) {
  // One at a time.
  if (opened && opened.name !== name && version !== undefined) {
    const { name: other, version: shown } = opened;
    opened = null;
    cards.get(other)?.toggle(shown);
  }
  opened = version === undefined ? null : { name, version };
  history.replaceState(null, "", opened ? `#${encodeURIComponent(name)}@${version}` : location.pathname);
  drift();
}

/** Shows what the address names after the `#`: `model@version`. */
function follow() {
  let address;
  try {
    address = decodeURIComponent(location.hash.slice(1));
  } catch {
    return; // it is none of ours
  }
  const [name, version] = address.split("@");
  const card = cards.get(name);
  if (card?.rows.has(Number(version)) && card.shown !== Number(version)) card.toggle(Number(version));
}

// What is done

const changes = {
  load: (name) => [paths.load(name), undefined, `${name} is loaded again.`],
  unload: (name) => [paths.unload(name), undefined, `${name} is unloaded.`],
  rollback: (name) => [paths.traffic(name), { action: "rollback" }, `${name} is rolled back.`],
  promote: (name, version) => [paths.traffic(name), { action: "promote", version }, `Version ${version} of ${name} is in production.`],
  split: (name, split) => [paths.traffic(name), { action: "set", split }, `The traffic of ${name} is split anew.`],
  reset: (name, version) => [paths.reset(name, version), undefined, `What version ${version} of ${name} met is forgotten.`],
};

async function act(what, name, detail) {
  const [path, body, done] = changes[what](name, detail);
  try {
    await post(path, body);
    fail("");
    announce(done);
  } catch (error) {
    if (error instanceof Refused && error.denied) denied = error.message;
    fail(error.message);
  }
  rights();
  await refresh();
}

async function refresh() {
  const mine = ++turn;
  try {
    const answer = await get(paths.operations);
    if (mine !== turn) return;
    const before = operations;
    operations = answer;
    if (before?.unreachable) fail("");
    show(performance.now() / 1000);
    if (!before?.models) follow();
    await drift();
  } catch (error) {
    if (mine !== turn) return;
    const words = error instanceof Refused ? error.message : "The server cannot be reached; asking again.";
    status("failed", error instanceof Refused ? "Refused" : "Not connected");
    fail(words);
    operations = { ...operations, unreachable: true };
    rights();
  }
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  remember($("key").value.trim());
  $("key").value = "";
  denied = "";
  fail("");
  announce(key() ? "The key is used from now on." : "There is no key.");
  refresh();
});

$("forget").addEventListener("click", () => {
  remember("");
  denied = "";
  announce("The key is forgotten.");
  refresh();
});

addEventListener("hashchange", follow);

async function live() {
  // What nobody looks at is not asked for.
  if (!document.hidden) await refresh();
  setTimeout(live, EVERY);
}

live();
