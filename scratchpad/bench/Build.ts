/**
 * Compiles the library and the benchmark to JavaScript, as a user's installation has it: a process that strips the types of
 * every file it loads starts later and weighs 30 MB more.
 */
import { execFileSync } from "node:child_process"
import { mkdirSync, rmSync, writeFileSync } from "node:fs"
import { createRequire } from "node:module"
import { dirname, join, relative } from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../../", import.meta.url))
/** Below `node_modules`, so that what is imported is found. */
const folder = join(root, "node_modules", ".cache", "polyqueue-bench")

/** Answers the compiled `child.ts`. */
export const compile = (): string => {
  const child = join(root, "scratchpad", "bench", "child.ts")
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, "package.json"), JSON.stringify({ type: "module" }))
  const config = {
    extends: join(root, "tsconfig.json"),
    compilerOptions: { noEmit: false, rootDir: root, outDir: folder },
    include: [],
    files: [child]
  }
  writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(config))
  const compiler = dirname(createRequire(import.meta.url).resolve("typescript/package.json"))
  execFileSync(process.execPath, [join(compiler, "bin", "tsc"), "-p", folder], {
    stdio: ["ignore", "inherit", "inherit"]
  })
  return join(folder, relative(root, child).replace(/\.ts$/, ".js"))
}
