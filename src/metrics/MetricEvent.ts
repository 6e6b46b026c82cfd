/**
 * What can be counted. One event per transition, or per batch where only the number matters. Durations are milliseconds.
 */
import type { AttemptOutcome, FleetStats } from "../store/JobStoreDriver.ts"

export type MetricEvent =
  | {
      readonly _tag: "Enqueued"
      readonly queue: string
      readonly type: string
      readonly count: number
      readonly duplicates: number
    }
  /** An attempt started; `waited` counts from when the job became due. */
  | { readonly _tag: "Started"; readonly queue: string; readonly type: string; readonly waited: number }
  /** An attempt ended and that is committed. `final`: so did the job; otherwise it is queued again by now. */
  | {
      readonly _tag: "Ended"
      readonly queue: string
      readonly type: string
      readonly outcome: AttemptOutcome
      readonly final: boolean
      readonly ran: number
      /** Which attempt of its job it was, from 1. */
      readonly attempt: number
    }
  /** An owner found that it is not the owner any more. */
  | { readonly _tag: "LeaseLost"; readonly queue: string; readonly type: string }
  /** Maintenance ended an attempt (`crashed`, `timedOut`). */
  | {
      readonly _tag: "Reaped"
      readonly queue: string
      readonly type: string
      readonly outcome: AttemptOutcome
      readonly final: boolean
    }
  | { readonly _tag: "HintsPublished"; readonly broker: string; readonly count: number; readonly failed: number }
  | { readonly _tag: "Worker"; readonly event: "started" | "heartbeat" | "stopped" | "died"; readonly name: string }
  /** All queues, as the fleet counted them last: the same on every worker, so aggregate it with `max`, never with `sum`. */
  | { readonly _tag: "Fleet"; readonly stats: FleetStats }
  /** One worker and its process, every few seconds. */
  | {
      readonly _tag: "WorkerState"
      readonly name: string
      readonly slots: number
      readonly running: number
      readonly draining: boolean
      /** How late the event loop was at worst since the last event of this kind. */
      readonly eventLoopDelay: number
      /** Resident memory of the process in bytes. */
      readonly memory: number
    }
  /** A background loop failed and will be tried again. */
  | { readonly _tag: "LoopFailed"; readonly loop: string }
