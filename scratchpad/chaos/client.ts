/** A client process that is killed while it enqueues (`CHAOS_CLIENT`): before its transaction commits, or after it and before it publishes. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { SqlClient } from "effect/sql/SqlClient"
import { Broker, Polyqueue } from "../../src/index.ts"
import { Work } from "./Jobs.ts"
import { say } from "./Report.ts"
import { layerOf, type Spec } from "./Spec.ts"

export interface ClientSettings {
  readonly url: string
  readonly broker: Spec
  readonly dies: "before the commit" | "before it publishes"
  readonly jobs: number
}

const settings: ClientSettings = JSON.parse(process.env["CHAOS_CLIENT"] ?? "{}")

const die = Effect.andThen(
  Effect.sync(() => process.kill(process.pid, "SIGKILL")),
  Effect.never
)

const Carrier = Layer.effect(
  Broker,
  Effect.map(Broker, (broker) => ({ ...broker, publish: () => die }))
).pipe(Layer.provide(layerOf(settings.broker)))

const Live = Polyqueue.layerPostgres.pipe(
  Layer.provide(Carrier),
  Layer.provideMerge(PgClient.layer({ url: Redacted.make(settings.url), maxConnections: 2 }))
)

Effect.gen(function* () {
  const sql = yield* SqlClient
  const queue = yield* Polyqueue
  yield* sql.withTransaction(
    Effect.gen(function* () {
      for (let n = 0; n < settings.jobs; n++) {
        const id = yield* queue.makeId
        say({ t: "enqueue", job: id, n, phase: "invoked" })
        yield* Work.enqueue({ n, ms: 10, mode: "ok" }, { id })
      }
      if (settings.dies === "before the commit") yield* die
    })
  )
  // The doorbell of a broker without hints may ring later than this
  return yield* die
}).pipe(Effect.provide(Live), NodeRuntime.runMain)
