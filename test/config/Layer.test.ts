/** What settings build: the tables they name, the defaults of jobs and workers, and the broker of the backend. */
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect, Layer, Logger, Schema } from "effect"
import { SqlClient } from "effect/sql"
import * as PolyqueueConfig from "../../src/config/PolyqueueConfig.ts"
import { Broker, Job, JobStore, Worker, WorkerRegistry } from "../../src/index.ts"
import { describePostgres, freshDatabase } from "../support/Postgres.ts"
import { findBinary, ownRedis } from "../support/Redis.ts"

class Flaky extends Job.make("Flaky", { payload: { n: Schema.Int }, error: Schema.String }) {}
class Sleepy extends Job.make("Sleepy", {}) {}
const Handlers = Layer.mergeAll(
  Flaky.toLayer(() => Effect.fail("no")),
  Sleepy.toLayer(() => Effect.never)
)

const fromEnv = (env: Record<string, string>) => {
  const provided = ConfigProvider.layer(ConfigProvider.fromEnv({ env }))
  return Worker.layer([Flaky, Sleepy]).pipe(
    Layer.provide(Handlers),
    Layer.provideMerge(PolyqueueConfig.layer),
    Layer.provide(provided)
  )
}

describePostgres("the layer of the environment", () => {
  it.live("row 23: POLYQUEUE_RETRY_BACKOFF_SECONDS=10,60,300 starts, and is what retries wait for", () =>
    Effect.gen(function* () {
      const url = yield* freshDatabase
      yield* Effect.gen(function* () {
        const job = yield* Flaky.enqueue({ n: 1 })
        const store = yield* JobStore
        const once = Effect.map(store.get([job.id]), ([row]) => row!)
        const row = yield* Effect.repeat(Effect.delay(once, "20 millis"), { until: ({ failures }) => failures === 1 })
        const [attempt] = yield* store.attempts(job.id)
        const delay = row.runAt - attempt!.endedAt
        assert.isTrue(delay >= 8_000 && delay <= 12_000, `${delay} ms`)
        assert.strictEqual(row.maxAttempts, 3)
      }).pipe(Effect.provide(fromEnv({ POLYQUEUE_DB_URL: url, POLYQUEUE_RETRY_BACKOFF_SECONDS: "10,60,300" })))
    })
  )

  it.live("schema, prefix, worker name, lease, attempts and timeout are the ones that were set", () =>
    Effect.gen(function* () {
      const url = yield* freshDatabase
      const env = {
        POLYQUEUE_DB_URL: url.replace(/^postgres(ql)?:/, "postgresql+asyncpg:"),
        POLYQUEUE_TABLE_SCHEMA: "jobs",
        POLYQUEUE_TABLE_PREFIX: "app",
        POLYQUEUE_WORKER_NAME: "mailer",
        POLYQUEUE_MAX_ATTEMPTS: "1",
        POLYQUEUE_LEASE_DURATION: "1000",
        POLYQUEUE_HEARTBEAT_INTERVAL: "100",
        POLYQUEUE_DEFAULT_MAX_RUN_SECONDS: "700",
        POLYQUEUE_TIMEOUT_STRATEGY: "fail"
      }
      yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const job = yield* Sleepy.enqueue()
        const store = yield* JobStore
        const once = Effect.map(store.get([job.id]), ([row]) => row!)
        const row = yield* Effect.repeat(Effect.delay(once, "20 millis"), {
          until: ({ status }) => status === "processing"
        })
        assert.deepStrictEqual([row.maxAttempts, row.timeout, row.timeoutThen], [1, 700_000, "fail"])
        assert.approximately(row.leaseExpiresAt! - row.startedAt!, 1_000_000, 1_000)
        const [worker] = yield* (yield* WorkerRegistry).list
        assert.strictEqual(worker?.name, "mailer")
        const [count] = yield* sql<{ n: number }>`select count(*)::int as n from jobs.app_jobs`
        assert.strictEqual(count?.n, 1)
      }).pipe(Effect.provide(fromEnv(env)))
    })
  )

  it.live("explicit options of a worker win over the environment", () =>
    Effect.gen(function* () {
      const url = yield* freshDatabase
      const env = { POLYQUEUE_DB_URL: url, POLYQUEUE_WORKER_NAME: "from-env" }
      const Live = Worker.layer([Sleepy], { name: "from-code" }).pipe(
        Layer.provide(Handlers),
        Layer.provideMerge(PolyqueueConfig.layer),
        Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnv({ env })))
      )
      const workers = yield* WorkerRegistry.use((registry) => registry.list).pipe(Effect.provide(Live))
      assert.deepStrictEqual(
        workers.map(({ name }) => name),
        ["from-code"]
      )
    })
  )

  it.live("what was set and has no effect, and what is no setting, is said at start", () =>
    Effect.gen(function* () {
      const url = yield* freshDatabase
      const lines: Array<unknown> = []
      const env = {
        POLYQUEUE_DB_URL: url,
        POLYQUEUE_PROGRESS_HEARTBEAT_INTERVAL: "20",
        POLYQUEUE_MAX_ATEMPTS: "3"
      }
      yield* Effect.scoped(Layer.build(fromEnv(env))).pipe(
        Effect.provide(Logger.layer([Logger.map(Logger.formatSimple, (line) => lines.push(line))]))
      )
      const text = lines.join("\n")
      assert.include(text, "POLYQUEUE_PROGRESS_HEARTBEAT_INTERVAL has no effect: ")
      assert.include(text, "did you mean POLYQUEUE_MAX_ATTEMPTS?")
    })
  )

  it.live("each backend is the broker of its name", () =>
    Effect.gen(function* () {
      const url = yield* freshDatabase
      const names = {
        postgres: "postgres",
        none: "memory",
        sqs: "sqs",
        azure_service_bus: "servicebus",
        ...(findBinary() !== undefined ? { redis: "redis" } : {})
      }
      for (const [backend, name] of Object.entries(names)) {
        const redis = backend === "redis" ? (yield* ownRedis()).url : "redis://127.0.0.1:1"
        const env = {
          POLYQUEUE_DB_URL: url,
          POLYQUEUE_BACKEND: backend,
          POLYQUEUE_REDIS_URL: redis,
          POLYQUEUE_SQS_QUEUE_URL: "https://sqs.us-east-1.amazonaws.com/1/jobs",
          POLYQUEUE_AZURE_SB_CONNECTION_STRING: "Endpoint=sb://127.0.0.1;SharedAccessKeyName=n;SharedAccessKey=aw=="
        }
        const found = yield* Broker.useSync((broker) => broker.capabilities.name).pipe(
          Effect.provide(PolyqueueConfig.layer),
          Effect.provide(ConfigProvider.layer(ConfigProvider.fromEnv({ env })))
        )
        assert.strictEqual(found, name)
      }
    })
  )

  it.live("pgmq that is not in the database is said so, with what to do", () =>
    Effect.gen(function* () {
      const env = { POLYQUEUE_DB_URL: yield* freshDatabase, POLYQUEUE_BACKEND: "pgmq" }
      const error = yield* Effect.flip(Effect.scoped(Layer.build(fromEnv(env))))
      assert.strictEqual(error._tag === "BrokerError" && error.reason, "Misconfigured")
    })
  )
})

describe("without a database", () => {
  it.live(
    "backend none runs on an embedded one, and says that jobs are lost with the process",
    () => {
      const lines: Array<string> = []
      return Effect.gen(function* () {
        const job = yield* Flaky.enqueue({ n: 1 })
        const row = yield* Effect.repeat(Effect.delay(job.poll, "20 millis"), {
          until: ({ status }) => status === "failed"
        })
        assert.strictEqual(row.attempt, 1)
      }).pipe(
        Effect.provide(fromEnv({ POLYQUEUE_BACKEND: "none", POLYQUEUE_MAX_ATTEMPTS: "1" })),
        Effect.provide(Logger.layer([Logger.map(Logger.formatSimple, (line) => void lines.push(line))])),
        Effect.tap(() => Effect.sync(() => assert.include(lines.join("\n"), "lost with this process")))
      )
      // Starting PGlite is a lot of work for a busy machine
    },
    120_000
  )
})
