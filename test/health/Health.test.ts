/** Liveness and readiness of workers: what each of them says when a loop is late, the store is away, or work lies there. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Ref, Scope } from "effect"
import { HttpClient, HttpRouter } from "effect/http"
import { TestClock } from "effect/testing"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Health from "../../src/health/Health.ts"
import { Broker, Job, JobStore, Metrics, Polyqueue, StoreError, Worker, WorkerRegistry } from "../../src/index.ts"

class Wait extends Job.make("Wait", {}) {}

/** What is wrong with the store: per operation, an effect that is run before it. */
type Trouble = Partial<Record<"claim" | "nextDue" | "reapTimeouts", Effect.Effect<void, StoreError>>>

const away = Effect.fail(new StoreError({ reason: "Unavailable", operation: "test", message: "away" }))

/** A worker in memory on a store with troubles, and a registry of its own. */
const setup = Effect.fnUntraced(function* () {
  const trouble = yield* Ref.make<Trouble>({})
  const open = yield* Deferred.make<void>()
  const registry = Health.make()
  const before = (name: keyof Trouble) => Effect.flatMap(Ref.get(trouble), (now) => now[name] ?? Effect.void)
  const store = Layer.effect(
    JobStore,
    Effect.map(JobStore, (store) => ({
      ...store,
      claim: (request: Parameters<typeof store.claim>[0]) => Effect.andThen(before("claim"), store.claim(request)),
      nextDue: (ranges: Parameters<typeof store.nextDue>[0]) =>
        Effect.andThen(before("nextDue"), store.nextDue(ranges)),
      reapTimeouts: (options: Parameters<typeof store.reapTimeouts>[0]) =>
        Effect.andThen(before("reapTimeouts"), store.reapTimeouts(options))
    }))
  ).pipe(Layer.provide(JobStore.layerMemory))
  const scope = yield* Scope.make()
  const Live = Worker.layer([Wait], { name: "w", concurrency: 2, shutdownGrace: "1 minute" }).pipe(
    Layer.provide(Wait.toLayer(() => Deferred.await(open))),
    Layer.provideMerge(Polyqueue.layer),
    Layer.provideMerge(Layer.mergeAll(store, WorkerRegistry.layerMemory, Broker.layerMemory, Metrics.layerNoop)),
    Layer.provide(Layer.succeed(Health.WorkerHealth, registry))
  )
  const built = yield* Layer.buildWithScope(Live, scope)
  const enqueue = Effect.provideContext(Wait.enqueue(), built)
  /** The report now, and 11 s later; asked in between as a probe would. */
  const later = (seconds: number) =>
    Effect.gen(function* () {
      let report = yield* registry.report
      for (let s = 0; s < seconds; s++) {
        yield* TestClock.adjust("1 second")
        report = yield* registry.report
      }
      return report
    })
  return { registry, trouble, open, enqueue, later, close: Scope.close(scope, Exit.void) }
})

describe("readiness", () => {
  it.effect("a worker at rest, and one at work, is ready for as long as it takes", () =>
    Effect.gen(function* () {
      const { close, enqueue, later, open } = yield* setup()
      const atRest = yield* later(120)
      assert.deepStrictEqual([atRest.ready, atRest.live, atRest.problems], [true, true, []])
      // More than it has slots for: what waits is not its fault
      for (let n = 0; n < 5; n++) yield* enqueue
      const atWork = yield* later(120)
      assert.deepStrictEqual([atWork.ready, atWork.problems, atWork.workers[0]?.running], [true, [], 2])
      yield* Deferred.succeed(open, undefined)
      yield* close
    })
  )

  it.effect("turns false when jobs are due and none is claimed, and back when they are", () =>
    Effect.gen(function* () {
      const { close, enqueue, later, open, trouble } = yield* setup()
      yield* Ref.set(trouble, { claim: Effect.never })
      yield* later(31)
      yield* enqueue
      const soon = yield* later(5)
      assert.isTrue(soon.ready, soon.problems.join())
      const report = yield* later(10)
      assert.isFalse(report.ready)
      assert.match(report.problems.join(), /^w: jobs are due and it has claimed none for \d+ ms$/)
      assert.isTrue(report.live)
      yield* Ref.set(trouble, {})
      yield* Deferred.succeed(open, undefined)
      yield* close
    })
  )

  it.effect("turns false while a loop fails, names it, and comes back", () =>
    Effect.gen(function* () {
      const { close, later, trouble } = yield* setup()
      yield* Ref.set(trouble, { reapTimeouts: away })
      const report = yield* later(60)
      assert.isFalse(report.ready)
      assert.match(report.problems.join(), /w: the loop reap-timeouts is late/)
      assert.isTrue(report.live, "a store that is away is no reason to restart")
      const late = report.workers[0]!.loops.filter((loop) => loop.late).map((loop) => loop.name)
      assert.deepStrictEqual(late, ["reap-timeouts"])
      yield* Ref.set(trouble, {})
      const again = yield* later(60)
      assert.deepStrictEqual([again.ready, again.problems], [true, []])
      yield* close
    })
  )

  it.effect("turns false while a loop that waits for events fails, though it has no interval to be late for", () =>
    Effect.gen(function* () {
      const { close, later, trouble } = yield* setup()
      yield* Ref.set(trouble, { claim: away })
      yield* later(31)
      const report = yield* later(30)
      assert.isFalse(report.ready)
      assert.match(report.problems.join(), /w: the loop claim is late/)
      yield* Ref.set(trouble, {})
      assert.isTrue((yield* later(30)).ready)
      yield* close
    })
  )

  it.effect("turns false while the store does not answer, and says so", () =>
    Effect.gen(function* () {
      const { close, later, registry, trouble } = yield* setup()
      yield* Ref.set(trouble, { nextDue: away })
      const failing = yield* later(2)
      assert.include(failing.problems.join(), "w: the store does not answer: Unavailable")
      yield* Ref.set(trouble, { nextDue: Effect.never })
      yield* TestClock.adjust("2 seconds")
      const silent = yield* Effect.forkChild(registry.report, { startImmediately: true })
      yield* TestClock.adjust("2 seconds")
      assert.include((yield* Fiber.join(silent)).problems.join(), "w: the store did not answer in 2s")
      yield* Ref.set(trouble, {})
      yield* close
    })
  )

  it.effect("turns false while a worker drains, and when there is none", () =>
    Effect.gen(function* () {
      const { close, enqueue, later, open, registry } = yield* setup()
      yield* enqueue
      yield* later(1)
      const closing = yield* Effect.forkChild(close, { startImmediately: true })
      const draining = yield* later(2)
      assert.deepStrictEqual([draining.ready, draining.live], [false, true])
      assert.deepStrictEqual(draining.problems, ["w: it is draining: it claims nothing new"])
      yield* Deferred.succeed(open, undefined)
      yield* Fiber.join(closing)
      const none = yield* registry.report
      assert.deepStrictEqual([none.ready, none.live, none.workers], [false, true, []])
      assert.match(none.problems.join(), /no worker runs in this process/)
    })
  )
})

