// 11 Live swap: a running fleet moves from one broker to another in three deployments, while jobs are enqueued and run all
// the time. Each deployment starts before the one before it stops, as a rolling deploy does. In production the two are,
// say, Redis and SQS; here both are in the library.
//
// Prints:
//   deployed with memory
//   deployed with memory+postgres
//   deployed with postgres+memory
//   deployed with postgres
//   80 jobs enqueued, 80 ran, each once
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, Effect, Exit, Layer, Schema, Scope } from "effect"
import type { SqlClient } from "effect/sql"
import { Broker, Job, JobStore, Metrics, Polyqueue, Worker, WorkerRegistry } from "../src/index.ts"

class Count extends Job.make("Count", { payload: { n: Schema.Int } }) {}

const ran: Array<number> = []
const CountLive = Count.toLayer(({ n }) => Effect.sync(() => void ran.push(n)))

const Old = Broker.layerMemory
const New = Broker.layerPostgres

// Step 1: publish to the old one, listen to both. Step 2: publish to the new one, listen to both, until the old one's
// depth is 0. Step 3: the new one alone
const steps = [Old, Broker.layerSwap({ to: Old, from: New }), Broker.layerSwap({ to: New, from: Old }), New]

// One deployment: a process with a client and a worker
const deployment = (BrokerLive: Layer.Layer<Broker, never, SqlClient.SqlClient>) =>
  Worker.layer([Count]).pipe(
    Layer.provide(CountLive),
    Layer.provideMerge(Layer.fresh(Polyqueue.layer)),
    Layer.provideMerge(BrokerLive)
  )

const Ports = Layer.mergeAll(JobStore.layerPostgres, WorkerRegistry.layerPostgres, Metrics.layerNoop)
const Database = Ports.pipe(Layer.provideMerge(Polyqueue.layerEmbedded()))

Effect.gen(function* () {
  let enqueued = 0
  const enqueueSome = Effect.suspend(() => Count.enqueueAll(Array.from({ length: 10 }, () => ({ n: enqueued++ }))))
  let before: Scope.Closeable | undefined
  for (const BrokerLive of steps) {
    const scope = yield* Scope.make()
    const running = yield* Layer.buildWithScope(deployment(BrokerLive), scope)
    yield* Effect.provideContext(
      Effect.gen(function* () {
        const { capabilities } = yield* Broker
        yield* Console.log(`deployed with ${capabilities.name}`)
        yield* enqueueSome
        if (before !== undefined) yield* Scope.close(before, Exit.void)
        yield* enqueueSome
      }),
      running
    )
    before = scope
  }
  while (ran.length < enqueued) yield* Effect.sleep("50 millis")
  if (before !== undefined) yield* Scope.close(before, Exit.void)
  const different = new Set(ran).size
  const times = ran.length === different ? "once" : "once or more"
  yield* Console.log(`${enqueued} jobs enqueued, ${different} ran, each ${times}`)
}).pipe(Effect.provide(Database), NodeRuntime.runMain)
