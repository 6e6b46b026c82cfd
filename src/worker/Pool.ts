/**
 * Slots that some queues share. A pool also keeps a few claimed jobs in store when they are quick, so that a slot that
 * frees up never waits for a round trip; slow jobs are not claimed ahead, so that other workers can have them.
 */
import type { ClaimPool } from "../store/JobStoreDriver.ts"
import type { Held } from "./Held.ts"
import * as Signal from "./Signal.ts"

/** Jobs claimed ahead at most. */
const maxPrefetch = 900
/** Run time that prefetching should cover: a few round trips. */
const prefetchHorizon = 20
/** Run time in ms that is assumed until something is known: nothing is claimed ahead. */
const slow = 1_000
/** Runs that are known before jobs are called quick, at least: and one per slot, as the first to end are the quickest. */
const minRuns = 50
/** Jobs asked for in one claim at most. */
const maxClaim = 500
/** Share of what is claimed ahead that may be in store when more is asked for: a full claim must leave room for the next. */
const lowWater = 0.6

export class Pool {
  readonly ranges: ClaimPool["ranges"]
  readonly queues: ReadonlyArray<string>
  /** What the code says. */
  readonly configured: number
  /** Jobs run at once: what the code says, or what people said since. */
  slots: number
  /** Whether jobs may be claimed for it now. */
  isOpen = true
  running = 0
  /** Raised when a slot of this pool became free. */
  readonly roomy = Signal.make()
  /** The last claim brought all it asked for: there may be more. */
  mayHaveMore = true
  private buffer: Array<Held> = []
  private head = 0
  /** Moving average of run times in ms. Slow until enough are known. */
  private averageRun = slow
  private firstRuns = 0
  private firstRunsTotal = 0

  constructor(queues: ReadonlyArray<string>, types: ReadonlyArray<string>, slots: number) {
    this.queues = queues
    this.ranges = queues.flatMap((queue) => types.map((type) => ({ queue, type })))
    this.configured = slots
    this.slots = slots
  }

  get buffered(): number {
    return this.buffer.length - this.head
  }

  get free(): number {
    return this.slots - this.running
  }

  /** How many to ask for now; 0 while enough are in store, or none may be claimed. */
  get wanted(): number {
    if (!this.isOpen) return 0
    const prefetch = Math.min(maxPrefetch, Math.floor((this.slots * prefetchHorizon) / Math.max(this.averageRun, 0.01)))
    const wanted = this.free + prefetch - this.buffered
    return this.buffered > prefetch * lowWater || wanted <= 0 ? 0 : Math.min(maxClaim, wanted)
  }

  push(held: Held): void {
    this.buffer.push(held)
  }

  /** A suspect runs before everything that is in store. */
  pushFirst(held: Held): void {
    this.buffer = [held, ...this.buffer.slice(this.head)]
    this.head = 0
  }

  /** The next job to start, skipping those that were lost or cancelled while they waited. */
  shift(): Held | undefined {
    while (this.head < this.buffer.length) {
      const held = this.buffer[this.head++]!
      if (this.head === this.buffer.length) {
        this.buffer = []
        this.head = 0
      }
      if (held.phase === "buffered") return held
    }
    return undefined
  }

  /** Everything that has not started. */
  takeAll(): ReadonlyArray<Held> {
    const rest = this.buffer.slice(this.head).filter((held) => held.phase === "buffered")
    this.buffer = []
    this.head = 0
    return rest
  }

  /** What has not started of the claims sent until then. */
  takeOlder(sentAt: number): ReadonlyArray<Held> {
    const waiting = this.buffer.slice(this.head).filter((held) => held.phase === "buffered")
    this.buffer = waiting.filter((held) => held.startedAt > sentAt)
    this.head = 0
    return waiting.filter((held) => held.startedAt <= sentAt)
  }

  /** Claims nothing ahead until jobs have proven to be quick again. */
  slowDown(): void {
    this.averageRun = Math.max(this.averageRun, slow)
  }

  ran(milliseconds: number): void {
    const enough = Math.max(this.slots, minRuns)
    if (this.firstRuns >= enough) {
      this.averageRun += (milliseconds - this.averageRun) * 0.05
      return
    }
    this.firstRunsTotal += milliseconds
    if (++this.firstRuns >= enough) this.averageRun = this.firstRunsTotal / this.firstRuns
  }
}

/** Pools from the `concurrency` option: one shared by all queues, or one per queue. */
export const fromConcurrency = (
  concurrency: number | Readonly<Record<string, number>>,
  queues: ReadonlyArray<string>,
  types: ReadonlyArray<string>,
  otherwise: number
): ReadonlyArray<Pool> => {
  if (typeof concurrency === "number") return [new Pool(queues, types, concurrency)]
  const all = new Set([...queues, ...Object.keys(concurrency)])
  return Array.from(all, (queue) => {
    const slots = Object.hasOwn(concurrency, queue) ? concurrency[queue] : undefined
    return new Pool([queue], types, slots ?? otherwise)
  })
}
