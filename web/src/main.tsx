import { explorerPlugin } from "@graphiql/plugin-explorer";
import { HISTORY_PLUGIN } from "@graphiql/plugin-history";
import { GraphiQL } from "graphiql";
import { createRoot } from "react-dom/client";
import { ActAs, initialHeaders } from "./act-as";
import { explains } from "./config";
import { examples } from "./examples";
import { ExplainButton } from "./explain";
import { fetcher } from "./fetcher";
import { StatusLine } from "./status-line";
import { storage } from "./storage";
import "./workers";
import "./style.css";

const explorer = explorerPlugin({ showAttribution: false });
const plugins = [explorer, HISTORY_PLUGIN];

/** The icon of the page (`public/favicon.svg`) in the colour of the theme. */
const Mark = () => (
  <svg className="mark" viewBox="0 0 32 32" fill="none" strokeWidth="3" strokeLinecap="round" aria-hidden="true">
    <rect width="32" height="32" rx="8" />
    <path d="M7 10.5l2.5 2.5 4-4.5M7 21.5l2.5 2.5 4-4.5M18 11.5h8M18 22.5h8" strokeLinejoin="round" />
  </svg>
);

function App() {
  return (
    <GraphiQL
      fetcher={fetcher}
      plugins={plugins}
      storage={storage}
      defaultTabs={examples(initialHeaders)}
      initialHeaders={initialHeaders}
      defaultHeaders={initialHeaders}
      defaultEditorToolsVisibility={false}
      shouldPersistHeaders={false}
      inputValueDeprecation
      schemaDescription
    >
      <GraphiQL.Logo>
        <div className="brand">
          <ActAs />
          <Mark />
          <span className="wordmark">taskstore</span>
        </div>
      </GraphiQL.Logo>
      <GraphiQL.Toolbar>
        {({ prettify, merge, copy }) => (
          <>
            {prettify}
            {merge}
            {copy}
            {explains && <ExplainButton />}
          </>
        )}
      </GraphiQL.Toolbar>
      <GraphiQL.Footer>
        <StatusLine />
      </GraphiQL.Footer>
    </GraphiQL>
  );
}

// The editor measures its font once, when it starts: a font that arrives later puts the cursor beside the text.
await document.fonts.load('15px "Fira Code"').catch(() => undefined);
createRoot(document.getElementById("app")!).render(<App />);
