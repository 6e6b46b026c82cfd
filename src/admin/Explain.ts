/**
 * Why a job is not running, and when it could: the claim's own view of it, and the workers that could take it, as
 * reasons in the order in which they must go away.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type { JobStore } from "../JobStore.ts"
import type { WorkerRecord } from "../registry/WorkerRegistryDriver.ts"
import type { AttemptOutcome, ClaimView, Pause, Status } from "../store/JobStoreDriver.ts"
import type { WorkerRegistry } from "../WorkerRegistry.ts"
import type { AdminService } from "./AdminService.ts"
import { isHeard, isLive } from "./Controls.ts"
import { existing } from "./Listing.ts"

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
  /**
   * No live worker has a handler for its type and works on its queue. `draining`: workers that would, but are draining.
   * `silent`: workers that would, but have not been heard of for a minute.
   */
  | { readonly _tag: "NoWorker"; readonly draining: number; readonly silent: number }
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

const iso = (instant: number): string => DateTime.formatIso(DateTime.makeUnsafe(Math.round(instant)))

/** What the last attempt says of a wait. Without one, it was enqueued with a delay. */
const because: Partial<Record<AttemptOutcome, "retry" | "crash" | "snooze">> = {
  failed: "retry",
  timedOut: "retry",
  crashed: "crash",
  snoozed: "snooze"
}

const waits = {
  delay: "it was enqueued for then",
  retry: "it failed and is tried again then",
  crash: "it crashed its worker and is tried again then",
  snooze: "its handler asked to be run again then"
}

const notDue = (view: ClaimView, last: AttemptOutcome | undefined): Reason => {
  const why = (last === undefined ? undefined : because[last]) ?? "delay"
  const until = view.job.runAt
  return { _tag: "NotDue", because: why, until, message: `not due until ${iso(until)}: ${waits[why]}` }
}

const paused = ({ queue, reason, since, type, until }: Pause): Reason => {
  const what =
    type === undefined
      ? queue === undefined
        ? "everything"
        : `queue ${queue}`
      : `type ${type}${queue === undefined ? "" : ` in queue ${queue}`}`
  const end = until === undefined ? "until somebody resumes it" : `until ${iso(until)}`
  const why = reason === undefined ? "" : `: ${reason}`
  return { _tag: "Paused", queue, type, since, reason, until, message: `${what} is paused ${end}${why}` }
}

/** Why no worker takes it now, as far as their last heartbeats tell. */
const heldByWorkers = (
  { job, now, suspect }: ClaimView,
  workers: ReadonlyArray<WorkerRecord>
): ReadonlyArray<Reason> => {
  const known = workers.filter(
    (worker) => isLive(worker) && worker.jobTypes.includes(job.type) && worker.queues.includes(job.queue)
  )
  const handling = known.filter((worker) => isHeard(worker, now))
  const able = handling.filter(({ status }) => status === "running")
  if (able.length === 0) {
    const draining = handling.length
    const silent = known.length - handling.length
    const could = `the workers that could run ${job.type} in queue ${job.queue}`
    const message =
      draining > 0
        ? `${could} (${draining}) are draining`
        : silent > 0
          ? `${could} (${silent}) have not been heard of for more than a minute`
          : `no live worker has a handler for ${job.type} and works on queue ${job.queue}`
    return [{ _tag: "NoWorker", draining, silent, until: undefined, message }]
  }
  const slots = able.reduce((n, worker) => n + worker.slots, 0)
  const running = able.reduce((n, worker) => n + worker.runningCount, 0)
  const busy: ReadonlyArray<Reason> = able.every((worker) => worker.runningCount >= worker.slots)
    ? [
        {
          _tag: "SlotsBusy",
          workers: able.length,
          slots,
          running,
          until: undefined,
          message: `all ${slots} slots of the ${able.length} workers that could run it are busy`
        }
      ]
    : []
  const alone: ReadonlyArray<Reason> = suspect
    ? [
        {
          _tag: "Suspect",
          crashes: job.crashes,
          maxCrashes: job.maxCrashes,
          until: undefined,
          message: `it crashed its worker before (${job.crashes} crashes): it waits for a worker with a free slot that runs no other such job`
        }
      ]
    : []
  return [...busy, ...alone]
}

