/** What the parts of one worker share: who it is, what it stands on, and how long it waits for what. */
import type * as Clock from "effect/Clock"
import type * as Effect from "effect/Effect"
import type { Broker } from "../Broker.ts"
import type { Any, HandlerService } from "../Job.ts"
import type { Defaults } from "../JobPolicy.ts"
import type { JobStore } from "../JobStore.ts"
import type { Metrics } from "../Metrics.ts"
import type { WorkerRegistry } from "../WorkerRegistry.ts"
import type { Supervisor } from "./Supervisor.ts"

/** Durations in ms. */
export interface Timings {
  readonly lease: number
  readonly renewEvery: number
  readonly heartbeatEvery: number
  /** How long a handler that was asked to stop may take before its job is settled without it. */
  readonly interruptGrace: number
  readonly shutdownGrace: number
  readonly sweepEvery: number
  readonly staleAfter: number
  /** The broker's own lease on a delivery. */
  readonly brokerLease: number
  readonly hintAck: "settled" | "claimed"
  /** How often metrics are told what transitions do not say. */
  readonly observeEvery: number
  /** Silence after which reported progress is stale. */
  readonly staleProgressAfter: number
}

export interface WorkerContext {
  readonly id: string
  readonly name: string
  readonly store: JobStore["Service"]
  readonly broker: Broker["Service"]
  readonly registry: WorkerRegistry["Service"]
  readonly metrics: Metrics["Service"]
  readonly clock: Clock.Clock
  readonly defaults: Defaults
  readonly supervisor: Supervisor
  readonly makeId: Effect.Effect<string>
  readonly timings: Timings
  readonly handlers: ReadonlyMap<string, { readonly job: Any; readonly handler: HandlerService }>
}

/** Monotonic milliseconds: only to be subtracted. */
export const monotonic = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
