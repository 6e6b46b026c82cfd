/**
 * Row 24 of the original's defects: leases and retry times came from each worker's wall clock. Here the clock of this process
 * is a day off, either way, and nothing of it is to be seen on either server. In a file of its own: the clock is everybody's.
 */
import { assert, it } from "@effect/vitest"
import { Deferred, Effect, Layer, Redacted, Schedule, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { afterEach, vi } from "vitest"
import * as RedisBroker from "../../src/broker/RedisBroker.ts"
import { CurrentJob, Job, JobStore, Worker } from "../../src/index.ts"
import { describePostgres, freshDatabase } from "../support/Postgres.ts"
import { adminOf, describeOwnRedis, ownRedis } from "../support/Redis.ts"
import { type Changes, client, quick, until } from "./Stage.ts"

class Twice extends Job.make("Twice", {
  success: Schema.Int,
  error: Schema.String,
  retry: { schedule: Schedule.spaced("300 millis").pipe(Schedule.upTo({ times: 3 })) }
}) {}

const DAY = 86_400_000

/** Jobs start by their hints alone. */
const changes: Changes = { store: (store) => ({ ...store, claim: () => Effect.succeed([]) }) }

/** Seconds from the server's now. */
interface Times {
  readonly now: number
  readonly lease: number | null
  readonly due: number
}

const test = (skew: number) =>
  Effect.gen(function* () {
    const { url } = yield* ownRedis()
    const admin = yield* adminOf(url)
    const database = yield* freshDatabase
    vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + skew })
    const started = yield* Deferred.make<void>()
    const go = yield* Deferred.make<void>()
    const handler = Twice.toLayer(
      Effect.fnUntraced(function* () {
        const { attempt } = yield* CurrentJob
        if (attempt === 1) return yield* Effect.fail("once")
        yield* Deferred.succeed(started, undefined)
        yield* Deferred.await(go)
        return attempt
      })
    )
    yield* Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const times = Effect.map(
        sql<Times>`select extract(epoch from now() - enqueued_at)::float8 as now,
          extract(epoch from lease_expires_at - now())::float8 as lease,
          extract(epoch from run_at - now())::float8 as due from polyqueue.polyqueue_jobs`,
        ([row]) => row!
      )
      const store = yield* JobStore
      yield* Layer.build(Worker.layer([Twice], { ...quick, lease: "20 seconds", brokerLease: "20 seconds" })).pipe(
        Effect.provide(handler)
      )
      const job = yield* Twice.enqueue(undefined, { delay: "200 millis" })
      yield* Deferred.await(started)
      const { due, lease, now } = yield* times
      assert.isTrue(now >= 0 && now < 60, `enqueued ${now} s ago`)
      assert.isTrue(lease !== null && lease > 0 && lease <= 20, `leased for ${lease} s`)
      // Not before it was due, and due not long before it was claimed
      assert.isTrue(due > -60 && due <= 0, `due in ${due} s`)
      const [first] = yield* store.attempts(job.id)
      const [row] = yield* store.get([job.id])
      assert.closeTo(row!.runAt - first!.endedAt, 300, 50)
      // What Redis has of it: the lease of its delivery
      const [seconds] = yield* Effect.promise(() => admin.time())
      const leases = yield* Effect.promise(() => admin.zrange("{polyqueue}:default:leases", "0", "-1", "WITHSCORES"))
      const ends = leases.filter((_, index) => index % 2 === 1).map((at) => Number(at) / 1_000 - Number(seconds))
      assert.lengthOf(ends, 1)
      for (const end of ends) assert.isTrue(end > 0 && end <= 22, `the delivery is leased for ${end} s`)
      yield* Deferred.succeed(go, undefined)
      assert.strictEqual(yield* job.await, 2)
      yield* until(
        Effect.promise(() => admin.zcard("{polyqueue}:default:leases")),
        (n) => n === 0
      )
    }).pipe(Effect.scoped, Effect.provide(client(database, RedisBroker.layer({ url: Redacted.make(url) }), changes)))
  }).pipe(Effect.scoped)

afterEach(() => void vi.useRealTimers())

describePostgres("a worker whose clock is wrong", () => {
  describeOwnRedis("on Redis", () => {
    it.live("row 24: by a day ahead leases and retries are on the servers' clocks", () => test(DAY))
    it.live("row 24: by a day behind leases and retries are on the servers' clocks", () => test(-DAY))
  })
})
