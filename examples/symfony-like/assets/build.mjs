// Bundles scripts and styles under names that hold a digest of their content, and writes which is which.
import { createHash } from "node:crypto";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import esbuild from "esbuild";
import * as sass from "sass";

rmSync("dist", { recursive: true, force: true });
mkdirSync("dist");

const scripts = await esbuild.build({
    entryPoints: ["src/app.js"],
    entryNames: "[name]-[hash]",
    outdir: "dist",
    bundle: true,
    minify: true,
    sourcemap: true,
    format: "esm",
    target: "es2020",
    metafile: true,
});
const script = Object.entries(scripts.metafile.outputs).find(([, output]) => output.entryPoint === "src/app.js")[0];

const { css } = sass.compile("styles/app.scss", { style: "compressed" });
const style = `app-${createHash("sha256").update(css).digest("hex").slice(0, 8)}.css`;
writeFileSync(`dist/${style}`, css);

const manifest = { "app.css": style, "app.js": basename(script) };
writeFileSync("dist/manifest.json", JSON.stringify(manifest, null, 4) + "\n");
console.log(manifest);
