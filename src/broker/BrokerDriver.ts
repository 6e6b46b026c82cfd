/**
 * The contract of a broker: it carries hints about which job to look at, and is never an authority. Whatever it loses,
 * doubles, delays or forges costs latency only. Obligations are sentences with MUST; each has a test of the same words
 * in the contract suite (`polyqueue/testing`). Implementations are siblings of this file.
 *
 * Times are durations in milliseconds: a broker's own clock decides nothing.
 */
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { BrokerError } from "../JobError.ts"
import type { Announcer } from "../store/Announcer.ts"

/** What a broker carries: an id and which attempt it is about. Never a payload. */
export interface Hint {
  readonly jobId: string
  readonly queue: string
  readonly priority: number
  /** The job's attempt number when the hint was made: an older hint than the row is stale. */
  readonly attempt: number
  /** How often this row was published since it became queued, from 1: part of a broker-side message id. */
  readonly publication: number
}

/** A received hint with the receipt that acks, releases or extends exactly this delivery. */
export interface Delivery {
  readonly hint: Hint
  /** Opaque; valid for the consumer that received it. */
  readonly receipt: string
  /** How often this hint was delivered, if the broker counts. */
  readonly deliveryCount: number | undefined
  /** How long it is ours without being extended, in ms, where the broker gives less than the consumer asked for. */
  readonly lease?: number | undefined
}

/** A delivery that is done with. */
export interface Acked extends Delivery {
  /** What its job became, if this delivery's attempt ended it: for brokers that keep what they carried (PGMQ's archive). */
  readonly ended?: "succeeded" | "failed" | undefined
}

/** What became of one item of a batch. `LeaseLost` is informational: Postgres has decided already. */
export type ItemOutcome =
  | { readonly _tag: "Ok" }
  | { readonly _tag: "LeaseLost" }
  | { readonly _tag: "Failed"; readonly error: BrokerError }

/** What a broker can do, as data: read at start by the worker, and by the contract suite. */
export interface Capabilities {
  /** Shown in errors, logs and metrics (`messaging.system`): `memory`, `postgres`, `redis`, `sqs`, … */
  readonly name: string
  /**
   * `true`: hints travel through it and are received. `false`: a doorbell only; `receive` answers `[]` when it rings, and
   * workers claim straight from the store.
   */
  readonly carriesHints: boolean
  /** Publishing joins the caller's transaction (same database): no relay needed after a commit. */
  readonly transactionalPublish: boolean
  /** Publishing one job twice leaves one hint. */
  readonly idempotentPublish: boolean
  /** A stale receipt cannot touch the new owner's delivery. */
  readonly fenced: boolean
  /** Higher priorities are received first (best effort everywhere). */
  readonly priority: boolean
  /** Items per publish, receive and settle call that the broker takes in one request. */
  readonly maxBatch: number
  /** Longest lease the broker can give, between two extensions (Service Bus: 5 minutes); a worker that asks for more is refused. */
  readonly maxLease: number | undefined
  /** Longest time a delivery can be held in all, if the broker has a limit (SQS: 12 h). */
  readonly maxHold: number | undefined
  /** Longest delay `release` can ask for; longer ones are shortened to it. */
  readonly maxReleaseDelay: number | undefined
  readonly depth: "exact" | "approximate" | "none"
}

/** One worker's subscription to some queues, closed with its scope. */
export interface Consumer {
  /**
   * Waits up to `wait` for hints, at most `max`. MUST answer `[]` when `wait` is over or a doorbell rang; a ring between
   * two calls MUST NOT be lost. MUST lose nothing when interrupted (what it took comes back within one lease).
   */
  readonly receive: (options: {
    readonly max: number
    readonly wait: number
  }) => Effect.Effect<ReadonlyArray<Delivery>, BrokerError>
  /** Extends the broker's own lease on these deliveries. MUST answer per item, in order. */
  readonly extend: (
    deliveries: ReadonlyArray<Delivery>,
    lease: number
  ) => Effect.Effect<ReadonlyArray<ItemOutcome>, BrokerError>
  /** Removes these hints. MUST NOT touch a delivery that a newer receipt owns, where `fenced`. */
  readonly ack: (deliveries: ReadonlyArray<Acked>) => Effect.Effect<ReadonlyArray<ItemOutcome>, BrokerError>
  /** Makes these hints receivable again after `delay`. */
  readonly release: (
    deliveries: ReadonlyArray<Delivery>,
    delay: number
  ) => Effect.Effect<ReadonlyArray<ItemOutcome>, BrokerError>
}

/** How a broker is doing. `problems` are sentences for a person: what is wrong and what to change. */
export interface BrokerHealth {
  readonly ok: boolean
  readonly problems: ReadonlyArray<string>
}

/** What an implementation of a broker fills. */
export interface BrokerDriver {
  readonly capabilities: Capabilities
  /**
   * Makes hints receivable, or rings the doorbell of their queues. Called after the commit that made the jobs.
   * MUST answer per item, in order. Publishing a hint again is always allowed.
   */
  readonly publish: (hints: ReadonlyArray<Hint>) => Effect.Effect<ReadonlyArray<ItemOutcome>, BrokerError>
  /** Of doorbells in the store's own database: rings within the statement that makes a job, which is then not published. */
  readonly announcer?: Announcer | undefined
  /** Subscribes to queues. `lease`: how long a delivery is ours before it may be delivered to another. */
  readonly consumer: (options: {
    readonly queues: ReadonlyArray<string>
    readonly lease: number
  }) => Effect.Effect<Consumer, BrokerError, Scope.Scope>
  /** Hints waiting in a queue, as far as the broker knows. */
  readonly depth: (queue: string) => Effect.Effect<number | undefined, BrokerError>
  /** Drops all hints of a queue (jobs are untouched). Fails with `Unsupported` where it cannot. */
  readonly purge: (queue: string) => Effect.Effect<void, BrokerError>
  /** MUST never fail and answer within a few seconds. */
  readonly health: Effect.Effect<BrokerHealth>
}
