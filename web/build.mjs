// Builds the pages into python/candlecast/dashboard/static/: hashed names, each file also as .br and .gz, licences beside.
import { build } from "esbuild";
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const here = dirname(fileURLToPath(import.meta.url));
const target = join(here, "../python/candlecast/dashboard/static");
const out = `${target}.new`;
rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });

const { metafile } = await build({
  absWorkingDir: here,
  entryPoints: ["src/main.tsx", "src/theme.ts", "src/style.css"],
  outdir: out,
  bundle: true,
  splitting: true,
  format: "esm",
  minify: true,
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  entryNames: "[name]-[hash]",
  chunkNames: "[name]-[hash]",
  metafile: true,
  legalComments: "none",
  logLevel: "warning",
});

const outputs = Object.entries(metafile.outputs);
const named = (entry) => basename(outputs.find(([, o]) => o.entryPoint === entry)[0]);
const main = outputs.find(([, o]) => o.entryPoint === "src/main.tsx")[1];
const preloads = main.imports
  .filter((i) => i.kind === "import-statement")
  .map((i) => `<link rel="modulepreload" href="/ml/static/${basename(i.path)}">`);

const licenses = ["lightweight-charts", "preact", "uplot"].map((name) => {
  const folder = join(here, "node_modules", name);
  const texts = readdirSync(folder).filter((file) => /^(licen[cs]e|notice)/i.test(file));
  return [name, ...texts.map((file) => readFileSync(join(folder, file), "utf8"))].join("\n\n");
});
writeFileSync(join(out, "licenses.txt"), licenses.join(`\n\n${"-".repeat(80)}\n\n`));

const index = readFileSync(join(here, "src/index.html"), "utf8")
  .replace("<!-- theme -->", `<script src="/ml/static/${named("src/theme.ts")}"></script>`)
  .replace("<!-- style -->", `<link rel="stylesheet" href="/ml/static/${named("src/style.css")}">`)
  .replace(
    "<!-- main -->",
    [...preloads, `<script type="module" src="/ml/static/${named("src/main.tsx")}"></script>`].join(""),
  );
writeFileSync(join(out, "index.html"), index);

let first = 0;
for (const file of readdirSync(out)) {
  if (file.endsWith(".html")) continue;
  const data = readFileSync(join(out, file));
  const small = brotliCompressSync(data, { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } });
  writeFileSync(join(out, `${file}.br`), small);
  writeFileSync(join(out, `${file}.gz`), gzipSync(data, { level: 9 }));
  if (index.includes(file)) first += small.length;
}
rmSync(target, { recursive: true, force: true });
renameSync(out, target);
console.log(`pages built: the first one is ${(first / 1024).toFixed(0)} KB compressed`);
