/**
 * `npm run bench`: how fast this machine, its Postgres and Polyqueue are together. Starts durable servers of its own in
 * temporary folders, or uses POLYQUEUE_BENCH_DB_URL (its Polyqueue tables are emptied!) and POLYQUEUE_BENCH_REDIS_URL.
 *
 * `--peers` installs graphile-worker, pg-boss and BullMQ into a temporary folder, measures them alternately with Polyqueue,
 * and prints ratios. `--hour` adds one that takes an hour. `--quick` takes less than a minute (without the peers). `--json` prints a line per measurement.
 * `--rounds N`: medians of N (default 5 with peers, else 1). `--only WORD`: scenarios with that word in their title.
 * Numbers of two runs on a shared machine are not comparable; ratios within one run are.
 */
import { execFileSync } from "node:child_process"
import { parseArgs } from "node:util"
import { startServer } from "../../test/support/PostgresServer.ts"
import { findBinary, startRedis } from "../../test/support/Redis.ts"
import { type Answer, measure, percentile, type Request } from "./Measurement.ts"
import * as Build from "./Build.ts"
import * as Peers from "./Peers.ts"
import * as Plan from "./Plan.ts"

const usage = "npm run bench -- [--quick] [--peers] [--hour] [--json] [--rounds N] [--only WORD]"
const { values: flags } = (() => {
  try {
    return parseArgs({
      options: {
        quick: { type: "boolean", default: false },
        peers: { type: "boolean", default: false },
        hour: { type: "boolean", default: false },
        json: { type: "boolean", default: false },
        rounds: { type: "string" },
        only: { type: "string", default: "" }
      }
    })
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\nUsage: ${usage}\n`)
    process.exit(2)
  }
})()
const rounds = Number(flags.rounds ?? (flags.peers ? 5 : 1))
if (!Number.isInteger(rounds) || rounds < 1) {
  process.stderr.write(`--rounds must be a whole number of at least 1\nUsage: ${usage}\n`)
  process.exit(2)
}

const has = (program: string): boolean => {
  try {
    execFileSync(program, ["--version"], { stdio: "ignore" })
    return true
  } catch {
    return false
  }
}

const say = (text: string) => process.stdout.write(`${text}\n`)
const shown = (value: number) =>
  value >= 1_000 ? Math.round(value).toLocaleString("en") : value.toFixed(value >= 100 ? 0 : value >= 1 ? 2 : 4)

const show = (scenario: string, system: string, value: number, unit: string, note = "") => {
  if (flags.json) say(JSON.stringify({ scenario, system, value: Math.round(value * 10_000) / 10_000, unit }))
  else
    say(`${scenario.padEnd(58)} ${system.padEnd(34)} ${shown(value).padStart(10)} ${unit.padEnd(12)}${note}`.trimEnd())
}

const child = Build.compile()
const given = process.env["POLYQUEUE_BENCH_DB_URL"]
// Both servers end with this process, and take their folders with them
const postgres =
  given ?? (await startServer({ durable: true, settings: { shared_buffers: "256MB", max_wal_size: "4GB" } })).url
/** An append-only file flushed this often. BullMQ's guide to production advises once a second; `always` promises what a COMMIT does. */
const redisFlushed = async (appendfsync: "everysec" | "always") =>
  (await startRedis({ persist: true, settings: { appendfsync, "maxmemory-policy": "noeviction" } })).url
const givenRedis = process.env["POLYQUEUE_BENCH_REDIS_URL"]
const canStart = givenRedis === undefined && findBinary() !== undefined
const redis = canStart ? await redisFlushed("everysec") : givenRedis
const redisAlways = canStart && flags.peers ? await redisFlushed("always") : undefined
const peers = flags.peers ? Peers.install() : undefined

const base: Request = {
  system: Plan.ours,
  scenario: "drain",
  postgres,
  redis,
  peers,
  jobs: 30_000,
  seconds: 4,
  callers: 20,
  samples: 2_000,
  work: 0,
  load: 0,
  crowd: "",
  crowdSize: 0
}

const once = async (scenario: Plan.Scenario, system: string, crowd = ""): Promise<Answer> => {
  const crowdSize = Plan.crowdSize(crowd)
  const server = system === Plan.bullmqAlways ? redisAlways : redis
  const request: Request = {
    ...base,
    ...scenario.options,
    system,
    scenario: scenario.name,
    redis: server,
    crowd,
    crowdSize
  }
  if (scenario.isFilled === true) {
    const filler = system === "pgbench" ? Plan.ours : system
    await measure(child, { ...request, system: filler, scenario: "enqueueAll" })
  }
  return measure(child, request)
}

let failed = 0
const run = async (scenario: Plan.Scenario) => {
  const answers = new Map<string, Array<Answer>>()
  const turns = scenario.systems.flatMap((system) =>
    (scenario.crowds ?? [""]).map((crowd) => ({ system, crowd, name: crowd === "" ? system : crowd }))
  )
  for (let round = 0; round < (scenario.rounds ?? rounds); round++) {
    for (const { crowd, name, system } of turns) {
      try {
        answers.set(name, [...(answers.get(name) ?? []), await once(scenario, system, crowd)])
      } catch (error) {
        failed++
        process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
      }
    }
  }
  const median = (values: ReadonlyArray<number>) => percentile(values, 0.5)
  /** Of each round, then their median: both sides of a ratio had the same minute. */
  const ratio = (of: ReadonlyArray<Answer>, by: ReadonlyArray<Answer>) =>
    median(of.map(({ value }, round) => value / (by[round]?.value ?? Number.NaN))).toFixed(2)
  const first = scenario.crowds?.[0]
  const compared = answers.get(first ?? Plan.ours)
  for (const [name, runs] of answers) {
    const one = runs[0]!
    const note =
      compared === undefined || compared === runs
        ? ""
        : first === undefined
          ? `polyqueue: ${ratio(compared, runs)} of it`
          : `${ratio(runs, compared)} of ${first}`
    show(scenario.title, name, median(runs.map((answer) => answer.value)), one.unit, note)
    for (const [also, { unit }] of Object.entries(one.also ?? {})) {
      show(`${scenario.title}, ${also}`, name, median(runs.map((answer) => answer.also![also]!.value)), unit)
    }
  }
}

const plan = Plan.scenarios({
  isQuick: flags.quick,
  withHour: flags.hour,
  withPeers: flags.peers,
  hasRedis: redis !== undefined,
  hasRedisAlways: redisAlways !== undefined,
  hasPgbench: has("pgbench")
}).filter(({ title }) => title.includes(flags.only))
for (const scenario of plan) await run(scenario)
process.exit(failed === 0 ? 0 : 1)
