/** What only a server can show: rows that others hold, and admins that act at the same time. */
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Redacted } from "effect"
import { Reactivity } from "effect/reactivity"
import { Admin, Broker, JobStore, Polyqueue } from "../../src/index.ts"
import { describePostgres, freshDatabase, layerUrl } from "../support/Postgres.ts"
import { by, Orphan } from "./Stage.ts"

const stack = (url: string) =>
  Admin.layer.pipe(
    Layer.provideMerge(Polyqueue.layerPostgres),
    Layer.provideMerge(Broker.layerPostgres),
    Layer.provideMerge(layerUrl(url)),
    Layer.provideMerge(Reactivity.layer)
  )

/** Holds the lock of a row until told to let go; answers when it is held. */
const hold = Effect.fnUntraced(function* (url: string, id: string) {
  const other = yield* PgClient.make({ url: Redacted.make(url), maxConnections: 1 })
  const [held, letGo] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
  const fiber = yield* Effect.forkChild(
    other.withTransaction(
      Effect.gen(function* () {
        yield* other`select 1 from polyqueue.polyqueue_jobs where id = ${id} for update`
        yield* Deferred.succeed(held, undefined)
        yield* Deferred.await(letGo)
      })
    )
  )
  yield* Deferred.await(held)
  return Effect.andThen(Deferred.succeed(letGo, undefined), Fiber.join(fiber))
})

const makeJobs = (count: number) =>
  Effect.map(
    Orphan.enqueueAll(
      Array.from({ length: count }, (_, n) => ({ n })),
      { delay: "1 hour" }
    ),
    (jobs) => jobs.map(({ id }) => id as string)
  )

describePostgres("the control plane on a server", () => {
  it.live(
    "a row that somebody holds is waited for by nobody: the rest is done, it is reported, or done a moment later",
    () =>
      Effect.gen(function* () {
        const url = yield* freshDatabase
        yield* Effect.gen(function* () {
          const admin = yield* Admin
          const ids = yield* makeJobs(3)
          const letGo = yield* hold(url, ids[1]!)
          const report = yield* admin.cancel({ ids }, by)
          assert.deepStrictEqual(report.outcomes, { done: 2, locked: 1 })
          assert.deepStrictEqual(report.rest, [{ id: ids[1]!, outcome: "locked" }])
          assert.deepStrictEqual((yield* admin.audit({ target: ids[1]! })).records, [])
          yield* letGo
          const again = yield* hold(url, ids[1]!)
          const second = yield* Effect.forkChild(admin.cancel({ where: {} }, by), { startImmediately: true })
          yield* again
          assert.deepStrictEqual((yield* Fiber.join(second)).outcomes, { done: 1 })
        }).pipe(Effect.provide(stack(url)))
      }).pipe(Effect.scoped)
  )

  it.live("of admins that do the same at the same time, each job is done and logged by one", () =>
    Effect.gen(function* () {
      const url = yield* freshDatabase
      yield* Effect.gen(function* () {
        const admin = yield* Admin
        const ids = yield* makeJobs(200)
        const reports = yield* Effect.all(
          Array.from({ length: 4 }, (_, n) => admin.cancel({ where: {} }, { who: `admin ${n}`, batchSize: 20 })),
          { concurrency: "unbounded" }
        )
        assert.strictEqual(
          reports.reduce((n, { done }) => n + done, 0),
          ids.length
        )
        const { records } = yield* admin.audit({ action: "cancel", limit: 1_000 })
        assert.sameMembers(
          records.map(({ target }) => target),
          ids
        )
        assert.strictEqual(yield* JobStore.use((store) => store.count({ status: ["cancelled"] })), ids.length)
      }).pipe(Effect.provide(stack(url)))
    }).pipe(Effect.scoped)
  )
})
