/** Metrics.layerCloudWatch: lines that are valid embedded metric format, add up, and are flushed when it closes. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Layer, Schema, Scope } from "effect"
import { TestClock, TestConsole } from "effect/testing"
import { Broker, Job, JobStore, type MetricEvent, Metrics, Polyqueue, Worker, WorkerRegistry } from "../../src/index.ts"
import { type Emf, problemsOf } from "./EmfSchema.ts"

/** What was written so far, parsed; every line is valid. */
const lines = Effect.map(TestConsole.logLines, (all) =>
  all.map((line) => {
    assert.deepStrictEqual(problemsOf(String(line)), [], String(line))
    return JSON.parse(String(line)) as Emf
  })
)

const ended = (ran: number): MetricEvent => ({
  _tag: "Ended",
  queue: "mail",
  type: "Send",
  outcome: "succeeded",
  final: true,
  ran,
  attempt: 1
})

/** One event of each kind, in all variations that differ. */
const all: ReadonlyArray<MetricEvent> = [
  { _tag: "Enqueued", queue: "mail", type: "Send", count: 3, duplicates: 1 },
  { _tag: "Started", queue: "mail", type: "Send", waited: 1_500 },
  ended(250),
  { _tag: "Ended", queue: "mail", type: "Send", outcome: "failed", final: false, ran: 1, attempt: 1 },
  { _tag: "Ended", queue: "mail", type: "Send", outcome: "timedOut", final: true, ran: 1, attempt: 2 },
  { _tag: "LeaseLost", queue: "mail", type: "Send" },
  { _tag: "Reaped", queue: "mail", type: "Send", outcome: "crashed", final: false },
  { _tag: "HintsPublished", broker: "redis", count: 2, failed: 1 },
  {
    _tag: "Fleet",
    stats: {
      countedAt: 0,
      relayLag: 10,
      queues: [
        {
          queue: "mail",
          claimable: 1,
          due: 2,
          waiting: 3,
          processing: 4,
          stale: 5,
          succeeded: 6,
          failed: 7,
          cancelled: 8,
          oldestAge: 9
        }
      ]
    }
  },
  { _tag: "WorkerState", name: "w", slots: 10, running: 2, draining: false, eventLoopDelay: 4, memory: 1_000 },
  { _tag: "Worker", event: "started", name: "w" },
  { _tag: "LoopFailed", loop: "claim" }
]

const withSink = <A, E>(
  use: (sink: Metrics["Service"], close: Effect.Effect<void>) => Effect.Effect<A, E>,
  options?: Parameters<typeof Metrics.layerCloudWatchWith>[0]
) =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const built = yield* Layer.buildWithScope(Metrics.layerCloudWatchWith(options ?? {}), scope)
    return yield* use(yield* Effect.provideContext(Metrics, built), Scope.close(scope, Exit.void))
  })

