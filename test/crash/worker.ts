/** A worker process: `node worker.ts <database url> <slots> <lease ms> <grace ms>`. Says `ready` once it works. */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Effect, Layer, Redacted } from "effect"
import { Broker, Polyqueue, Worker } from "../../src/index.ts"
import { Poison, PoisonLive, Steady, SteadyLive } from "./jobs.ts"

const [url = "", slots = "20", lease = "1000", grace = "3000"] = process.argv.slice(2)
const Database = PgClient.layer({ url: Redacted.make(url), maxConnections: 10 })

const Live = Worker.layer([Steady, Poison], {
  concurrency: Number(slots),
  lease: Number(lease),
  sweepEvery: 200,
  shutdownGrace: Number(grace),
  interruptGrace: 500
}).pipe(
  Layer.provide([SteadyLive, PoisonLive]),
  Layer.provide(Polyqueue.layerPostgres),
  Layer.provide(Broker.layerPostgres),
  Layer.provide(Database)
)
Effect.scoped(
  Effect.gen(function* () {
    yield* Layer.build(Live)
    process.stdout.write("ready\n")
    return yield* Effect.never
  })
).pipe(NodeRuntime.runMain)
