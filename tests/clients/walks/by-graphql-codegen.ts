import { account, assert } from "./world";
import { client } from "../client";
import { graphql } from "../gql";

const BOARD = graphql(`query Board { viewer { id tasks(first: 20) { nodes { ...Card } } } }`);
const CARD = graphql(`fragment Card on Task { id title }`);
const CREATE = graphql(`mutation Create($title: String!) { createTask(input: { title: $title }) { task { ...Card } } }`);
const CLOCK = graphql(`subscription Clock { serverTime(everySeconds: 1) }`);

const board = await account(2);
await client.mutation(CREATE, { title: "3" }).toPromise();
const { data } = await client.query(BOARD, {}).toPromise();
assert.deepEqual(data!.viewer!.tasks.nodes.map(({ title }) => title), ["3", ...board]);
assert.equal(data!.viewer!.__typename, "User");
const unknown = await client.query("query Unknown { viewer { email } }", {}).toPromise();
assert.equal(unknown.error!.graphQLErrors[0]!.extensions.code, "DOCUMENT_NOT_TRUSTED");
await new Promise<void>((resolve, reject) =>
  client.subscription(CLOCK, {}).subscribe(({ data, error }) => (data?.serverTime ? resolve() : reject(error))),
);
process.exit(CARD ? 0 : 1);
