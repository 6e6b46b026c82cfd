/** The simulator as users have it: does my handler do the right thing, wherever its worker dies? */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Schedule, Schema } from "effect"
import { CurrentJob, Job, Polyqueue, TerminalError } from "../../src/index.ts"
import { Simulator } from "../../src/testing/index.ts"

class Charge extends Job.make("Charge", { payload: { order: Schema.String } }) {}

/** An account that a handler charges in two steps; what it has done survives its worker. */
const scenario = (charge: (account: Map<string, number>, order: string) => void) => () => {
  const account = new Map<string, number>()
  return {
    jobs: [Charge] as const,
    handlers: Charge.toLayer(({ order }) =>
      Effect.gen(function* () {
        yield* Effect.sleep("10 millis")
        charge(account, order)
        yield* Effect.sleep("10 millis")
      })
    ),
    program: Charge.enqueue({ order: "o-1" }),
    check: () => (account.get("o-1") === 10 ? [] : [`charged ${account.get("o-1")} instead of 10`])
  }
}

const once = scenario((account, order) => account.set(order, 10))
const again = scenario((account, order) => account.set(order, (account.get(order) ?? 0) + 10))

describe("every crash", () => {
  it.effect("an idempotent handler does the right thing wherever its worker dies", () =>
    Effect.gen(function* () {
      assert.isAbove(yield* Simulator.everyCrash(once), 50)
    })
  )

  it.effect("one that is not is found, with the story of the crash that shows it", () =>
    Effect.gen(function* () {
      const failure = yield* Effect.flip(Simulator.everyCrash(again))
      assert.include(failure.message, "charged 20 instead of 10")
      assert.include(failure.message, "killed between two steps")
      assert.include(failure.message, `a crash at step ${failure.seed} `)
    })
  )

  /** Charges an account unless it is marked as charged for this job; the pause is a moment in which a worker can die. */
  const marked = (pauseBetween: boolean) => () => {
    const database = { charged: 0, done: new Set<string>() }
    const handle = Effect.gen(function* () {
      const { id } = yield* CurrentJob
      if (database.done.has(id)) return
      const charge = Effect.sync(() => void (database.charged += 10))
      const mark = Effect.sync(() => void database.done.add(id))
      yield* pauseBetween
        ? Effect.andThen(charge, Effect.delay(mark, "10 millis"))
        : // One transaction: nothing comes between the two
          Effect.sync(() => {
            Effect.runSync(charge)
            Effect.runSync(mark)
          })
      yield* Effect.sleep("10 millis")
    })
    return {
      jobs: [Charge] as const,
      handlers: Charge.toLayer(() => handle),
      program: Charge.enqueue({ order: "o-1" }),
      check: () => (database.charged === 10 ? [] : [`charged ${database.charged} instead of 10`])
    }
  }

  it.effect("an effect and its mark in one transaction: the right thing, wherever its worker dies", () =>
    Effect.gen(function* () {
      assert.isAbove(yield* Simulator.everyCrash(marked(false)), 50)
    })
  )

  it.effect("an effect and its mark one after the other: the crash between them is found", () =>
    Effect.gen(function* () {
      const failure = yield* Effect.flip(Simulator.everyCrash(marked(true)))
      assert.include(failure.message, "charged 20 instead of 10")
    })
  )

  it.effect("a scenario that is wrong without any crash is told apart", () =>
    Effect.gen(function* () {
      const failure = yield* Effect.flip(Simulator.everyCrash(scenario(() => {})))
      assert.include(failure.message, "no crash at all breaks a promise")
    })
  )

  it.effect("a client that fails is a failure", () =>
    Effect.gen(function* () {
      const failure = yield* Effect.flip(
        Simulator.everyCrash(() => ({ ...once(), program: Charge.enqueue({ order: "o-1" }, { priority: 99 }) }))
      )
      assert.include(failure.message, "the program ends")
    })
  )

  it.effect("handlers may await promises that need no time", () =>
    Effect.gen(function* () {
      const crashes = yield* Simulator.everyCrash(
        () => {
          let count = 0
          return {
            jobs: [Charge] as const,
            handlers: Charge.toLayer(() =>
              Effect.promise(async () => {
                await Promise.resolve()
                count++
              })
            ),
            program: Charge.enqueue({ order: "o-1" }),
            check: () => (count > 0 ? [] : ["it never ran"])
          }
        },
        { atMost: 20 }
      )
      assert.isAbove(crashes, 0)
      assert.isAtMost(crashes, 20)
    })
  )

  it.effect("what tears its worker down is quarantined, and blocks nobody else", () =>
    Simulator.everyCrash(
      () => ({
        jobs: [Charge] as const,
        handlers: Charge.toLayer(({ order }) => (order === "poison" ? Simulator.crash : Effect.void)),
        program: Charge.enqueueAll([{ order: "poison" }, { order: "o-1" }]),
        check: (rows) =>
          rows.map(({ status }) => status).join() === "failed,succeeded"
            ? []
            : [rows.map(({ status }) => status).join()]
      }),
      { atMost: 30 }
    )
  )
})

describe("explore", () => {
  const insisting = (make: ReturnType<typeof scenario>) => () => ({
    ...make(),
    program: Effect.gen(function* () {
      const id = yield* Polyqueue.use((queue) => queue.makeId)
      const handle = yield* Effect.retry(Charge.enqueue({ order: "o-1" }, { id }), {
        schedule: Schedule.spaced("1 second")
      })
      yield* Effect.ignore(handle.cancel)
    })
  })

  it.effect("draws many worlds and says what was done to them", () =>
    Effect.gen(function* () {
      const tally = yield* Simulator.explore(
        () => ({
          jobs: [Charge] as const,
          handlers: Charge.toLayer(() => new TerminalError({ message: "no money" })),
          program: insisting(once)().program,
          check: (rows) => rows.flatMap(({ status }) => (status === "succeeded" ? ["it succeeded"] : []))
        }),
        { seeds: 20 }
      )
      assert.strictEqual(tally.runs, 20)
      assert.strictEqual(tally.jobs, tally.ended)
      assert.isAbove(Object.keys(tally.faults).length, 10)
    })
  )

  it.effect("a failing seed tells its story, and replays exactly", () =>
    Effect.gen(function* () {
      const make = () => {
        const seen = new Set<number>()
        return {
          jobs: [Charge] as const,
          handlers: Charge.toLayer(() => Effect.map(CurrentJob, ({ attempt }) => void seen.add(attempt))),
          program: Effect.retry(Charge.enqueueAll(Array.from({ length: 20 }, () => ({ order: "o" }))), {
            schedule: Schedule.spaced("1 second")
          }),
          check: () => (seen.has(2) ? ["something ran twice"] : [])
        }
      }
      const first = yield* Effect.flip(Simulator.explore(make))
      const second = yield* Effect.flip(Simulator.explore(make, { seed: first.seed }))
      assert.include(first.message, "something ran twice")
      assert.deepStrictEqual(second.story, first.story)
    })
  )
})

it.effect("outside of a simulation there is nothing to crash", () =>
  Effect.gen(function* () {
    const exits = yield* Effect.forEach([Simulator.crash, Simulator.block(1)], Effect.exit)
    assert.isTrue(exits.every(({ _tag }) => _tag === "Failure"))
  }).pipe(Effect.provide(Layer.empty))
)
