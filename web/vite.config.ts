import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import react from "@vitejs/plugin-react";
import { defineConfig, type Plugin } from "vite";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/** The explorer cannot draw list arguments and says so on the console at every render; the query is fine. */
const quietExplorer: Plugin = {
  name: "quiet-explorer",
  transform(code, id) {
    const complaint = /console\.error\('arg mismatch between arg and selection', argType, argValue\);/g;
    return id.includes("graphiql-explorer/dist/Explorer") ? { code: code.replace(complaint, ""), map: null } : null;
  },
};

/** Vite lists the licenses of scripts (LICENSES.md); fonts come in through the style sheet. */
const fontLicenses: Plugin = {
  name: "font-licenses",
  generateBundle() {
    const texts = ["fira-code", "roboto"].map((font) =>
      readFileSync(here(`node_modules/@fontsource/${font}/LICENSE`), "utf8"),
    );
    this.emitFile({ type: "asset", fileName: "LICENSES-fonts.txt", source: texts.join("\n\n") });
  },
};

export default defineConfig({
  plugins: [react(), quietExplorer, fontLicenses],
  // Relative addresses: the page works behind a proxy that serves it under a prefix.
  base: "./",
  resolve: {
    alias: [
      // The whole editor is twice as large as the features that GraphQL and JSON need.
      { find: "monaco-editor/esm/vs/editor/edcore.main.js", replacement: here("src/monaco.ts") },
    ],
  },
  build: {
    outDir: here("../graph/static/graphiql"),
    emptyOutDir: true,
    license: { fileName: "LICENSES.md" },
    target: "es2022",
    // Fonts stay files, so that the Content-Security-Policy needs no data: addresses for them.
    assetsInlineLimit: 0,
    cssCodeSplit: false,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 1000,
    rolldownOptions: {
      output: {
        // The editor in files of less than 1 MB, which also load side by side (`maxSize` counts unminified bytes).
        codeSplitting: { groups: [{ name: "monaco", test: /node_modules\/monaco-editor/, maxSize: 2_500_000 }] },
        strictExecutionOrder: true,
      },
      checks: { moduleLevelDirective: false },
    },
  },
  worker: { format: "es" },
});
