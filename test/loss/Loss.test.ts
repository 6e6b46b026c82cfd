/**
 * Brokers that lose everything, go away, or lie: no job is lost, none runs twice, and every outcome is that of a perfect
 * broker. `POLYQUEUE_TEST_SLOW=1` makes outages last 30 seconds.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Schedule, Schema } from "effect"
import { Broker, CurrentJob, Job, Polyqueue, Worker } from "../../src/index.ts"
import { brokerOf } from "../crash/brokers.ts"
import * as ChaosBroker from "../support/ChaosBroker.ts"
import { describePostgres, freshDatabase, layerUrl } from "../support/Postgres.ts"
import { describeOwnRedis } from "../support/Redis.ts"
import { type Troubled, troubled } from "./Troubled.ts"

/** How long a broker stays away, in ms. */
const outage = process.env["POLYQUEUE_TEST_SLOW"] === "1" ? 30_000 : 1_500

class No extends Schema.TaggedError<No>()("No", { n: Schema.Int }) {}
/** Every third one fails for good, every third one only the first time. */
class Task extends Job.make("Task", {
  payload: { n: Schema.Int },
  success: Schema.Int,
  error: No,
  retry: { schedule: Schedule.spaced("50 millis").pipe(Schedule.upTo({ times: 5 })), while: ({ n }) => n % 3 !== 1 }
}) {}

/** What a perfect broker makes of task `n`. */
const expected = (n: number) =>
  n % 3 === 1 ? `failed with ${n} after 1` : `succeeded with ${n} after ${1 + (n % 3) / 2}`

/** Counts runs of each task, and lets them take a moment. */
const counted = () => {
  const runs = new Map<number, number>()
  const handler = Task.toLayer(
    Effect.fnUntraced(function* ({ n }) {
      const { attempt } = yield* CurrentJob
      runs.set(n, (runs.get(n) ?? 0) + 1)
      yield* Effect.sleep("20 millis")
      if (n % 3 === 1 || (n % 3 === 2 && attempt === 1)) return yield* new No({ n })
      return n
    })
  )
  return { runs, handler }
}

type Handle = Effect.Success<ReturnType<typeof Task.enqueue>>

const outcomeOf = Effect.fnUntraced(function* (job: Handle) {
  const outcome = yield* Effect.match(job.await, {
    onFailure: (error) => (error._tag === "No" ? `failed with ${error.n}` : `stopped: ${error.message}`),
    onSuccess: (n) => `succeeded with ${n}`
  })
  const log = yield* Polyqueue.use((queue) => queue.attempts(job.id))
  return `${outcome} after ${log.length}`
})

/** One program on a broker in trouble: client and a worker of four slots. */
const program = <A, E>(
  name: keyof typeof troubled,
  wrap: (broker: Broker["Service"]) => Broker["Service"],
  test: (
    trouble: Troubled,
    tasks: {
      readonly enqueue: (from: number, count: number) => Effect.Effect<ReadonlyArray<Handle>, unknown>
      readonly runs: ReadonlyMap<number, number>
    }
  ) => Effect.Effect<A, E, Polyqueue | Broker>
) =>
  Effect.gen(function* () {
    const url = yield* freshDatabase
    const trouble = yield* troubled[name](url)
    const { handler, runs } = counted()
    const Wrapped = Layer.effect(Broker, Effect.map(Broker, wrap)).pipe(Layer.provide(brokerOf(trouble.spec)))
    const Live = Worker.layer([Task], { concurrency: 4, lease: "10 seconds", brokerLease: "10 seconds" }).pipe(
      Layer.provide(handler),
      Layer.provideMerge(Polyqueue.layerPostgres),
      Layer.provideMerge(Wrapped),
      Layer.provideMerge(layerUrl(url))
    )
    yield* Effect.gen(function* () {
      const context = yield* Effect.context<Polyqueue>()
      const enqueue = (from: number, count: number) =>
        Effect.provideContext(Task.enqueueAll(Array.from({ length: count }, (_, n) => ({ n: from + n }))), context)
      yield* test(trouble, { enqueue, runs })
    }).pipe(Effect.provide(Live))
  }).pipe(Effect.scoped)

/** All of them ended as on a perfect broker, by as few runs. */
const perfect = Effect.fnUntraced(function* (jobs: ReadonlyArray<Handle>, runs: ReadonlyMap<number, number>) {
  const outcomes = yield* Effect.forEach(jobs, outcomeOf, { concurrency: "unbounded" })
  assert.deepStrictEqual(
    outcomes,
    jobs.map((_, n) => expected(n))
  )
  assert.deepStrictEqual(
    jobs.map((_, n) => runs.get(n)),
    jobs.map((_, n) => (n % 3 === 2 ? 2 : 1))
  )
})

const ran = (runs: ReadonlyMap<number, number>, count: number) =>
  Effect.repeat(Effect.sleep("10 millis"), { until: () => runs.size >= count })

const suite = (name: keyof typeof troubled) =>
  // Side by side: each has servers of its own, and mostly waits
  describe(name, { concurrent: true }, () => {
    it.live(
      "loses everything in the middle of a run: no job is lost, none runs twice",
      () =>
        program(
          name,
          (broker) => broker,
          Effect.fnUntraced(function* (trouble, { enqueue, runs }) {
            const jobs = yield* enqueue(0, 120)
            yield* ran(runs, 30)
            yield* trouble.loseAll
            yield* perfect(jobs, runs)
          })
        ),
      60_000
    )

    it.live(
      "drops 30 %, doubles 30 % and reorders: the same outcomes as on a perfect broker",
      () =>
        program(
          name,
          (broker) => {
            const { chaos, driver } = ChaosBroker.make(broker, 11)
            return Object.assign(chaos, { drop: 0.3, double: 0.3, reorder: true }) && driver
          },
          Effect.fnUntraced(function* (_, { enqueue, runs }) {
            const jobs = yield* enqueue(0, 90)
            yield* perfect(jobs, runs)
          })
        ),
      60_000
    )

    if (name === "pgmq") return
    it.live(
      "goes away and comes back: enqueues commit and jobs run meanwhile, and hints are carried again after it",
      () => {
        const { chaos, wrap } = counting()
        return program(
          name,
          wrap,
          Effect.fnUntraced(function* ({ start, stop }, { enqueue, runs }) {
            const before = yield* enqueue(0, 60)
            yield* ran(runs, 10)
            yield* stop ?? Effect.void
            // Fails if an enqueue does
            const during = yield* enqueue(60, 30)
            yield* ran(runs, 90)
            yield* Effect.sleep(outage)
            yield* start ?? Effect.void
            const received = chaos().received
            const after: Array<Handle> = []
            // One at a time, so that workers wait for hints and not for slots
            while (chaos().received < received + 5 && after.length < 200) {
              const [job] = yield* enqueue(90 + after.length, 1)
              after.push(job!)
              yield* outcomeOf(job!)
            }
            assert.isAtLeast(chaos().received, received + 5, "hints came again")
            yield* perfect([...before, ...during, ...after], runs)
          })
        )
      },
      outage + 60_000
    )
  })

/** A broker whose traffic is counted. */
const counting = () => {
  let chaos: ChaosBroker.Chaos | undefined
  return {
    chaos: () => chaos!,
    wrap: (broker: Broker["Service"]) => {
      const made = ChaosBroker.make(broker)
      chaos = made.chaos
      return made.driver
    }
  }
}

describePostgres("a broker that", () => {
  describeOwnRedis("is a Redis without persistence", () => suite("redis"))
  suite("sqs")
  suite("service-bus")
  suite("pgmq")
})
