/**
 * `npm run bench`: how fast this machine, this Postgres and Polyqueue are together. Starts a durable server of its own in a
 * temporary folder, or uses the database in POLYQUEUE_BENCH_DB_URL (its Polyqueue tables are emptied!).
 *
 * `--json` prints one line per measurement; `--quick` takes less than a minute. Numbers of two runs on a shared machine
 * are not comparable; ratios within one run are.
 */
import { Console, Effect } from "effect"
import { startServer } from "../../test/support/PostgresServer.ts"
import * as Bench from "./polyqueue.ts"

const flags = new Set(process.argv.slice(2))
const unknown = [...flags].filter((flag) => flag !== "--json" && flag !== "--quick")
if (unknown.length > 0) {
  process.stderr.write(`unknown: ${unknown.join(" ")}. Usage: npm run bench -- [--json] [--quick]\n`)
  process.exit(2)
}
const json = flags.has("--json")
const quick = flags.has("--quick")

const show = (scenario: string, value: number, unit: string) =>
  Console.log(
    json
      ? JSON.stringify({ scenario, system: "polyqueue", value: Math.round(value * 100) / 100, unit })
      : `${scenario.padEnd(34)} ${(value >= 100 ? Math.round(value).toLocaleString("en") : value.toFixed(2)).padStart(12)} ${unit}`
  )

const given = process.env["POLYQUEUE_BENCH_DB_URL"]
const server =
  given === undefined ? await startServer({ durable: true, settings: { shared_buffers: "256MB" } }) : undefined
const url = given ?? server!.url

const jobs = quick ? 30_000 : 100_000
const main = Effect.gen(function* () {
  yield* show("enqueueAll, batches of 1,000", yield* Bench.enqueueBatches(url, jobs), "jobs/s")
  for (const callers of [1, 20, 200]) {
    yield* show(`enqueue, ${callers} callers`, yield* Bench.enqueueCallers(url, callers, quick ? 2 : 5), "jobs/s")
  }
  for (let round = 1; round <= (quick ? 1 : 3); round++) {
    yield* show(`drain of ${jobs.toLocaleString("en")} no-op jobs`, yield* Bench.drain(url, jobs), "jobs/s")
  }
  const { cpuPercent, transactionsPerSecond } = yield* Bench.rest(url, quick ? 5 : 30)
  yield* show("worker at rest, CPU", cpuPercent, "% of a core")
  yield* show("worker at rest, database", transactionsPerSecond, "transactions/s")
})
// The server ends with this process, and takes its folder with it
await Effect.runPromise(main)
