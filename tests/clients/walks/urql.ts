import { account, assert, elsewhere, hold, onServer, until, uuid7 } from "./world";
import { client } from "../client";
import { BOARD, CLOCK, CREATE, PURGE, RENAME } from "../tasks";

const board = await account(5);
const seen: string[][] = [];
const listen = (variables: { first: number; after?: string | null }) =>
  client.query(BOARD, variables).subscribe(({ data, error }) => {
    assert.equal(error, undefined);
    assert.notEqual(data!.viewer, null);
    seen.push(data!.viewer!.tasks.nodes.map(({ title }) => title));
  });
const shown = () => seen.at(-1) ?? [];
const page = (after?: string | null) => client.query(BOARD, { first: 2, after }).toPromise();

let after: string | null | undefined;
for (let more = true; more; ) {
  const { pageInfo, totalCount } = (await page(after)).data!.viewer!.tasks;
  assert.equal(totalCount, 5);
  [more, after] = [pageInfo.hasNextPage, pageInfo.endCursor];
}
const { unsubscribe } = listen({ first: 2 });
await until(() => shown().length === 5);
assert.deepEqual(shown(), board);

const id = uuid7();
let answer = hold();
const creating = client.mutation(CREATE, { input: { id, title: "6", idempotencyKey: id } }).toPromise();
await until(() => shown().length === 6);
assert.deepEqual(shown(), ["6", ...board], "shown before there is an answer");
answer();
assert.equal((await creating).data!.createTask.task!.id, id);
assert.deepEqual(await onServer(), shown());
assert.deepEqual(shown(), ["6", ...board]);
const refused = await client.mutation(CREATE, { input: { id: uuid7(), title: " " } }).toPromise();
assert.equal(refused.data!.createTask.errors[0]!.code, "TOO_SHORT");
await until(() => shown().length === 6);
assert.deepEqual(shown(), ["6", ...board], "taken off again");

await elsewhere(id, "six");
answer = hold();
const rename = (ifVersion: number) => client.mutation(RENAME, { input: { id, ifVersion, title: "VI" } }).toPromise();
const renaming = rename(1);
await until(() => shown()[0] === "VI");
answer();
const [error] = (await renaming).data!.updateTask.errors;
assert.ok(error?.__typename === "ConflictError" && error.code === "STALE_VERSION" && error.currentVersion === 2);
await until(() => shown()[0] === "six");
assert.deepEqual((await rename(2)).data!.updateTask.errors, []);
assert.deepEqual(shown(), ["VI", ...board]);

// A fragment on an interface matches what implements it, and the board's task is the one that `node` finds.
const NODE = `query Node($id: ID!) { node(id: $id) { ...Any } } fragment Any on Node { id ... on Task { title } }`;
assert.equal((await client.query(NODE, { id }).toPromise()).data.node.title, "VI");

await client.mutation(PURGE, { input: { id } }).toPromise();
await until(() => shown().length === 5);
assert.deepEqual(shown(), board);

const isRefused = async (variables: { first: number; after?: string }) => {
  const { data, error } = await client.query(BOARD, variables, { requestPolicy: "network-only" }).toPromise();
  assert.equal(error!.graphQLErrors[0]!.extensions.code, "BAD_USER_INPUT");
  assert.equal(data, undefined);
};
await isRefused({ first: 500 });
await isRefused({ first: 3, after: "stale" });
assert.deepEqual(shown(), board, "no error takes anything out of the cache");
assert.deepEqual((await page()).data!.viewer!.tasks.nodes.map(({ title }) => title), board);
unsubscribe();

let ticks = 0;
await new Promise<void>((resolve) => {
  const clock = client.subscription(CLOCK, {}).subscribe(({ data, error }) => {
    assert.equal(error, undefined);
    if (Date.parse(data!.serverTime) > 0 && ++ticks === 2) setTimeout(() => (clock.unsubscribe(), resolve()));
  });
});
process.exit(0); // its WebSocket stays open for the next subscription
