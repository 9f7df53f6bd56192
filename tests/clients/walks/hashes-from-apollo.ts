import { gql } from "@apollo/client";
import { account, assert, sent } from "./world";
import { client } from "../client";

const now = Date.now(); // texts that no server knows yet
const BOARD = gql`query Board${now} { viewer { id tasks(first: 20) { nodes { id title } } } }`;
const CREATE = gql`mutation Create${now}($title: String!) { createTask(input: { title: $title }) { task { id } } }`;
const titles = async () => {
  const { data } = await client.query<any>({ query: BOARD, fetchPolicy: "network-only" });
  return data.viewer.tasks.nodes.map(({ title }: { title: string }) => title);
};

const board = await account(2);
assert.deepEqual(await titles(), board);
for (const title of ["3", "4"]) await client.mutate({ mutation: CREATE, variables: { title } });
assert.deepEqual(await titles(), ["4", "3", ...board]);
const kinds = sent.map((request) => (request.includes("sha256Hash") ? "hash" : "") + (/viewer|title:/.test(request) ? "text" : ""));
assert.deepEqual(kinds, ["hash", "hashtext", "hash", "hashtext", "hash", "hash"]);