describe("Metrics.layerCloudWatch", () => {
  it.effect("writes a valid line per combination of dimensions, once per interval, with exact counts", () =>
    withSink((sink) =>
      Effect.gen(function* () {
        for (const event of all) sink.record(event)
        sink.record(ended(750))
        yield* TestClock.adjust("59 seconds")
        assert.lengthOf(yield* lines, 0)
        yield* TestClock.adjust("1 second")
        const written = yield* lines
        const of = (dimensions: ReadonlyArray<string>) =>
          written.find((line) => line._aws.CloudWatchMetrics[0]!.Dimensions[0]!.join() === dimensions.join())!
        assert.lengthOf(written, 5)
        const job = of(["queue", "type"])
        assert.deepInclude(job, {
          queue: "mail",
          type: "Send",
          "messaging.client.sent.messages": 3,
          "polyqueue.enqueue.deduplicated": 1,
          "messaging.client.consumed.messages": 1,
          "polyqueue.job.wait": [1.5],
          "polyqueue.attempts.succeeded": 2,
          "polyqueue.attempts.failed": 1,
          "polyqueue.attempts.crashed": 1,
          "messaging.process.duration": [0.25, 0.001, 0.001, 0.75],
          "polyqueue.jobs.retried": 2,
          "polyqueue.jobs.ended.succeeded": 2,
          "polyqueue.jobs.ended.timedOut": 1,
          "polyqueue.leases.lost": 1,
          "polyqueue.attempts.reaped": 1
        })
        const unit = (name: string) => job._aws.CloudWatchMetrics[0]!.Metrics.find(({ Name }) => Name === name)?.Unit
        assert.deepStrictEqual([unit("polyqueue.job.wait"), unit("polyqueue.leases.lost")], ["Seconds", "Count"])
        assert.deepInclude(of(["queue"]), { "polyqueue.queue.claimable": 1, "polyqueue.queue.oldest.age": 0.009 })
        assert.deepInclude(of(["broker"]), { "polyqueue.hints.published": 2, "polyqueue.hints.failed": 1 })
        assert.deepInclude(of([]), { "polyqueue.worker.slots": 10, "nodejs.eventloop.delay.max": 0.004 })
        yield* TestClock.adjust("60 seconds")
        assert.lengthOf(yield* lines, 5, "nothing happened, nothing is written")
      })
    )
  )

  it.effect("keeps at most 100 durations of an interval, drawn from all of them, and counts every one", () =>
    withSink((sink) =>
      Effect.gen(function* () {
        for (let i = 1; i <= 5_000; i++) sink.record(ended(i))
        yield* TestClock.adjust("60 seconds")
        const [line] = yield* lines
        const values = line!["messaging.process.duration"] as ReadonlyArray<number>
        assert.lengthOf(values, 100)
        assert.strictEqual(line!["polyqueue.attempts.succeeded"], 5_000)
        const mean = values.reduce((sum, value) => sum + value, 0) / 100
        assert.isTrue(mean > 1.5 && mean < 3.5, `the mean of 0.001 … 5 is 2.5, that of the sample ${mean}`)
      })
    )
  )

  it.effect("flushes what it has when the layer closes", () =>
    withSink((sink, close) =>
      Effect.gen(function* () {
        sink.record(ended(1))
        yield* close
        assert.lengthOf(yield* lines, 1)
      })
    )
  )

  it.effect("has a namespace and dimensions of one's own, and names that the format could not hold are cut", () =>
    withSink(
      (sink) =>
        Effect.gen(function* () {
          sink.record({ _tag: "LeaseLost", queue: "", type: "t".repeat(2_000) })
          yield* TestClock.adjust("10 seconds")
          const [line] = yield* lines
          assert.strictEqual(line!._aws.CloudWatchMetrics[0]!.Namespace, "Mine")
          assert.deepStrictEqual([line!["service"], line!["queue"]], ["mailer", "-"])
        }),
      { namespace: "Mine", dimensions: { service: "mailer" }, flushEvery: "10 seconds" }
    )
  )

  it.effect("refuses more dimensions than the format allows", () =>
    Effect.gen(function* () {
      const dimensions = Object.fromEntries(Array.from({ length: 8 }, (_, n) => [`d${n}`, "x"]))
      const exit = yield* Effect.exit(withSink(() => Effect.void, { dimensions }))
      assert.include(String(exit), "there may be 7 dimensions")
    })
  )

  class Echo extends Job.make("Echo", { payload: { n: Schema.Int } }) {}

  it.effect("of a running worker", () =>
    Effect.gen(function* () {
      yield* Effect.gen(function* () {
        const jobs = yield* Echo.enqueueAll([{ n: 1 }, { n: 2 }])
        yield* Effect.forEach(jobs, (job) => job.await)
        yield* TestClock.adjust("2 minutes")
      }).pipe(
        Effect.provide(
          Worker.layer([Echo]).pipe(
            Layer.provide(Echo.toLayer(() => Effect.void)),
            Layer.provideMerge(Polyqueue.layer),
            Layer.provideMerge(
              Layer.mergeAll(
                JobStore.layerMemory,
                WorkerRegistry.layerMemory,
                Broker.layerMemory,
                Metrics.layerCloudWatch
              )
            )
          )
        )
      )
      const written = yield* lines
      const sum = (name: string) => written.reduce((total, line) => total + Number(line[name] ?? 0), 0)
      assert.deepStrictEqual(
        [
          sum("messaging.client.sent.messages"),
          sum("polyqueue.jobs.ended.succeeded"),
          sum("polyqueue.worker.events.stopped")
        ],
        [2, 2, 1]
      )
      assert.isTrue(written.some((line) => line["polyqueue.queue.jobs.succeeded"] === 2))
    })
  )
})
