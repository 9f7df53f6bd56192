import { fetchQuery, graphql } from "relay-runtime";
import { account, assert } from "./world";
import type { byRelayBoardQuery } from "./__generated__/byRelayBoardQuery.graphql";
import { environment } from "../environment";

const BOARD = graphql`
  query byRelayBoardQuery { viewer { id tasks(first: 20) { nodes { title } } } }
`;

const board = await account(2);
const data = await fetchQuery<byRelayBoardQuery>(environment, BOARD, {}).toPromise();
assert.deepEqual(data!.viewer!.tasks.nodes.map(({ title }) => title), board);
