/**
 * A worker process that exports over OTLP: `node otlpWorker.ts <database url> <collector url>`. Says `ready` once it works;
 * ends, and flushes, when its stdin does.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import { Effect, Layer, Redacted } from "effect"
import { FetchHttpClient } from "effect/http"
import { Broker, Polyqueue, Worker } from "../../src/index.ts"
import * as Exporters from "../../src/metrics/Exporters.ts"
import { Flaky, FlakyLive } from "./otlpJobs.ts"

const [url = "", collector = ""] = process.argv.slice(2)

const Live = Worker.layer([Flaky]).pipe(
  Layer.provide(FlakyLive),
  Layer.provide(Polyqueue.layerPostgres),
  Layer.provide(Broker.layerPostgres),
  Layer.provide(PgClient.layer({ url: Redacted.make(url) })),
  Layer.provide(
    Exporters.layerOtlp({ baseUrl: collector, serviceName: "worker" }).pipe(Layer.provide(FetchHttpClient.layer))
  )
)
const ended = Effect.callback<void>((resume) => {
  process.stdin.on("end", () => resume(Effect.void)).resume()
})
await Effect.runPromise(
  Effect.gen(function* () {
    yield* Layer.build(Live)
    process.stdout.write("ready\n")
    yield* ended
  }).pipe(Effect.scoped)
)
