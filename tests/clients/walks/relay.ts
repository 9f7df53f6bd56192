import { fetchQuery, getRequest, createOperationDescriptor, getFragment, getSelector, requestSubscription } from "relay-runtime";
import type { SingularReaderSelector } from "relay-runtime";
import { account, assert, elsewhere, hold, onServer, until, uuid7 } from "./world";
import type { tasksBoardQuery } from "../__generated__/tasksBoardQuery.graphql";
import PAGE, { type tasksPageQuery } from "../__generated__/tasksPageQuery.graphql";
import type { tasks_board$data } from "../__generated__/tasks_board.graphql";
import { environment } from "../environment";
import { BOARD, CLOCK, LIST, create, purge, rename } from "../tasks";

const board = await account(5);

// What `useLazyLoadQuery` and `usePaginationFragment` do, without React.
const first = createOperationDescriptor(getRequest(BOARD), { first: 2 });
environment.retain(first);
const { viewer } = (await fetchQuery<tasksBoardQuery>(environment, BOARD, { first: 2 }).toPromise())!;
const selector = getSelector(getFragment(LIST), environment.lookup(first.fragment).data!.viewer) as SingularReaderSelector;
const list = () => environment.lookup(selector).data as unknown as tasks_board$data;
const seen: string[][] = [];
const shown = () => list().tasks.edges.map(({ node }) => node.title);
environment.subscribe(environment.lookup(selector), () => seen.push(shown()));
assert.deepEqual(shown(), board.slice(0, 2));
for (let page: any = list().tasks; page.pageInfo.hasNextPage; page = list().tasks) {
  const variables = { id: viewer!.id, first: 2, after: page.pageInfo.endCursor };
  environment.retain(createOperationDescriptor(getRequest(PAGE), variables));
  await fetchQuery<tasksPageQuery>(environment, PAGE, variables).toPromise();
}
assert.deepEqual(shown(), board);

const id = uuid7();
let answer = hold();
const creating = create(viewer!.id, id, "6");
assert.deepEqual(shown(), ["6", ...board], "shown before there is an answer");
answer();
assert.equal((await creating).createTask.task!.id, id);
assert.deepEqual(shown(), ["6", ...board]);
assert.deepEqual(await onServer(), shown());
assert.equal((await create(viewer!.id, uuid7(), " ")).createTask.errors[0]!.code, "TOO_SHORT");
assert.deepEqual(shown(), ["6", ...board], "taken off again");

await elsewhere(id, "six");
answer = hold();
const renaming = rename(id, 1, "VI");
assert.equal(shown()[0], "VI", "shown before there is an answer");
answer();
const [error] = (await renaming).updateTask.errors;
assert.ok(error?.__typename === "ConflictError" && error.code === "STALE_VERSION" && error.currentVersion === 2);
assert.equal(shown()[0], "six");
assert.deepEqual((await rename(id, 2, "VI")).updateTask.errors, []);
assert.deepEqual(shown(), ["VI", ...board]);

assert.equal((await purge(viewer!.id, id)).purgeTask.purgedTaskId, id);
assert.deepEqual(shown(), board);

const refused = (variables: tasksPageQuery["variables"]) =>
  assert.rejects(fetchQuery<tasksPageQuery>(environment, PAGE, variables).toPromise(), (error: any) => {
    assert.equal(error.source.errors[0].extensions.code, "BAD_USER_INPUT");
    return true;
  });
await refused({ id: viewer!.id, first: 500 });
await refused({ id: viewer!.id, after: "stale" });
assert.deepEqual(shown(), board, "no error takes anything out of the store");

let ticks = 0;
await new Promise<void>((resolve, reject) => {
  const { dispose } = requestSubscription(environment, {
    subscription: CLOCK,
    variables: {},
    onNext: (data: any) => Date.parse(data.serverTime) > 0 && ++ticks === 2 && (dispose(), resolve()),
    onError: reject,
  });
});
process.exit(0); // its WebSocket stays open for the next subscription
