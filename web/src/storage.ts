/**
 * Local storage under our own prefix: other pages that are developed on the same address
 * (often localhost:8000) would otherwise find our tabs in theirs, and we theirs in ours.
 */
const PREFIX = "taskstore:";

// The history would keep the headers of every request, tokens included, whatever the page's own settings say.
const WITH_HEADERS = new Set(["graphiql:queries", "graphiql:favorites"]);

const withoutHeaders = (json: string) =>
  JSON.stringify(JSON.parse(json), (key, value: unknown) => (key === "headers" ? undefined : value));

const keys = () => Object.keys(localStorage).filter((key) => key.startsWith(PREFIX));

export const storage = {
  get length() {
    return keys().length;
  },
  getItem: (key: string) => localStorage.getItem(PREFIX + key),
  setItem: (key: string, value: string) =>
    localStorage.setItem(PREFIX + key, WITH_HEADERS.has(key) ? withoutHeaders(value) : value),
  removeItem: (key: string) => localStorage.removeItem(PREFIX + key),
  clear: () => keys().forEach((key) => localStorage.removeItem(key)),
};
