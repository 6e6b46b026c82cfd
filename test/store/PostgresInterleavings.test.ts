/**
 * Every interleaving that could lose, double or misplace a job, stepped by hand with real connections on a real server.
 * Each test is named after what must hold.
 */
import { assert, layer } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { randomUUID } from "node:crypto"
import { describePostgres, layerFresh } from "../support/Postgres.ts"
import {
  layerStore,
  lockRow,
  newJob,
  retried,
  steps,
  succeeded,
  untilBlocked,
  whileLocked
} from "../support/StoreSteps.ts"

const storeLayer = layerStore.pipe(Layer.provideMerge(layerFresh({ maxConnections: 6 })))

describePostgres("interleavings", () => {
  layer(storeLayer, { excludeTestServices: true, timeout: 60_000 })((it) => {
    it.effect("double claim: eight claimers at once never share a job", () =>
      Effect.gen(function* () {
        const { claim, insert } = yield* steps
        yield* insert(400)
        const drain = Effect.gen(function* () {
          const mine: Array<string> = []
          for (;;) {
            const jobs = yield* claim({ limit: 7 })
            if (jobs.length === 0) return mine
            for (const job of jobs) {
              assert.strictEqual(job.attempt, 1)
              mine.push(job.id)
            }
          }
        })
        const claimed = (yield* Effect.all(
          Array.from({ length: 8 }, () => drain),
          { concurrency: 8 }
        )).flat()
        // A claimer that finds everything locked stops early: the others, or a last look, take the rest
        claimed.push(...(yield* drain))
        assert.lengthOf(claimed, 400)
        assert.strictEqual(new Set(claimed).size, 400)
      })
    )

    it.effect("double delivery: of two hints for one id one claims, the other is told that it is leased", () =>
      Effect.gen(function* () {
        const { driver, insert, type } = yield* steps
        const [job] = yield* insert(1)
        const hinted = () =>
          driver.claimHinted({
            claim: randomUUID(),
            worker: "w",
            lease: 30_000,
            ids: [job!.id],
            types: [type],
            suspects: 0
          })
        const [a, b] = yield* Effect.all([hinted(), hinted()], { concurrency: 2 })
        assert.strictEqual(a.claimed.length + b.claimed.length, 1)
        assert.include(["leased", "locked"], [...a.rest, ...b.rest][0]?.disposition)
      })
    )

    it.effect("settle, reap, reclaim: only the newest claim settles", () =>
      Effect.gen(function* () {
        const { claim, driver, held, settle } = yield* steps
        const old = yield* held({ lease: -1 })
        assert.lengthOf(yield* driver.reap({ limit: 10, exceptWorkers: [], ids: [old.id] }), 1)
        const [now] = yield* claim()
        assert.strictEqual(now!.attempt, 2)
        assert.deepStrictEqual(yield* settle(succeeded(old)), { _tag: "LeaseLost" })
        // Not even with the right attempt: a restored backup repeats attempt numbers, never claims
        assert.deepStrictEqual(yield* settle(succeeded({ ...now!, claim: old.claim })), { _tag: "LeaseLost" })
        assert.deepStrictEqual(yield* settle(succeeded(now!)), { _tag: "Settled", status: "succeeded" })
      })
    )

    it.effect("late heartbeat: a renewal that came first wins over the reaper, which judges again under the lock", () =>
      Effect.gen(function* () {
        const { driver, held } = yield* steps
        const job = yield* held({ lease: -1 })
        const reap = driver.reap({ limit: 10, exceptWorkers: [], ids: [job.id] })
        const renewing = (sql: SqlClient.SqlClient) =>
          sql`update polyqueue.polyqueue_jobs set lease_expires_at = now() + interval '1 hour' where id = ${job.id}::uuid`
        assert.deepStrictEqual(yield* whileLocked(renewing, reap), [], "it never waits for the lock")
        assert.deepStrictEqual(yield* reap, [], "the lease is live again")
        assert.deepStrictEqual(yield* driver.renew([job], 30_000), { lost: [], locked: [], cancelled: [] })
      })
    )

    it.effect("late heartbeat: after the reaper it is lost", () =>
      Effect.gen(function* () {
        const { driver, held } = yield* steps
        const job = yield* held({ lease: -1 })
        yield* driver.reap({ limit: 10, exceptWorkers: [], ids: [job.id] })
        assert.deepStrictEqual((yield* driver.renew([job], 30_000)).lost, [job])
      })
    )

    it.effect("settle with a lost reply: the second try is told it was its own", () =>
      Effect.gen(function* () {
        const { driver, held, settle } = yield* steps
        const job = yield* held()
        yield* settle(retried(job))
        assert.deepStrictEqual(yield* settle(retried(job)), { _tag: "AlreadyMine" })
        assert.lengthOf(yield* driver.attempts(job.id), 1)
        const reaped = yield* held({ lease: -1 })
        yield* driver.reap({ limit: 10, exceptWorkers: [], ids: [reaped.id] })
        assert.deepStrictEqual(
          yield* settle(succeeded(reaped)),
          { _tag: "LeaseLost" },
          "the reaper's entry is not ours"
        )
      })
    )

    it.effect("claim with a lost reply: what was taken under its name is given back and costs no crash", () =>
      Effect.gen(function* () {
        const { claim, driver, insert, row } = yield* steps
        const [job] = yield* insert(1)
        const name = randomUUID()
        yield* claim({ claim: name })
        assert.strictEqual(yield* driver.abandon("w1", [name]), 1)
        const now = yield* row(job!.id)
        assert.deepStrictEqual([now.status, now.attempt, now.interruptions, now.crashes], ["queued", 1, 1, 0])
      })
    )

    it.effect("enqueue with a lost reply: the same id again is the same job, with other data it is refused", () =>
      Effect.gen(function* () {
        const { driver, insert } = yield* steps
        const [job] = yield* insert(1, { payload: `{"a":1,"b":[2]}` })
        const again = { ...job!, freshId: false, payload: `{ "b": [2.0], "a": 1 }` }
        assert.deepStrictEqual(yield* driver.enqueue([again]), [{ _tag: "Duplicate", id: job!.id }])
        assert.deepStrictEqual(yield* driver.enqueue([{ ...job!, payload: "{}" }]), [{ _tag: "IdConflict" }])
        assert.deepStrictEqual(yield* driver.enqueue([{ ...job!, type: "Other" }]), [{ _tag: "IdConflict" }])
      })
    )

    for (const commits of [true, false]) {
      it.effect(`unique enqueue: the second waits for the first, which ${commits ? "commits" : "rolls back"}`, () =>
        Effect.gen(function* () {
          const { driver, type } = yield* steps
          const sql = yield* SqlClient.SqlClient
          const [first, second] = [newJob(type, { key: "k" }), newJob(type, { key: "k" })]
          const inserted = yield* Deferred.make<void>()
          const go = yield* Deferred.make<void>()
          const transaction = yield* driver
            .enqueue([first])
            .pipe(
              Effect.andThen(Deferred.succeed(inserted, undefined)),
              Effect.andThen(Deferred.await(go)),
              Effect.andThen(commits ? Effect.void : Effect.fail("roll back")),
              sql.withTransaction,
              Effect.exit,
              Effect.forkChild({ startImmediately: true })
            )
          yield* Deferred.await(inserted)
          const waiting = yield* Effect.forkChild(driver.enqueue([second]), { startImmediately: true })
          yield* untilBlocked
          yield* Deferred.succeed(go, undefined)
          yield* Fiber.join(transaction)
          const expected = commits ? { _tag: "Duplicate", id: first.id } : { _tag: "Inserted" }
          assert.deepStrictEqual(yield* Fiber.join(waiting), [expected as never])
        })
      )
    }

    it.effect("requeue of an ended job whose key is live again is told so, and changes nothing", () =>
      Effect.gen(function* () {
        const { driver, held, insert, row, settle } = yield* steps
        const job = yield* held({ job: { key: "k" } })
        yield* settle(succeeded(job))
        yield* insert(1, { key: "k" })
        assert.strictEqual(yield* driver.requeue(job.id), "keyTaken")
        assert.strictEqual((yield* row(job.id)).status, "succeeded")
      })
    )

    it.effect("enqueue commit order: a hint of a transaction that commits late is still taken", () =>
      Effect.gen(function* () {
        const { driver, insert, type } = yield* steps
        const sql = yield* SqlClient.SqlClient
        const late = newJob(type, { hinted: true })
        const mine = Effect.map(driver.takeHints({ limit: 1_000, again: false }), (hints) =>
          hints.filter((hint) => hint.type === type).map(({ id }) => id)
        )
        const outside = yield* Effect.context<never>()
        const [early] = yield* sql.withTransaction(
          Effect.gen(function* () {
            yield* driver.enqueue([late])
            // Another connection: enqueued later, committed earlier, taken before the first is even visible
            const done = yield* Deferred.make<ReadonlyArray<string>>()
            // (forked from the context outside: in this one it would join the transaction)
            insert(1, { hinted: true }).pipe(
              Effect.andThen(mine),
              Effect.flatMap((ids) => Deferred.succeed(done, ids)),
              Effect.runForkWith(outside)
            )
            return yield* Deferred.await(done)
          })
        )
        assert.isDefined(early)
        assert.notStrictEqual(early, late.id)
        assert.deepStrictEqual(yield* mine, [late.id])
      })
    )

    it.effect("relays: two at once take each hint once, and one that dies only delays", () =>
      Effect.gen(function* () {
        const { advance, driver, insert, type } = yield* steps
        yield* insert(200, { hinted: true })
        const take = Effect.map(driver.takeHints({ limit: 60, again: true }), (hints) =>
          hints.filter((hint) => hint.type === type)
        )
        const hints = (yield* Effect.all([take, take, take, take, take, take, take, take], { concurrency: 4 })).flat()
        const rest = yield* Effect.map(Effect.all([take, take, take, take]), (_) => _.flat())
        const all = [...hints, ...rest]
        assert.lengthOf(all, 200)
        assert.strictEqual(new Set(all.map(({ id }) => id)).size, 200)
        yield* advance(10_001)
        const [again] = yield* take
        assert.strictEqual(again?.publication, 2)
      })
    )

    it.effect("redelivery while processing: leased, then expired, then claimed after the reaper's own statement", () =>
      Effect.gen(function* () {
        const { driver, held, type } = yield* steps
        const hinted = (id: string) =>
          driver.claimHinted({
            claim: randomUUID(),
            worker: "w2",
            lease: 30_000,
            ids: [id],
            types: [type],
            suspects: 1
          })
        const live = yield* held()
        assert.strictEqual((yield* hinted(live.id)).rest[0]?.disposition, "leased")
        const dead = yield* held({ lease: -1 })
        assert.strictEqual((yield* hinted(dead.id)).rest[0]?.disposition, "expired")
        yield* driver.reap({ limit: 1, exceptWorkers: [], ids: [dead.id] })
        assert.strictEqual((yield* hinted(dead.id)).claimed[0]?.attempt, 2)
      })
    )

    it.effect(
      "settle against cancel: a retry becomes cancelled, a success stays one, an expired one is cancelled",
      () =>
        Effect.gen(function* () {
          const { driver, held, row, settle } = yield* steps
          const [a, b, c] = [yield* held(), yield* held(), yield* held({ lease: -1 })]
          const all = [a.id, b.id, c.id]
          assert.deepStrictEqual(yield* driver.cancel(all), ["requested", "requested", "requested"])
          assert.deepStrictEqual(yield* settle(retried(a)), { _tag: "Settled", status: "cancelled" })
          assert.deepStrictEqual(yield* settle(succeeded(b)), { _tag: "Settled", status: "succeeded" })
          yield* driver.reap({ limit: 1, exceptWorkers: [], ids: [c.id] })
          assert.strictEqual((yield* row(c.id)).status, "cancelled")
        })
    )

    it.effect("batches in opposite orders never deadlock", () =>
      Effect.gen(function* () {
        const { claim, driver, insert } = yield* steps
        for (let round = 0; round < 10; round++) {
          yield* insert(50)
          const jobs = yield* claim({ limit: 50 })
          const [a, b] = yield* Effect.all(
            [driver.settle("w1", jobs.map(succeeded)), driver.settle("w1", [...jobs].reverse().map(retried))],
            { concurrency: 2 }
          )
          assert.strictEqual([...a, ...b].filter(({ _tag }) => _tag === "Settled").length, 50)
        }
      })
    )

    it.effect("a row lock that somebody holds stops neither the batch nor the renewal of the others", () =>
      Effect.gen(function* () {
        const { claim, driver, insert, settle } = yield* steps
        yield* insert(3)
        const [a, b, c] = yield* claim()
        yield* whileLocked(
          lockRow(b!.id),
          Effect.gen(function* () {
            assert.deepStrictEqual(yield* driver.renew([a!, b!, c!], 30_000), { lost: [], locked: [b!], cancelled: [] })
            yield* driver.progress([{ ...b!, progress: "1" }])
            assert.deepStrictEqual(yield* driver.settle("w1", [succeeded(a!), succeeded(b!), succeeded(c!)]), [
              { _tag: "Settled", status: "succeeded" },
              { _tag: "Locked" },
              { _tag: "Settled", status: "succeeded" }
            ])
          })
        )
        assert.deepStrictEqual(yield* settle(succeeded(b!)), { _tag: "Settled", status: "succeeded" })
      })
    )

    it.effect("a foreign key of the application to a job stops no settle", () =>
      Effect.gen(function* () {
        const { held, settle } = yield* steps
        const job = yield* held()
        const referring = (sql: SqlClient.SqlClient) =>
          sql`select 1 from polyqueue.polyqueue_jobs where id = ${job.id}::uuid for key share`
        assert.deepStrictEqual(yield* whileLocked(referring, settle(succeeded(job))), {
          _tag: "Settled",
          status: "succeeded"
        })
      })
    )

    it.effect("one worker reclaims its own job: the old fiber is fenced by the claim", () =>
      Effect.gen(function* () {
        const { claim, driver, held } = yield* steps
        const old = yield* held({ lease: -1, worker: "same" })
        yield* driver.reap({ limit: 1, exceptWorkers: [], ids: [old.id] })
        const [now] = yield* claim({ worker: "same" })
        assert.isAbove(now!.fence, old.fence)
        assert.deepStrictEqual(yield* driver.renew([old, now!], 30_000), { lost: [old], locked: [], cancelled: [] })
      })
    )

    it.effect("prune goes around what is held, and a late settle of a pruned job is a lost lease", () =>
      Effect.gen(function* () {
        const { driver, held, settle } = yield* steps
        const job = yield* held()
        yield* settle(succeeded(job))
        const prune = driver.prune({ succeeded: 0, failed: undefined, cancelled: undefined, attempts: 0 }, 1_000)
        yield* whileLocked(lockRow(job.id), prune)
        assert.lengthOf(yield* driver.get([job.id]), 1)
        yield* prune
        assert.lengthOf(yield* driver.get([job.id]), 0)
        assert.deepStrictEqual(yield* settle(succeeded(job)), { _tag: "LeaseLost" })
      })
    )

    it.effect("a transition and its log entry are one: when the log refuses, the row stays as it was", () =>
      Effect.gen(function* () {
        const { held, row, settle } = yield* steps
        const sql = yield* SqlClient.SqlClient
        const job = yield* held()
        yield* sql`insert into polyqueue.polyqueue_attempts
          (job_id, claim, claimed_at, ended_at, attempt, outcome, finalized_by, worker)
          values (${job.id}::uuid, gen_random_uuid(), now(), now(), 1, 'crashed', 'reaper', 'ghost')`
        const error = yield* Effect.flip(settle(succeeded(job)))
        assert.strictEqual(error._tag, "StoreError")
        assert.strictEqual((yield* row(job.id)).status, "processing")
      })
    )

    it.effect("handlers that use up the caller's pool stop neither claim, settle nor renewal", () =>
      Effect.gen(function* () {
        const { claim, driver, held, insert, settle } = yield* steps
        const job = yield* held()
        yield* insert(1)
        const sql = yield* SqlClient.SqlClient
        const inside = yield* Effect.forEach(Array.from({ length: 6 }), () => Deferred.make<void>())
        const handlers = yield* Effect.forEach(inside, (started) =>
          Deferred.succeed(started, undefined).pipe(
            Effect.andThen(Effect.never),
            sql.withTransaction,
            Effect.forkChild({ startImmediately: true })
          )
        )
        yield* Effect.forEach(inside, Deferred.await)
        assert.deepStrictEqual(yield* driver.renew([job], 30_000), { lost: [], locked: [], cancelled: [] })
        assert.lengthOf(yield* claim(), 1)
        assert.deepStrictEqual(yield* settle(succeeded(job)), { _tag: "Settled", status: "succeeded" })
        yield* Fiber.interruptAll(handlers)
      })
    )
  })
})
