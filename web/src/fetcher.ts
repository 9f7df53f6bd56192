import type { Fetcher, FetcherParams } from "@graphiql/toolkit";
import { getOperationAST, type ExecutionResult } from "graphql";
import { createClient } from "graphql-ws";

type Headers = Record<string, string>;

// The page and the API share one address; the query string (a shared link, say) is not part of it.
const endpoint = new URL(location.pathname, location.href);

/** Queries and mutations by POST, subscriptions by WebSocket, both on the page's own address. */
export const fetcher: Fetcher = (params, options) => {
  const headers: Headers = options?.headers ?? {};
  const operation = options?.documentAST && getOperationAST(options.documentAST, params.operationName);
  return operation?.operation === "subscription" ? subscribe(params, headers) : post(params, headers);
};

async function post(params: FetcherParams, headers: Headers): Promise<ExecutionResult> {
  const response = await fetch(endpoint, {
    method: "POST",
    headers: {
      "Content-Type": "application/json",
      Accept: "application/graphql-response+json, application/json",
      ...headers,
    },
    body: JSON.stringify(params),
  });
  const text = await response.text();
  try {
    return JSON.parse(text) as ExecutionResult;
  } catch {
    // Something between us and the API answered; its status says more than a JSON syntax error would.
    throw { message: `HTTP ${response.status} ${response.statusText}`.trim(), body: text.slice(0, 500) };
  }
}

/** One connection per subscription: the connection carries the headers, and the next one may have others. */
function subscribe(params: FetcherParams, headers: Headers) {
  const url = new URL(endpoint);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  const client = createClient({ url: url.href, connectionParams: headers, retryAttempts: 3 });
  return {
    subscribe(sink: { next(value: unknown): void; error(error: unknown): void; complete(): void }) {
      const unsubscribe = client.subscribe(params, { ...sink, error: (error) => sink.error(readable(error)) });
      return { unsubscribe };
    },
  } as ReturnType<Fetcher>;
}

function readable(error: unknown): unknown {
  if (error instanceof CloseEvent) {
    return { message: `Connection closed: ${error.code} ${error.reason}`.trim() };
  }
  return Array.isArray(error) ? { message: "The subscription was refused.", errors: error } : error;
}
