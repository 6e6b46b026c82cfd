/**
 * A canary in payloads, results, keys and progress is in no log line, span, metric, list, error or attempt, however the job
 * ends; it is in the row, and in what reads the row on purpose. And one in the password of each server is in no failure to
 * connect. (Settings: `test/config/Secrets.test.ts`.)
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Layer, Redacted, Schema } from "effect"
import { TestClock } from "effect/testing"
import { inspect } from "node:util"
import * as PgmqBroker from "../../src/broker/PgmqBroker.ts"
import * as RedisBroker from "../../src/broker/RedisBroker.ts"
import * as ServiceBusBroker from "../../src/broker/ServiceBusBroker.ts"
import * as SqsBroker from "../../src/broker/SqsBroker.ts"
import { Broker, CurrentJob, Job, JobStore, Polyqueue, type Ports, TerminalError, Worker } from "../../src/index.ts"
import { describePostgres, layerFresh, layerUrl } from "../support/Postgres.ts"
import { canary, hides, overhear, shapes } from "../support/Overheard.ts"

class Rejected extends Schema.TaggedError<Rejected>()("Rejected", { code: Schema.Int }) {}

const password = Schema.Struct({ user: Schema.String, password: Schema.String })
class Login extends Job.make("Login", {
  payload: { how: Schema.String, credentials: password, pin: Schema.optionalKey(Schema.Int) },
  success: password,
  error: Rejected,
  maxAttempts: 1,
  timeout: { after: "1 second", then: "fail" },
  idempotencyKey: ({ credentials, how }) => `${how} ${credentials.password}`
}) {}
const credentials = { user: "ada", password: canary }

const LoginLive = Login.toLayer(
  Effect.fnUntraced(function* ({ credentials, how }) {
    const job = yield* CurrentJob
    switch (how) {
      case "error":
        return yield* new Rejected({ code: 1 })
      case "terminal":
        return yield* Effect.fail(new TerminalError({ message: "no such user" }))
      case "defect":
        return yield* Effect.die(new Error("a bug"))
      case "foreign error":
        return yield* Effect.fail(credentials as never)
      case "timeout":
        return yield* Effect.never
      case "bad result":
        return { ...credentials, user: 5 } as never
      case "NUL in the result":
        return { ...credentials, user: "\u0000" }
      default:
        yield* job.progress({ done: 1, total: 2, note: `working for ${canary}` })
        return credentials
    }
  })
)

const ways = ["success", "error", "terminal", "defect", "foreign error", "timeout", "bad result", "NUL in the result"]

const suite = <E>(name: string, live: () => Layer.Layer<Polyqueue | Ports, E>, isVirtual: boolean) =>
  describe(`in a payload, on ${name},`, () => {
    const test = isVirtual ? it.effect : it.live
    test.each(ways)("shows nowhere when the job ends with: %s", (how) =>
      Effect.gen(function* () {
        const Live = Worker.layer([Login]).pipe(Layer.provide(LoginLive), Layer.provideMerge(live()))
        const { exit, text } = yield* overhear(
          Effect.gen(function* () {
            const job = yield* Login.enqueue({ how, credentials })
            if (isVirtual) yield* TestClock.adjust("10 seconds")
            const result = yield* Effect.exit(job.await)
            const store = yield* JobStore
            const shown = [
              yield* store.find({ limit: 10 }),
              yield* store.stats,
              yield* store.attempts(job.id),
              yield* store.audit({ limit: 10 }),
              (yield* store.get([job.id])).map(({ error }) => error)
            ].map((part) => JSON.stringify(part))
            return { shown: shown.join("\n").replaceAll(`"key":"${how} ${canary}"`, ""), result }
          }).pipe(Effect.provide(Live), Effect.withSpan("request"))
        )
        assert.isTrue(Exit.isSuccess(exit))
        if (Exit.isFailure(exit)) return
        const { result, shown } = exit.value
        // Whoever waits gets the result, and of a failure no more than it says
        if (Exit.isFailure(result)) hides(shapes(result), "the waiter")
        else assert.strictEqual(result.value.password, canary)
        hides(shown, "a list, the attempts, the audit log or the error of the row")
        // A tracer shows what the handler itself fails with; the handler that fails with its payload shows it
        if (how !== "foreign error") hides(text, "a log line, span or metric")
        assert.include(text, "run Login")
      })
    )

    test("shows nowhere when it does not decode", () =>
      Effect.gen(function* () {
        const Live = Worker.layer([Login]).pipe(Layer.provide(LoginLive), Layer.provideMerge(live()))
        // Enqueued by code of another version, whose schema allowed it
        class Older extends Job.make("Login", { payload: Schema.Unknown }) {}
        const { text } = yield* overhear(
          Effect.gen(function* () {
            const job = yield* Older.enqueue({ how: 5, credentials: { password: [canary] }, pin: canary, [canary]: 1 })
            if (isVirtual) yield* TestClock.adjust("10 seconds")
            const error = yield* Effect.flip(job.await)
            assert.strictEqual(error._tag === "JobStopped" && error.reason, "undecodable")
            assert.include(error.message, `["credentials"]["password"]`)
            hides(shapes(error), "the waiter")
            const attempts = yield* Polyqueue.use((queue) => queue.attempts(job.id))
            hides(JSON.stringify(attempts), "the attempts")
          }).pipe(Effect.provide(Live))
        )
        hides(text, "a log line, span or metric")
      }))

    test("shows in no refusal of an enqueue", () =>
      Effect.gen(function* () {
        const refused = [
          { how: "x", credentials: { user: "a", password: 5 }, pin: canary },
          { how: canary, credentials: canary },
          { how: "x", credentials: { ...credentials, password: `${canary}\u0000` } },
          { how: "x", credentials: { ...credentials, password: canary.repeat(200_000) } }
        ]
        const { text } = yield* overhear(
          Effect.gen(function* () {
            for (const payload of refused) {
              const error = yield* Effect.flip(Login.enqueue(payload as never))
              hides(shapes(error), error.reason)
            }
          }).pipe(Effect.provide(live()))
        )
        hides(text, "a log line, span or metric")
      }))
  })

suite("the memory store", () => Polyqueue.layerMemory, true)
describePostgres("on a server", () => {
  suite(
    "Postgres",
    () => Polyqueue.layerPostgres.pipe(Layer.provide(Broker.layerPostgres), Layer.provide(layerFresh())),
    false
  )
})

describe("in the password of a server that cannot be reached", () => {
  const connectionString = `Endpoint=sb://127.0.0.1:1;SharedAccessKeyName=n;SharedAccessKey=${canary}`
  const client = layerUrl(`postgres://user:${canary}@127.0.0.1:1/db?password=${canary}`)
  const layers: Readonly<Record<string, Layer.Layer<Broker, unknown>>> = {
    Postgres: Polyqueue.layerPostgres.pipe(Layer.provideMerge(Broker.layerPostgres), Layer.provide(client)),
    PGMQ: PgmqBroker.layer().pipe(Layer.provide(client)),
    Redis: RedisBroker.layer({ url: Redacted.make(`redis://user:${canary}@127.0.0.1:1`) }),
    "Redis, of a bad URL": RedisBroker.layer({ url: Redacted.make(`rediss://${canary}:x@@[::1`) }),
    "Service Bus": ServiceBusBroker.layer({ connectionString: Redacted.make(connectionString), queue: "jobs" }),
    SQS: SqsBroker.layer({
      queueUrl: "http://127.0.0.1:1/1/jobs",
      client: { region: "us-east-1", credentials: { accessKeyId: "id", secretAccessKey: canary, sessionToken: canary } }
    })
  }
  it.live.each(Object.keys(layers))(
    "%s: it is in no error, log line or span",
    (name) =>
      Effect.gen(function* () {
        // What builds without its server says what it misses when asked
        const use = Effect.gen(function* () {
          const broker = yield* Broker
          return [yield* broker.health, yield* Effect.exit(broker.depth("q"))]
        }).pipe(Effect.provide(layers[name]!))
        const { exit, text } = yield* overhear(use)
        if (Exit.isSuccess(exit)) hides(inspect(exit.value, { depth: 20, showHidden: true }), name)
        hides(text, name)
        assert.isTrue(Exit.isFailure(exit) || JSON.stringify(exit.value).includes("problems"))
      }),
    60_000
  )
})
