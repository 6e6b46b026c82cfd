/**
 * Prototype pollution: `__proto__`, `constructor` and `prototype` as keys and as names, through every door: payload, result,
 * metadata, settings, messages of a broker. They are data, and names like any other.
 */
import { assert, describe, it, layer } from "@effect/vitest"
import { ConfigProvider, Effect, Layer, Schema, Tracer } from "effect"
import { execFile } from "node:child_process"
import { join } from "node:path"
import { promisify } from "node:util"
import * as HintMessage from "../../src/broker/HintMessage.ts"
import * as PolyqueueConfig from "../../src/config/PolyqueueConfig.ts"
import * as SqsBroker from "../../src/broker/SqsBroker.ts"
import { Broker, CurrentJob, Job, JobStore, Polyqueue, type Ports, Worker } from "../../src/index.ts"
import { run } from "../support/Cli.ts"
import { describePostgres, freshDatabase, layerFresh } from "../support/Postgres.ts"

const names = ["__proto__", "constructor", "prototype", "toString", "hasOwnProperty", "valueOf"]
const hostile =
  '{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":2}},"prototype":{"polluted":3},"a":1}'

/** Nothing that anybody makes has a property it should not have. */
const assertClean = () => {
  for (const value of [{}, [], () => {}, "", 0]) assert.notProperty(Object(value), "polluted")
  assert.deepStrictEqual(Object.keys(Object.prototype), [])
}

class Mirror extends Job.make("Mirror", { payload: Schema.Unknown, success: Schema.Unknown }) {}

/** One job type and queue per hostile name. */
const makeNamed = (name: string) => Job.make(name, { payload: { n: Schema.Int }, success: Schema.String, queue: name })
const named = names.map(makeNamed)

const MirrorLive = Mirror.toLayer((payload) => Effect.succeed(payload))
const Handlers = Layer.mergeAll(
  MirrorLive,
  ...named.map((job) => job.toLayer(({ n }) => Effect.map(CurrentJob, ({ attempt }) => `${job._tag} ${n} ${attempt}`)))
)

const suite = <E>(name: string, live: Layer.Layer<Polyqueue | Ports, E>) =>
  layer(
    Worker.layer([Mirror, ...named], { concurrency: { default: 2, valueOf: 1 } }).pipe(
      Layer.provide(Handlers),
      Layer.provideMerge(live)
    ),
    { timeout: "60 seconds", excludeTestServices: true }
  )(`on ${name}`, (it) => {
    it.effect("payload and result keep such keys as their own, a thousand times, and pollute nothing", () =>
      Effect.gen(function* () {
        const jobs = yield* Mirror.enqueueAll(Array.from({ length: 1_000 }, () => JSON.parse(hostile) as unknown))
        const results = yield* Effect.forEach(jobs, (job) => job.await, { concurrency: "unbounded" })
        for (const result of results) {
          assert.strictEqual(Object.getPrototypeOf(result), Object.prototype)
          assert.sameMembers(Object.keys(result as object), ["__proto__", "constructor", "prototype", "a"])
        }
        assertClean()
      })
    )

    it.effect.each(named.map((job) => [job._tag, job] as const))(
      "%s is the name of a job and a queue like any other",
      ([tag, job]) =>
        Effect.gen(function* () {
          assert.strictEqual(yield* job.execute({ n: 1 }), `${tag} 1 1`)
          const stats = yield* Polyqueue.use((queue) => queue.stats)
          assert.strictEqual(stats.find(({ queue }) => queue === tag)?.succeeded, 1)
          assertClean()
        })
    )

    it.effect("is an unknown type to a worker that does not know it: left alone", () =>
      Effect.gen(function* () {
        class Unknown extends Job.make("isPrototypeOf", {}) {}
        const job = yield* Unknown.enqueue()
        yield* Mirror.execute(1)
        const state = yield* job.poll
        assert.deepStrictEqual([state.status, state.attempt], ["queued", 0])
      })
    )
  })

describe("hostile keys and names", () => {
  suite("the memory store", Polyqueue.layerMemory)
  describePostgres("on a server", () => {
    suite("Postgres", Polyqueue.layerPostgres.pipe(Layer.provide(Broker.layerPostgres), Layer.provide(layerFresh())))
  })
})

describe("metadata", () => {
  const run = (metadata: string) => {
    const spans: Array<Tracer.NativeSpan> = []
    const tracer = Tracer.make({
      span: (options) => {
        const span = new Tracer.NativeSpan(options)
        spans.push(span)
        return span
      }
    })
    return Effect.gen(function* () {
      const store = yield* JobStore
      const id = yield* Polyqueue.use((queue) => queue.makeId)
      const { id: other } = yield* Mirror.enqueue(1, { delay: "1 hour" })
      const [row] = yield* store.get([other])
      yield* store.enqueueOne({
        ...row!,
        id,
        freshId: true,
        delay: 0,
        runAt: undefined,
        payload: '"fine"',
        maxSnoozes: 1,
        retryDelays: [],
        keyScope: "retained",
        metadata,
        hinted: false,
        publishIn: 0
      })
      assert.strictEqual(yield* Mirror.handle(id).await, "fine")
      assert.include(
        spans.map((span) => span.name),
        "run Mirror"
      )
      assertClean()
    }).pipe(
      Effect.provide(Worker.layer([Mirror]).pipe(Layer.provide(MirrorLive), Layer.provideMerge(Polyqueue.layerMemory))),
      Effect.provideService(Tracer.Tracer, tracer)
    )
  }
  it.live.each([
    hostile,
    '{"traceparent":5}',
    '{"traceparent":{"__proto__":{"polluted":1}}}',
    '{"traceparent":""}',
    `{"traceparent":"${"-".repeat(100_000)}"}`,
    "[1]",
    "5",
    '"text"'
  ])("that is no trace context does not keep the job from running: %.40s", run)
})

