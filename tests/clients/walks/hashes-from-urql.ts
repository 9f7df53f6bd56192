import { account, assert, sent } from "./world";
import { client } from "../client";

const now = Date.now(); // texts that no server knows yet
const BOARD = `query Board${now} { viewer { id tasks(first: 20) { nodes { id title } } } }`;
const CREATE = `mutation Create${now}($title: String!) { createTask(input: { title: $title }) { task { id } } }`;
const titles = async () => {
  const { data, error } = await client.query(BOARD, {}, { requestPolicy: "network-only" }).toPromise();
  assert.equal(error, undefined);
  return data.viewer.tasks.nodes.map(({ title }: { title: string }) => title);
};

const board = await account(2);
assert.deepEqual(await titles(), board);
for (const title of ["3", "4"])
  assert.ok((await client.mutation(CREATE, { title }).toPromise()).data.createTask.task.id);
assert.deepEqual(await titles(), ["4", "3", ...board]);
const kinds = sent.map((request) => (request.includes("sha256Hash") ? "hash" : "") + (/viewer|title:/.test(request) ? "text" : ""));
assert.deepEqual(kinds, ["hash", "hashtext", "hash", "hashtext", "hash", "hash"]);
