/**
 * The contract suite of worker registries: every MUST sentence of `WorkerRegistryDriver` as a test of the same words,
 * for any implementation. Every case has workers of its own and removes them, so that one database serves all.
 */
import { assert, layer as testLayer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type { WorkerInfo, WorkerOrder, WorkerRegistryDriver } from "../registry/WorkerRegistryDriver.ts"

/** The registry that the suite tries. It must know no workers when the suite starts. */
export class RegistryUnderTest extends Context.Service<
  RegistryUnderTest,
  {
    readonly driver: WorkerRegistryDriver
    /** Moves the registry's own clock forward, without sleeping. Milliseconds. */
    readonly advance: (ms: number) => Effect.Effect<void>
  }
>()("polyqueue/testing/RegistryUnderTest") {}

/** One sentence of the contract and how it is tried. */
export interface ContractCase {
  /** The sentence; also what `skip` names. */
  readonly name: string
  readonly run: Effect.Effect<void, unknown, RegistryUnderTest>
}

/** How the suite is run. */
export interface Options {
  /** Sentences that this registry cannot keep, each with the reason, which the run prints. */
  readonly skip?: ReadonlyArray<{ readonly test: string; readonly reason: string }>
}

interface Steps extends Context.Service.Shape<typeof RegistryUnderTest> {
  /** What a new worker says of itself. */
  readonly info: (override?: Partial<WorkerInfo>) => WorkerInfo
  readonly status: (id: string) => Effect.Effect<string | undefined, unknown>
}

const THRESHOLD = 60_000
/** More time than a case needs on a slow machine. */
const SLACK = 10_000

/** Who does it, for one call. */
const by = () => ({ by: { who: "ada" }, operation: globalThis.crypto.randomUUID() })

const contractCase = (
  name: string,
  run: (steps: Steps) => Generator<Effect.Effect<unknown, unknown>, void, never>
): ContractCase => ({
  name,
  run: Effect.gen(function* () {
    const { advance, driver } = yield* RegistryUnderTest
    const steps: Steps = {
      driver,
      advance,
      info: (override) => ({
        id: `worker-${globalThis.crypto.randomUUID()}`,
        host: "host",
        pid: 4242,
        name: "mailer",
        version: "0.1.0",
        queues: ["default"],
        jobTypes: ["SendEmail"],
        slots: 10,
        running: [],
        runningCount: 0,
        status: "running",
        memory: 123_456_789,
        eventLoopDelay: 1.1,
        ...override
      }),
      status: (id) => Effect.map(driver.list, (workers) => workers.find((worker) => worker.id === id)?.status)
    }
    const clean = Effect.gen(function* () {
      yield* advance(100 * THRESHOLD)
      yield* driver.reapStale(THRESHOLD)
      yield* driver.prune(0)
      assert.deepStrictEqual(yield* driver.list, [], "the case leaves nothing")
    })
    yield* Effect.gen(() => run(steps)).pipe(Effect.ensuring(Effect.orDie(clean)))
  })
})

/** Every sentence of the contract. */
export const cases: ReadonlyArray<ContractCase> = [
  contractCase("heartbeat writes this worker's row, all of it", function* ({ advance, driver, info }) {
    const first = info({ running: ["a"], runningCount: 1, queues: ["x", "y"], jobTypes: [], status: "running" })
    yield* driver.heartbeat(first)
    const [row, ...others] = yield* driver.list
    assert.deepStrictEqual(others, [])
    const { heartbeatAt, startedAt, ...rest } = row!
    assert.deepStrictEqual(rest, { ...first, told: undefined })
    assert.strictEqual(startedAt, heartbeatAt)
    yield* advance(30_000)
    const second: WorkerInfo = { ...first, running: [], runningCount: 0, jobTypes: ["SendEmail"], status: "draining" }
    yield* driver.heartbeat(second)
    const [after] = yield* driver.list
    const { heartbeatAt: beatAt, startedAt: sameStart, ...now } = after!
    assert.deepStrictEqual(now, { ...second, told: undefined })
    assert.strictEqual(sameStart, startedAt, "a beat is no start")
    assert.isTrue(beatAt - heartbeatAt >= 30_000 && beatAt - heartbeatAt < 30_000 + SLACK)
  }),

  contractCase("at most 100 running jobs are reported, with the true count", function* ({ driver, info }) {
    const running = Array.from({ length: 150 }, (_, n) => `job-${n}`)
    yield* driver.heartbeat(info({ running, runningCount: 150 }))
    const [row] = yield* driver.list
    assert.deepStrictEqual([row?.running, row?.runningCount], [running.slice(0, 100), 150])
  }),

  contractCase("two workers of one host and process are two rows", function* ({ driver, info }) {
    const both = [info(), info()]
    for (const one of both) yield* driver.heartbeat(one)
    assert.sameMembers(
      (yield* driver.list).map(({ id }) => id),
      both.map(({ id }) => id)
    )
  }),

  contractCase(
    "stop says goodbye: `stopped`, and never dead afterwards",
    function* ({ advance, driver, info, status }) {
      const worker = info()
      yield* driver.heartbeat(worker)
      yield* driver.stop(worker.id)
      assert.strictEqual(yield* status(worker.id), "stopped")
      yield* advance(2 * THRESHOLD)
      assert.deepStrictEqual(yield* driver.reapStale(THRESHOLD), [])
      assert.strictEqual(yield* status(worker.id), "stopped")
      yield* driver.stop("a stranger")
      assert.lengthOf(yield* driver.list, 1)
    }
  ),

  contractCase(
    "reapStale marks workers dead that have not beaten for `threshold` ms, and no others",
    function* ({ advance, driver, info, status }) {
      const [running, draining, fresh] = [info(), info({ status: "draining" }), info()]
      for (const one of [running, draining, fresh]) yield* driver.heartbeat(one)
      yield* advance(THRESHOLD - SLACK)
      assert.deepStrictEqual(yield* driver.reapStale(THRESHOLD), [], "not yet")
      yield* driver.heartbeat(fresh)
      yield* advance(2 * SLACK)
      assert.sameMembers([...(yield* driver.reapStale(THRESHOLD))], [running.id, draining.id])
      const statuses = yield* Effect.all([running, draining, fresh].map(({ id }) => status(id)))
      assert.deepStrictEqual(statuses, ["dead", "dead", "running"])
    }
  ),

  contractCase("reapStale MUST mark each at most once per death", function* ({ advance, driver, info }) {
    const worker = info()
    const reapers = Effect.map(
      Effect.all(
        Array.from({ length: 8 }, () => driver.reapStale(THRESHOLD)),
        { concurrency: "unbounded" }
      ),
      (answers) => answers.flat()
    )
    for (let death = 0; death < 2; death++) {
      yield* driver.heartbeat(worker)
      yield* advance(2 * THRESHOLD)
      assert.deepStrictEqual(yield* reapers, [worker.id])
      assert.deepStrictEqual(yield* reapers, [])
    }
  }),

  contractCase(
    "heartbeat MUST bring a worker that was taken for dead back to life",
    function* ({ advance, driver, info, status }) {
      const worker = info()
      yield* driver.heartbeat(worker)
      yield* advance(2 * THRESHOLD)
      assert.deepStrictEqual(yield* driver.reapStale(THRESHOLD), [worker.id])
      assert.strictEqual(yield* status(worker.id), "dead")
      yield* driver.heartbeat(worker)
      assert.strictEqual(yield* status(worker.id), "running")
      assert.deepStrictEqual(yield* driver.reapStale(THRESHOLD), [])
    }
  ),

  contractCase(
    "prune removes workers that stopped or died more than `age` ms ago; answers how many",
    function* ({ advance, driver, info }) {
      const [stopped, dead, alive] = [info(), info(), info()]
      for (const one of [stopped, dead, alive]) yield* driver.heartbeat(one)
      yield* driver.stop(stopped.id)
      yield* advance(2 * THRESHOLD)
      yield* driver.heartbeat(alive)
      yield* driver.reapStale(THRESHOLD)
      assert.strictEqual(yield* driver.prune(10 * THRESHOLD), 0, "too young")
      yield* advance(10 * THRESHOLD)
      const late = info()
      yield* driver.heartbeat(late)
      yield* driver.stop(late.id)
      assert.strictEqual(yield* driver.prune(9 * THRESHOLD), 2)
      assert.sameMembers(
        (yield* driver.list).map(({ id }) => id),
        [alive.id, late.id],
        "a worker that is not known to be dead stays, however long it was silent"
      )
    }
  ),

  contractCase(
    "a live worker hears with its next beat what it is told, and that a drain was taken back",
    function* ({ driver, info }) {
      const [worker, other] = [info(), info()]
      assert.deepStrictEqual(yield* driver.heartbeat(worker), { told: undefined, concurrency: [] })
      yield* driver.heartbeat(other)
      const tell = (order: WorkerOrder | undefined) => driver.tell({ id: worker.id, order, ...by() })
      assert.deepStrictEqual(yield* tell("drain"), { status: "running", told: undefined })
      const row = Effect.map(driver.list, (workers) => workers.find(({ id }) => id === worker.id))
      assert.strictEqual((yield* row)?.told, "drain", "before it has heard it")
      assert.strictEqual((yield* driver.heartbeat({ ...worker, status: "draining" })).told, "drain")
      assert.strictEqual((yield* driver.heartbeat(other)).told, undefined)
      assert.deepStrictEqual(yield* tell(undefined), { status: "draining", told: "drain" })
      assert.strictEqual((yield* driver.heartbeat(worker)).told, undefined)
      yield* tell("stop")
      assert.strictEqual((yield* driver.heartbeat(worker)).told, "stop")
    }
  ),

  contractCase(
    "tell MUST tell and log nothing when the worker has stopped or died, or was told to stop",
    function* ({ advance, driver, info }) {
      const [stopped, dead, stopping] = [info(), info(), info()]
      for (const one of [stopped, dead, stopping]) yield* driver.heartbeat(one)
      yield* driver.stop(stopped.id)
      yield* driver.tell({ id: stopping.id, order: "stop", ...by() })
      const attempt = (id: string) => driver.tell({ id, order: "drain", ...by() })
      assert.deepStrictEqual(yield* attempt(stopped.id), { status: "stopped", told: undefined })
      assert.deepStrictEqual(yield* attempt(stopping.id), { status: "running", told: "stop" })
      yield* advance(2 * THRESHOLD)
      yield* driver.heartbeat(stopping)
      yield* driver.reapStale(THRESHOLD)
      assert.deepStrictEqual(yield* attempt(dead.id), { status: "dead", told: undefined })
      assert.isUndefined(yield* attempt("a stranger"))
      const told = (yield* driver.list).map(({ id, told }) => [id, told])
      assert.sameDeepMembers(told, [
        [stopped.id, undefined],
        [dead.id, undefined],
        [stopping.id, "stop"]
      ])
      for (const id of [stopped.id, dead.id]) {
        assert.deepStrictEqual(yield* driver.audit({ target: id, limit: 10 }), [])
      }
      assert.lengthOf(yield* driver.audit({ target: stopping.id, limit: 10 }), 1)
      assert.strictEqual((yield* driver.heartbeat(dead)).told, undefined)
    }
  ),

  contractCase(
    "setConcurrency is heard by every worker of the name, MUST outlive them, and can be taken back",
    function* ({ advance, driver, info }) {
      const name = `name-${globalThis.crypto.randomUUID()}`
      const set = (concurrency: number | undefined, queue?: string) =>
        driver.setConcurrency({ name, queue, concurrency, ...by() })
      yield* set(5)
      yield* set(7, "mail")
      yield* set(2, "mail")
      yield* set(0, "a")
      const expected = [
        { queue: undefined, concurrency: 5 },
        { queue: "a", concurrency: 0 },
        { queue: "mail", concurrency: 2 }
      ]
      const worker = info({ name })
      assert.deepStrictEqual((yield* driver.heartbeat(worker)).concurrency, expected)
      yield* driver.stop(worker.id)
      yield* advance(THRESHOLD)
      yield* driver.prune(0)
      assert.deepStrictEqual((yield* driver.heartbeat(info({ name }))).concurrency, expected)
      assert.deepStrictEqual((yield* driver.heartbeat(info({ name: `${name}-other` }))).concurrency, [])
      assert.deepStrictEqual(
        yield* driver.concurrency,
        expected.map((setting) => ({ name, ...setting }))
      )
      for (const wrong of [-1, 10_001]) {
        assert.strictEqual((yield* Effect.flip(set(wrong))).reason, "Refused")
      }
      for (const queue of [undefined, "a", "mail"]) yield* set(undefined, queue)
      assert.deepStrictEqual((yield* driver.heartbeat(info({ name }))).concurrency, [])
      assert.deepStrictEqual(yield* driver.concurrency, [])
    }
  ),

  contractCase("tell and setConcurrency MUST write their audit rows with what they do", function* ({ driver, info }) {
    const worker = info({ name: `name-${globalThis.crypto.randomUUID()}` })
    yield* driver.heartbeat(worker)
    const { operation } = by()
    const shared = { by: { who: "ada", reason: "a test" }, operation }
    yield* driver.tell({ id: worker.id, order: "drain", ...shared })
    yield* driver.tell({ id: worker.id, order: undefined, ...shared })
    yield* driver.tell({ id: worker.id, order: "stop", ...shared })
    yield* driver.setConcurrency({ name: worker.name, queue: undefined, concurrency: 5, ...shared })
    yield* driver.setConcurrency({ name: worker.name, queue: "mail", concurrency: 7, ...shared })
    yield* driver.setConcurrency({ name: worker.name, queue: undefined, concurrency: undefined, ...shared })
    yield* driver.setConcurrency({ name: worker.name, queue: "mail", concurrency: undefined, ...shared })
    const log = (yield* driver.audit({ operation, limit: 10 })).toReversed()
    const state = { name: worker.name, status: "running" }
    assert.deepStrictEqual(
      log.map(({ action, after, before, target }) => [action, target, before, after]),
      [
        ["drainWorker", worker.id, state, { ...state, told: "drain" }],
        ["resumeWorker", worker.id, { ...state, told: "drain" }, state],
        ["stopWorker", worker.id, state, { ...state, told: "stop" }],
        ["setConcurrency", worker.name, undefined, { concurrency: 5 }],
        ["setConcurrency", worker.name, undefined, { concurrency: 7, queue: "mail" }],
        ["setConcurrency", worker.name, { concurrency: 5 }, undefined],
        ["setConcurrency", worker.name, { concurrency: 7, queue: "mail" }, undefined]
      ]
    )
    for (const { kind, reason, who } of log) assert.deepStrictEqual([kind, who, reason], ["worker", "ada", "a test"])
    const other = info()
    yield* driver.heartbeat(other)
    const nobody = { who: "" }
    const refused = yield* Effect.flip(driver.tell({ id: other.id, order: "drain", by: nobody, operation }))
    assert.strictEqual(refused.reason, "Refused")
    assert.strictEqual((yield* driver.heartbeat(other)).told, undefined, "what cannot be logged is not done")
  })
]

/**
 * Registers the contract suite for one registry: builds `layer` once and runs every case on it, one after another.
 *
 * Throws while collecting when `skip` names a case that does not exist: a skip must not outlive its reason.
 *
 * @example
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { TestClock } from "effect/testing"
 * import * as MemoryWorkerRegistry from "../../src/registry/MemoryWorkerRegistry.ts"
 * import * as WorkerRegistryContract from "../../src/testing/WorkerRegistryContract.ts"
 *
 * const layer = Layer.effect(
 *   WorkerRegistryContract.RegistryUnderTest,
 *   Effect.map(MemoryWorkerRegistry.make, (driver) => ({ driver, advance: (ms: number) => TestClock.adjust(ms) }))
 * ).pipe(Layer.provideMerge(TestClock.layer()))
 * WorkerRegistryContract.suite("MemoryWorkerRegistry", layer)
 * ```
 */
export const suite = <E>(name: string, layer: Layer.Layer<RegistryUnderTest, E>, options: Options = {}): void => {
  for (const { test } of options.skip ?? []) {
    if (!cases.some((one) => one.name === test)) throw new Error(`${name} skips "${test}", which is no case of it`)
  }
  testLayer(layer, { timeout: 60_000, excludeTestServices: true })(name, (it) => {
    for (const one of cases) {
      const skipped = options.skip?.find(({ test }) => test === one.name)
      if (skipped === undefined) it.effect(one.name, () => one.run, 60_000)
      else it(one.name, (context) => context.skip(skipped.reason))
    }
  })
}