describe("messages of a broker", () => {
  it("with such keys are hints or nothing, and pollute nothing", () => {
    const id = "018f6b5e-0000-7000-8000-000000000000"
    for (const text of [
      hostile,
      `{"__proto__":{"pq":1,"j":"${id}","q":"q","a":0,"p":0,"n":1,"polluted":1}}`,
      `{"constructor":{"prototype":{"polluted":1}},"pq":1}`,
      "null",
      "[]",
      `"__proto__"`
    ]) {
      assert.isUndefined(HintMessage.decode(text))
    }
    const hint = HintMessage.decode(
      `{"pq":1,"j":"${id}","q":"__proto__","a":0,"p":0,"n":1,"__proto__":{"polluted":1,"queue":"other"}}`
    )
    assert.deepStrictEqual(hint, { jobId: id, queue: "__proto__", priority: 0, attempt: 0, publication: 1 })
    assertClean()
  })

  it.live("a queue of SQS has the URL of its own name only", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      for (const queue of names) {
        const error = yield* Effect.flip(broker.depth(queue))
        assert.include(error.message, `no SQS queue is configured for queue "${queue}"`)
      }
    }).pipe(Effect.provide(SqsBroker.layer({ queueUrls: { jobs: "http://127.0.0.1:1/1/jobs" } })))
  )

  it.live("a route is found by its own name only", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      for (const queue of names) {
        const hint = { jobId: "018f6b5e-0000-7000-8000-000000000000", queue, priority: 0, attempt: 0, publication: 1 }
        assert.deepStrictEqual(yield* broker.publish([hint]), [{ _tag: "Ok" }])
      }
    }).pipe(Effect.provide(Broker.layerRouted({ queues: { jobs: Broker.layerMemory }, otherwise: Broker.layerMemory })))
  )
})

describe("settings", () => {
  it.effect("such variables and keys are no settings", () =>
    Effect.gen(function* () {
      const read = (provider: ConfigProvider.ConfigProvider) =>
        Effect.exit(
          Effect.all([PolyqueueConfig.environment, PolyqueueConfig.explain(), PolyqueueConfig.unknownVariables])
        ).pipe(Effect.provideService(ConfigProvider.ConfigProvider, provider))
      yield* read(
        ConfigProvider.fromEnv({ env: { POLYQUEUE___PROTO__: "x", POLYQUEUE_CONSTRUCTOR: "x", __proto__: "x" } })
      )
      yield* read(ConfigProvider.fromUnknown(JSON.parse(`{"POLYQUEUE_BACKEND":"none","__proto__":{"polluted":1}}`)))
      assertClean()
    })
  )
})

describePostgres("the command line", () => {
  it.live("takes such keys as payload, and shows them as they are", () =>
    Effect.gen(function* () {
      const env = { POLYQUEUE_DB_URL: yield* freshDatabase }
      yield* run(["migrate"], { env })
      for (const name of names) {
        const made = yield* run(["enqueue", name, "--queue", name, "--payload", hostile], { env })
        assert.strictEqual(made.code, 0)
        const shown = yield* run(["inspect", "job", made.stdout.trim(), "--payload", "-o", "json"], { env })
        assert.deepStrictEqual(JSON.parse(shown.stdout).job.payload, JSON.parse(hostile))
        const found = yield* run(["inspect", "jobs", "--type", name, "-o", "jsonl"], { env })
        assert.strictEqual(found.stdout.split("\n").length, 1)
      }
      assertClean()
    }).pipe(Effect.scoped)
  )
})

describe("a process without Object.prototype.__proto__ (--disable-proto=delete)", () => {
  it("runs jobs whose payload has such keys, on PGlite too, and loads every module", async () => {
    const program = `
      import { Effect, Layer, Schema } from "effect"
      import { readdirSync } from "node:fs"
      if (Object.hasOwn(Object.prototype, "__proto__")) throw new Error("it is still there")
      const { Job, Polyqueue, Worker } = await import("./src/index.ts")
      class Mirror extends Job.make("__proto__", { payload: Schema.Unknown, success: Schema.Unknown }) {}
      const run = (live) => Effect.runPromise(Mirror.execute(JSON.parse(process.argv[1])).pipe(Effect.provide(
        Worker.layer([Mirror]).pipe(Layer.provide(Mirror.toLayer(Effect.succeed)), Layer.provideMerge(live)))))
      const results = [await run(Polyqueue.layerMemory), await run(Polyqueue.layerEmbedded())]
      for (const file of readdirSync("src", { recursive: true })) {
        if (file.endsWith(".ts") && file !== "bin.ts" && !file.startsWith("testing")) await import("./src/" + file)
      }
      console.log(JSON.stringify(results))`
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ["--disable-proto=delete", "--input-type=module", "--eval", program, hostile],
      { cwd: join(import.meta.dirname, "../..") }
    )
    const results = JSON.parse(stdout) as ReadonlyArray<object>
    assert.lengthOf(results, 2)
    for (const result of results) assert.deepStrictEqual(result, JSON.parse(hostile))
  }, 60_000)
})
