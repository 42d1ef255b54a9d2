// Shows the routes of openapi.json and lets them be tried. Everything shown is text, never markup.

import { ask } from "/playground/key.js";

const routes = document.getElementById("routes");

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// A schema by its name, so that what is shown is what is meant.
function resolve(api, schema) {
  const name = schema?.$ref?.split("/").pop();
  return name ? api.components.schemas[name] : schema;
}

// An example of a body, as far as the schema tells.
function example(api, schema, depth = 0) {
  const found = resolve(api, schema) ?? {};
  if (found.enum) return found.enum.includes("FP32") ? "FP32" : found.enum[0];
  switch (Array.isArray(found.type) ? found.type[0] : found.type) {
    case "object": {
      if (depth > 4) return {};
      const all = found.properties ?? {};
      const wanted = found.required ?? Object.keys(all).slice(0, 1);
      return Object.fromEntries(wanted.map((key) => [key, example(api, all[key], depth + 1)]));
    }
    case "array": return found.items ? [example(api, found.items, depth + 1)] : [];
    case "integer": case "number": return 1;
    case "boolean": return true;
    case "string": return "";
    default: return [0];
  }
}

function form(api, path, method, operation) {
  const fields = new Map();
  const made = element("form");
  for (const parameter of operation.parameters) {
    const input = element("input", { autocomplete: "off", name: parameter.name });
    input.required = parameter.required ?? false;
    fields.set(parameter, input);
    made.append(element("label", {}, `${parameter.name} `, input, ` ${parameter.description ?? ""}`));
  }
  const schema = operation.requestBody?.content?.["application/json"]?.schema;
  const body = schema && element("textarea", { "aria-label": "Body", spellcheck: "false" });
  if (body) {
    body.value = JSON.stringify(example(api, schema), null, 2);
    made.append(body);
  }
  const answer = element("pre", { hidden: "" });
  made.append(element("p", {}, element("button", {}, "Send")), answer);
  made.addEventListener("submit", async (event) => {
    event.preventDefault();
    let url = path;
    const query = new URLSearchParams();
    const headers = body ? { "content-type": "application/json" } : {};
    for (const [parameter, { value }] of fields) {
      if (parameter.in === "path") url = url.replace(`{${parameter.name}}`, encodeURIComponent(value));
      else if (value && parameter.in === "query") query.set(parameter.name, value);
      else if (value) headers[parameter.name] = value;
    }
    if (query.size) url += `?${query}`;
    answer.hidden = false;
    answer.textContent = "…";
    try {
      const response = await ask(url, { method: method.toUpperCase(), headers, body: body?.value });
      const text = await response.text();
      let shown = text;
      try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch { /* It is no JSON, and shown as it is. */ }
      answer.textContent = `${response.status} ${response.statusText}\n\n${shown.slice(0, 100000)}`;
    } catch (error) {
      answer.textContent = `The server does not answer: ${error.message}`;
    }
  });
  return made;
}

function route(api, path, method, operation) {
  const responses = element("dl");
  for (const [status, { description }] of Object.entries(operation.responses)) {
    responses.append(element("dt", {}, status), element("dd", {}, description));
  }
  const types = Object.keys(operation.requestBody?.content ?? {});
  const inside = element("div", { class: "inside" });
  if (types.length) inside.append(element("p", {}, `Takes ${types.join(", ")}`));
  inside.append(responses, form(api, path, method, operation));
  const head = element("summary", {},
    element("span", { class: "method" }, method.toUpperCase()), element("code", {}, path),
    element("span", { class: "summary" }, operation.summary));
  return element("details", { class: method }, head, inside);
}

function show(api, wanted) {
  const groups = new Map();
  for (const [path, item] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(item)) {
      const text = `${method} ${path} ${operation.summary}`.toLowerCase();
      if (!text.includes(wanted)) continue;
      const [tag] = operation.tags;
      if (!groups.has(tag)) groups.set(tag, element("section", {}, element("h2", {}, tag)));
      groups.get(tag).append(route(api, path, method, operation));
    }
  }
  routes.replaceChildren(...(groups.size ? groups.values() : ["Nothing of that name"]));
}

try {
  const description = await (await ask("/openapi.json")).json();
  document.getElementById("version").textContent = description.info.version;
  document.getElementById("about").textContent = description.info.description;
  const find = document.getElementById("find");
  find.addEventListener("input", () => show(description, find.value.trim().toLowerCase()));
  show(description, "");
} catch (error) {
  routes.textContent = `The description cannot be read: ${error.message}`;
}
