export type Headers = Record<string, unknown>;

const isAuthorization = (name: string) => name.toLowerCase() === "authorization";

/** The headers as written in the editor, or undefined while they are not a JSON object. */
export function parseHeaders(text: string): Headers | undefined {
  if (!text.trim()) {
    return {};
  }
  try {
    const value: unknown = JSON.parse(text);
    return value && typeof value === "object" && !Array.isArray(value) ? (value as Headers) : undefined;
  } catch {
    return undefined;
  }
}

export function authorizationIn(headers: Headers): string | undefined {
  const value = Object.entries(headers).find(([name]) => isAuthorization(name))?.[1];
  return typeof value === "string" && value ? value : undefined;
}

/** The editor's text for these headers with this Authorization, or without any. */
export function writeHeaders(headers: Headers, authorization: string | undefined): string {
  const rest = Object.entries(headers).filter(([name]) => !isAuthorization(name));
  const all = authorization ? [["Authorization", authorization], ...rest] : rest;
  return all.length ? JSON.stringify(Object.fromEntries(all), null, 2) : "";
}
