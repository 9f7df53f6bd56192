// What a walk stands on: what a browser has and Node has not, an account of its own, and somebody else's hands.
import { randomBytes, randomUUID, webcrypto } from "node:crypto";
import assert from "node:assert/strict";
import { WebSocket } from "ws";

const stored = new Map<string, string>();
globalThis.crypto ??= webcrypto as Crypto;
Object.assign(globalThis, {
  WebSocket,
  localStorage: { getItem: (key: string) => stored.get(key) ?? null, setItem: stored.set.bind(stored) },
});

const untouched = globalThis.fetch;
let gate = Promise.resolve();
/** What the client has sent by HTTP, in its order. */
export const sent: string[] = [];
globalThis.fetch = async (...request) => {
  sent.push(decodeURIComponent(`${request[0]} ${request[1]?.body ?? ""}`));
  const answer = await untouched(...request);
  await gate;
  return answer;
};

/** Keep the client's answers back, until what this returns is called. */
export function hold(): () => void {
  let release = () => {};
  gate = new Promise((resolve) => (release = resolve));
  return release;
}

const url = `${process.env.TASKSTORE}/graphql`;

/** The data of an operation, by no client at all. */
export async function raw(query: string, variables: object = {}): Promise<any> {
  const response = await untouched(url, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      ...(stored.has("token") && { authorization: `Bearer ${stored.get("token")}` }),
    },
    body: JSON.stringify({ query, variables }),
  });
  const { data, errors } = (await response.json()) as any;
  assert.equal(errors, undefined, JSON.stringify(errors));
  return data;
}

/** A new account with tasks "1" to `count`, of which the newest is the first of each list. */
export async function account(count: number): Promise<string[]> {
  const input = { email: `${randomUUID()}@example.org`, name: "Ada", password: "opensesame-opensesame" };
  const { signUp } = await raw("mutation($input: SignUpInput!) { signUp(input: $input) { secret } }", { input });
  stored.set("token", signUp.secret);
  for (let number = 1; number <= count; number++)
    await raw("mutation($title: String!) { createTask(input: {title: $title}) { task { id } } }", { title: `${number}` });
  return Array.from({ length: count }, (_, index) => `${count - index}`);
}

/** Somebody else changes the title of a task. */
export async function elsewhere(id: string, title: string): Promise<void> {
  const text = "mutation($input: UpdateTaskInput!) { updateTask(input: $input) { errors { code } } }";
  assert.deepEqual((await raw(text, { input: { id, title } })).updateTask.errors, []);
}

/** The titles that the server has, newest first. */
export async function onServer(): Promise<string[]> {
  const { tasks } = await raw("{ tasks(first: 100) { nodes { title } } }");
  return tasks.nodes.map(({ title }: { title: string }) => title);
}

/** A UUID version 7 (RFC 9562, section 5.7). */
export function uuid7(): string {
  const bytes = randomBytes(16);
  bytes.writeUIntBE(Date.now(), 0, 6);
  bytes[6] = 0x70 | (bytes[6]! & 0x0f);
  bytes[8] = 0x80 | (bytes[8]! & 0x3f);
  return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** Wait until something holds. */
export async function until(condition: () => boolean): Promise<void> {
  for (const deadline = Date.now() + 30_000; !condition(); ) {
    assert.ok(Date.now() < deadline, "it did not happen in time");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

export { assert };
