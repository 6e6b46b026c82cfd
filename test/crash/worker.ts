/** A worker process: `node worker.ts <database url> <slots> <lease ms> <grace ms> <broker>`. Says `ready` once it works. */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Effect, Layer, Redacted } from "effect"
import { JobStore, Metrics, Migrations, Polyqueue, Worker, WorkerRegistry } from "../../src/index.ts"
import { brokerOf } from "./brokers.ts"
import { Poison, PoisonLive, Steady, SteadyLive } from "./jobs.ts"

const [url = "", slots = "20", lease = "1000", grace = "3000", broker = "{}"] = process.argv.slice(2)
const Database = PgClient.layer({ url: Redacted.make(url), maxConnections: 10 })

/** Says when this worker finds that it is not the owner any more, before or after its handler ended. */
const Told = Layer.succeed(Metrics, {
  enabled: true,
  record: (event) => {
    if (event._tag === "LeaseLost") process.stdout.write("lease lost\n")
  }
})

const Live = Worker.layer([Steady, Poison], {
  concurrency: Number(slots),
  lease: Number(lease),
  sweepEvery: 200,
  shutdownGrace: Number(grace),
  interruptGrace: 500,
  // Short, so that hints of a worker that died come again while the test looks
  brokerLease: 3_000
}).pipe(
  Layer.provide([SteadyLive, PoisonLive]),
  Layer.provide(Polyqueue.layer),
  Layer.provide([JobStore.layerPostgres, WorkerRegistry.layerPostgres, Told, brokerOf(JSON.parse(broker))]),
  Layer.provide(Migrations.layer()),
  Layer.provide(Database)
)
Effect.scoped(
  Effect.gen(function* () {
    yield* Layer.build(Live)
    process.stdout.write("ready\n")
    return yield* Effect.never
  })
).pipe(NodeRuntime.runMain)
