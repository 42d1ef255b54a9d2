// Asks the server, with the key of this tab where it wants one. The key is kept as long as the tab, and for this server.

const NAME = "brazier-key";

export async function ask(path, options = {}) {
  const send = () => {
    const key = sessionStorage.getItem(NAME);
    const headers = key ? { ...options.headers, authorization: `Bearer ${key}` } : options.headers;
    return fetch(path, { ...options, headers });
  };
  const response = await send();
  if (response.status !== 401) return response;
  const key = prompt("This server asks for a key.");
  if (!key) return response;
  sessionStorage.setItem(NAME, key.trim());
  return send();
}
