/**
 * The peers, installed into a temporary folder of their own: they are no dependency of ours. The folder is kept in the
 * system's temporary directory, so that the next run finds it.
 */
import { execFileSync } from "node:child_process"
import { existsSync, mkdirSync, writeFileSync } from "node:fs"
import { createRequire } from "node:module"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { pathToFileURL } from "node:url"

/** Pinned, so that ratios of two runs mean the same. */
const versions = { "graphile-worker": "0.18.0", "pg-boss": "12.38.0", bullmq: "6.7.0", ioredis: "5.8.2" }

/** Installs what is missing, by the npm of this machine. Answers the folder. */
export const install = (): string => {
  const folder = join(tmpdir(), `polyqueue-bench-peers-${Object.values(versions).join("-")}`)
  if (existsSync(join(folder, "installed"))) return folder
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, "package.json"), JSON.stringify({ private: true, dependencies: versions }))
  execFileSync("npm", ["install", "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd: folder,
    stdio: ["ignore", "ignore", "inherit"]
  })
  writeFileSync(join(folder, "installed"), "")
  return folder
}

/** Loads a peer. What it exports is described by its caller: its own types are not installed here. */
export const load = async <Module>(folder: string | undefined, name: keyof typeof versions): Promise<Module> => {
  const resolve = createRequire(join(folder ?? "", "package.json"))
  return (await import(pathToFileURL(resolve.resolve(name)).href)) as Module
}
