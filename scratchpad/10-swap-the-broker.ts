// 10 Swap the broker: it is one value at the edge of the program. Jobs, handlers and everything in Postgres stay as they
// are, so a swap moves nothing and loses nothing. `BROKER=postgres node scratchpad/10-swap-the-broker.ts` takes the other.
//
// Prints: done, with the broker memory
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Config, Console, Effect, Layer } from "effect"
import { Broker, Job, Polyqueue, Worker } from "../src/index.ts"

class Ping extends Job.make("Ping") {}

const brokers = { memory: Broker.layerMemory, postgres: Broker.layerPostgres }
const BrokerLive = Layer.unwrap(
  Effect.map(
    Config.Literals(["memory", "postgres"], "BROKER").pipe(Config.withDefault("memory" as const)),
    (name) => brokers[name]
  )
)

// With a Postgres server: Polyqueue.layerPostgres over BrokerLive and a PgClient. Here the same on an embedded one; fresh,
// because the embedded layer brings a client of its own
const Queue = Layer.fresh(Polyqueue.layer).pipe(
  Layer.provideMerge(BrokerLive),
  Layer.provideMerge(Polyqueue.layerEmbedded())
)
const Live = Worker.layer([Ping]).pipe(Layer.provide(Ping.toLayer(() => Effect.void)), Layer.provideMerge(Queue))

Effect.gen(function* () {
  yield* Ping.execute()
  const { capabilities } = yield* Broker
  yield* Console.log(`done, with the broker ${capabilities.name}`)
}).pipe(Effect.provide(Live), NodeRuntime.runMain)
