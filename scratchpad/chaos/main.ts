/**
 * `npm run chaos`: breaks Polyqueue on purpose, and checks that nothing was lost and nothing accepted that is stale.
 *
 * Runs the fault matrix with real worker processes on private servers: one JSON line per cell and broker on stdout, a
 * summary on stderr. Exits 1 on any violation, 2 on a request that makes no sense.
 *
 * - `--list` names the cells. `--cell W6,P2` and `--broker redis,sqs` choose some, `--seed 7` repeats a run.
 * - `--quick`: a representative part in about 50 s. `--full`: 2,000 jobs per cell instead of 300; `--jobs N` any other number.
 * - `--results FILE` appends the lines to a file; `--resume` skips what is in it and went well.
 * - `--simulate …` runs the deterministic simulation instead: see `simulate.ts`.
 */
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import { appendFileSync, existsSync, readFileSync } from "node:fs"
import { parseArgs } from "node:util"
import { startServer } from "../../test/support/PostgresServer.ts"
import { type BrokerName, names } from "./Brokers.ts"
import type { Cell } from "./Cell.ts"
import { cells } from "./Matrix.ts"
import { type Result, run } from "./Runner.ts"

const usage =
  "Usage: npm run chaos -- [--list] [--quick] [--cell W1,P2] [--broker redis,sqs] [--seed N] [--full | --jobs N] [--results FILE] [--resume]\n" +
  "       npm run chaos -- --simulate …\n"

const refuse = (why: string): never => {
  process.stderr.write(`${why}\n${usage}`)
  process.exit(2)
}

const simulates = process.argv.includes("--simulate")

const read = () => {
  try {
    return parseArgs({
      // The simulation reads its own
      args: simulates ? [] : process.argv.slice(2),
      options: {
        list: { type: "boolean", default: false },
        quick: { type: "boolean", default: false },
        cell: { type: "string" },
        broker: { type: "string" },
        full: { type: "boolean", default: false },
        jobs: { type: "string" },
        results: { type: "string" },
        resume: { type: "boolean", default: false },
        seed: { type: "string" }
      }
    }).values
  } catch (error) {
    return refuse(error instanceof Error ? error.message : String(error))
  }
}

const whole = (name: string, text: string): number =>
  /^[1-9]\d{0,8}$/.test(text) ? Number(text) : refuse(`--${name} must be a whole number above 0, not ${text}`)

const values = read()
const tell = (text: string) => process.stderr.write(`${text}\n`)

/** What runs: cells with their brokers, in the order of the matrix. */
const chosen = (): ReadonlyArray<readonly [Cell, BrokerName]> => {
  const some = (text: string | undefined) => text?.split(",").map((word) => word.trim())
  const cellsAsked = some(values.cell?.toUpperCase())
  const brokersAsked = some(values.broker)
  for (const name of cellsAsked ?? [])
    if (!cells.some((cell) => cell.name === name)) refuse(`There is no cell ${name}; --list names them.`)
  for (const name of brokersAsked ?? [])
    if (!names.some((broker) => broker === name)) refuse(`There is no broker ${name}: ${names.join(", ")}.`)
  return cells
    .filter(({ name }) => cellsAsked?.includes(name) ?? true)
    .flatMap((cell) =>
      // A cell may be asked for on a broker where it is not run by default
      (brokersAsked === undefined ? cell.brokers : names.filter((name) => brokersAsked.includes(name)))
        .filter((name) => cellsAsked !== undefined || cell.brokers.includes(name))
        .map((broker) => [cell, broker] as const)
    )
}

/** A part that shows a bit of everything. */
const quick: ReadonlyArray<readonly [string, BrokerName]> = [
  ["W1", "postgres"],
  ["W6", "redis"],
  ["P2", "pgmq"],
  ["P5", "sqs"],
  ["B4", "service-bus"],
  ["Q5", "postgres"]
]

const show = ({ abandoned, broker, cell, dup_exec, exec, lost, recovery_ms_p99, violations, wall_s }: Result) => {
  tell(
    `${violations.length === 0 ? "ok  " : "FAIL"} ${cell.padEnd(4)} ${broker.padEnd(12)} ${String(exec).padStart(5)} runs, ` +
      `${dup_exec} twice, ${abandoned} abandoned, ${lost} lost, recovery p99 ${recovery_ms_p99 ?? "-"} ms, ${wall_s} s`
  )
  for (const violation of violations.slice(0, 8)) tell(`     ${violation}`)
  if (violations.length > 8) tell(`     … and ${violations.length - 8} more`)
}

/** What clients in this process log is not a line of the results. */
const quiet = Logger.layer([])

const matrix = async (): Promise<number> => {
  const seed = values.seed === undefined ? 1 : whole("seed", values.seed)
  const size = values.full ? 2_000 : whole("jobs", values.jobs ?? (values.quick ? "150" : "300"))
  const done = new Set<string>()
  if (values.resume && values.results !== undefined && existsSync(values.results)) {
    for (const line of readFileSync(values.results, "utf8").split("\n").filter(Boolean)) {
      const result: Result = JSON.parse(line)
      if (result.violations.length === 0) done.add(`${result.cell} ${result.broker}`)
    }
  }
  const todo = (
    values.quick
      ? chosen().filter(([{ name }, broker]) => quick.some(([cell, on]) => cell === name && on === broker))
      : chosen()
  ).filter(([{ name }, broker]) => !done.has(`${name} ${broker}`))
  tell(`${todo.length} cells, seed ${seed}, ${size} jobs each${done.size === 0 ? "" : `; ${done.size} done before`}`)
  // Not fsync: processes die here, machines do not
  const server = await startServer({ settings: { synchronous_commit: "on", full_page_writes: "on" } })
  // What is waited for below keeps no process alive
  const alive = setInterval(() => undefined, 60_000)
  let failed = 0
  try {
    for (const [cell, broker] of todo) {
      const result = await Effect.runPromise(Effect.provide(run(cell, { server, broker, seed, size }), quiet))
      const line = JSON.stringify(result)
      process.stdout.write(`${line}\n`)
      if (values.results !== undefined) appendFileSync(values.results, `${line}\n`)
      show(result)
      if (result.violations.length > 0) failed++
    }
  } finally {
    await server.destroy()
    clearInterval(alive)
  }
  tell(failed === 0 ? `all ${todo.length} cells hold` : `${failed} of ${todo.length} cells were violated`)
  return failed === 0 ? 0 : 1
}

if (simulates) {
  const { simulate } = await import("./simulate.ts")
  process.exitCode = await simulate(process.argv.slice(2).filter((word) => word !== "--simulate"))
} else if (values.list) {
  for (const { brokers, name, what } of cells)
    process.stdout.write(`${name.padEnd(4)} ${what} (${brokers.join(", ")})\n`)
} else {
  // Servers that a failed cell left behind must not keep it alive
  process.exit(await matrix())
}
