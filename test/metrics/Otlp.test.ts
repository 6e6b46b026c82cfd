/** OTLP, received by a collector: one trace from the enqueue to the finished attempt, across two processes. */
import { assert, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { FetchHttpClient } from "effect/http"
import { type ChildProcess, spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { Broker, Polyqueue } from "../../src/index.ts"
import * as Exporters from "../../src/metrics/Exporters.ts"
import { describePostgres, freshDatabase, layerUrl } from "../support/Postgres.ts"
import { attribute, collect } from "./Collector.ts"
import { Flaky } from "./otlpJobs.ts"

const spawnWorker = (url: string, collector: string) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly child: ChildProcess; readonly exited: Promise<number | null> }>((resume) => {
      const script = fileURLToPath(new URL("otlpWorker.ts", import.meta.url))
      const child = spawn(process.execPath, [script, url, collector], { stdio: ["pipe", "pipe", "inherit"] })
      const exited = new Promise<number | null>((done) => child.once("exit", done))
      child.stdout.on("data", (chunk: Buffer) => {
        if (String(chunk).includes("ready")) resume(Effect.succeed({ child, exited }))
      })
    }),
    ({ child }) => Effect.sync(() => child.kill("SIGKILL"))
  )

describePostgres("OTLP", () => {
  it.live(
    "one trace from the enqueue to the last attempt across two processes, each retry linked to the attempt before it",
    () =>
      Effect.gen(function* () {
        const url = yield* freshDatabase
        const collector = yield* collect
        // Built first, so that it is no other process that makes the tables
        const producer = Flaky.enqueue({ n: 1 }).pipe(
          Effect.flatMap((job) => job.await),
          Effect.withSpan("request"),
          Effect.provide(
            Polyqueue.layerPostgres.pipe(
              Layer.provide(Broker.layerPostgres),
              Layer.provide(layerUrl(url)),
              Layer.provideMerge(
                Exporters.layerOtlp({ baseUrl: collector.url, serviceName: "web" }).pipe(
                  Layer.provide(FetchHttpClient.layer)
                )
              )
            )
          )
        )
        const worker = yield* spawnWorker(url, collector.url)
        yield* producer
        worker.child.stdin!.end()
        assert.strictEqual(yield* Effect.promise(() => worker.exited), 0)

        const spans = collector.spans()
        const named = (name: string) => spans.filter(({ span }) => span.name === name)
        const [request] = named("request")
        const [enqueue] = named("enqueue Flaky")
        const attempts = named("run Flaky").sort(
          (a, b) =>
            Number(attribute(a.span.attributes, "polyqueue.job.attempt")) -
            Number(attribute(b.span.attributes, "polyqueue.job.attempt"))
        )
        assert.deepStrictEqual([request!.service, enqueue!.service, enqueue!.span.kind], ["web", "web", 4])
        assert.strictEqual(enqueue!.span.parentSpanId, request!.span.spanId)
        assert.lengthOf(attempts, 3)
        for (const { service, span } of attempts) {
          assert.deepStrictEqual(
            [service, span.kind, span.traceId, span.parentSpanId],
            ["worker", 5, request!.span.traceId, enqueue!.span.spanId]
          )
        }
        const [first, second, third] = attempts.map(({ span }) => span)
        assert.deepStrictEqual(
          [first!, second!, third!].map(({ links }) => links.map(({ spanId, traceId }) => `${traceId}/${spanId}`)),
          [[], [`${first!.traceId}/${first!.spanId}`], [`${second!.traceId}/${second!.spanId}`]]
        )
        // OTLP: 2 is an error, 1 is well
        assert.deepStrictEqual(
          [first!, second!, third!].map(({ status }) => status.code),
          [2, 2, 1]
        )
        const metrics = collector.metrics()
        assert.deepStrictEqual(
          [metrics.get("messaging.process.duration"), metrics.get("messaging.client.consumed.messages")],
          ["s", "{message}"]
        )
        assert.isTrue(collector.logs().some((text) => text.includes("attempt 3")))
      }).pipe(Effect.scoped),
    60_000
  )
})
