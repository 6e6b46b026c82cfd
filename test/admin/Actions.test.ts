/** Bulk actions: what they choose, what they leave alone, how they are bounded, previewed and told. */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import { Admin, type AdminError, JobStore, type StoreError } from "../../src/index.ts"
import { onStores } from "./OnStores.ts"
import { by, Fragile, Orphan } from "./Stage.ts"

const many = (count: number, queue: string, tags: ReadonlyArray<string> = []) =>
  Effect.map(
    Orphan.enqueueAll(
      Array.from({ length: count }, (_, n) => ({ n })),
      { queue, tags, delay: "1 hour" }
    ),
    (jobs) => jobs.map(({ id }) => id as string)
  )

const count = (queue: string, status?: "queued" | "cancelled" | "failed") =>
  JobStore.use((store) => store.count({ queue, status: status === undefined ? undefined : [status] }))

onStores("actions", (it) => {
  it.effect("a bulk action does all that match, in bounded batches, and says how far it is", () =>
    Effect.gen(function* () {
      yield* many(25, "bulk", ["mine"])
      yield* many(5, "bulk", ["other"])
      const admin = yield* Admin
      const progress: Array<{ readonly seen: number; readonly done: number }> = []
      const where = { queue: "bulk", tag: "mine" }
      const report = yield* admin.cancel(
        { where },
        {
          ...by,
          batchSize: 10,
          onProgress: (step) => Effect.sync(() => progress.push(step))
        }
      )
      assert.deepStrictEqual(
        { ...report, operation: "" },
        { action: "cancel", operation: "", done: 25, outcomes: { done: 25 }, rest: [] }
      )
      assert.deepStrictEqual(progress, [
        { seen: 10, done: 10 },
        { seen: 20, done: 20 },
        { seen: 25, done: 25 }
      ])
      assert.strictEqual(yield* count("bulk", "cancelled"), 25)
      assert.strictEqual(yield* count("bulk", "queued"), 5)
      const { next, records } = yield* admin.audit({ operation: report.operation, limit: 20 })
      assert.lengthOf(records, 20)
      const rest = yield* admin.audit({ operation: report.operation, limit: 20, after: next })
      assert.lengthOf(rest.records, 5)
      assert.isUndefined(rest.next)
      assert.strictEqual(new Set([...records, ...rest.records].map(({ target }) => target)).size, 25)
    })
  )

  it.effect("a preview says what an action would do, and does and logs nothing", () =>
    Effect.gen(function* () {
      const ids = yield* many(15, "preview")
      const admin = yield* Admin
      const preview = yield* admin.preview("cancel", { where: { queue: "preview" } })
      assert.deepStrictEqual([preview.count, preview.sample.length, preview.rest], [15, 10, []])
      assert.deepStrictEqual(
        preview.sample.map(({ id }) => id),
        ids.toSorted().reverse().slice(0, 10)
      )
      assert.strictEqual((yield* admin.preview("requeue", { where: { queue: "preview" } })).count, 0)
      assert.strictEqual(yield* count("preview", "queued"), 15)
      yield* admin.cancel({ ids: ids.slice(0, 1) }, by)
      const missing = globalThis.crypto.randomUUID()
      const byIds = yield* admin.preview("cancel", { ids: [...ids.slice(0, 3), missing] })
      assert.deepStrictEqual(
        [byIds.count, byIds.rest],
        [
          2,
          [
            { id: ids[0], outcome: "ineligible" },
            { id: missing, outcome: "missing" }
          ]
        ]
      )
      const log = yield* admin.audit({ target: ids[1] })
      assert.deepStrictEqual(log.records, [])
    })
  )

  it.effect("an action by ids answers for each of them, and a limit ends it", () =>
    Effect.gen(function* () {
      const ids = yield* many(6, "by ids")
      const admin = yield* Admin
      const missing = globalThis.crypto.randomUUID()
      yield* admin.cancel({ ids: ids.slice(0, 2) }, by)
      const report = yield* admin.fail({ ids: [...ids.slice(0, 4), missing, ids[2]!.toUpperCase()] }, by)
      assert.deepStrictEqual([report.done, report.outcomes], [2, { done: 2, ineligible: 2, missing: 1 }])
      assert.sameDeepMembers(
        [...report.rest],
        [
          { id: ids[0], outcome: "ineligible" },
          { id: ids[1], outcome: "ineligible" },
          { id: missing, outcome: "missing" }
        ]
      )
      const limited = yield* admin.runNow({ where: { queue: "by ids" } }, { ...by, limit: 1 })
      assert.strictEqual(limited.done, 1)
      assert.strictEqual(yield* JobStore.use((store) => store.count({ queue: "by ids", status: ["queued"] })), 2)
    })
  )

  it.effect("a status of the filter that the action cannot be done to matches nothing", () =>
    Effect.gen(function* () {
      yield* many(3, "statuses")
      const admin = yield* Admin
      for (const status of ["queued", "processing", []] as const) {
        assert.strictEqual((yield* admin.purge({ where: { queue: "statuses", status } }, by)).done, 0)
      }
      assert.strictEqual(yield* count("statuses", "queued"), 3)
      const ended = yield* admin.fail({ where: { queue: "statuses" } }, by)
      assert.strictEqual(ended.done, 3)
      const found = { where: { queue: "statuses", errorCode: "failedByAdmin", endedFor: 0 } } as const
      assert.strictEqual((yield* admin.purge(found, { ...by, batchSize: 2 })).done, 3)
      assert.strictEqual(yield* count("statuses"), 0)
    })
  )

  it.effect("jobs are listed in pages, newest first, without their payloads", () =>
    Effect.gen(function* () {
      const ids = (yield* many(7, "pages")).toSorted().reverse()
      const admin = yield* Admin
      const first = yield* admin.jobs({ queue: "pages", limit: 3 })
      const second = yield* admin.jobs({ queue: "pages", limit: 3, after: first.next })
      const third = yield* admin.jobs({ queue: "pages", limit: 3, after: second.next })
      const pages = [first, second, third].map(({ jobs }) => jobs.map(({ id }) => id))
      assert.deepStrictEqual(pages, [ids.slice(0, 3), ids.slice(3, 6), ids.slice(6)])
      assert.isUndefined(third.next)
      assert.notProperty(first.jobs[0], "payload")
      assert.deepStrictEqual((yield* admin.job(ids[0]!)).payload, { n: 6 })
      const error = yield* Effect.flip(admin.job(globalThis.crypto.randomUUID()))
      assert.strictEqual(error._tag, "JobNotFound")
      assert.strictEqual((yield* Effect.flip(admin.job("x")))._tag, "JobNotFound")
    })
  )

  it.effect("what makes no sense is refused before anything is done, and says what is allowed", () =>
    Effect.gen(function* () {
      yield* many(1, "refused")
      const admin = yield* Admin
      const all = { where: { queue: "refused" } }
      const wrong: ReadonlyArray<Effect.Effect<unknown, AdminError | StoreError>> = [
        admin.cancel(all, { who: "" }),
        admin.cancel(all, { who: "x".repeat(256) }),
        admin.cancel(all, { ...by, reason: "x".repeat(2_001) }),
        admin.cancel(all, { ...by, batchSize: 0 }),
        admin.cancel(all, { ...by, batchSize: 1_001 }),
        admin.cancel(all, { ...by, limit: 1.5 }),
        admin.cancel({ ids: ["not-an-id"] }, by),
        admin.cancel({ where: { queue: "refused", olderThan: "1 fortnight" as "1 day" } }, by),
        admin.jobs({ limit: 0 }),
        admin.jobs({ limit: 1_001 }),
        admin.jobs({ after: "x" }),
        admin.audit({ operation: "x" }),
        admin.pauseQueue("", by),
        admin.pauseQueue("q", { ...by, duration: "1 second", until: 0 }),
        admin.pauseQueue("q", { ...by, until: "never" }),
        admin.setConcurrency("w", -1, by),
        admin.setConcurrency("w", 1.5, by),
        admin.setConcurrency("", 1, by)
      ]
      for (const effect of wrong) {
        const error = yield* Effect.flip(effect)
        assert.strictEqual(error._tag === "AdminError" && error.reason, "InvalidInput", error.message)
      }
      assert.strictEqual(yield* count("refused", "queued"), 1)
      assert.deepStrictEqual(yield* admin.pauses, [])
    })
  )

  it.effect("queues are listed with their counts, their pauses and who works on them", () =>
    Effect.gen(function* () {
      const ids = yield* many(3, "listed")
      const admin = yield* Admin
      yield* admin.cancel({ ids: ids.slice(0, 1) }, by)
      yield* Fragile.enqueue({ n: 1 }, { queue: "listed" })
      yield* admin.pauseQueue("empty but paused", { ...by, duration: "1 hour" })
      yield* admin.pauseType("Orphan", { ...by, queue: "listed" })
      const queues = yield* admin.queues
      const names = queues.map(({ queue }) => queue)
      assert.deepStrictEqual(names, names.toSorted())
      const listed = queues.find(({ queue }) => queue === "listed")
      const { cancelled, paused, pauses, queued, slots, waiting, workers } = listed!
      assert.deepStrictEqual(
        { cancelled, paused, queued, slots, waiting, workers, pauses: pauses.map(({ queue, type }) => [queue, type]) },
        { cancelled: 1, paused: false, queued: 1, slots: 0, waiting: 2, workers: 0, pauses: [["listed", "Orphan"]] }
      )
      const empty = queues.find(({ queue }) => queue === "empty but paused")
      assert.deepStrictEqual([empty?.paused, empty?.queued, empty?.oldestAge], [true, 0, undefined])
      yield* admin.resumeQueue("empty but paused", by)
      yield* admin.resumeType("Orphan", { ...by, queue: "listed" })
    })
  )
})
