/**
 * Part of the contract of a job store: the counts that the fleet keeps for metrics, so that neither scrapes nor workers
 * count jobs, however many there are. `JobStoreDriver` includes it.
 */
import type * as Effect from "effect/Effect"
import type { StoreError } from "../JobError.ts"

/** One queue as the fleet counted it. */
export interface FleetQueue {
  readonly queue: string
  /** Due and not paused: a worker with room would take it now. */
  readonly claimable: number
  /** Due, paused or not. */
  readonly due: number
  /** Queued for later. */
  readonly waiting: number
  readonly processing: number
  /** Of those: has reported progress, but not for `staleAfter`. */
  readonly stale: number
  readonly succeeded: number
  readonly failed: number
  readonly cancelled: number
  /** How long the oldest due job has waited, in ms; 0 when none is due. */
  readonly oldestAge: number
}

/** All queues as the fleet counted them last. */
export interface FleetStats {
  /** Epoch ms of the store's clock. */
  readonly countedAt: number
  /** By name. A queue without jobs is not listed. */
  readonly queues: ReadonlyArray<FleetQueue>
  /** How long the oldest hint that nobody has published yet is due, in ms; 0 when there is none. */
  readonly relayLag: number
}

/** Who asks for the counts, and how old they may be. */
export interface FleetStatsRequest {
  readonly worker: string
  /** Age in ms after which they are counted again. */
  readonly interval: number
  /** Silence in ms after which reported progress is stale. */
  readonly staleAfter: number
}

/** What an implementation of the store fills. */
export interface FleetDriver {
  /**
   * The counts that the fleet keeps. Who asks first after `interval` counts anew, in bounded statements that take a few
   * percent of one core at most: ended jobs of large tables are counted less often. Others MUST be answered from the last
   * count meanwhile. A counter that stops half-way MUST be replaced by another. `undefined`: not counted yet.
   */
  readonly fleetStats: (request: FleetStatsRequest) => Effect.Effect<FleetStats | undefined, StoreError>
}
