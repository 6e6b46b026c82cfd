/**
 * Why a job is not running, and when it could: the claim's own view of it, and the workers that could take it, as
 * reasons in the order in which they must go away.
 */
import type { Status } from "../store/JobStoreDriver.ts"

/** One reason. `message` is a sentence for people; `until` is when it ends by itself, if that is known. */
export type Reason = { readonly message: string; readonly until: number | undefined } & (
  | { readonly _tag: "Ended"; readonly status: Status; readonly at: number; readonly code: string | undefined }
  | {
      readonly _tag: "Running"
      readonly worker: string
      readonly workerName: string | undefined
      readonly since: number
      readonly cancelRequested: boolean
    }
  /** Its owner stopped renewing: the reaper queues it again. */
  | { readonly _tag: "Abandoned"; readonly worker: string; readonly workerName: string | undefined }
  | { readonly _tag: "NotDue"; readonly because: "delay" | "retry" | "crash" | "snooze" }
  | {
      readonly _tag: "Paused"
      readonly queue: string | undefined
      readonly type: string | undefined
      readonly since: number
      readonly reason: string | undefined
    }
  /** No live worker has a handler for its type and works on its queue. `draining`: workers that would, but are draining. */
  | { readonly _tag: "NoWorker"; readonly draining: number }
  | { readonly _tag: "SlotsBusy"; readonly workers: number; readonly slots: number; readonly running: number }
  /** It crashed a worker before: it waits for one with a free slot and no other such job. */
  | { readonly _tag: "Suspect"; readonly crashes: number; readonly maxCrashes: number }
  /** Nothing holds it: a worker takes it at its next look, within about a second. */
  | { readonly _tag: "Ready"; readonly workers: number }
)

/** The answer. */
export interface Explanation {
  readonly id: string
  readonly type: string
  readonly queue: string
  readonly status: Status
  /** The store's now, which the instants are to be compared with. */
  readonly now: number
  /** At least one. */
  readonly reasons: ReadonlyArray<Reason>
  /** The earliest moment at which it could start, if nothing else happens; undefined: not by itself. `now` when it could now. */
  readonly earliest: number | undefined
}
