import { gql } from "@apollo/client";
import { CombinedGraphQLErrors } from "@apollo/client/errors";
import { account, assert, elsewhere, hold, onServer, until, uuid7 } from "./world";
import { client } from "../client";
import possibleTypes from "../possible-types.json";
import { BOARD, CLOCK, create, purge, rename } from "../tasks";

const board = await account(5);
const query = client.watchQuery({ query: BOARD, variables: { first: 2 } });
const seen: string[][] = [];
query.subscribe(({ data, dataState }) => {
  if (dataState === "complete") seen.push(data.viewer!.tasks.edges.map(({ node }) => node.title));
});
const shown = () => seen.at(-1) ?? [];
await until(() => shown().length === 2);
for (let more = true; more; ) {
  const { pageInfo } = client.readQuery({ query: BOARD })!.viewer!.tasks;
  const { data } = await query.fetchMore({ variables: { first: 2, after: pageInfo.endCursor } });
  more = data!.viewer!.tasks.pageInfo.hasNextPage;
}
await until(() => shown().length === 5);
assert.deepEqual(shown(), board);

const id = uuid7();
let answer = hold();
const creating = create(id, "6");
await until(() => shown().length === 6);
assert.deepEqual(shown(), ["6", ...board], "shown before there is an answer");
answer();
await creating;
assert.deepEqual(await onServer(), shown());
assert.deepEqual(shown(), ["6", ...board]);
assert.equal(client.readQuery({ query: BOARD })!.viewer!.tasks.totalCount, 6);
const refused = await create(uuid7(), " ");
assert.equal(refused.data!.createTask.errors[0]!.code, "TOO_SHORT");
assert.deepEqual(shown(), ["6", ...board], "taken off again");

const [edge] = client.readQuery({ query: BOARD })!.viewer!.tasks.edges;
await elsewhere(id, "six");
answer = hold();
const renaming = rename(edge!.node, "VI");
await until(() => shown()[0] === "VI");
answer();
const [error] = (await renaming).data!.updateTask.errors;
assert.ok(error?.__typename === "ConflictError" && error.code === "STALE_VERSION" && error.currentVersion === 2);
await until(() => shown()[0] === "six");
await rename(client.readQuery({ query: BOARD })!.viewer!.tasks.edges[0]!.node, "VI");
assert.deepEqual(shown(), ["VI", ...board]);

// A fragment on an interface matches what implements it, and the board's task is the one that `node` finds.
const NODE = gql`query Node($id: ID!) { node(id: $id) { ...Any } } fragment Any on Node { id ... on Task { title } }`;
assert.equal((await client.query<any>({ query: NODE, variables: { id } })).data.node.title, "VI");
assert.equal(client.readQuery<any>({ query: NODE, variables: { id } }).node.title, "VI");
assert.ok(possibleTypes.UserError.includes("ConflictError"));

await purge(id);
await until(() => shown().length === 5);
assert.deepEqual(shown(), board);

for (const variables of [{ first: 500 }, { first: 3, after: "stale" }])
  await assert.rejects(client.query({ query: BOARD, variables, fetchPolicy: "network-only" }), (error) => {
    assert.ok(CombinedGraphQLErrors.is(error));
    return error.errors[0]!.extensions!.code === "BAD_USER_INPUT" && error.data === undefined;
  });
assert.deepEqual(shown(), board, "no error takes anything out of the cache");
assert.notEqual(client.readQuery({ query: BOARD })!.viewer, null);

let ticks = 0;
await new Promise<void>((resolve, reject) => {
  const clock = client.subscribe({ query: CLOCK }).subscribe({
    next: ({ data }) => Date.parse(data!.serverTime) > 0 && ++ticks === 2 && (clock.unsubscribe(), resolve()),
    error: reject,
  });
});
client.stop();
process.exit(0); // its WebSocket stays open for the next subscription
