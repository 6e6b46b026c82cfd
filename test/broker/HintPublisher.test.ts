/** What an enqueue promises about its hint: one request for many callers, nobody waits, the end waits for what is under way. */
import { assert, it } from "@effect/vitest"
import { Context, Deferred, Effect, Layer, Schema } from "effect"
import type { Hint } from "../../src/broker/BrokerDriver.ts"
import { Broker, BrokerError, Job, JobStore, Metrics, Polyqueue, WorkerRegistry } from "../../src/index.ts"
import * as ReferenceBroker from "../support/ReferenceBroker.ts"

class Noop extends Job.make("Noop", { payload: { n: Schema.Int } }) {}

class Watched extends Context.Service<
  Watched,
  {
    readonly requests: Array<ReadonlyArray<Hint>>
    /** Requests that were answered. */
    answered: number
    /** Which request takes its time: until `hold` is over. */
    slow: number
    readonly hold: Deferred.Deferred<void>
    failing: boolean
  }
>()("test/Watched") {}

const BrokerLive = Layer.effectContext(
  Effect.gen(function* () {
    const { driver } = yield* ReferenceBroker.make()
    const watched: Watched["Service"] = {
      requests: [],
      answered: 0,
      slow: 1,
      hold: yield* Deferred.make<void>(),
      failing: false
    }
    const publish = (hints: ReadonlyArray<Hint>) =>
      Effect.suspend(() => {
        watched.requests.push(hints)
        const answer = watched.failing
          ? Effect.fail(new BrokerError({ reason: "Unavailable", operation: "publish", message: "down" }))
          : driver.publish(hints)
        const held =
          watched.requests.length === watched.slow ? Effect.andThen(Deferred.await(watched.hold), answer) : answer
        return Effect.tap(held, () => Effect.sync(() => void watched.answered++))
      })
    return Context.make(Broker, { ...driver, publish }).pipe(Context.add(Watched, watched))
  })
)
const Client = Polyqueue.layer.pipe(
  Layer.provideMerge(Layer.mergeAll(JobStore.layerMemory, WorkerRegistry.layerMemory, Metrics.layerNoop, BrokerLive))
)

const sent = (watched: Watched["Service"]) => watched.requests.map((hints) => hints.length)

it.effect("an enqueue does not wait for the broker, and what arrives meanwhile is one request", () =>
  Effect.gen(function* () {
    const watched = yield* Watched
    yield* Noop.enqueue({ n: 0 })
    yield* Effect.repeat(Effect.yieldNow, { until: () => watched.requests.length === 1 })
    yield* Effect.forEach(
      Array.from({ length: 300 }, (_, n) => n),
      (n) => Noop.enqueue({ n }),
      {
        concurrency: "unbounded",
        discard: true
      }
    )
    assert.deepStrictEqual(sent(watched), [1])
    yield* Deferred.succeed(watched.hold, undefined)
    yield* Effect.repeat(Effect.yieldNow, { until: () => watched.requests.length === 2 })
    assert.deepStrictEqual(sent(watched), [1, 300])
  }).pipe(Effect.provide(Client))
)

it.effect("a broker that is down fails no enqueue", () =>
  Effect.gen(function* () {
    const watched = yield* Watched
    watched.failing = true
    yield* Deferred.succeed(watched.hold, undefined)
    const job = yield* Noop.enqueue({ n: 1 })
    assert.strictEqual((yield* job.poll).status, "queued")
  }).pipe(Effect.provide(Client))
)

it.live("the end of the layer waits for hints that are under way", () =>
  Effect.gen(function* () {
    const watched = yield* Effect.provide(
      Effect.gen(function* () {
        const watched = yield* Watched
        yield* Noop.enqueue({ n: 1 })
        yield* Noop.enqueue({ n: 2 })
        yield* Effect.forkDetach(Effect.delay(Deferred.succeed(watched.hold, undefined), "50 millis"))
        return watched
      }),
      Client
    )
    assert.strictEqual(watched.requests.flat().length, 2)
  })
)

it.live("the end of the layer waits for them also when all was quiet before", () =>
  Effect.gen(function* () {
    const watched = yield* Effect.provide(
      Effect.gen(function* () {
        const watched = yield* Watched
        watched.slow = 2
        yield* Noop.enqueue({ n: 1 })
        yield* Effect.repeat(Effect.yieldNow, { until: () => watched.answered === 1 })
        yield* Noop.enqueue({ n: 2 })
        yield* Effect.repeat(Effect.yieldNow, { until: () => watched.requests.length === 2 })
        yield* Effect.forkDetach(Effect.delay(Deferred.succeed(watched.hold, undefined), "50 millis"))
        return watched
      }),
      Client
    )
    assert.strictEqual(watched.answered, 2)
  })
)
