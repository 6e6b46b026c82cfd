/**
 * What a handler can know and say about the job it is running. Provided to every handler by the worker; it is not a
 * requirement of the handler's layer.
 */
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type { JobId } from "./JobId.ts"

/** Why a worker interrupts a handler. `leaseLost`: somebody else may own the job already; nothing it does counts any more. */
export type Interruption = "timedOut" | "cancelled" | "leaseLost" | "shutdown"

/** How far a job is: a percentage, or a count with an optional note. */
export type Progress = number | { readonly done: number; readonly total: number; readonly note?: string }

/**
 * The job being run.
 *
 * ```ts
 * const job = yield* CurrentJob
 * yield* job.progress({ done: 3, total: 10 })
 * ```
 */
export class CurrentJob extends Context.Service<
  CurrentJob,
  {
    readonly id: JobId
    /** 1 for the first run. Grows with every claim, whatever ended the one before. */
    readonly attempt: number
    /**
     * Grows with every claim of this job, also after a database was restored. Hand it to outside systems that can refuse
     * an older one; together with `id` it makes a stale owner harmless.
     */
    readonly fence: number
    readonly enqueuedAt: DateTime.Utc
    /** When the timeout of this attempt strikes, by this worker's clock. None without a timeout. */
    readonly deadline: Option.Option<DateTime.Utc>
    /** Why this worker asked the fiber to stop, if it did: read it in `Effect.onInterrupt`. */
    readonly interruption: Effect.Effect<Option.Option<Interruption>>
    /** Records that the job still makes progress. Liveness (the lease) is automatic; this is the other signal. */
    readonly heartbeat: Effect.Effect<void>
    /** Records progress, for people and for `Handle.changes`. Cheap: writes are coalesced, the last one wins. */
    readonly progress: (value: Progress) => Effect.Effect<void>
  }
>()("polyqueue/CurrentJob") {}
