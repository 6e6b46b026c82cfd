#!/usr/bin/env node
/** The program `polyqueue`. Loads what it needs only here, so that a missing peer is said in one line. */
import { enableCompileCache } from "node:module"
import { version } from "./version.ts"

// Half of the time of a short command is the compilation of what it loads
enableCompileCache()

try {
  const NodeRuntime = await import("@effect/platform-node/NodeRuntime")
  const PolyqueueCli = await import("./cli/index.ts")
  NodeRuntime.runMain(PolyqueueCli.run({ version }))
} catch (error) {
  const missing =
    error instanceof Error ? /Cannot find package '(@effect\/[a-z-]+|effect)'/.exec(error.message)?.[1] : undefined
  if (missing === undefined) throw error
  process.stderr.write(`polyqueue: the program needs ${missing}: npm install ${missing}\n`)
  process.exitCode = 1
}
