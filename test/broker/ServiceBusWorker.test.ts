/** What a whole worker asks of Service Bus: the SDK settles and renews one by one, everything else is in batches. */
import { assert, it } from "@effect/vitest"
import { Deferred, Effect, Layer, Redacted, Schedule } from "effect"
import * as ServiceBusBroker from "../../src/broker/ServiceBusBroker.ts"
import { Job, JobStore, Metrics, Polyqueue, Worker, WorkerRegistry } from "../../src/index.ts"
import { localServer } from "../support/ServiceBus.ts"

const COUNT = 500
const AT_ONCE = 25

class Meeting extends Job.make("Meeting", {}) {}

/** Jobs start by their hints alone. */
const Store = Layer.effect(
  JobStore,
  Effect.map(JobStore, (store) => ({ ...store, claim: () => Effect.succeed([]) }))
).pipe(Layer.provide(JobStore.layerMemory))

it.live(
  "a worker with 500 running jobs renews each lock once per third of its lease, as many at a time as it was told",
  () =>
    Effect.gen(function* () {
      const server = yield* localServer
      const queue = server.createQueue("polyqueue", { lockDuration: 30_000 })
      const broker = ServiceBusBroker.layer({
        connectionString: Redacted.make(server.connectionString),
        concurrency: AT_ONCE
      })
      const ports = Layer.mergeAll(Store, WorkerRegistry.layerMemory, Metrics.layerNoop, broker)
      const all = yield* Deferred.make<void>()
      let here = 0
      const handler = Meeting.toLayer(() =>
        Effect.andThen(
          Effect.sync(() => ++here),
          Deferred.await(all)
        )
      )
      const until = (holds: () => boolean) =>
        Effect.repeat(Effect.sync(holds), { until: (yes) => yes, schedule: Schedule.spaced("20 millis") })
      yield* Effect.gen(function* () {
        const jobs = yield* Meeting.enqueueAll(Array.from({ length: COUNT }, () => undefined))
        yield* until(() => queue.counts.active === COUNT)
        assert.strictEqual(server.calls.get("send"), 1, "500 hints are one request")
        yield* Layer.build(
          Worker.layer([Meeting], { concurrency: COUNT, brokerLease: "15 seconds" }).pipe(Layer.provide(handler))
        )
        yield* until(() => here === COUNT)
        server.faults.managementDelay = 5
        yield* until(() => queue.renewals >= COUNT)
        const first = queue.renewals
        yield* until(() => queue.renewals > first)
        assert.strictEqual(first, COUNT, "the first round is one renewal for each")
        assert.strictEqual(server.calls.get("complete") ?? 0, 0)
        yield* Deferred.succeed(all, undefined)
        yield* Effect.forEach(jobs, (job) => job.await, { discard: true })
        yield* until(() => queue.counts.active + queue.counts.locked === 0)
      }).pipe(Effect.scoped, Effect.provide(Polyqueue.layer.pipe(Layer.provideMerge(ports))))
      assert.strictEqual(here, COUNT)
      // Fewer where the connection was renewed meanwhile: then deliveries are settled by their lock tokens
      assert.isAtMost(server.calls.get("complete") ?? 0, COUNT)
      assert.strictEqual(server.peakManagement, AT_ONCE)
    }).pipe(Effect.scoped)
)
