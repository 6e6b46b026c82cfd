/**
 * Actions on jobs, by ids or in bulk: batch by batch, each one statement that judges every row again under its lock. A bulk
 * action walks from the newest id to the oldest, so jobs that come meanwhile do not keep it going.
 */
import * as Effect from "effect/Effect"
import type { AdminError, StoreError } from "../JobError.ts"
import type { JobStore } from "../JobStore.ts"
import type {
  ActionOutcome,
  ActionResult,
  By,
  JobAction,
  JobFilter,
  JobSummary,
  Status
} from "../store/JobStoreDriver.ts"
import type { Act, ActionOptions, ActionReport, AdminService, Preview, Selection } from "./AdminService.ts"
import * as Input from "./Input.ts"
import type { Publisher } from "./Publisher.ts"

const defaultBatch = 500
const maxBatch = 1_000
const maxRest = 1_000
const sampleSize = 10
/** A row that somebody holds is asked for again this often, with this pause: claims and settles hold it for milliseconds. */
const lockedTries = 5
const lockedPause = "100 millis"

/** What the action can be done to. */
const eligible: Record<JobAction, { readonly status: ReadonlyArray<Status>; readonly cancelRequested?: false }> = {
  requeue: { status: ["succeeded", "failed", "cancelled"] },
  purge: { status: ["succeeded", "failed", "cancelled"] },
  runNow: { status: ["queued"] },
  fail: { status: ["queued", "processing"] },
  cancel: { status: ["queued", "processing"], cancelRequested: false }
}

const eligibleOnly = (action: JobAction, filter: JobFilter): JobFilter => {
  const { cancelRequested, status } = eligible[action]
  return { ...Input.among(filter, status), cancelRequested: cancelRequested ?? filter.cancelRequested }
}

/** What has been done so far. */
class Tally {
  seen = 0
  readonly outcomes: Partial<Record<ActionOutcome, number>> = {}
  readonly rest: Array<ActionReport["rest"][number]> = []

  get done(): number {
    return this.outcomes.done ?? 0
  }

  add(results: ReadonlyArray<ActionResult>): void {
    this.seen += results.length
    for (const { id, outcome } of results) {
      this.outcomes[outcome] = (this.outcomes[outcome] ?? 0) + 1
      if (outcome !== "done" && this.rest.length < maxRest) this.rest.push({ id, outcome })
    }
  }
}

/** What is common to the batches of one call. */
interface Call {
  readonly action: JobAction
  readonly by: By
  readonly operation: string
  readonly filter: JobFilter | undefined
}

export interface JobActions extends Pick<AdminService, JobAction | "preview"> {}

/** `makeId` names each call in the audit log. */
export const make = (store: JobStore["Service"], publisher: Publisher, makeId: Effect.Effect<string>): JobActions => {
  /** One batch; rows that were locked are tried again. */
  const batch = Effect.fnUntraced(function* (call: Call, ids: ReadonlyArray<string>) {
    const settled: Array<ActionResult> = []
    let left = ids
    for (let tries = 1; left.length > 0; tries++) {
      if (tries > 1) yield* Effect.sleep(lockedPause)
      const results = yield* store.act({ ...call, ids: left, publishIn: publisher.grace })
      yield* publisher.publish(results)
      const isLocked = (result: ActionResult) => result.outcome === "locked" && tries < lockedTries
      settled.push(...results.filter((result) => !isLocked(result)))
      left = results.filter(isLocked).map(({ id }) => id)
    }
    return settled
  })

  const run = Effect.fnUntraced(function* (
    action: JobAction,
    selection: Selection,
    options: ActionOptions
  ): Effect.fn.Return<ActionReport, AdminError | StoreError> {
    const by = yield* Input.byOf(options)
    const size = yield* Input.wholeOf("batchSize", options.batchSize ?? defaultBatch, 1, maxBatch)
    const limit =
      options.limit === undefined
        ? Number.POSITIVE_INFINITY
        : yield* Input.wholeOf("limit", options.limit, 1, Number.MAX_SAFE_INTEGER)
    const ids = "ids" in selection ? yield* idsOf(selection.ids) : undefined
    const filter = "where" in selection ? eligibleOnly(action, yield* Input.filterOf(selection.where)) : undefined
    const call: Call = { action, by, operation: yield* makeId, filter }
    const tally = new Tally()
    /** The next ids to look at, after those that were seen. */
    const next = (after: string | undefined, max: number): Effect.Effect<ReadonlyArray<string>, StoreError> =>
      ids !== undefined
        ? Effect.succeed(ids.slice(tally.seen, tally.seen + max))
        : Effect.map(store.find({ ...filter, limit: max, after }), (page) => page.map(({ id }) => id))
    let after: string | undefined
    while (tally.done < limit) {
      const page = yield* next(after, Math.min(size, limit - tally.done))
      after = page.at(-1)
      if (after === undefined) break
      tally.add(yield* batch(call, page))
      if (options.onProgress !== undefined) yield* options.onProgress({ seen: tally.seen, done: tally.done })
    }
    return { action, operation: call.operation, done: tally.done, outcomes: tally.outcomes, rest: tally.rest }
  })

  const previewIds = Effect.fnUntraced(function* (action: JobAction, ids: ReadonlyArray<string>) {
    const can: Array<JobSummary> = []
    const rest: Array<Preview["rest"][number]> = []
    for (let from = 0; from < ids.length; from += maxBatch) {
      const asked = ids.slice(from, from + maxBatch)
      const found = yield* store.find({ ids: asked, limit: asked.length })
      const eligibleOnes = yield* store.find({ ...eligibleOnly(action, { ids: asked }), limit: asked.length })
      const [exists, isEligible] = [found, eligibleOnes].map((jobs) => new Set(jobs.map(({ id }) => id)))
      can.push(...eligibleOnes)
      for (const id of asked) {
        if (!isEligible!.has(id)) rest.push({ id, outcome: exists!.has(id) ? "ineligible" : "missing" })
      }
    }
    const sample = can.sort((a, b) => (a.id < b.id ? 1 : -1)).slice(0, sampleSize)
    return { action, count: can.length, sample, rest }
  })

  const act =
    (action: JobAction): Act =>
    (selection, options) =>
      run(action, selection, options)
  return {
    requeue: act("requeue"),
    fail: act("fail"),
    cancel: act("cancel"),
    runNow: act("runNow"),
    purge: act("purge"),
    preview: Effect.fnUntraced(function* (action, selection) {
      if ("ids" in selection) return yield* previewIds(action, yield* idsOf(selection.ids))
      const filter = eligibleOnly(action, yield* Input.filterOf(selection.where))
      const sample = yield* store.find({ ...filter, limit: sampleSize })
      const count = sample.length < sampleSize ? sample.length : yield* store.count(filter)
      return { action, count, sample, rest: [] }
    })
  }
}

/** Each once, in order. */
const idsOf = (ids: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<string>, AdminError> =>
  Effect.map(
    Effect.forEach(ids, (id) => Input.idOf(id)),
    (all) => [...new Set(all)]
  )
