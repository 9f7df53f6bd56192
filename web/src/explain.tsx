import { ToolbarButton, useGraphiQL, useGraphiQLActions } from "@graphiql/react";
import { explainNext } from "./fetcher";

/** Runs the operation for what it takes, and shows that in place of its data. */
export function ExplainButton() {
  const { run } = useGraphiQLActions();
  const isFetching = useGraphiQL((state) => state.isFetching);
  const explain = () => {
    explainNext();
    run();
  };
  return (
    <ToolbarButton label="Explain: cost and statements" disabled={isFetching} onClick={explain}>
      <svg className="graphiql-toolbar-icon" viewBox="0 0 16 16" fill="none" stroke="currentColor" aria-hidden="true">
        <circle cx="8" cy="9" r="6" />
        <path d="M8 5.5V9l2.5 1.5M6.5 1h3" strokeLinecap="round" />
      </svg>
    </ToolbarButton>
  );
}
