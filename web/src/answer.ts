import { useSyncExternalStore } from "react";

/** What there is to say of the last answer beside its content. */
export interface Answer {
  status: number;
  milliseconds: number;
  bytes: number;
}

let last: Answer | undefined;
const listeners = new Set<() => void>();

/** Note the last answer; undefined while there is none, or for one that has no status of its own. */
export function note(answer: Answer | undefined) {
  last = answer;
  listeners.forEach((listener) => listener());
}

const subscribe = (listener: () => void) => {
  listeners.add(listener);
  return () => listeners.delete(listener);
};

export const useAnswer = () => useSyncExternalStore(subscribe, () => last);
