/** A cell of the fault matrix: one kind of fault, what it must not do, on the brokers where it makes sense. */
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type BrokerName, names } from "./Brokers.ts"
import type { Stage } from "./Stage.ts"

export interface Cell {
  /** As in the matrix of the reliability guide: `W1`. */
  readonly name: string
  readonly what: string
  /** Where it is run by default. */
  readonly brokers: ReadonlyArray<BrokerName>
  /** What 99 of 100 recoveries may take, in ms. */
  readonly recoversWithin?: number
  /** Plays the fault. What it promises beyond the checker's rules goes to `stage.violations`. */
  readonly run: (stage: Stage) => Effect.Effect<void, unknown, Scope.Scope>
}

export const everywhere = names
/** Faults that have nothing to do with the kind of broker: with a doorbell, and with hints. */
export const bothKinds: ReadonlyArray<BrokerName> = ["postgres", "redis"]
/** Brokers that carry hints. */
export const carriers: ReadonlyArray<BrokerName> = ["redis", "pgmq", "sqs", "service-bus"]
