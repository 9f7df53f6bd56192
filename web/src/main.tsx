import { explorerPlugin } from "@graphiql/plugin-explorer";
import { HISTORY_PLUGIN } from "@graphiql/plugin-history";
import { GraphiQL } from "graphiql";
import { createRoot } from "react-dom/client";
import { ActAs, initialHeaders } from "./act-as";
import { accounts } from "./config";
import { examples } from "./examples";
import { fetcher } from "./fetcher";
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
      defaultEditorToolsVisibility={accounts.length ? "headers" : true}
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
    </GraphiQL>
  );
}

// The editor measures its font once, when it starts: a font that arrives later puts the cursor beside the text.
await document.fonts.load('15px "Fira Code"').catch(() => undefined);
createRoot(document.getElementById("app")!).render(<App />);
