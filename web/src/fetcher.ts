import type { Fetcher, FetcherParams } from "@graphiql/toolkit";
import { type ExecutionResult, getOperationAST, parse } from "graphql";
import { createClient } from "graphql-ws";
import { note } from "./answer";
import { isDemo, owner } from "./config";
import { authorizationIn } from "./headers";

type Headers = Record<string, string>;

// The server makes new demo tokens when it starts; a page that was open before still has the old ones.
const STALE = isDemo
  ? "The demo tokens of this page have ended. Reload the page; if that does not help, restart the server."
  : "This session has ended. Sign in again.";

// The page and the API share one address; the query string (a shared link, say) is not part of it.
const endpoint = new URL(location.pathname, location.href);

/** The code with which the server closes a WebSocket whose token it refuses; the client would try it again. */
const REFUSED = 4403;

const INTROSPECTION = "IntrospectionQuery";

let explaining = false;

/** The next operation is explained: what it costs, and for a query what it took. */
export const explainNext = () => {
  explaining = true;
};

/** Queries and mutations by POST, subscriptions by WebSocket, both on the page's own address. */
export const fetcher: Fetcher = (params, options) => {
  const headers: Headers = options?.headers ?? {};
  const operation = operationIn(params);
  const request = operation ? { ...params, operationName: operation.name?.value } : params;
  if (request.operationName === INTROSPECTION) {
    return post(request, headers).then(({ result }) => result);
  }
  note(undefined);
  const explained = explaining;
  explaining = false;
  if (explained) {
    return explain(request, headers, operation?.operation === "query");
  }
  return operation?.operation === "subscription" ? subscribe(request, headers) : answer(request, headers);
};

async function answer(params: FetcherParams, headers: Headers): Promise<ExecutionResult> {
  const { result, ...about } = await post(params, headers);
  note(about);
  return result;
}

/** The cost of each field. A query is executed too, for the statements it took: it changes nothing. */
async function explain(params: FetcherParams, headers: Headers, execute: boolean): Promise<ExecutionResult> {
  const asked = { ...params, extensions: { explainCost: true } };
  const { result, ...about } = await post(asked as FetcherParams, headers);
  if (result.errors || !execute) {
    note(about);
    return { ...(result.errors && { errors: result.errors }), extensions: result.extensions };
  }
  const measured = { ...params, extensions: { explainStatements: true } };
  const { errors, extensions } = await answer(measured as FetcherParams, headers);
  return { ...(errors && { errors }), extensions: { ...result.extensions, statements: extensions?.statements } };
}

/**
 * The operation to run, from the text that is sent: what GraphiQL says of it is up to 0.1 s late, and is about the tab
 * before when somebody changes the tab and runs it at once.
 */
function operationIn({ query, operationName }: FetcherParams) {
  try {
    const document = parse(query);
    return getOperationAST(document, operationName) ?? getOperationAST(document);
  } catch {
    return undefined; // the server says what is wrong with it
  }
}

/** Ask the server something beside what the visitor runs. */
export const ask = async (query: string, variables: Record<string, unknown>) =>
  (await post({ query, variables } as FetcherParams, {})).result;

async function post(params: FetcherParams, headers: Headers) {
  const began = performance.now();
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
  const about = {
    status: response.status,
    milliseconds: performance.now() - began,
    bytes: new TextEncoder().encode(text).length,
  };
  let result: ExecutionResult;
  try {
    result = JSON.parse(text) as ExecutionResult;
  } catch {
    // Something between us and the API answered; its status says more than a JSON syntax error would.
    note(about);
    throw { message: `HTTP ${response.status} ${response.statusText}`.trim(), body: text.slice(0, 500) };
  }
  if (response.status === 401 && owner(authorizationIn(headers))) {
    note(about);
    throw { message: STALE, errors: result.errors };
  }
  return { result, ...about };
}

/** One connection per subscription: the connection carries the headers, and the next one may have others. */
function subscribe(params: FetcherParams, headers: Headers) {
  const url = new URL(endpoint);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  const client = createClient({
    url: url.href,
    connectionParams: headers,
    retryAttempts: 3,
    shouldRetry: (problem) => problem instanceof CloseEvent && problem.code !== REFUSED,
  });
  return {
    subscribe(sink: { next(value: unknown): void; error(error: unknown): void; complete(): void }) {
      const unsubscribe = client.subscribe(params, { ...sink, error: (error) => sink.error(readable(error, headers)) });
      return { unsubscribe };
    },
  } as ReturnType<Fetcher>;
}

function readable(error: unknown, headers: Headers): unknown {
  if (error instanceof CloseEvent) {
    const isStale = error.code === REFUSED && owner(authorizationIn(headers));
    return { message: isStale ? STALE : `Connection closed: ${error.code} ${error.reason}`.trim() };
  }
  return Array.isArray(error) ? { message: "The subscription was refused.", errors: error } : error;
}
