// Bundles a walk and runs it: `node walk.mjs FILE`, as a bundler makes it of what people write.
import { build } from "esbuild";
import { readFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";

/** Relay's `graphql` tags become imports of what its compiler has written, by Relay's own plugin. */
const relay = {
  name: "relay",
  setup({ onLoad }) {
    onLoad({ filter: /\.ts$/ }, async ({ path }) => {
      const text = await readFile(path, "utf8");
      if (!text.includes("graphql`")) return undefined;
      const { transformAsync } = await import("@babel/core");
      const options = { eagerEsModules: true };
      const { code } = await transformAsync(text, {
        babelrc: false,
        configFile: false,
        filename: path,
        parserOpts: { plugins: ["typescript"] },
        plugins: [["relay", options]],
      });
      return { contents: code, loader: "ts" };
    });
  },
};

const outfile = `${process.argv[2].replace(/\.ts$/, "")}.mjs`;
await build({
  bundle: true,
  entryPoints: [process.argv[2]],
  format: "esm",
  logLevel: "warning",
  outfile,
  packages: "external",
  platform: "node",
  plugins: [relay],
  target: "node18",
});
await import(pathToFileURL(outfile).href);