describe("liveness", () => {
  it.effect("turns false when a loop does not come back at all, and names it", () =>
    Effect.gen(function* () {
      const { close, later, registry, trouble } = yield* setup()
      yield* Ref.set(trouble, { reapTimeouts: Effect.never })
      const late = yield* later(60)
      assert.deepStrictEqual([late.ready, late.live], [false, true])
      yield* TestClock.adjust("60 seconds")
      const { live, problems } = yield* registry.alive
      assert.isFalse(live)
      assert.match(problems.join(), /w: the loop reap-timeouts has not come back for \d+ ms/)
      yield* close
    })
  )
})

describe("over HTTP", () => {
  it.live("200 while all is well, 503 with the reason when it is not", () =>
    Effect.gen(function* () {
      let report: Health.HealthReport = { live: true, ready: true, problems: [], workers: [] }
      const registry: Health.Registry = {
        add: () => () => {},
        report: Effect.sync(() => report),
        alive: Effect.sync(() => report)
      }
      const Live = HttpRouter.serve(Health.layer(), { disableListenLog: true, disableLogger: true }).pipe(
        Layer.provideMerge(NodeHttpServer.layerTest),
        Layer.provide(Layer.succeed(Health.WorkerHealth, registry))
      )
      yield* Effect.gen(function* () {
        const client = yield* HttpClient.HttpClient
        const ask = (path: string) =>
          Effect.flatMap(client.get(path), (response) =>
            Effect.map(response.json, (body) => ({ status: response.status, headers: response.headers, body }))
          )
        const well = yield* ask("/readyz")
        assert.deepStrictEqual([well.status, well.body], [200, { status: "ok", problems: [], workers: [] }])
        assert.strictEqual(well.headers["cache-control"], "no-store")
        assert.strictEqual((yield* ask("/livez")).status, 200)
        report = { live: true, ready: false, problems: ["w: it is draining"], workers: [] }
        const draining = yield* ask("/readyz")
        assert.deepStrictEqual(
          [draining.status, draining.body],
          [503, { status: "failing", problems: ["w: it is draining"], workers: [] }]
        )
        assert.strictEqual((yield* ask("/livez")).status, 200)
        report = { ...report, live: false }
        assert.strictEqual((yield* ask("/livez")).status, 503)
      }).pipe(Effect.provide(Live))
    })
  )

  it.live("a worker registers itself where the endpoints look, without being told", () =>
    Effect.gen(function* () {
      const Live = HttpRouter.serve(Health.layer({ ready: "/healthz" }), {
        disableListenLog: true,
        disableLogger: true
      }).pipe(
        Layer.provideMerge(NodeHttpServer.layerTest),
        Layer.provideMerge(Worker.layer([Wait], { name: "mine" }).pipe(Layer.provide(Wait.toLayer(() => Effect.void)))),
        Layer.provide(Polyqueue.layerMemory)
      )
      yield* Effect.gen(function* () {
        const response = yield* HttpClient.get("/healthz")
        const { status, workers } = (yield* response.json) as unknown as Health.HealthReport & { status: string }
        assert.deepStrictEqual([response.status, status, workers.map(({ name }) => name)], [200, "ok", ["mine"]])
        assert.includeMembers(
          workers[0]!.loops.map((loop) => loop.name),
          ["claim", "settle", "renew", "heartbeat", "reap-leases"]
        )
      }).pipe(Effect.provide(Live))
    })
  )
})
