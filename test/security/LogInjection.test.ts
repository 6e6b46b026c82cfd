/**
 * What others wrote (servers, handlers, rows of other programs) forges no log line, no metric and no terminal sequence: names
 * with control characters are refused, errors of servers are one line, and metrics escape their labels.
 */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Layer } from "effect"
import { TestClock } from "effect/testing"
import { SqlError, UnknownError } from "effect/sql/SqlError"
import * as PgmqFailure from "../../src/broker/pgmq/Failure.ts"
import * as RedisErrors from "../../src/broker/redis/Errors.ts"
import * as ServiceBusFailure from "../../src/broker/serviceBus/Failure.ts"
import * as SqsErrors from "../../src/broker/sqs/SqsErrors.ts"
import { Broker, Job, JobStore, Metrics, Polyqueue, Worker, WorkerRegistry } from "../../src/index.ts"
import * as StoreFailure from "../../src/store/postgres/Failure.ts"
import { overhear } from "../support/Overheard.ts"
import { capabilities } from "../support/ReferenceBroker.ts"

/** C0, C1 and DEL, and the separators that some viewers take for line breaks. Tab and line break are for stacks only. */
const control = /[\p{Cc}\p{Zl}\p{Zp}]/u

const words = [
  "x\n[10:00:00] INFO forged",
  "x\r\ntimestamp=2026 level=INFO message=forged",
  "x\u001b[2J\u001b[1;1Hforged",
  "x\u001b]0;title\u0007",
  "x\u001b]8;;http://evil\u001b\\click\u001b]8;;\u001b\\",
  "x\u009b31mred",
  "x\u2028forged\u2029forged",
  "x\u0000\b\b\b\u007f"
]

const sqlError = (message: string) =>
  new SqlError({ reason: new UnknownError({ cause: Object.assign(new Error(message), { code: "XX000" }) }) })

describe("words of a server", () => {
  it.each(words)("are one line in every error: %j", (word) => {
    const failed = Object.assign(new Error(word), { code: word, name: word })
    const errors = [
      RedisErrors.toBrokerError("claim", failed),
      RedisErrors.toBrokerError("claim", word, failed),
      SqsErrors.fromThrown("publish", "jobs", failed),
      SqsErrors.fromThrown("publish", "jobs", { name: word, code: word, message: word }),
      SqsErrors.fromEntry("publish", "jobs", { Code: word, Message: word })!,
      ServiceBusFailure.from("publish", "jobs", failed, (text) => text),
      PgmqFailure.fromSqlError("publish", "jobs", sqlError(word)),
      StoreFailure.fromSqlError("claim", sqlError(word))
    ]
    for (const error of errors) {
      assert.notMatch(error.message, control)
      assert.include(error.message, "x")
    }
  })
})

class Plain extends Job.make("Plain", {}) {}

describe("a broker that fails with such words", () => {
  it.live.each(words)("forges no line of the log: %j", (word) =>
    Effect.gen(function* () {
      const failure = Effect.suspend(() => Effect.fail(RedisErrors.toBrokerError("receive", new Error(word))))
      const told = yield* Deferred.make<void>()
      let failures = 0
      const broker = Layer.succeed(Broker, {
        capabilities,
        publish: () => failure,
        consumer: () =>
          Effect.succeed({
            // By the third try, the second was told
            receive: () =>
              Effect.andThen(
                Effect.suspend(() => (++failures === 3 ? Deferred.succeed(told, undefined) : Effect.void)),
                failure
              ),
            extend: () => failure,
            ack: () => failure,
            release: () => failure
          }),
        depth: () => failure,
        purge: () => failure,
        health: Effect.succeed({ ok: false, problems: [] })
      })
      const Live = Worker.layer([Plain], { name: "mailer" }).pipe(
        Layer.provide(Plain.toLayer(() => Effect.void)),
        Layer.provideMerge(Polyqueue.layer),
        Layer.provide([JobStore.layerMemory, WorkerRegistry.layerMemory, Metrics.layerEffect, broker])
      )
      const { lines, messages, metrics } = yield* overhear(
        Effect.gen(function* () {
          yield* (yield* Plain.enqueue()).await
          yield* Deferred.await(told)
        }).pipe(Effect.provide(Live))
      )
      const complaints = [...lines, ...messages].filter((line) => line.includes("times in a row"))
      assert.isAtLeast(complaints.length, 3)
      for (const line of [...lines, ...messages]) assert.notMatch(line, control)
      for (const line of metrics.split("\n")) assert.notMatch(line, control)
    })
  )
})

describe("a name", () => {
  it.effect.each(words)("of a worker or a queue with such words is refused: %j", (word) =>
    Effect.gen(function* () {
      for (const options of [{ name: word }, { concurrency: { [word]: 1 } }]) {
        const error = yield* Effect.flip(
          Effect.scoped(
            Layer.build(
              Worker.layer([Plain], options).pipe(
                Layer.provide(Plain.toLayer(() => Effect.void)),
                Layer.provide(Polyqueue.layerMemory)
              )
            )
          )
        )
        assert.strictEqual(error._tag, "WorkerError")
        assert.include(error.message, "none of them a control character")
        assert.notMatch(error.message, control)
      }
    })
  )

  it.effect.each(words)("that somebody wrote into the table of workers forges no line: %j", (word) =>
    Effect.gen(function* () {
      const { messages } = yield* overhear(
        Effect.gen(function* () {
          yield* WorkerRegistry.use((registry) =>
            registry.heartbeat({
              id: word,
              host: word,
              pid: 1,
              name: word,
              version: word,
              queues: [],
              jobTypes: [],
              slots: 1,
              running: [],
              runningCount: 0,
              status: "running",
              memory: 1,
              eventLoopDelay: 0
            })
          )
          yield* TestClock.adjust("3 minutes")
        }).pipe(
          Effect.provide(
            Worker.layer([Plain]).pipe(
              Layer.provide(Plain.toLayer(() => Effect.void)),
              Layer.provideMerge(Polyqueue.layerMemory)
            )
          )
        )
      )
      assert.isTrue(messages.some((message) => message.startsWith("workers without a heartbeat")))
      for (const message of messages) assert.notMatch(message, control)
    })
  )
})
