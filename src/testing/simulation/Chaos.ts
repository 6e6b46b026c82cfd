/**
 * The faults of one run: how often which of them strikes, the named points at which a process can be killed or paused, and
 * a count of everything that was done. Faults can be switched off for the rest of a run (`heal`), for everybody or all but
 * the processes that stay broken.
 */
import type { Process } from "./Process.ts"
import type { World } from "./World.ts"

/**
 * Where a process can be struck, between any two steps of the protocol. `after-…` means: it happened in the store or broker,
 * the caller has not heard of it. `mid-batch`: only a part of a batch was done.
 */
export const points = [
  "before-enqueue",
  "after-enqueue-commit/before-publish",
  "after-publish",
  "after-receive/before-claim",
  "before-claim",
  "after-claim-commit",
  "mid-handler",
  "after-handler/before-settle",
  "after-settle/before-ack",
  "after-ack",
  "before-renewal",
  "after-renewal-send",
  "after-take-hints/before-publish",
  "before-reap",
  "after-reap",
  "mid-batch",
  "after-abandon",
  "after-heartbeat"
] as const
export type Point = (typeof points)[number]

/** Probabilities per call, message or visit, mean times between events in ms (0: never), and durations in ms. */
export interface Faults {
  /** Every call takes up to this long each way. */
  readonly latency: number
  /** A call to the store fails, and nothing happened. */
  readonly storeLost: number
  /** A call to the store fails, and it happened. */
  readonly storeReplyLost: number
  /** A call to the store fails, and it happens up to ten seconds later. */
  readonly storeLate: number
  /** A call to the store takes up to `slowFor`. */
  readonly storeSlow: number
  readonly slowFor: number
  /** A call to the broker fails before, or after its effect. */
  readonly brokerLost: number
  readonly brokerReplyLost: number
  /** A hint, or a ring of the bell, vanishes without an error. */
  readonly hintLost: number
  readonly hintDoubled: number
  /** A hint becomes receivable only up to `hintDelay` later. */
  readonly hintDelayed: number
  readonly hintDelay: number
  readonly hintReordered: number
  /** A hint about an unknown or any other job appears. */
  readonly hintForged: number
  /** At a named point: the process is killed, or paused for up to `pauseFor`. */
  readonly killAtPoint: number
  readonly pauseAtPoint: number
  /** Mean time between two kills of a worker, in ms; half of them strike between two steps. */
  readonly killEvery: number
  readonly pauseEvery: number
  readonly pauseFor: number
  /** Mean time between two graceful stops (a deploy). */
  readonly stopEvery: number
  /** Mean time between two outages of the store, the broker, or the line between one worker and the store. */
  readonly outageEvery: number
  readonly outageFor: number
  /** Mean time between two complete losses of the broker's memory. */
  readonly flushEvery: number
  /** Mean time between two sweeps of retention, and how long ended jobs are kept then. */
  readonly pruneEvery: number
  readonly keptFor: number
  /** Wall clocks are wrong by up to this, and jump. */
  readonly clockSkew: number
  readonly jumpEvery: number
}

/** No faults: calls that take no time. */
export const none: Faults = {
  latency: 0,
  storeLost: 0,
  storeReplyLost: 0,
  storeLate: 0,
  storeSlow: 0,
  slowFor: 0,
  brokerLost: 0,
  brokerReplyLost: 0,
  hintLost: 0,
  hintDoubled: 0,
  hintDelayed: 0,
  hintDelay: 0,
  hintReordered: 0,
  hintForged: 0,
  killAtPoint: 0,
  pauseAtPoint: 0,
  killEvery: 0,
  pauseEvery: 0,
  pauseFor: 0,
  stopEvery: 0,
  outageEvery: 0,
  outageFor: 0,
  flushEvery: 0,
  pruneEvery: 0,
  keptFor: 0,
  clockSkew: 0,
  jumpEvery: 0
}

export class Chaos {
  readonly world: World
  readonly faults: Faults
  /** Faults that were injected, by name. */
  readonly injected = new Map<string, number>()
  /** Visits of each point, and how often a process was struck there. */
  readonly reached = new Map<Point, number>()
  readonly struck = new Map<Point, number>()
  /** Operations (`store` or a name) that always fail for a process, by its name: permanent, one-sided. */
  readonly broken = new Map<string, ReadonlySet<string>>()
  storeDownUntil = -Infinity
  brokerDownUntil = -Infinity
  /** Until when a process, by name, does not reach the store. */
  readonly cutOffUntil = new Map<string, number>()
  readonly #onlyLoses: boolean
  #healed = false

  /** `onlyLoses`: no hint and no ring ever arrives, for good. */
  constructor(world: World, faults: Faults, onlyLoses = false) {
    this.world = world
    this.faults = faults
    this.#onlyLoses = onlyLoses
  }

  /** Whether a hint or a ring vanishes now. */
  losesHint(): boolean {
    if (!this.#onlyLoses) return this.strikes("hint lost", this.faults.hintLost)
    this.count("hint lost, as always")
    return true
  }

  /** Ends all faults but the permanent ones. */
  heal(): void {
    this.#healed = true
    this.storeDownUntil = -Infinity
    this.brokerDownUntil = -Infinity
    this.cutOffUntil.clear()
    this.world.tell("world", "heals")
  }

  get isHealed(): boolean {
    return this.#healed
  }

  count(fault: string): void {
    this.injected.set(fault, (this.injected.get(fault) ?? 0) + 1)
  }

  /** Whether a fault of this probability strikes now. Counts it. */
  strikes(fault: string, probability: number): boolean {
    if (this.#healed || !this.world.rng.chance(probability)) return false
    this.count(fault)
    return true
  }

  /** The process comes by a named point: it may be struck there. Answers whether it goes on. */
  visit(point: Point, process: Process): boolean {
    if (!process.isAlive) return false
    this.reached.set(point, (this.reached.get(point) ?? 0) + 1)
    if (this.#healed || !process.isVulnerable) return true
    if (this.world.rng.chance(this.faults.killAtPoint)) {
      this.#strike(point, "killed at a point")
      process.kill(point)
      return false
    }
    if (this.world.rng.chance(this.faults.pauseAtPoint)) {
      this.#strike(point, "paused at a point")
      process.pause(this.world.rng.int(1, Math.max(1, this.faults.pauseFor)), point)
    }
    return true
  }

  /** The permanent fault of a process and operation, if it has one. */
  isBroken(process: Process, operation: string): boolean {
    const broken = this.broken.get(process.name)
    return broken !== undefined && (broken.has(operation) || (broken.has("store") && !operation.startsWith("broker.")))
  }

  latency(): number {
    return this.faults.latency === 0 ? 0 : this.world.rng.int(0, this.faults.latency)
  }

  #strike(point: Point, fault: string): void {
    this.struck.set(point, (this.struck.get(point) ?? 0) + 1)
    this.count(fault)
  }
}
