import { accounts } from "../config";
import createTask from "./create-task.graphql?raw";
import myTasks from "./my-tasks.graphql?raw";
import signIn from "./sign-in.graphql?raw";

/** The tabs of a first visit. Without demo accounts a visitor has to sign in first. */
export function examples(headers: string) {
  const tabs = accounts.length ? [myTasks, createTask] : [signIn, myTasks, createTask];
  return tabs.map((query) => ({ query, headers }));
}
