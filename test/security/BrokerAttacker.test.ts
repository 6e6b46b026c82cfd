/**
 * The broker as attacker: whoever can write to it can wake ids, and nothing more. Forged, foreign, stale and doubled hints, a
 * flood of them, and receipts that are none: only queued jobs of the worker's own queues and types run, each as often as it
 * should, and what the worker keeps in memory is bounded.
 */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Layer, Logger, Schema, type Scope } from "effect"
import { SqlClient } from "effect/sql"
import type { BrokerDriver, Delivery, Hint } from "../../src/broker/BrokerDriver.ts"
import {
  Broker,
  BrokerError,
  Job,
  JobStore,
  Metrics,
  Migrations,
  Polyqueue,
  type Ports,
  Worker,
  WorkerRegistry
} from "../../src/index.ts"
import { capabilities } from "../support/ReferenceBroker.ts"
import { describePostgres, layerFresh } from "../support/Postgres.ts"

class Mine extends Job.make("Mine", { payload: { n: Schema.Int }, success: Schema.Int, queue: "mine" }) {}
class OtherType extends Job.make("OtherType", { queue: "mine" }) {}
class OtherQueue extends Job.make("OtherQueue", { queue: "theirs" }) {}

/** A broker that an attacker fills: publishes nothing, delivers what it is told to, counts what it has out. */
const attacker = () => {
  let next: (max: number) => ReadonlyArray<Hint> = () => []
  let receipt = 0
  let out = 0
  let most = 0
  let delivered = 0
  let wake = Effect.runSync(Deferred.make<void>())
  const done = (deliveries: ReadonlyArray<Delivery>) =>
    Effect.sync(() => {
      out -= deliveries.length
      return deliveries.map(() => ({ _tag: "Ok" }) as const)
    })
  const driver: BrokerDriver = {
    capabilities: { ...capabilities, name: "attacker", idempotentPublish: false },
    publish: (hints) => Effect.succeed(hints.map(() => ({ _tag: "Ok" }) as const)),
    consumer: () =>
      Effect.succeed({
        receive: ({ max, wait }) =>
          Effect.suspend(() => {
            const hints = next(max)
            if (hints.length === 0) return Effect.as(Effect.raceFirst(Effect.sleep(wait), Deferred.await(wake)), [])
            out += hints.length
            delivered += hints.length
            most = Math.max(most, out)
            return Effect.succeed(
              hints.map((hint) => ({ hint, receipt: `forged ${receipt++}`, deliveryCount: undefined }))
            )
          }),
        extend: (deliveries) => Effect.succeed(deliveries.map(() => ({ _tag: "LeaseLost" }) as const)),
        ack: done,
        release: done
      }),
    depth: () => Effect.succeed(Number.MAX_SAFE_INTEGER),
    purge: () => Effect.fail(new BrokerError({ reason: "Unsupported", operation: "purge", message: "no" })),
    health: Effect.succeed({ ok: true, problems: [] })
  }
  return {
    driver,
    deliver: (source: (max: number) => ReadonlyArray<Hint>) => {
      next = source
      const before = wake
      wake = Effect.runSync(Deferred.make<void>())
      Effect.runSync(Deferred.succeed(before, undefined))
    },
    counts: () => ({ most, delivered })
  }
}

const hintOf = (jobId: string, queue = "mine", attempt = 0): Hint => ({
  jobId,
  queue,
  priority: 0,
  attempt,
  publication: 1
})

/** A worker of `Mine` on an attacker's broker, over these stores; `ran` counts runs per job id. */
const scene = <E>(stores: Layer.Layer<JobStore | WorkerRegistry, E>) => {
  const broker = attacker()
  const ran: Array<number> = []
  const foreign: Array<string> = []
  const Handlers = Layer.mergeAll(
    Mine.toLayer(({ n }) => Effect.sync(() => (ran.push(n), n))),
    OtherQueue.toLayer(() => Effect.sync(() => void foreign.push("OtherQueue")))
  )
  const client: Layer.Layer<Polyqueue | Ports, E> = Polyqueue.layer.pipe(
    Layer.provideMerge(Layer.mergeAll(stores, Metrics.layerNoop, Layer.succeed(Broker, broker.driver)))
  )
  // It has a handler of the other type, but does not work on its queue
  const live = Worker.layer([Mine, OtherQueue], { concurrency: { mine: 5, theirs: 1 } }).pipe(Layer.provide(Handlers))
  const mineOnly = Worker.layer([Mine], { concurrency: { mine: 5 } }).pipe(Layer.provide(Handlers))
  return { broker, client, foreign, live, mineOnly, ran }
}

