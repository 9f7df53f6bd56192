import { account, assert, elsewhere, onServer, uuid7 } from "./world";
import { clock, live } from "../live";
import { create, purge, rename, tasks } from "../tasks";
import { Refused } from "../taskstore";

const board = await account(5);
const titles = async (first: number) => {
  const found: string[] = [];
  for await (const task of tasks(first)) found.push(task.title);
  return found;
};
assert.deepEqual(await titles(2), board);
assert.deepEqual(await titles(100), board);

const id = uuid7();
const { task, errors } = await create(id, "6");
assert.deepEqual([task, errors], [{ id, title: "6", version: 1 }, []]);
const again = await create(id, "6");
assert.deepEqual([again.task, again.replayed], [task, true]);
assert.deepEqual(await onServer(), ["6", ...board]);

await elsewhere(id, "six");
const late = await rename(id, 1, "VI");
assert.equal(late.task, null);
assert.equal(late.errors[0]?.code, "STALE_VERSION");
assert.ok(late.errors[0]?.__typename === "ConflictError");
assert.deepEqual(late.errors[0].current, { id, title: "six", version: 2 });
assert.equal((await rename(id, 2, "VI")).task?.title, "VI");

assert.equal((await purge(id)).purgedTaskId, id);
assert.deepEqual(await titles(4), board);
assert.equal((await purge(id)).errors[0]?.code, "NOT_FOUND");

await assert.rejects(titles(500), (error) => error instanceof Refused && error.code === "BAD_USER_INPUT");

let ticks = 0;
for await (const { data } of clock()) {
  assert.ok(Date.parse(data!.serverTime) > 0);
  if (++ticks === 2) break;
}
await live.dispose();
