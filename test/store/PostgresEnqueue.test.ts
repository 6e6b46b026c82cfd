/** Enqueueing with everything a caller may bring: transactions, savepoints, isolation levels, and odd clients. */
import { assert, layer } from "@effect/vitest"
import * as PgClient from "@effect/sql-pg/PgClient"
import { Effect, Layer, String as Str } from "effect"
import * as Reactivity from "effect/reactivity/Reactivity"
import { SqlClient } from "effect/sql"
import { randomUUID } from "node:crypto"
import * as PostgresJobStore from "../../src/store/PostgresJobStore.ts"
import { describePostgres, freshDatabase, layerFresh, layerUrl } from "../support/Postgres.ts"
import { layerStore, newJob, steps, succeeded } from "../support/StoreSteps.ts"

const storeLayer = layerStore.pipe(Layer.provideMerge(layerFresh()))

/** A role and database whose transactions are serializable unless somebody says otherwise. */
const serializableLayer = layerStore.pipe(
  Layer.provideMerge(
    Layer.unwrap(
      Effect.gen(function* () {
        const url = yield* freshDatabase
        const name = new URL(url).pathname.slice(1)
        yield* Effect.flatMap(SqlClient.SqlClient, (sql) =>
          sql.unsafe(`alter database "${name}" set default_transaction_isolation = 'serializable'`)
        ).pipe(Effect.provide(layerUrl(url)))
        return layerUrl(url)
      })
    )
  )
)

const begin = (level: string) => Effect.provideService(SqlClient.BeginTransaction, `begin isolation level ${level}`)

