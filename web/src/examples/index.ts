import { isDemo } from "../config";
import createTask from "./create-task.graphql?raw";
import myTasks from "./my-tasks.graphql?raw";
import serverTime from "./server-time.graphql?raw";
import signIn from "./sign-in.graphql?raw";

/** The tabs of a first visit. Without demo accounts a visitor signs in first, and may want to see how that is done. */
export function examples(headers: string) {
  const tabs = isDemo ? [myTasks, createTask, serverTime] : [signIn, myTasks, createTask, serverTime];
  return tabs.map((query) => ({ query, headers }));
}
