/**
 * `npm run chaos -- --simulate`: the real worker, maintenance and client in a simulated fleet, thousands of seeds side by side
 * on all cores. Says how far it is, then what was done to the fleet, as a report and as one JSON line per mode. Exits 1 on any
 * violation, 2 on a request that makes no sense.
 *
 * `--safety N --liveness N`: so many seeds of each mode (default 20,000 and 5,000), from `--from K` on (default 1).
 * `--cores N`: so many threads (default: one per core). `--mode safety|liveness --seed K`: the story of one seed.
 */
import { availableParallelism } from "node:os"
import { parseArgs } from "node:util"
import { Worker } from "node:worker_threads"
import type { Mode } from "../../src/testing/simulation/Setup.ts"
import * as Tally from "../../src/testing/simulation/Tally.ts"
import * as Campaign from "../../test/simulation/Campaign.ts"
import type { Answer, Part } from "./simulateSeeds.ts"
import * as Report from "./SimulationReport.ts"

const usage =
  "Usage: npm run chaos -- --simulate [--safety N] [--liveness N] [--from K] [--cores N] | --mode safety|liveness --seed K\n"

/** Seeds that a thread is given at once. */
const part = 50
/** Violations that are shown; the rest is counted. */
const shown = 20
/** Seconds between two lines of progress. */
const progressEvery = 20

const print = (line = ""): void => void process.stdout.write(`${line}\n`)

/** Runs what the command line asks for and answers the exit code. */
export const simulate = async (args: ReadonlyArray<string>): Promise<0 | 1 | 2> => {
  const refuse = (why: string): 2 => {
    process.stderr.write(`${why}\n${usage}`)
    return 2
  }
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        simulate: { type: "boolean" },
        safety: { type: "string", default: "20000" },
        liveness: { type: "string", default: "5000" },
        from: { type: "string", default: "1" },
        cores: { type: "string", default: String(availableParallelism()) },
        mode: { type: "string", default: "safety" },
        seed: { type: "string" }
      }
    })
    const whole = (name: "safety" | "liveness" | "from" | "cores" | "seed", least: number): number => {
      const text = values[name] ?? ""
      if (/^\d{1,9}$/.test(text) && Number(text) >= least) return Number(text)
      throw new Error(`--${name} must be a whole number of at least ${least}, not ${text}`)
    }
    if (values.mode !== "safety" && values.mode !== "liveness") {
      return refuse(`--mode must be safety or liveness, not ${values.mode}`)
    }
    if (values.seed !== undefined) return story(values.mode, whole("seed", 1))
    const from = whole("from", 1)
    const cores = whole("cores", 1)
    const seeds = { safety: whole("safety", 0), liveness: whole("liveness", 0) }
    const campaigns: Array<Report.Campaign> = []
    for (const mode of ["safety", "liveness"] as const) {
      if (seeds[mode] > 0) campaigns.push(await campaign(mode, from, seeds[mode], cores))
    }
    for (const one of campaigns) Report.summary(one, print)
    Report.faults(campaigns, print)
    return campaigns.every(({ replays, tally }) => tally.violated === 0 && replays.different === 0) ? 0 : 1
  } catch (error) {
    return refuse(error instanceof Error ? error.message : String(error))
  }
}

const story = (mode: Mode, seed: number): 0 | 1 => {
  const { history, world } = Campaign.run(seed, mode, { tells: true })
  for (const line of world.story) print(line)
  print()
  print(`${mode} seed ${seed}, fingerprint ${world.digest}`)
  for (const violation of history.violations) print(`  ${Report.sentence(violation)}`)
  if (history.violations.length === 0) print("  no violation")
  return history.violations.length === 0 ? 0 : 1
}

/** Runs the seeds of one mode. */
const campaign = async (mode: Mode, from: number, seeds: number, cores: number): Promise<Report.Campaign> => {
  const tally = Tally.make()
  const replays = { same: 0, different: 0 }
  const started = performance.now()
  const seconds = () => (performance.now() - started) / 1_000
  const end = from + seeds
  const threads = Math.min(cores, Math.ceil(seeds / part))
  let next = from
  let told = 0
  const progress = setInterval(() => {
    print(
      `${mode}: ${seconds().toFixed(0)} s, ${tally.runs} of ${seeds} seeds, ${(tally.runs / seconds()).toFixed(1)} per second, ${tally.violated} violated`
    )
  }, progressEvery * 1_000)

  const take = (): Part | undefined => {
    if (next >= end) return undefined
    const one: Part = { mode, from: next, seeds: Math.min(part, end - next) }
    next += one.seeds
    return one
  }
  const add = (answer: Answer): void => {
    Tally.merge(tally, answer.tally)
    replays.same += answer.replays.same
    replays.different += answer.replays.different
    for (const { seed, violations } of answer.violated) {
      if (++told > shown) return
      print(`VIOLATION ${Report.replay(mode, seed)}`)
      for (const violation of violations.slice(0, 3)) print(`  ${Report.sentence(violation)}`)
    }
  }
  try {
    await Promise.all(Array.from({ length: threads }, () => thread(take, add)))
  } finally {
    clearInterval(progress)
  }
  return { mode, from, wall: seconds(), threads, tally, replays }
}

/** One thread: takes parts until none is left. */
const thread = (take: () => Part | undefined, add: (answer: Answer) => void): Promise<void> =>
  new Promise((resolve, reject) => {
    const worker = new Worker(new URL("simulateSeeds.ts", import.meta.url))
    const give = () => {
      const part = take()
      // oxlint-disable-next-line unicorn/require-post-message-target-origin
      if (part !== undefined) return worker.postMessage(part)
      void worker.terminate()
      resolve()
    }
    worker.on("message", (answer: Answer) => {
      add(answer)
      give()
    })
    worker.on("error", (error) => reject(error))
    give()
  })