/** Delivers once, and waits until the worker asks for more: it has dealt with all of it. */
const deliverOnce = (broker: ReturnType<typeof attacker>, hints: ReadonlyArray<Hint>) =>
  Effect.gen(function* () {
    const dealtWith = yield* Deferred.make<void>()
    let rest = hints
    broker.deliver((max) => {
      const some = rest.slice(0, max)
      rest = rest.slice(max)
      if (some.length === 0) Effect.runSync(Deferred.succeed(dealtWith, undefined))
      return some
    })
    yield* Deferred.await(dealtWith)
  })

const uuid = () => globalThis.crypto.randomUUID()

const suite = <E>(name: string, stores: () => Layer.Layer<JobStore | WorkerRegistry, E>) =>
  describe(`hints on ${name}`, () => {
    const test = (
      title: string,
      body: (given: ReturnType<typeof scene<E>>) => Effect.Effect<void, unknown, Polyqueue | Ports | Scope.Scope>
    ) =>
      it.live(
        title,
        () => {
          const given = scene(stores())
          // The worker stops before the client it stands on
          return Effect.provide(Effect.scoped(body(given)), given.client)
        },
        60_000
      )

    test("of ids that nobody enqueued do nothing", ({ broker, mineOnly, ran }) =>
      Effect.gen(function* () {
        yield* Layer.build(mineOnly)
        yield* deliverOnce(
          broker,
          Array.from({ length: 500 }, () => hintOf(uuid()))
        )
        assert.deepStrictEqual(ran, [])
        assert.strictEqual(yield* Mine.execute({ n: 1 }), 1)
      }))

    test("of other queues and other types run nothing of them, whatever queue they name", ({
      broker,
      foreign,
      mineOnly,
      ran
    }) =>
      Effect.gen(function* () {
        const [type, queue] = [yield* OtherType.enqueue(), yield* OtherQueue.enqueue()]
        const elsewhere = yield* Mine.enqueue({ n: 7 }, { queue: "theirs" })
        yield* Layer.build(mineOnly)
        for (const named of ["mine", "theirs", "__proto__"]) {
          yield* deliverOnce(
            broker,
            [type, queue, elsewhere].map(({ id }) => hintOf(id, named))
          )
        }
        assert.strictEqual(yield* Mine.execute({ n: 1 }), 1)
        assert.deepStrictEqual([ran, foreign], [[1], []])
        for (const job of [type, queue]) {
          const state = yield* job.poll
          assert.deepStrictEqual([state.status, state.attempt], ["queued", 0])
        }
        // Its type is handled here, its queue is not: given back, at no cost
        const [row] = yield* JobStore.use((store) => store.get([elsewhere.id]))
        assert.deepStrictEqual([row?.status, row?.failures, row?.crashes], ["queued", 0, 0])
      }))

    test("of jobs that are not queued, or not due, run nothing", ({ broker, mineOnly, ran }) =>
      Effect.gen(function* () {
        const store = yield* JobStore
        const later = yield* Mine.enqueue({ n: 2 }, { delay: "1 hour" })
        const cancelled = yield* Mine.enqueue({ n: 3 }, { delay: "1 hour" })
        yield* cancelled.cancel
        const owned = yield* Mine.enqueue({ n: 4 })
        const claim = uuid()
        const taken = yield* store.claim({
          claim,
          worker: "somebody else",
          lease: 600_000,
          suspects: 0,
          pools: [{ ranges: [{ queue: "mine", type: "Mine" }], limit: 1 }]
        })
        assert.strictEqual(taken[0]?.id, owned.id)
        yield* Layer.build(mineOnly)
        const ended = yield* Mine.enqueue({ n: 1 })
        assert.strictEqual(yield* ended.await, 1)
        const ids = [later, cancelled, owned, ended].map(({ id }) => id)
        // Stale ones, and ones from the future
        for (const attempt of [0, 1, 2_147_483_647]) {
          yield* deliverOnce(
            broker,
            [...ids, ...ids].map((id) => hintOf(id, "mine", attempt))
          )
        }
        assert.strictEqual(yield* Mine.execute({ n: 5 }), 5)
        assert.deepStrictEqual(ran, [1, 5])
        const [row] = yield* store.get([owned.id])
        assert.deepStrictEqual([row?.status, row?.worker, row?.attempt], ["processing", "somebody else", 1])
      }))

    test("of one job a hundred times run it once", ({ broker, mineOnly, ran }) =>
      Effect.gen(function* () {
        yield* Layer.build(mineOnly)
        const job = yield* Mine.enqueue({ n: 1 }, { delay: "100 millis" })
        yield* Effect.sleep("100 millis")
        yield* deliverOnce(
          broker,
          Array.from({ length: 100 }, () => hintOf(job.id))
        )
        assert.strictEqual(yield* job.await, 1)
        assert.deepStrictEqual(ran, [1])
        assert.strictEqual((yield* job.poll).attempt, 1)
      }))

    test("without end keep nobody from running what there is to run, and nothing of them is kept", ({
      broker,
      mineOnly,
      ran
    }) =>
      Effect.gen(function* () {
        const foreign = yield* OtherType.enqueue()
        yield* Layer.build(mineOnly)
        let flooding = true
        const enough = yield* Deferred.make<void>()
        broker.deliver((max) => {
          if (broker.counts().delivered > 1_000) Effect.runSync(Deferred.succeed(enough, undefined))
          return flooding ? Array.from({ length: max }, (_, i) => hintOf(i % 10 === 0 ? foreign.id : uuid())) : []
        })
        const jobs = yield* Mine.enqueueAll(Array.from({ length: 15 }, (_, n) => ({ n })))
        for (const job of jobs) yield* job.await
        yield* Deferred.await(enough)
        flooding = false
        assert.sameMembers(
          ran,
          Array.from({ length: 15 }, (_, n) => n)
        )
        // Deliveries that were neither acked nor released: of a few rounds, not of the flood
        assert.isBelow(broker.counts().most, 500)
        assert.strictEqual((yield* foreign.poll).attempt, 0)
      }))
  })

