/**
 * One run's circumstances, drawn from its seed: which faults there are and how often, how many workers with which options,
 * what kind of broker. Every seed draws another mixture, also which faults are off: faults that are always on hide each
 * other.
 */
import type { Options } from "../../Worker.ts"
import { type Faults, none } from "./Chaos.ts"
import type { Ability } from "./HintServer.ts"
import type { Rng } from "./Rng.ts"

/**
 * `safety`: faults never cease, nothing wrong may ever happen. `liveness`: faults cease after a while, but for those of some
 * workers, and some brokers, that stay broken; then everything must end.
 */
export type Mode = "safety" | "liveness"

/** A worker's place: who dies there is followed by another process. */
export interface Place {
  readonly options: Options
  /** Operations that always fail here, or `mid-batch`: every sweep kills its process. Never of the first place. */
  readonly broken: ReadonlySet<string>
  /** The part of the jobs that it knows, from the first: an old version knows fewer. The first place knows all. */
  readonly knows: number
}

export interface Setup {
  readonly faults: Faults
  readonly places: ReadonlyArray<Place>
  /** A broker that carries hints, or a bell. */
  readonly broker: Ability | "bell"
  /** The broker loses everything, always. */
  readonly brokerOnlyLoses: boolean
  /** Chance that a fiber gives way at any one of its steps. */
  readonly yields: number
  /** Tasks of a process run in the order they came. */
  readonly inOrder: boolean
  /** Ms until faults cease (liveness), or until the run is over (safety). */
  readonly faultsFor: number
  /** Longest pause, in ms, before a dead process is followed by the next. */
  readonly restartWithin: number
  /** The first process of the first place is killed before it takes more than this many steps. */
  readonly killFirstAtStep: number
}

/** Operations of which one may be broken for good in a worker that stays in the fleet. */
const breakable = ["renew", "renew", "store", "mid-batch", "broker.receive", "broker.ack", "takeHints", "registry"]

const worker = (rng: Rng, queues: ReadonlyArray<string>) => {
  const lease = rng.pick([1_000, 2_000, 3_000, 5_000])
  const slots = () => rng.pick([1, 2, 3, 5, 10])
  return {
    // A number for all queues is one pool, a number for each is one pool per queue
    concurrency: rng.chance(0.5) ? slots() : Object.fromEntries(queues.map((queue) => [queue, slots()])),
    lease,
    renewEvery: Math.round(lease / rng.pick([2.5, 3, 5])),
    shutdownGrace: rng.pick([100, 500, 2_000]),
    interruptGrace: rng.pick([100, 300, 1_000]),
    heartbeatEvery: rng.int(1_000, 5_000),
    staleAfter: rng.int(3_000, 10_000),
    sweepEvery: rng.int(300, 2_000),
    brokerLease: rng.pick([500, 2_000, 10_000]),
    hintAck: rng.pick(["settled", "settled", "claimed"]),
    retention: { succeeded: null, failed: null, cancelled: null, attempts: null }
  } satisfies Options
}

const faults = (rng: Rng): Faults => {
  const maybe = <A>(value: () => A, otherwise: A): A => (rng.chance(0.4) ? value() : otherwise)
  const rate = (most: number) => maybe(() => most * rng.next() ** 2, 0)
  const every = (least: number, most: number) => maybe(() => rng.int(least, most), 0)
  return {
    ...none,
    latency: rng.pick([0, 1, 5, 30]),
    storeLost: rate(0.1),
    storeReplyLost: rate(0.1),
    storeLate: rate(0.05),
    storeSlow: rate(0.1),
    slowFor: rng.int(100, 6_000),
    brokerLost: rate(0.2),
    brokerReplyLost: rate(0.2),
    hintLost: rate(0.6),
    hintDoubled: rate(0.5),
    hintDelayed: rate(0.5),
    hintDelay: rng.int(50, 10_000),
    hintReordered: rate(1),
    hintForged: rate(0.3),
    killAtPoint: rate(0.06),
    pauseAtPoint: rate(0.04),
    killEvery: every(1_000, 8_000),
    pauseEvery: every(1_000, 8_000),
    pauseFor: rng.int(50, 8_000),
    stopEvery: every(2_000, 10_000),
    outageEvery: every(4_000, 15_000),
    outageFor: rng.int(100, 8_000),
    flushEvery: every(2_000, 8_000),
    pruneEvery: rng.chance(0.2) ? rng.int(1_000, 5_000) : 0,
    keptFor: rng.pick([0, 500, 3_000]),
    clockSkew: maybe(() => 600_000, 0),
    jumpEvery: every(2_000, 8_000)
  }
}

/** Draws the circumstances of a run of jobs in these queues. */
export const draw = (rng: Rng, mode: Mode, queues: ReadonlyArray<string>): Setup => {
  const count = rng.pick([1, 2, 2, 3, 3, 4])
  const breaks = rng.chance(mode === "liveness" ? 0.4 : 0.3)
  const isMixed = rng.chance(0.2)
  const drawnFaults = faults(rng)
  const places = Array.from({ length: count }, (_, i) => ({
    options: worker(rng, queues),
    broken: new Set(breaks && i > 0 && rng.chance(0.6) ? [rng.pick(breakable)] : []),
    knows: isMixed && i > 0 ? rng.next() : 1
  }))
  // All workers have the same: whichever of them sweeps goes by its own
  const { interruptGrace } = places[0]!.options
  return {
    faults: drawnFaults,
    places: places.map((place) => ({ ...place, options: { ...place.options, interruptGrace } })),
    broker: rng.chance(0.35)
      ? "bell"
      : {
          fenced: rng.chance(0.5),
          idempotentPublish: rng.chance(0.3),
          countsDeliveries: rng.chance(0.5),
          maxHold: rng.chance(0.2) ? 12_000 : undefined
        },
    brokerOnlyLoses: rng.chance(mode === "liveness" ? 0.15 : 0.05),
    yields: rng.pick([0, 0.02, 0.2]),
    inOrder: rng.chance(0.6),
    faultsFor: mode === "safety" ? rng.int(5_000, 16_000) : rng.int(4_000, 10_000),
    restartWithin: rng.int(100, 3_000),
    killFirstAtStep: Infinity
  }
}

/** Nothing goes wrong: one worker with the defaults, and a bell. */
export const calm: Setup = {
  faults: none,
  places: [{ options: {}, broken: new Set(), knows: 1 }],
  broker: "bell",
  brokerOnlyLoses: false,
  yields: 0,
  inOrder: true,
  faultsFor: 0,
  restartWithin: 1_000,
  killFirstAtStep: Infinity
}
