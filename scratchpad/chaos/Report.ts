/**
 * What processes under test say: JSON lines on their file descriptor 3, written at once, so that what was said survives a
 * SIGKILL. Times are milliseconds of the machine's monotonic clock, which is one for all its processes and cannot be skewed.
 */
import { writeSync } from "node:fs"
import type { SettleOutcome, Settlement } from "../../src/JobStore.ts"

/** Something done to the system on purpose (or seen to happen to it: `starved`). */
export interface Fault {
  readonly kind: string
  readonly at: number
  /** For faults that last; default: an instant. */
  readonly until?: number | undefined
  /** Whom it hits; default: everybody. */
  readonly pid?: number | undefined
  /** Which jobs it hits; default: all. */
  readonly jobs?: ReadonlyArray<string> | undefined
}

/** Counted since the start of a process. */
export interface Counts {
  readonly received: number
  readonly published: number
  readonly republished: number
  readonly dbErrors: number
  readonly loopsRestarted: number
  readonly leasesLost: number
  /** Milliseconds of processor time. */
  readonly cpu: number
  readonly rss: number
  readonly handles: number
}

export type Line =
  | { readonly t: "ready" }
  /** A handler: side effects of the outside world, which no transaction takes back. */
  | {
      readonly t: "start" | "end" | "fail" | "interrupted"
      readonly at: number
      readonly job: string
      readonly attempt: number
    }
  /** What the store answered to a settle. */
  | {
      readonly t: "settle"
      readonly at: number
      readonly job: string
      readonly attempt: number
      readonly claim: string
      readonly kind: Settlement["_tag"]
      readonly outcome: SettleOutcome["_tag"]
    }
  | { readonly t: "fault"; readonly fault: Fault }
  /** A point where this process was told to do something. */
  | { readonly t: "point"; readonly at: number; readonly point: string }
  | { readonly t: "enqueue"; readonly job: string; readonly n: number; readonly phase: "invoked" | "ok" | "error" }
  | ({ readonly t: "counts" } & Counts)
  | { readonly t: "note"; readonly text: string }

/** Milliseconds of the monotonic clock. */
export const now = (): number => Number(process.hrtime.bigint() / 1_000n) / 1_000

/** Writes a line for whoever started this process. */
export const say = (line: Line): void => {
  const text = Buffer.from(`${JSON.stringify(line)}\n`)
  for (let at = 0; at < text.length;) {
    try {
      at += writeSync(3, text, at)
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "EAGAIN")) throw error
    }
  }
}

/** Says when nothing ran in this process for `longest` ms: a machine that starves it is a fault like any other. */
export const watchForStarvation = (longest: number, tell: (fault: Fault) => void): void => {
  let last = now()
  setInterval(() => {
    const at = now()
    if (at - last > longest) tell({ kind: "starved", at: last, until: at, pid: process.pid })
    last = at
  }, 50).unref()
}