/** Of a queued job: all that holds it, or that nothing does. */
const queued = (
  view: ClaimView,
  workers: ReadonlyArray<WorkerRecord>,
  last: AttemptOutcome | undefined
): ReadonlyArray<Reason> => {
  const reasons = [
    ...(view.waiting ? [notDue(view, last)] : []),
    ...view.pauses.map(paused),
    ...heldByWorkers(view, workers)
  ]
  if (reasons.length > 0) return reasons
  const able = workers.filter(
    (worker) =>
      worker.status === "running" &&
      isHeard(worker, view.now) &&
      worker.jobTypes.includes(view.job.type) &&
      worker.queues.includes(view.job.queue)
  )
  const message = "nothing holds it: a worker with a free slot takes it at its next look"
  return [{ _tag: "Ready", workers: able.length, until: undefined, message }]
}

/** Of a job that is being run: by whom, or by nobody any more. */
const processing = ({ expired, job, now }: ClaimView, workers: ReadonlyArray<WorkerRecord>): Reason => {
  const worker = job.worker ?? ""
  const workerName = workers.find(({ id }) => id === worker)?.name
  const who = workerName === undefined ? `worker ${worker}` : `worker ${workerName} (${worker})`
  const lease = job.leaseExpiresAt === undefined ? "" : iso(job.leaseExpiresAt)
  if (expired) {
    const next = workers.some((worker) => isHeard(worker, now))
      ? "maintenance queues it again"
      : "maintenance queues it again once a worker runs: none is heard of now"
    const message = `${who} ran it and stopped renewing its lease, which ended at ${lease}: ${next}`
    return { _tag: "Abandoned", worker, workerName, until: undefined, message }
  }
  const cancelRequested = job.cancelRequestedAt !== undefined
  const cancel = cancelRequested ? "; cancel was requested, and reaches the handler with the next renewal" : ""
  return {
    _tag: "Running",
    worker,
    workerName,
    since: job.startedAt ?? 0,
    cancelRequested,
    until: undefined,
    message: `${who} runs it, attempt ${job.attempt}, under a lease until ${lease}, renewed while it runs${cancel}`
  }
}

const endings: Record<Status, string> = {
  succeeded: "it succeeded",
  failed: "it failed for good",
  cancelled: "it was cancelled",
  queued: "it is queued",
  processing: "it is running"
}

const ended = ({ job }: ClaimView): Reason => {
  const code = job.error?.code
  const why = job.status === "failed" && job.error !== undefined ? ` (${job.error.code})` : ""
  const at = job.finishedAt ?? 0
  const message = `${endings[job.status]} at ${iso(at)}${why}: requeue it to run it again`
  return { _tag: "Ended", status: job.status, at, code, until: undefined, message }
}

/** When it could start at the earliest. What ends at an unknown time, but by itself, counts as now. */
const earliestOf = ({ now }: ClaimView, reasons: ReadonlyArray<Reason>): number | undefined => {
  let earliest = now
  for (const { _tag, until } of reasons) {
    if (_tag === "Ended" || _tag === "Running" || _tag === "NoWorker") return undefined
    if (_tag === "Paused" && until === undefined) return undefined
    earliest = Math.max(earliest, until ?? now)
  }
  return earliest
}

/** `Admin.explain`. */
export const make =
  (store: JobStore["Service"], registry: WorkerRegistry["Service"]): AdminService["explain"] =>
  (id) =>
    Effect.gen(function* () {
      const view = yield* existing(id, store.view)
      const workers = yield* registry.list
      const { job, now } = view
      const last = view.waiting ? (yield* store.attempts(job.id)).at(-1)?.outcome : undefined
      const reasons =
        job.status === "queued"
          ? queued(view, workers, last)
          : [job.status === "processing" ? processing(view, workers) : ended(view)]
      return {
        id: job.id,
        type: job.type,
        queue: job.queue,
        status: job.status,
        now,
        reasons,
        earliest: earliestOf(view, reasons)
      }
    })