describePostgres("enqueue", () => {
  layer(storeLayer, { excludeTestServices: true, timeout: 60_000 })("in transactions", (it) => {
    it.effect("jobs exist with the commit, and not at all after a rollback", () =>
      Effect.gen(function* () {
        const { driver, type } = yield* steps
        const sql = yield* SqlClient.SqlClient
        const [kept, dropped] = [newJob(type), newJob(type, { key: "k" })]
        yield* sql.withTransaction(
          Effect.gen(function* () {
            assert.isTrue(yield* driver.inTransaction)
            yield* driver.enqueue([kept])
            assert.lengthOf(yield* driver.get([kept.id]), 1, "the transaction sees its own job")
          })
        )
        yield* Effect.exit(sql.withTransaction(Effect.andThen(driver.enqueue([dropped]), Effect.fail("roll back"))))
        assert.isFalse(yield* driver.inTransaction)
        assert.deepStrictEqual(
          (yield* driver.get([kept.id, dropped.id])).map(({ id }) => id),
          [kept.id]
        )
      })
    )

    it.effect("what runs after the commit is dropped by a rollback", () =>
      Effect.gen(function* () {
        const { driver } = yield* steps
        const sql = yield* SqlClient.SqlClient
        const ran: Array<string> = []
        const note = (what: string) => driver.afterCommit(Effect.sync(() => ran.push(what)))
        yield* sql.withTransaction(
          Effect.andThen(
            note("commit"),
            Effect.sync(() => assert.deepStrictEqual(ran, []))
          )
        )
        yield* Effect.exit(sql.withTransaction(Effect.andThen(note("rollback"), Effect.fail("no"))))
        assert.deepStrictEqual(ran, ["commit"])
      })
    )

    it.effect("a rolled back savepoint takes its jobs with it and leaves the others", () =>
      Effect.gen(function* () {
        const { driver, type } = yield* steps
        const sql = yield* SqlClient.SqlClient
        const [outer, inner] = [newJob(type), newJob(type)]
        yield* sql.withTransaction(
          Effect.gen(function* () {
            yield* driver.enqueue([outer])
            yield* Effect.exit(sql.withTransaction(Effect.andThen(driver.enqueue([inner]), Effect.fail("roll back"))))
          })
        )
        assert.deepStrictEqual(
          (yield* driver.get([outer.id, inner.id])).map(({ id }) => id),
          [outer.id]
        )
      })
    )

    it.effect("a job that cannot be stored is refused alone, and the caller's transaction goes on", () =>
      Effect.gen(function* () {
        const { driver, type } = yield* steps
        const sql = yield* SqlClient.SqlClient
        yield* sql`create table work (n int)`
        const jobs = [newJob(type), newJob(type, { payload: `"\\u0000"` }), newJob(type), newJob(type, { id: "no" })]
        const outcomes = yield* sql.withTransaction(
          Effect.gen(function* () {
            yield* sql`insert into work values (1)`
            const outcomes = yield* driver.enqueue(jobs)
            yield* sql`insert into work values (2)`
            return outcomes
          })
        )
        assert.deepStrictEqual(
          outcomes.map(({ _tag }) => _tag),
          ["Inserted", "Refused", "Inserted", "Refused"]
        )
        assert.lengthOf(yield* sql`select from work`, 2)
        assert.deepStrictEqual(
          (yield* driver.enqueue(jobs.slice(0, 3))).map(({ _tag }) => _tag),
          ["Duplicate", "Refused", "Duplicate"],
          "and outside of one"
        )
      })
    )

    it.effect("jobs that are alike are stored as they would be among others", () =>
      Effect.gen(function* () {
        const { driver, type } = yield* steps
        const sql = yield* SqlClient.SqlClient
        const options: ReadonlyArray<Parameters<typeof newJob>[1]> = [
          {},
          {
            priority: 2,
            delay: 60_000,
            maxAttempts: 7,
            maxCrashes: 4,
            maxSnoozes: 9,
            retryDelays: [100, 2_500.5],
            timeout: 1_234,
            timeoutThen: "ignore",
            keyScope: "retained",
            tags: ["a", 'b"\\,{}'],
            metadata: `{"traceparent":"00-1"}`,
            hinted: true,
            publishIn: 5_000
          },
          { runAt: 4_000_000_000_123, hinted: true, maxAttempts: Infinity, queue: "other" }
        ]
        for (const option of options) {
          const [alone, among, inside] = [newJob(type, option), newJob(type, option), newJob(type, option)]
          yield* driver.enqueue([alone])
          yield* driver.enqueue([among, newJob(type, { priority: 9 })])
          yield* sql.withTransaction(driver.enqueue([inside]))
          const row = (id: string) =>
            Effect.map(
              sql.unsafe<{ readonly job: unknown }>(
                `select to_jsonb(j) - array['id', 'run_at', 'publish_at', 'enqueued_at']
                  || jsonb_build_object('wait', j.run_at - case when j.run_at < now() + interval '1 h' then j.enqueued_at else 'epoch' end,
                    'publish', j.publish_at - j.run_at) as job
                from polyqueue.polyqueue_jobs j where id = $1::uuid`,
                [id]
              ),
              ([found]) => found?.job
            )
          const expected = yield* row(among.id)
          assert.isDefined(expected)
          assert.deepStrictEqual(yield* row(alone.id), expected)
          assert.deepStrictEqual(yield* row(inside.id), expected)
        }
      })
    )

    it.effect(
      "an id that was made here and is taken all the same is a duplicate or a conflict, and stops no other",
      () =>
        Effect.gen(function* () {
          const { driver, type } = yield* steps
          const sql = yield* SqlClient.SqlClient
          const [same, other] = [newJob(type), newJob(type)]
          yield* driver.enqueue([same, other])
          const batch = () => [newJob(type), same, { ...other, payload: `{"n":2}` }, newJob(type)]
          const expected = ["Inserted", "Duplicate", "IdConflict", "Inserted"]
          const tags = (outcomes: ReadonlyArray<{ readonly _tag: string }>) => outcomes.map(({ _tag }) => _tag)
          assert.deepStrictEqual(tags(yield* driver.enqueue(batch())), expected)
          assert.deepStrictEqual(
            tags(yield* sql.withTransaction(driver.enqueue(batch()))),
            expected,
            "in a transaction"
          )
        })
    )

    it.effect("no error says what was in a payload", () =>
      Effect.gen(function* () {
        const { driver, type } = yield* steps
        const secret = "hunter2"
        const bad = [newJob(type, { payload: `{"${secret}": ` }), newJob(secret.repeat(50))]
        for (const outcome of yield* driver.enqueue(bad)) {
          assert.strictEqual(outcome._tag, "Refused")
          if (outcome._tag !== "Refused") continue
          assert.notInclude(outcome.error.message, secret)
          assert.notInclude(JSON.stringify(outcome.error), secret)
          assert.notInclude(String(Reflect.get(Object(outcome.error.cause), "message")), secret)
        }
      })
    )

    for (const level of ["repeatable read", "serializable"]) {
      it.effect(`${level}: it works, and a conflict is said to be one, the caller's other work kept`, () =>
        Effect.gen(function* () {
          const { driver, insert, type } = yield* steps
          const sql = yield* SqlClient.SqlClient
          const outside = yield* Effect.context<never>()
          const mine = newJob(type, { key: "k" })
          const reason = yield* sql
            .withTransaction(
              Effect.gen(function* () {
                yield* sql`select 1`
                assert.deepStrictEqual(yield* driver.enqueue([newJob(type)]), [{ _tag: "Inserted" }])
                // Committed by somebody else after our snapshot: the conflict is with a row we cannot see
                yield* Effect.promise(() => Effect.runPromiseWith(outside)(insert(1, { key: "k" })))
                return (yield* Effect.flip(driver.enqueue([mine]))).reason
              })
            )
            .pipe(begin(level))
          assert.strictEqual(reason, "Conflict")
          assert.lengthOf(yield* driver.list({ type, limit: 10 }), 2)
        })
      )
    }

    it.effect("keys in opposite orders at once never deadlock, and one job holds each key", () =>
      Effect.gen(function* () {
        const { driver, type } = yield* steps
        const keys = Array.from({ length: 20 }, (_, n) => `k${n}`)
        const jobs = (keys: ReadonlyArray<string>) => keys.map((key) => newJob(type, { key }))
        const all = yield* Effect.all(
          [keys, [...keys].reverse(), keys, [...keys].reverse()].map((keys) => driver.enqueue(jobs(keys))),
          { concurrency: 4 }
        )
        assert.strictEqual(all.flat().filter(({ _tag }) => _tag === "Inserted").length, keys.length)
      })
    )

    it.effect("an id that is enqueued again after retention goes on counting its attempts", () =>
      Effect.gen(function* () {
        const { claim, driver, held, settle } = yield* steps
        const job = yield* held()
        yield* settle(succeeded(job))
        yield* driver.prune({ succeeded: 0, failed: undefined, cancelled: undefined, attempts: undefined }, 1_000)
        const again = newJob(job.type, { id: job.id, freshId: false })
        assert.deepStrictEqual(yield* driver.enqueue([again]), [{ _tag: "Inserted" }])
        const [reclaimed] = yield* claim()
        assert.strictEqual(reclaimed!.attempt, 2)
        assert.deepStrictEqual(yield* settle(succeeded(reclaimed!)), { _tag: "Settled", status: "succeeded" })
      })
    )

    it.effect("a client that rewrites names changes neither payloads nor what is read", () =>
      Effect.gen(function* () {
        const { type } = yield* steps
        const { config } = yield* PgClient.PgClient
        const odd = yield* PgClient.make({
          ...config,
          transformResultNames: Str.snakeToCamel,
          transformQueryNames: Str.camelToSnake
        }).pipe(Effect.provideServiceEffect(Reactivity.Reactivity, Reactivity.make))
        const driver = yield* PostgresJobStore.makeShifted().pipe(Effect.provideService(SqlClient.SqlClient, odd))
        const job = newJob(type, { payload: `{"some_key":{"other_key":1}}`, metadata: `{"trace_id":"x"}` })
        yield* driver.enqueue([job])
        const [row] = yield* driver.get([job.id])
        assert.deepStrictEqual(row!.payload, { some_key: { other_key: 1 } })
        const [claimed] = yield* driver.claim({
          claim: randomUUID(),
          worker: "w",
          lease: 1_000,
          pools: [{ ranges: [{ queue: "q", type }], limit: 1 }],
          suspects: 0
        })
        assert.deepStrictEqual(claimed!.payload, { some_key: { other_key: 1 } })
        assert.deepStrictEqual(claimed!.metadata, { trace_id: "x" })
      })
    )
  })

  layer(serializableLayer, { excludeTestServices: true, timeout: 60_000 })("serializable by default", (it) => {
    it.effect("our own statements are READ COMMITTED: concurrent claims and settles never conflict", () =>
      Effect.gen(function* () {
        const { claim, driver, insert } = yield* steps
        yield* insert(400)
        const work = Effect.gen(function* () {
          for (;;) {
            const jobs = yield* claim({ limit: 5 })
            if (jobs.length === 0) return
            let rest = jobs
            while (rest.length > 0) {
              // A claim may hold a row for the rest of its statement: that is said, and is no conflict
              const outcomes = yield* driver.settle("w1", rest.map(succeeded))
              for (const { _tag } of outcomes) assert.include(["Settled", "Locked"], _tag)
              rest = rest.filter((_, n) => outcomes[n]!._tag === "Locked")
            }
          }
        })
        yield* Effect.all([work, work, work, work], { concurrency: 4 })
        yield* work
        assert.lengthOf(yield* claim(), 0)
      })
    )
  })
})
