/**
 * Memory means what Postgres means: random histories done to both, step by step, give equal answers and equal rows, and
 * both obey the conservation law at the end. A history on which they part is shrunk and printed, with a token to replay
 * it. What the simulator finds on the memory store is therefore about the product.
 */
import { assert, layer } from "@effect/vitest"
import { Arbitrary, Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import type { StoreError } from "../../src/JobError.ts"
import type { JobStoreDriver } from "../../src/store/JobStoreDriver.ts"
import * as MemoryJobStore from "../../src/store/MemoryJobStore.ts"
import * as Names from "../../src/store/postgres/Names.ts"
import { audit } from "../../src/testing/jobStore/Audit.ts"
import { StoreUnderTest } from "../../src/testing/JobStoreContract.ts"
import { describePostgres, layerFresh } from "../support/Postgres.ts"
import { storeUnderTest } from "../support/StoreLayers.ts"
import { history, makeWorld, newJob, overview, perform, QUANTUM, SIZE, type Step, type World } from "./StoreModel.ts"

/** What two slow cores do in half a minute; more histories with POLYQUEUE_TEST_HISTORIES. */
const runs = Number(process.env["POLYQUEUE_TEST_HISTORIES"] ?? 1_000)

interface Side {
  readonly driver: JobStoreDriver
  readonly advance: (ms: number) => Effect.Effect<void>
  /** The store's now at the start of the history. */
  readonly start: number
}

/** Where the two clocks agree: to the quantum. */
const instants = new Set([
  "runAt",
  "timeoutAt",
  "overranAt",
  "leaseExpiresAt",
  "progressAt",
  "cancelRequestedAt",
  "publishAt",
  "enqueuedAt",
  "startedAt",
  "finishedAt",
  "claimedAt",
  "endedAt"
])
const durations = new Set(["nextDue", "oldestAge"])

/** Instants in quanta since the start, so that two stores can be compared; JSON text as JSON; fences as "some". */
const comparable = (value: unknown, start: number, name = ""): unknown => {
  if (typeof value === "number") {
    if (instants.has(name)) return `quantum ${Math.round((value - start) / QUANTUM)}`
    if (durations.has(name)) return `${Math.round(value / QUANTUM)} quanta`
    if (name === "fence") return value > 0
  }
  if (name === "value" && typeof value === "string") return JSON.parse(value)
  if (Array.isArray(value)) return value.map((item) => comparable(item, start))
  if (typeof value !== "object" || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, member]) => member !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, member]) => [key, comparable(member, start, key)])
  )
}

const agree = (what: string, memory: unknown, postgres: unknown, [a, b]: readonly [Side, Side]) => {
  const [said, other] = [comparable(memory, a.start), comparable(postgres, b.start)]
  assert.deepStrictEqual(said, other, `${what}: memory ${JSON.stringify(said)}, Postgres ${JSON.stringify(other)}`)
}

const marker = {
  _tag: "Enqueue",
  job: 0,
  twin: 0,
  odd: 0,
  queue: 0,
  priority: 0,
  delay: 0,
  key: 0,
  live: true,
  hinted: false,
  attempts: 0,
  crashes: 0,
  timeout: 0,
  onTimeout: "fail"
} as const

/** One job before the history says what time it is in each store. */
const start = Effect.fnUntraced(function* (driver: JobStoreDriver, world: World): Effect.fn.Return<number, StoreError> {
  const id = "ffffffff-ffff-4fff-bfff-ffffffffffff"
  yield* driver.enqueue([newJob(world, marker, id)])
  const [row] = yield* driver.get([id])
  yield* driver.cancel([id])
  yield* driver.prune({ succeeded: undefined, failed: undefined, cancelled: 0, attempts: undefined }, 1)
  assert.deepStrictEqual(yield* driver.get([id, ...world.ids]), [], "the store is empty")
  return row!.enqueuedAt
})

/** Does a history to both stores. Dies where they part, so the caller turns that into a failure it can shrink. */
const replay = Effect.fnUntraced(function* (postgres: Omit<Side, "start">, steps: ReadonlyArray<Step>) {
  const world = makeWorld(steps.length)
  const memory = { driver: yield* MemoryJobStore.make, advance: (ms: number) => TestClock.adjust(ms) }
  const sides: readonly [Side, Side] = [
    { ...memory, start: yield* start(memory.driver, world) },
    { ...postgres, start: yield* start(postgres.driver, world) }
  ]
  for (const [at, step] of steps.entries()) {
    // Two steps are never at the same instant in Postgres
    yield* memory.advance(1)
    const [a, b] = yield* Effect.all(sides.map((side) => perform(side.driver, side.advance, world, step, at)))
    const name = `${at + 1}. ${JSON.stringify(step)}`
    agree(`answers of ${name}`, a!.value, b!.value, sides)
    world.leases.push(...a!.leases)
    if (step._tag === "Enqueue") for (const n of [0, 1]) world.known.add(world.ids[(step.job + n) % world.ids.length]!)
    const [rows, others] = yield* Effect.all(sides.map(({ driver }) => driver.get(world.ids)))
    agree(`rows after ${name}`, rows, others, sides)
    if (at % 10 === 9) yield* sameOverview(world, sides)
  }
  yield* sameOverview(world, sides)
  // Where the log is whole, the numbers of each job tell the same story
  if (steps.some(({ _tag }) => _tag === "Prune")) return
  for (const row of yield* memory.driver.get(world.ids)) audit(row, yield* memory.driver.attempts(row.id))
})

const sameOverview = Effect.fnUntraced(function* (world: World, sides: readonly [Side, Side]) {
  const [memory, postgres] = yield* Effect.all(sides.map(({ driver }) => overview(driver, world)))
  agree("stats, next due, ended and attempts", memory, postgres, sides)
})

/** Empties the tables between two histories. */
class Reset extends Context.Service<Reset, { readonly run: Effect.Effect<void> }>()("test/Reset") {}

const layerReset = Layer.effect(
  Reset,
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const { attempts, jobs } = yield* Effect.fromResult(Names.make())
    return { run: Effect.asVoid(Effect.orDie(sql.unsafe(`truncate ${jobs}, ${attempts}`))) }
  })
)

describePostgres("memory and Postgres", () => {
  const both = Layer.provideMerge(layerReset, storeUnderTest).pipe(Layer.provide(layerFresh()))
  layer(both, { timeout: 60_000, excludeTestServices: true })("random histories", (it) => {
    it.effect(
      "give equal answers and equal rows",
      () =>
        Effect.gen(function* () {
          const postgres = yield* StoreUnderTest
          const { run: reset } = yield* Reset
          const property = (steps: ReadonlyArray<Step>) =>
            reset.pipe(
              Effect.andThen(replay(postgres, steps)),
              Effect.provide(TestClock.layer()),
              Effect.catchDefect((defect) => Effect.fail(defect instanceof Error ? defect.message : String(defect))),
              Effect.as(true)
            )
          const result = yield* Arbitrary.checkEffect(history, property, { runs, size: SIZE, maxShrinks: 200 })
          const problem = Arbitrary.formatCheckFailure(result)
          if (problem !== undefined) assert.fail(problem)
        }),
      300_000
    )
  })
})
