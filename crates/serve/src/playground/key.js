// Asks the server, with the key of this tab where there is one. The key is kept as long as the tab, and for this server.

const KEPT = "brazier-key";

export const key = () => sessionStorage.getItem(KEPT) ?? "";

export function remember(text) {
  if (text) sessionStorage.setItem(KEPT, text);
  else sessionStorage.removeItem(KEPT);
}

export function send(path, options = {}) {
  const headers = key() ? { ...options.headers, authorization: `Bearer ${key()}` } : options.headers;
  return fetch(path, { ...options, headers });
}

/** As `send`; where the server wants a key, whoever sits there is asked for it. */
export async function ask(path, options) {
  const response = await send(path, options);
  if (response.status !== 401) return response;
  const given = prompt("This server asks for a key.");
  if (!given) return response;
  remember(given.trim());
  return send(path, options);
}
