/**
 * `polyqueue bench`: how fast this database and this machine are together, with no-op jobs in a schema of its own, which is
 * dropped afterwards, also when it is interrupted. Numbers of two runs on a shared machine are not comparable.
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { SqlClient } from "effect/sql/SqlClient"
import { randomBytes } from "node:crypto"
import { Broker } from "../Broker.ts"
import * as Job from "../Job.ts"
import { Polyqueue } from "../Polyqueue.ts"
import * as Worker from "../Worker.ts"
import * as Confirm from "./Confirm.ts"
import * as Deployment from "./Deployment.ts"
import * as Output from "./Output.ts"
import * as ProgressLine from "./ProgressLine.ts"
import * as Spans from "./Spans.ts"
import * as Sql from "./Sql.ts"

/** One measurement. */
interface Measurement {
  readonly name: string
  readonly value: number
  readonly unit: "jobs/s" | "ms"
}

const Noop = Job.make("polyqueue.bench", { payload: { n: Schema.Int } })

const batch = 1_000
const roundTrips = 200

const now = Effect.map(Clock.currentTimeNanos, (nanos) => Number(nanos) / 1e6)

const timed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const start = yield* now
    yield* effect
    return (yield* now) - start
  })

const perSecond = (jobs: number, milliseconds: number): number => Math.round((jobs * 1_000) / milliseconds)

const percentile = (sorted: ReadonlyArray<number>, part: number): number =>
  Math.round((sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0) * 10) / 10

const fill = Effect.fnUntraced(function* (jobs: number, progress: ProgressLine.ProgressLine) {
  for (let n = 0; n < jobs; n += batch) {
    yield* Noop.enqueueAll(Array.from({ length: Math.min(batch, jobs - n) }, (_, i) => ({ n: n + i })))
    yield* progress.show(`${Spans.count(n)} of ${Spans.count(jobs)} jobs enqueued`)
  }
})

/** A worker that says when it has run so many jobs. */
const drain = Effect.fnUntraced(function* (jobs: number, progress: ProgressLine.ProgressLine) {
  const all = yield* Deferred.make<void>()
  let ran = 0
  const handler = Noop.toLayer(() =>
    Effect.suspend(() => {
      ran++
      if (ran >= jobs) return Deferred.succeed(all, undefined)
      return ran % batch === 0 ? progress.show(`${Spans.count(ran)} of ${Spans.count(jobs)} jobs run`) : Effect.void
    })
  )
  yield* Layer.build(Worker.layer([Noop], { concurrency: 100 }).pipe(Layer.provide(handler)))
  yield* Deferred.await(all)
}, Effect.scoped)

const measure = Effect.fnUntraced(function* (jobs: number, progress: ProgressLine.ProgressLine) {
  const enqueued = yield* timed(fill(jobs, progress))
  // With the release of the worker: what it ran is settled then
  const drained = yield* timed(drain(jobs, progress))
  const trips = yield* Effect.gen(function* () {
    yield* Layer.build(Worker.layer([Noop]).pipe(Layer.provide(Noop.toLayer(() => Effect.void))))
    return yield* Effect.forEach(Array.from({ length: roundTrips }), (_, n) => timed(Noop.execute({ n })))
  }).pipe(Effect.scoped)
  const sorted = trips.toSorted((a, b) => a - b)
  const results: ReadonlyArray<Measurement> = [
    { name: "enqueue, batches of 1,000", value: perSecond(jobs, enqueued), unit: "jobs/s" },
    { name: "run and settle, 100 slots", value: perSecond(jobs, drained), unit: "jobs/s" },
    { name: "enqueue to result, median", value: percentile(sorted, 0.5), unit: "ms" },
    { name: "enqueue to result, 99th percentile", value: percentile(sorted, 0.99), unit: "ms" }
  ]
  return results
})

export const command = Command.make(
  "bench",
  {
    jobs: Flag.Int("jobs").pipe(
      Flag.filter(
        (value) => value >= 1 && value <= 10_000_000,
        (value) => `Expected 1 to 10000000, got ${value}`
      ),
      Flag.withDescription("How many jobs; 20000 if left out"),
      Flag.withDefault(20_000)
    ),
    yes: Confirm.yes,
    output: Output.flag
  },
  Effect.fnUntraced(function* ({ jobs, output, yes }) {
    const { database } = yield* Deployment.connection
    const schema = `polyqueue_bench_${randomBytes(4).toString("hex")}`
    yield* Confirm.confirm(
      yes,
      `${Spans.count(jobs)} no-op jobs will load the database in POLYQUEUE_DB_URL, in the schema ${schema}, dropped afterwards.`
    )
    const progress = yield* ProgressLine.make
    const drop = Effect.flatMap(SqlClient, (sql) => Sql.run(sql, "bench", `drop schema if exists "${schema}" cascade`))
    const stack = Polyqueue.layerPostgresWith({ schema }).pipe(
      Layer.provideMerge(Broker.layerPostgresWith({ channel: schema }))
    )
    const results = yield* Effect.acquireUseRelease(
      Effect.void,
      () => measure(jobs, progress).pipe(Effect.provide(stack)),
      () => Effect.andThen(progress.clear, Effect.orDie(drop))
    ).pipe(Effect.provide(database))
    const screen = yield* Output.screen
    yield* Output.print(
      Output.linesOf(
        output,
        {
          kind: "measurements",
          rows: results,
          columns: () => [
            { title: "MEASUREMENT", cell: ({ name }) => name },
            {
              title: "VALUE",
              cell: ({ unit, value }) => (unit === "ms" ? value.toFixed(1) : Spans.count(value)),
              align: "right"
            },
            { title: "UNIT", cell: ({ unit }) => unit }
          ],
          toJson: (measurement) => measurement,
          extra: { jobs },
          empty: ""
        },
        screen
      )
    )
  })
).pipe(
  Command.withDescription(
    "Measures enqueue, run and round trip of no-op jobs on the database in POLYQUEUE_DB_URL, in a schema of its own that is " +
      "dropped afterwards. It loads that database for some seconds."
  ),
  Command.withShortDescription("How fast is this database with this machine?"),
  Command.withExamples([{ command: "polyqueue bench --jobs 50000 --yes" }])
)
