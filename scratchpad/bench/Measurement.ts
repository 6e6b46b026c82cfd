/**
 * What one measurement is asked and answers. Each is made by a process of its own (`child.ts`), so that no heap, no
 * optimised code and no connection of one helps or hurts the next.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"

/** Which servers there are, and how much of everything. */
export interface Request {
  readonly system: string
  readonly scenario: string
  readonly postgres: string
  readonly redis: string | undefined
  /** The folder with the peers' packages. */
  readonly peers: string | undefined
  readonly jobs: number
  readonly seconds: number
  readonly callers: number
  readonly samples: number
  /** Milliseconds a handler takes. */
  readonly work: number
  /** Jobs per second that are enqueued beside what is measured. */
  readonly load: number
  /** What else is in the table. */
  readonly crowd: string
  readonly crowdSize: number
}

/** One number; the further ones are of the same run. */
export interface Answer {
  readonly value: number
  readonly unit: string
  readonly also?: Readonly<Record<string, { readonly value: number; readonly unit: string }>>
}

/** A system under test: scenarios by name. */
export type System = Readonly<Record<string, (request: Request) => Promise<Answer>>>

/** Milliseconds a measurement may take beyond the seconds it was asked for. */
const limit = 900_000

/** What the README advises for workers. The others' documentation advises nothing, and has Node's defaults. */
const nodeOptions = ({ system }: Request): ReadonlyArray<string> =>
  system.startsWith("polyqueue") ? ["--max-semi-space-size=16"] : []

/** Runs one measurement in a process of its own, which `child` is the program of. Rejects with what the process said when it did not answer. */
export const measure = async (child: string, request: Request): Promise<Answer> => {
  const started = spawn(process.execPath, [...nodeOptions(request), child, JSON.stringify(request)], {
    stdio: ["ignore", "pipe", "pipe"]
  })
  const timer = setTimeout(() => started.kill("SIGKILL"), limit + request.seconds * 1_000)
  let out = ""
  let complaints = ""
  started.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()))
  started.stderr.on("data", (chunk: Buffer) => (complaints = (complaints + chunk.toString()).slice(0, 4_000)))
  const [code] = await once(started, "close")
  clearTimeout(timer)
  const line = out.split("\n").findLast((text) => text.startsWith("answer "))
  if (code !== 0 || line === undefined) {
    throw new Error(
      `${request.system}, ${request.scenario}: no answer (exit ${code})\n${complaints}${out.slice(-2_000)}`
    )
  }
  return JSON.parse(line.slice("answer ".length)) as Answer
}

/** Runs `body` until it has been running for `seconds`, by `callers` at once; answers rounds per second. */
export const perSecond = async (callers: number, seconds: number, body: () => Promise<unknown>): Promise<number> => {
  let rounds = 0
  const start = performance.now()
  const end = start + seconds * 1_000
  const caller = async () => {
    while (performance.now() < end) {
      await body()
      rounds++
    }
  }
  await Promise.all(Array.from({ length: callers }, caller))
  return (rounds * 1_000) / (performance.now() - start)
}

/** Enqueues `jobs` payloads in batches of 1,000; answers jobs per second. */
export const inBatches = async (
  jobs: number,
  send: (payloads: ReadonlyArray<{ readonly n: number }>) => Promise<unknown>
): Promise<number> => {
  const start = performance.now()
  for (let n = 0; n < jobs; n += 1_000) {
    await send(Array.from({ length: Math.min(1_000, jobs - n) }, (_, i) => ({ n: n + i })))
  }
  return (jobs * 1_000) / (performance.now() - start)
}

/** Largest resident set of this process so far, in MB. */
export const maxRss = () => ({ value: process.resourceUsage().maxRSS / 1_000, unit: "MB" })

/** Milliseconds by the clock that all processes of this machine share. */
export const now = (): number => Number(process.hrtime.bigint()) / 1e6

/** The part `at` of them, from 0 to 1. */
export const percentile = (values: ReadonlyArray<number>, at: number): number => {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * at))] ?? Number.NaN
}
