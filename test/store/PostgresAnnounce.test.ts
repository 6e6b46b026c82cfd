/**
 * The notification inside the INSERT of a lone enqueue: heard once, with the commit and never without it, never in a
 * caller's transaction, and never two of them at a time, because commits that notify wait for one another.
 */
import { assert, layer } from "@effect/vitest"
import * as PgClient from "@effect/sql-pg/PgClient"
import { Effect, Fiber, Layer, Queue, Result, Schedule } from "effect"
import { SqlClient } from "effect/sql"
import { randomBytes, randomUUID } from "node:crypto"
import * as PostgresBroker from "../../src/broker/PostgresBroker.ts"
import { Broker, Job, JobStore, Migrations, Polyqueue } from "../../src/index.ts"
import { describePostgres, freshDatabase, layerUrl, ownServer } from "../support/Postgres.ts"
import type { Publication } from "../../src/store/Announcer.ts"
import { newJob } from "../support/StoreSteps.ts"

class Noop extends Job.make("noop", { queue: "q" }) {}

/** The queues that a session of its own hears of on a channel, and when it knows that it has heard all until now. */
const listener = Effect.fnUntraced(function* (url: string, channel: string) {
  const sql = yield* Effect.provide(PgClient.PgClient, yield* Layer.build(layerUrl(url)))
  const notifications = yield* sql.listen(channel)
  const next = Effect.map(Queue.take(notifications), ({ payload }) => payload.replace(/^\["[^"]*",?/, "["))
  const untilNow = Effect.gen(function* () {
    const mark = randomUUID()
    yield* sql.notify(channel, mark)
    const heard: Array<string> = []
    for (let payload = yield* next; payload !== mark; payload = yield* next) heard.push(payload)
    return heard
  })
  return { next, untilNow }
})

/** A process: a store, and the broker whose bell its enqueues may ring. */
const processOf = Effect.fnUntraced(function* (url: string, channel: string, options = {}) {
  const client = yield* Layer.build(layerUrl(url, options))
  return yield* Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const store = yield* Effect.provide(JobStore, yield* Layer.build(JobStore.layerPostgres))
    // As if an age lay between one enqueue and the next: the throttle is another test's
    const broker = yield* PostgresBroker.make({ channel, throttle: 0 })
    const publication: Publication = { announcer: broker.announcer, publish: () => Effect.void }
    const enqueue = Effect.suspend(() => store.enqueueOne(newJob("noop"), publication))
    return { sql, store, broker, announcer: broker.announcer!, publication, enqueue }
  }).pipe(Effect.provide(client))
})

/** One process on a database of its own, and somebody who listens. */
const stage = Effect.gen(function* () {
  const url = yield* freshDatabase
  yield* Layer.build(Migrations.layer().pipe(Layer.provide(layerUrl(url))))
  const channel = `polyqueue_${randomUUID()}`
  return { url, channel, ...(yield* processOf(url, channel)), ...(yield* listener(url, channel)) }
})

/** Asks until the answer is right; the test's timeout ends it. */
const until = <A, E>(effect: Effect.Effect<A, E>, right: (answer: A) => boolean): Effect.Effect<A, E> =>
  Effect.repeat(effect, { until: right, schedule: Schedule.spaced(20) })

const inserted = { _tag: "Inserted" } as const
const announced = { ...inserted, announced: true } as const

describePostgres("a notification in an INSERT", () => {
  layer(Layer.empty, { excludeTestServices: true, timeout: 60_000 })("of a lone enqueue", (it) => {
    it.effect("is heard once", () =>
      Effect.gen(function* () {
        const { enqueue, next, untilNow } = yield* stage
        assert.deepStrictEqual(yield* enqueue, announced)
        assert.strictEqual(yield* next, `["q"]`)
        assert.deepStrictEqual(yield* untilNow, [])
      })
    )

    it.effect("is all that Polyqueue's own enqueue sends", () =>
      Effect.gen(function* () {
        const url = yield* freshDatabase
        const channel = `polyqueue_${randomUUID()}`
        yield* Effect.gen(function* () {
          const { untilNow } = yield* listener(url, channel)
          const { id } = yield* Noop.enqueue()
          // One that is sent afterwards would need a session of the bell's, at the end of the broker at the latest
          assert.isUndefined((yield* Broker).announcer?.announce("q"), "the bell rests from what was sent")
          const sessions = yield* Effect.flatMap(
            SqlClient.SqlClient,
            (sql) => sql`select from pg_stat_activity
              where datname = current_database() and application_name = 'polyqueue doorbell'`
          )
          assert.lengthOf(sessions, 0)
          const [job] = yield* Effect.flatMap(JobStore, (store) => store.get([id]))
          assert.strictEqual(job?.status, "queued")
          return untilNow
        }).pipe(
          Effect.provide(
            Polyqueue.layerPostgres.pipe(
              Layer.provideMerge(Broker.layerPostgresWith({ channel, throttle: "1 minute" })),
              Layer.provideMerge(layerUrl(url))
            )
          ),
          Effect.flatMap((untilNow) => untilNow),
          Effect.map((heard) => assert.deepStrictEqual(heard, [`["q"]`]))
        )
      })
    )

    it.effect("is not heard when the INSERT is rolled back, and its job is told why", () =>
      Effect.gen(function* () {
        const { publication, store, untilNow } = yield* stage
        const job = newJob("noop")
        yield* store.enqueue([job])
        assert.deepStrictEqual(yield* store.enqueueOne({ ...job, payload: "2" }, publication), { _tag: "IdConflict" })
        assert.deepStrictEqual(yield* untilNow, [])
        assert.deepStrictEqual(yield* store.enqueueOne(newJob("noop"), publication), announced, "the next one is heard")
      })
    )

    it.effect("is not sent in the caller's transaction", () =>
      Effect.gen(function* () {
        const { announcer, publication, sql, store, untilNow } = yield* stage
        yield* sql.withTransaction(
          Effect.gen(function* () {
            assert.deepStrictEqual(yield* store.enqueueOne(newJob("noop"), publication), inserted)
            assert.deepStrictEqual(yield* store.enqueue([newJob("noop")], announcer), [inserted])
          })
        )
        assert.deepStrictEqual(yield* untilNow, [])
      })
    )

    it.effect("is not carried by another client's statement, which may be in another database", () =>
      Effect.gen(function* () {
        const { channel, store, untilNow, url } = yield* stage
        const other = yield* processOf(url, channel)
        assert.deepStrictEqual(yield* store.enqueueOne(newJob("noop"), other.publication), inserted)
        assert.deepStrictEqual(yield* untilNow, [])
      })
    )

    it.effect("is left to the bell where a worker of this process is the first to know", () =>
      Effect.gen(function* () {
        const { announcer, broker, enqueue, untilNow } = yield* stage
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* broker.consumer({ queues: ["q"], lease: 1_000 })
            assert.deepStrictEqual(yield* enqueue, inserted)
            const other = announcer.announce("another")
            assert.isDefined(other, "of other queues it knows no more than others")
            other?.end("unsent")
          })
        )
        assert.deepStrictEqual(yield* enqueue, announced)
        // A bell that listens also rings for nobody, to hear itself
        assert.deepStrictEqual(
          (yield* untilNow).filter((queues) => queues !== "[]"),
          [`["q"]`]
        )
      })
    )

    it.effect("is left to the next one while the bell does not rest", () =>
      Effect.gen(function* () {
        const { announcer, broker, channel, enqueue, next, untilNow } = yield* stage
        const first = announcer.announce("q")
        assert.strictEqual(first?.channel, channel)
        assert.isUndefined(announcer.announce("q"), "one at a time")
        assert.deepStrictEqual(yield* enqueue, inserted)
        first?.end("unsent")
        yield* broker.publish([{ jobId: "a", queue: "q", priority: 5, attempt: 0, publication: 1 }])
        assert.isUndefined(announcer.announce("q"), "another one is about to be sent")
        assert.strictEqual(yield* next, `["q"]`)
        assert.deepStrictEqual(yield* untilNow, [])
      })
    )

    it.effect(
      "needs nothing that a role that only enqueues does not have, and is not worth a job where it is refused",
      () =>
        Effect.gen(function* () {
          const { announcer, channel, sql, untilNow, url } = yield* stage
          const suffix = randomBytes(4).toString("hex")
          const roles = yield* Effect.fromResult(
            Result.map(
              Migrations.roles({
                owner: `owner_${suffix}`,
                worker: `worker_${suffix}`,
                producer: `producer_${suffix}`,
                viewer: `viewer_${suffix}`
              }),
              (text) => text.split(";\n").filter((one) => one !== "" && one !== "begin" && one !== "commit")
            )
          )
          for (const statement of roles) yield* sql.unsafe(statement)
          yield* sql.unsafe(`create role login_${suffix} login in role producer_${suffix}`)
          const login = new URL(url)
          login.username = `login_${suffix}`
          const producer = yield* processOf(login.href, channel)
          assert.deepStrictEqual(yield* producer.enqueue, announced)
          assert.deepStrictEqual(yield* untilNow, [`["q"]`])

          yield* sql.unsafe("revoke execute on function pg_catalog.pg_notify(text, text) from public")
          assert.deepStrictEqual(yield* producer.enqueue, inserted)
          assert.isUndefined(producer.announcer.announce("q"), "not tried again at once")
          assert.isDefined(announcer.announce("q"))
        })
    )
  })

  layer(Layer.empty, { excludeTestServices: true, timeout: 60_000 })("while another one commits", (it) => {
    it.effect("is not sent, so that nobody waits for that commit, and goes out after it", () =>
      Effect.gen(function* () {
        const { url } = yield* ownServer()
        yield* Layer.build(Migrations.layer().pipe(Layer.provide(layerUrl(url))))
        const channel = `polyqueue_${randomUUID()}`
        const commits = (how: "local" | "on") => ({ startupParameters: { synchronous_commit: how } })
        const admin = yield* processOf(url, channel, commits("local"))
        const slow = yield* processOf(url, channel, commits("on"))
        const quick = yield* processOf(url, channel, commits("local"))
        const { next } = yield* listener(url, channel)
        /** Commits wait for a standby that never answers, as for one that is far away; those of `local` do not. */
        const standby = (name: string) =>
          Effect.gen(function* () {
            yield* admin.sql.unsafe(`alter system set synchronous_standby_names = '${name}'`)
            yield* admin.sql.unsafe("select pg_reload_conf()")
            yield* until(
              admin.sql<{ now: string }>`select current_setting('synchronous_standby_names') as now`,
              (rows) => rows.every(({ now }) => now === name)
            )
          })
        yield* standby("nobody")
        const waiting = yield* Effect.forkChild(slow.enqueue, { startImmediately: true })
        yield* until(
          admin.sql<{ pid: number }>`select pid from pg_stat_activity where wait_event = 'SyncRep'`,
          (rows) => rows.length > 0
        )
        assert.deepStrictEqual(yield* quick.enqueue, inserted, "does not wait, and does not notify")
        yield* quick.broker.publish([{ jobId: "a", queue: "afterwards", priority: 5, attempt: 0, publication: 1 }])
        assert.isUndefined(waiting.pollUnsafe(), "the other one commits still")
        yield* standby("")
        assert.deepStrictEqual(yield* Fiber.join(waiting), announced)
        assert.deepStrictEqual([yield* next, yield* next].toSorted(), [`["afterwards"]`, `["q"]`])
      })
    )
  })
})
