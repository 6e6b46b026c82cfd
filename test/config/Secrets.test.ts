/**
 * A canary in every connection string, and in every other variable too, as if it was pasted there by mistake: it is in no
 * error, log line, JSON, inspection, span or metric, whether the start fails or works.
 */
import { assert, describe, it } from "@effect/vitest"
import { Cause, ConfigProvider, Effect, Exit, Layer, Logger, Metric, References, Schema, Tracer } from "effect"
import { PrometheusMetrics } from "effect/observability"
import { inspect } from "node:util"
import * as PolyqueueConfig from "../../src/config/PolyqueueConfig.ts"
import { Broker, Job, Polyqueue, Worker } from "../../src/index.ts"
import { describePostgres, freshDatabase } from "../support/Postgres.ts"

const canary = "c4n4ryS3cret"
const pasted = [
  `postgresql://user:${canary}@127.0.0.1:1/db`,
  `redis://:${canary}@127.0.0.1:1`,
  `Endpoint=sb://127.0.0.1:1;SharedAccessKeyName=n;SharedAccessKey=${canary}`,
  `user:${canary}@host`,
  `password=${canary}`
]
const names = Object.values(PolyqueueConfig.variables).map(({ name }) => name)

/** Everything a value can be turned into. */
const shapes = (value: unknown): string =>
  [
    String(value),
    inspect(value, { depth: 20, showHidden: true }),
    JSON.stringify(value) ?? "",
    value instanceof Error ? `${value.stack} ${inspect(value.cause, { depth: 20 })}` : ""
  ].join("\n")

class Echo extends Job.make("Echo", { payload: { text: Schema.String }, success: Schema.String }) {}

/** Runs with a logger, a tracer and metrics that keep all; answers the exit and everything that was said. */
const overheard = <A, E>(effect: Effect.Effect<A, E>, env: Record<string, string>) =>
  Effect.gen(function* () {
    const said: Array<string> = []
    const spans: Array<Tracer.NativeSpan> = []
    const tracer = Tracer.make({
      span: (options) => {
        const span = new Tracer.NativeSpan(options)
        spans.push(span)
        return span
      }
    })
    const exit = yield* Effect.exit(Effect.tap(effect, (value) => Effect.sync(() => said.push(shapes(value))))).pipe(
      Effect.tap(Effect.map(PrometheusMetrics.format(), (text) => said.push(text))),
      Effect.provideService(Tracer.Tracer, tracer),
      Effect.provideService(Metric.MetricRegistry, new Map()),
      Effect.provideService(References.MinimumLogLevel, "All"),
      Effect.provide(
        Logger.layer([
          Logger.map(Logger.formatStructured, (line) => void said.push(shapes(line))),
          Logger.map(Logger.formatLogFmt, (line) => void said.push(line)),
          Logger.map(Logger.formatJson, (line) => void said.push(line))
        ])
      ),
      Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnv({ env }))
    )
    if (Exit.isFailure(exit)) {
      said.push(Cause.pretty(exit.cause), shapes(exit))
      for (const reason of exit.cause.reasons) {
        said.push(shapes(Cause.isFailReason(reason) ? reason.error : reason))
      }
    }
    said.push(...spans.map((span) => `${span.name} ${inspect([...span.attributes])} ${inspect(span.events)}`))
    return { exit, spans, text: said.join("\n") }
  })

const hides = (text: string, what: string) => {
  const at = text.indexOf(canary)
  assert.strictEqual(at, -1, `${what}: ${text.slice(Math.max(0, at - 200), at + 60)}`)
}

describe("a secret", () => {
  it.effect.each(names)("pasted into %s shows nowhere", (name) =>
    Effect.gen(function* () {
      for (const secret of pasted) {
        const env = { POLYQUEUE_BACKEND: "none", [name]: secret }
        const all = Effect.all([
          PolyqueueConfig.environment,
          PolyqueueConfig.explain(),
          PolyqueueConfig.unknownVariables
        ])
        hides((yield* overheard(all, env)).text, secret.replace(canary, "…"))
        const mistyped = { ...env, [`${name}X`]: secret }
        hides((yield* overheard(PolyqueueConfig.unknownVariables, mistyped)).text, "a variable that is none")
      }
    })
  )

  it.live("of servers that cannot be reached, or are none, is in no failure to start", () =>
    Effect.gen(function* () {
      for (const backend of PolyqueueConfig.backends) {
        const env = {
          POLYQUEUE_BACKEND: backend,
          POLYQUEUE_DB_URL: `postgresql://user:${canary}@127.0.0.1:1/db?password=${canary}&connect_timeout=1`,
          POLYQUEUE_REDIS_URL: `redis://user:${canary}@127.0.0.1:1`,
          POLYQUEUE_SQS_QUEUE_URL: "http://127.0.0.1:1/1/jobs",
          POLYQUEUE_AZURE_SB_CONNECTION_STRING: `Endpoint=sb://127.0.0.1:1;SharedAccessKeyName=n;SharedAccessKey=${canary}`
        }
        const { exit, text } = yield* overheard(Effect.scoped(Layer.build(PolyqueueConfig.layer)), env)
        assert.isTrue(Exit.isFailure(exit), backend)
        hides(text, backend)
      }
    })
  )
})

describePostgres("a secret of servers that work", () => {
  it.live("is in no log, span or metric of a whole run", () =>
    Effect.gen(function* () {
      const url = new URL(yield* freshDatabase)
      url.password = canary
      const Live = Worker.layer([Echo]).pipe(
        Layer.provide(Echo.toLayer(({ text }) => Effect.as(Effect.log("running"), text))),
        Layer.provideMerge(PolyqueueConfig.layer)
      )
      const run = Effect.gen(function* () {
        const job = yield* Echo.enqueue({ text: "hello" })
        const result = yield* job.await
        const polyqueue = yield* Polyqueue
        const health = yield* Broker.use((broker) => broker.health)
        return { result, record: yield* polyqueue.get(job.id), stats: yield* polyqueue.stats, health }
      }).pipe(Effect.withSpan("run"), Effect.provide(Live))
      const { exit, spans, text } = yield* overheard(run, {
        POLYQUEUE_DB_URL: url.href,
        POLYQUEUE_REDIS_URL: `redis://user:${canary}@127.0.0.1:1`,
        POLYQUEUE_WORKER_NAME: "mailer"
      })
      assert.isTrue(Exit.isSuccess(exit))
      assert.includeMembers(
        spans.map((span) => span.name),
        ["enqueue Echo", "run Echo"]
      )
      assert.include(text, "running")
      hides(text, "a run")
    })
  )
})