suite("the memory store", () => Layer.merge(JobStore.layerMemory, WorkerRegistry.layerMemory))
describePostgres("on a server", () => {
  suite("Postgres", () =>
    Layer.merge(JobStore.layerPostgres, WorkerRegistry.layerPostgres).pipe(
      Layer.provide(Layer.effectDiscard(Migrations.migrate())),
      Layer.provide(layerFresh())
    )
  )
  /** Every role of a database may notify and listen on every channel. */
  it.live(
    "notifications of a co-tenant wake workers for nothing, and run and break nothing",
    () => {
      const ran: Array<number> = []
      const errors: Array<string> = []
      const Live = Worker.layer([Mine], { concurrency: { mine: 2 } }).pipe(
        Layer.provide(Mine.toLayer(({ n }) => Effect.sync(() => (ran.push(n), n)))),
        Layer.provideMerge(Polyqueue.layerPostgres),
        Layer.provide(Broker.layerPostgres),
        Layer.provideMerge(layerFresh())
      )
      return Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const later = yield* Mine.enqueue({ n: 2 }, { delay: "1 hour" })
        const elsewhere = yield* Mine.enqueue({ n: 3 }, { queue: "theirs" })
        // The worker listens
        assert.strictEqual(yield* Mine.execute({ n: 1 }), 1)
        const forged = [
          "",
          "x",
          "[]",
          "{}",
          "null",
          '{"__proto__":["x"]}',
          '["__proto__","mine","theirs","constructor"]',
          JSON.stringify(["x", later.id, elsewhere.id]),
          JSON.stringify(["x\u0000\n\u001b[2J", "mine"]),
          "[".repeat(7_900),
          JSON.stringify(["x", ...Array.from({ length: 2_500 }, () => "")]).slice(0, 7_999)
        ]
        for (let i = 0; i < 20; i++) {
          for (const payload of forged) yield* sql.unsafe("select pg_notify('polyqueue', $1)", [payload])
        }
        assert.strictEqual(yield* Mine.execute({ n: 4 }), 4)
        assert.deepStrictEqual(ran, [1, 4])
        for (const job of [later, elsewhere]) assert.strictEqual((yield* job.poll).attempt, 0)
        assert.deepStrictEqual(errors, [])
      }).pipe(
        Effect.provide(Live),
        Effect.provide(
          Logger.layer([
            Logger.make(({ logLevel, message }) => {
              if (logLevel === "Error" || logLevel === "Warn") errors.push(JSON.stringify(message))
            })
          ])
        )
      )
    },
    60_000
  )
})
