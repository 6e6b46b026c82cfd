/**
 * A job this worker owns: from the claim until its settle is confirmed, whether it waits for a slot, runs, or has ended.
 * Whatever is held is renewed.
 */
import type * as Fiber from "effect/Fiber"
import type { Interruption } from "../CurrentJob.ts"
import type { Definition, HandlerService } from "../Job.ts"
import type { ClaimedJob, Lease } from "../store/JobStoreDriver.ts"
import type { Pool } from "./Pool.ts"

export interface Held {
  readonly job: ClaimedJob
  readonly definition: Definition
  readonly handler: HandlerService
  readonly pool: Pool
  /** `buffered`: waits for a slot. `running`: its fiber is alive. `ended`: its settle is due or in flight. */
  phase: "buffered" | "running" | "ended"
  /** While its handler runs. */
  fiber: Fiber.Fiber<unknown, unknown> | undefined
  /** Why we asked the fiber to stop. */
  interruption: Interruption | undefined
  /** Until when, on the monotonic clock, the lease is proven to be ours. */
  provenUntil: number
  /** Monotonic ms. */
  startedAt: number
  /** How long its handler ran, in ms: known when it has ended, 0 when it never ran. */
  ran: number
  /** W3C `traceparent` of the attempt's span, once it runs and when it is traced. */
  trace?: string
  /** Called once the job is no longer held. Acks its delivery, or drops it. */
  readonly onReleased: ((ending: Ending) => void) | undefined
}

/** How a job was let go of: its end, or `again` (it will run again), or `lost` (it is somebody else's). */
export type Ending = "succeeded" | "failed" | "cancelled" | "again" | "lost"

/** One process may hold two attempts of one job when it lost the first: the key is the attempt's. */
export const keyOf = (lease: { readonly id: string; readonly attempt: number }): string =>
  `${lease.id}/${lease.attempt}`

export const leaseOf = (held: Held): Lease => ({
  id: held.job.id,
  attempt: held.job.attempt,
  claim: held.job.claim
})
