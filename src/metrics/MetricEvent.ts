/**
 * What can be counted. One event per transition, or per batch where only the number matters. Durations are milliseconds.
 */
import type { AttemptOutcome } from "../store/JobStoreDriver.ts"

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
  /** An attempt ended and that is committed. `final`: so did the job. */
  | {
      readonly _tag: "Ended"
      readonly queue: string
      readonly type: string
      readonly outcome: AttemptOutcome
      readonly final: boolean
      readonly ran: number
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
  /** A background loop failed and will be tried again. */
  | { readonly _tag: "LoopFailed"; readonly loop: string }
