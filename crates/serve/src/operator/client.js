// What an operator asks of the server.

import { send } from "/playground/key.js";

/** A refusal, with its status and in the server's words. */
export class Refused extends Error {
  constructor(status, words) {
    super(words);
    this.denied = status === 401 || status === 403;
  }
}

async function ask(path, options) {
  const headers = { accept: "application/json", ...options.headers };
  const response = await send(path, { ...options, headers, cache: "no-store" });
  const body = await response.json().catch(() => null);
  if (!response.ok) throw new Refused(response.status, body?.error ?? `The server answered ${response.status}.`);
  return body;
}

const PATIENCE = 5000; // milliseconds; loading a model takes longer, looking at it does not

export const get = (path) => ask(path, { signal: AbortSignal.timeout(PATIENCE) });

export const post = (path, body) =>
  ask(path, { method: "POST", body: body && JSON.stringify(body), headers: body && { "content-type": "application/json" } });

const part = encodeURIComponent;

export const paths = {
  operations: "/v2/ops",
  load: (name) => `/v2/repository/models/${part(name)}/load`,
  unload: (name) => `/v2/repository/models/${part(name)}/unload`,
  traffic: (name) => `/v2/repository/models/${part(name)}/traffic`,
  drift: (name, version) => `/v2/models/${part(name)}/versions/${version}/drift`,
  reset: (name, version) => `/v2/models/${part(name)}/versions/${version}/drift/reset`,
};
