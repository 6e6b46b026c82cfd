/** A worker process under test: told what to be by `CHAOS_WORKER`, and says what it does on its file descriptor 3. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { SqlClient } from "effect/sql/SqlClient"
import process from "node:process"
import { Broker, JobStore, Metrics, Polyqueue, Worker, WorkerRegistry } from "../../src/index.ts"
import { handlers, Keyed, Newer, Work } from "./Jobs.ts"
import * as Points from "./Points.ts"
import { seeded } from "./Random.ts"
import { say, watchForStarvation } from "./Report.ts"
import * as Sabotage from "./Sabotage.ts"
import { layerOf } from "./Spec.ts"
import * as Troubles from "./Troubles.ts"
import type { WorkerSettings } from "./WorkerSettings.ts"

const settings: WorkerSettings = JSON.parse(process.env["CHAOS_WORKER"] ?? "{}")

// What an application does that does not want to end because of a promise that somebody forgot
process.on("unhandledRejection", (reason) => say({ t: "note", text: `unhandled rejection: ${String(reason)}` }))
// The memory broker rings in its own process only: this is how a client outside rings as if it lived here
let ring = () => {}
process.on("SIGUSR2", () => ring())
watchForStarvation(settings.lease / 3, (fault) => say({ t: "fault", fault }))

const counts = Points.counting()
const visit = Points.make(settings.strikes ?? [])

/** Every transition of interest. */
const Told = Layer.succeed(Metrics, {
  enabled: true,
  record: (event) => {
    if (event._tag === "LeaseLost") counts.leasesLost++
    else if (event._tag === "LoopFailed") counts.loopsRestarted++
  }
})
const tell = () =>
  say({
    t: "counts",
    ...counts,
    cpu: (process.cpuUsage().user + process.cpuUsage().system) / 1_000,
    rss: process.memoryUsage.rss(),
    handles: process.getActiveResourcesInfo().length
  })
setInterval(tell, 250).unref()
process.on("exit", tell)

const Database = PgClient.layer({
  url: Redacted.make(settings.url),
  applicationName: "chaos application",
  maxConnections: settings.maxConnections ?? 4
})
const Store = Layer.effect(
  JobStore,
  Effect.gen(function* () {
    const sabotaged = yield* Sabotage.around(yield* JobStore, settings.sabotage)
    return Points.aroundStore(sabotaged, visit, counts)
  })
).pipe(Layer.provide(JobStore.layerPostgres))
const Carrier = Layer.effect(
  Broker,
  Effect.map(Broker, (broker) => {
    const hint = { jobId: "", queue: "default", priority: 5, attempt: 0, publication: 1 }
    if (settings.broker.name === "memory") ring = () => Effect.runFork(Effect.ignore(broker.publish([hint])))
    return Points.aroundBroker(
      Troubles.around(broker, settings.troubles ?? {}, seeded(settings.seed + process.pid)),
      visit,
      counts
    )
  })
).pipe(Layer.provide(layerOf(settings.broker)))

const options: Worker.Options = {
  concurrency: settings.slots,
  lease: settings.lease,
  sweepEvery: settings.sweep,
  shutdownGrace: settings.grace,
  interruptGrace: settings.interruptGrace,
  brokerLease: settings.brokerLease,
  heartbeatEvery: 1_000,
  observeEvery: 3_600_000,
  ...(settings.retention === undefined
    ? {}
    : {
        retention: {
          succeeded: settings.retention,
          failed: settings.retention,
          cancelled: settings.retention,
          attempts: settings.retention
        }
      })
}

const Live = Layer.unwrap(
  Effect.map(SqlClient, (sql) => {
    const { keyed, newer, work } = handlers(sql)
    return settings.version === "old"
      ? Worker.layer([Work, Keyed], options).pipe(Layer.provide([work, keyed]))
      : Worker.layer([Work, Keyed, Newer], options).pipe(Layer.provide([work, keyed, newer]))
  })
).pipe(
  Layer.provide(Polyqueue.layer),
  Layer.provide([Store, WorkerRegistry.layerPostgres, Told, Carrier]),
  Layer.provide(Database)
)

Effect.scoped(
  Effect.gen(function* () {
    yield* Layer.build(Live)
    say({ t: "ready" })
    return yield* Effect.never
  })
).pipe(NodeRuntime.runMain)
