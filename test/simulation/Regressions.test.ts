/** What the simulation has found, each as the smallest world in which it happened. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Schema } from "effect"
import type { Any } from "../../src/Job.ts"
import { Job, JobDefaults, type Polyqueue, type Worker } from "../../src/index.ts"
import * as Simulator from "../../src/testing/Simulator.ts"
import * as Setup from "../../src/testing/simulation/Setup.ts"
import { type Options, Simulation } from "../../src/testing/simulation/Simulation.ts"

class Work extends Job.make("Work", { payload: { milliseconds: Schema.Int } }) {}
class Timed extends Job.make("Timed", { timeout: { after: "1 second", then: "fail" } }) {}

/** One worker in a calm world. Fails when a promise is broken; answers the attempts of every job. */
const calm = (world: {
  readonly jobs: ReadonlyArray<Any>
  readonly handlers: unknown
  readonly program: Effect.Effect<unknown, unknown, Polyqueue>
  readonly worker: Worker.Options
  readonly broker?: Setup.Setup["broker"]
  readonly sabotage?: NonNullable<Options["sabotage"]>
}) => {
  const simulation = new Simulation({
    seed: 1,
    mode: "liveness",
    setup: {
      ...Setup.calm,
      places: [{ options: world.worker, broken: new Set() }],
      broker: world.broker ?? "bell"
    },
    jobs: world.jobs,
    handlers: world.handlers as Layer.Layer<never>,
    clients: [{ program: world.program, isVulnerable: false }],
    defaults: JobDefaults.defaultValue(),
    tells: true,
    ...(world.sabotage === undefined ? {} : { sabotage: world.sabotage })
  })
  for (const _ of simulation.drive());
  assert.deepStrictEqual(simulation.history.violations, [], simulation.world.story.join("\n"))
  return {
    attempts: [...simulation.history.jobs.values()].map((job) => job.attempts),
    rows: [...simulation.history.jobs.keys()].map((id) => simulation.row(id)!)
  }
}

const busy = Work.toLayer(({ milliseconds }) => Effect.sleep(milliseconds))

describe("found by the simulation", () => {
  it("a job that blocks its only worker for longer than its lease is quarantined, not run for ever", () => {
    const { rows } = calm({
      jobs: [Work],
      handlers: Work.toLayer(({ milliseconds }) =>
        Effect.andThen(Simulator.block(milliseconds), Effect.sleep("1 second"))
      ),
      program: Work.enqueue({ milliseconds: 5_000 }),
      worker: { lease: "1 second" }
    })
    assert.deepStrictEqual([rows[0]!.error?.code, rows[0]!.crashes], ["poison", 3])
  })

  it("a claim that is answered when its lease has ended starts nothing", () => {
    let calls = 0
    const { attempts } = calm({
      jobs: [Work],
      handlers: busy,
      program: Work.enqueue({ milliseconds: 10 }),
      worker: { lease: "1 second" },
      sabotage: {
        store: (driver) => ({
          ...driver,
          claim: (request) =>
            Effect.tap(driver.claim(request), (jobs) =>
              jobs.length > 0 && ++calls === 1 ? Effect.sleep("2 seconds") : Effect.void
            )
        })
      }
    })
    const [first, second] = attempts[0]!
    assert.deepStrictEqual([first!.outcome, first!.startedAt, second!.outcome], ["released", undefined, "succeeded"])
  })

  it("a job that was claimed ahead and waits for a slot is given back before its timeout", () => {
    const { rows } = calm({
      jobs: [Work, Timed],
      handlers: Layer.merge(
        busy,
        Timed.toLayer(() => Effect.void)
      ),
      program: Effect.gen(function* () {
        // So quick that more is claimed ahead
        const quick = yield* Work.enqueueAll(Array.from({ length: 150 }, () => ({ milliseconds: 0 })))
        yield* Effect.forEach(quick, (job) => job.await)
        yield* Work.enqueue({ milliseconds: 30_000 }, { priority: 0 })
        yield* Timed.enqueueAll(Array.from({ length: 3 }, () => undefined))
      }),
      worker: { concurrency: 1, sweepEvery: "1 second" }
    })
    const timed = rows.filter(({ type }) => type === "Timed")
    assert.deepStrictEqual(
      timed.map(({ failures, status }) => [status, failures]),
      [
        ["succeeded", 0],
        ["succeeded", 0],
        ["succeeded", 0]
      ]
    )
    assert.isAbove(timed[0]!.interruptions, 0, "it was claimed ahead")
  })

  it("a hint that arrives when every slot is taken is left to others", () => {
    const { attempts } = calm({
      jobs: [Work],
      handlers: busy,
      // The store has them in another order than the broker
      program: Effect.forEach([6, 5, 4, 3], (priority) => Work.enqueue({ milliseconds: 10_000 }, { priority })),
      worker: { concurrency: 1 },
      broker: { fenced: true, idempotentPublish: false, countsDeliveries: true, maxHold: undefined }
    })
    for (const [first] of attempts) assert.isBelow(first!.startedAt! - first!.claimedAt, 1_000)
    assert.deepStrictEqual(
      attempts.map(({ length }) => length),
      [1, 1, 1, 1]
    )
  })
})
