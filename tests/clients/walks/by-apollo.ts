import { gql, type TypedDocumentNode } from "@apollo/client";
import { account, assert } from "./world";
import { client } from "../client";

type Board = { viewer: { tasks: { nodes: { title: string }[] } } };
const BOARD: TypedDocumentNode<Board> = gql`
  query Board { viewer { id tasks(first: 20) { nodes { ...Card } } } }
  fragment Card on Task { id title }
`;
const CREATE = gql`mutation Create($title: String!) { createTask(input: { title: $title }) { task { id } } }`;
const CLOCK = gql`subscription Clock { serverTime(everySeconds: 1) }`;

const board = await account(2);
await client.mutate({ mutation: CREATE, variables: { title: "3" } });
const { data } = await client.query({ query: BOARD });
assert.deepEqual(data!.viewer.tasks.nodes.map(({ title }) => title), ["3", ...board]);
await new Promise((resolve, reject) => client.subscribe({ query: CLOCK }).subscribe({ next: resolve, error: reject }));
process.exit(0);
