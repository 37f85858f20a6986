// Build the widget into the Python package, where the server finds them.
//
// Three files, tied by content: the loader names the widget by its hash, and that the panel. A manifest
// holds the hash of the sources, so that a test can tell without Node whether the bundle is theirs.
import { createHash } from "node:crypto";
import { readFile, readdir, writeFile } from "node:fs/promises";
import { build, transform } from "esbuild";

const here = new URL(".", import.meta.url);
const page = new URL("../assistant/channels/page/", here);
const digest = (content) => createHash("sha256").update(content).digest("hex");

// esbuild does not minify styles that a script imports as text.
const styles = {
  name: "styles",
  setup(builder) {
    builder.onLoad({ filter: /\.css$/ }, async ({ path }) => {
      const { code } = await transform(await readFile(path, "utf8"), { loader: "css", minify: true });
      return { contents: code.trim(), loader: "text" };
    });
  },
};

async function bundle(entry, format, define = {}) {
  const { outputFiles } = await build({
    entryPoints: [new URL(entry, here).pathname],
    bundle: true,
    minify: true,
    format,
    target: ["chrome99", "firefox101", "safari16.4"],
    charset: "utf8",
    legalComments: "none",
    plugins: [styles],
    define,
    write: false,
  });
  return Buffer.from(outputFiles[0].contents);
}

async function sourceHash() {
  const names = (await readdir(new URL("src/", here))).map((name) => `src/${name}`);
  const hash = createHash("sha256");
  for (const name of [...names, "build.mjs", "package.json", "practice-chat.d.ts", "tsconfig.json"].sort()) {
    hash.update(`${name}\0`).update(await readFile(new URL(name, here))).update("\0");
  }
  return hash.digest("hex");
}

const address = (name, content) => JSON.stringify(`${name}.${digest(content).slice(0, 12)}.js`);

const panel = await bundle("src/panel.ts", "esm");
const widget = await bundle("src/widget.ts", "esm", { PANEL_FILE: address("panel", panel) });
const loader = await bundle("src/loader.ts", "iife", { WIDGET_FILE: address("widget", widget) });
const manifest = { source: await sourceHash() };
for (const [name, content] of Object.entries({ panel, widget, loader })) {
  manifest[`${name}.js`] = digest(content);
  await writeFile(new URL(`${name}.js`, page), content);
}
await writeFile(new URL("practice-chat.d.ts", page), await readFile(new URL("practice-chat.d.ts", here)));
await writeFile(new URL("manifest.json", page), `${JSON.stringify(manifest, null, 2)}\n`);
