/** What the simulation has found, each as the smallest world in which it happened. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Schema } from "effect"
import type { Any } from "../../src/Job.ts"
import { CurrentJob, Job, JobDefaults, type Polyqueue, StoreError, type Worker } from "../../src/index.ts"
import * as Simulator from "../../src/testing/Simulator.ts"
import * as Setup from "../../src/testing/simulation/Setup.ts"
import { type Options, Simulation } from "../../src/testing/simulation/Simulation.ts"

class Work extends Job.make("Work", { payload: { milliseconds: Schema.Int } }) {}
class Slow extends Job.make("Slow", { queue: "slow" }) {}
class Timed extends Job.make("Timed", { timeout: { after: "1 second", then: "fail" } }) {}

/** A calm world, of one worker if nothing else is said. Fails when a promise is broken; answers rows and attempts. */
const calm = (world: {
  readonly jobs: ReadonlyArray<Any>
  readonly handlers: unknown
  readonly program: Effect.Effect<unknown, unknown, Polyqueue>
  readonly worker: Worker.Options
  /** Operations that always fail in a second worker. */
  readonly secondBroken?: string
  readonly broker?: Setup.Setup["broker"]
  readonly brokerOnlyLoses?: boolean
  readonly sabotage?: NonNullable<Options["sabotage"]>
  /** What the sabotage does to attempts is no violation. */
  readonly isSabotageFelt?: boolean
}) => {
  const simulation = new Simulation({
    seed: 1,
    mode: "liveness",
    setup: {
      ...Setup.calm,
      places: [
        { options: world.worker, broken: new Set(), knows: 1 },
        ...(world.secondBroken === undefined
          ? []
          : [{ options: world.worker, broken: new Set([world.secondBroken]), knows: 1 }])
      ],
      broker: world.broker ?? "bell",
      brokerOnlyLoses: world.brokerOnlyLoses ?? false
    },
    jobs: world.jobs,
    handlers: world.handlers as Layer.Layer<never>,
    clients: [{ program: world.program, isVulnerable: false }],
    defaults: JobDefaults.defaultValue(),
    tells: true,
    ...(world.sabotage === undefined ? {} : { sabotage: world.sabotage })
  })
  for (const _ of simulation.drive());
  const violations = simulation.history.violations.filter(
    ({ rule }) => world.isSabotageFelt !== true || rule !== "every duplicate is explained"
  )
  assert.deepStrictEqual(violations, [], simulation.world.story.join("\n"))
  return {
    attempts: [...simulation.history.jobs.values()].map((job) => job.attempts),
    rows: [...simulation.history.jobs.keys()].map((id) => simulation.row(id)!)
  }
}

const hints = { fenced: true, idempotentPublish: false, countsDeliveries: true, maxHold: undefined }
const crashOnce = Effect.flatMap(CurrentJob, ({ attempt }) =>
  attempt === 1 ? Simulator.crash : Effect.sleep("1 second")
)
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
      broker: hints
    })
    for (const [first] of attempts) assert.isBelow(first!.startedAt! - first!.claimedAt, 1_000)
    assert.deepStrictEqual(
      attempts.map(({ length }) => length),
      [1, 1, 1, 1]
    )
  })

  it("jobs that crashed their worker run one at a time, also when queues have pools of their own", () => {
    const { rows } = calm({
      jobs: [Work, Slow],
      handlers: Layer.merge(
        Work.toLayer(() => crashOnce),
        Slow.toLayer(() => crashOnce)
      ),
      program: Effect.andThen(Work.enqueueAll([{ milliseconds: 0 }, { milliseconds: 0 }]), Slow.enqueue()),
      worker: { concurrency: { default: 5, slow: 5 } },
      broker: hints
    })
    assert.deepStrictEqual(
      rows.map(({ crashes, status }) => [crashes, status]),
      [
        [1, "succeeded"],
        [1, "succeeded"],
        [1, "succeeded"]
      ]
    )
  })

  it("a pool that always asks second gets its turn with a job that crashed its worker", () => {
    const { attempts } = calm({
      jobs: [Work, Slow],
      handlers: Layer.merge(
        busy,
        Slow.toLayer(() => crashOnce)
      ),
      program: Slow.enqueue(),
      worker: { concurrency: { default: 5, slow: 5 }, lease: "2 seconds", sweepEvery: "1 second" },
      broker: hints,
      brokerOnlyLoses: true
    })
    assert.strictEqual(attempts[0]![1]!.outcome, "succeeded")
    assert.isBelow(attempts[0]![1]!.claimedAt - attempts[0]![0]!.endedAt!, 10_000)
  })

  it("a worker that cannot renew leaves jobs that outlast a lease to others", () => {
    const { attempts } = calm({
      jobs: [Work],
      handlers: busy,
      program: Work.enqueueAll(Array.from({ length: 4 }, () => ({ milliseconds: 3_000 }))),
      worker: { concurrency: 1, lease: "1 second" },
      secondBroken: "renew",
      broker: hints
    })
    const inVain = attempts.flat().filter(({ process }) => process.name.startsWith("worker-2"))
    assert.isAtMost(inVain.length, 1)
  })

  it("a worker that could not renew claims again once it can", () => {
    let down = true
    const { attempts } = calm({
      jobs: [Work],
      handlers: busy,
      program: Work.enqueue({ milliseconds: 3_000 }),
      worker: { concurrency: 1, lease: "1 second" },
      isSabotageFelt: true,
      sabotage: {
        store: (driver) => ({
          ...driver,
          renew: (leases, lease) =>
            Effect.suspend(() =>
              down
                ? Effect.fail(new StoreError({ reason: "Unavailable", operation: "renew", message: "down" }))
                : driver.renew(leases, lease)
            ),
          settle: (worker, settlements) =>
            Effect.tap(driver.settle(worker, settlements), () => Effect.sync(() => (down = false)))
        })
      }
    })
    const [first, second] = attempts[0]!
    assert.deepStrictEqual([first!.outcome, second!.outcome], ["released", "succeeded"])
    assert.isBelow(second!.claimedAt - first!.endedAt!, 5_000)
  })
})
