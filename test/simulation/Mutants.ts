/**
 * Polyqueues with one promise broken on purpose. The simulation must notice each of them: a checker that never failed is not
 * evidence. Most are stores that do a little less than they say; the worker and its handlers stay real.
 */
import { Effect } from "effect"
import type { HandlerService } from "../../src/Job.ts"
import type { JobStoreDriver, Settlement } from "../../src/store/JobStoreDriver.ts"

export interface Mutant {
  readonly name: string
  readonly store?: (driver: JobStoreDriver) => JobStoreDriver
  readonly handler?: (run: HandlerService["run"]) => HandlerService["run"]
  readonly monotonic?: (elapsed: number) => number
  /** Rules of which one must be seen broken. */
  readonly breaks: ReadonlyArray<string>
}

const store = (
  name: string,
  breaks: ReadonlyArray<string>,
  change: (driver: JobStoreDriver) => Partial<JobStoreDriver>
): Mutant => ({ name, breaks, store: (driver) => ({ ...driver, ...change(driver) }) })

/** Every job that is being worked on, with the lease of its owner. */
const owners = (driver: JobStoreDriver, claims: ReadonlyMap<string, string>) =>
  Effect.map(driver.list({ status: "processing", limit: 1_000 }), (rows) =>
    rows.map((row) => ({ id: row.id, attempt: row.attempt, claim: claims.get(`${row.id}/${row.attempt}`) ?? "" }))
  )

/** Settles under the lease of whoever owns the job now, as a fence by state alone would let it. */
const fenceRemoved = (driver: JobStoreDriver): Partial<JobStoreDriver> => {
  const claims = new Map<string, string>()
  const remember = (jobs: ReadonlyArray<{ readonly id: string; readonly attempt: number; readonly claim: string }>) => {
    for (const { attempt, claim, id } of jobs) claims.set(`${id}/${attempt}`, claim)
  }
  return {
    claim: (request) => Effect.tap(driver.claim(request), (jobs) => Effect.sync(() => remember(jobs))),
    claimHinted: (request) =>
      Effect.tap(driver.claimHinted(request), ({ claimed }) => Effect.sync(() => remember(claimed))),
    settle: (worker, settlements) =>
      Effect.flatMap(owners(driver, claims), (now) =>
        driver.settle(
          worker,
          settlements.map((settlement): Settlement => ({
            ...settlement,
            ...now.find(({ id }) => id === settlement.id)
          }))
        )
      )
  }
}

/** As `claim`, again and again under one name until it brings nothing more that crashed a worker. */
const suspectRuleOff = (driver: JobStoreDriver): Partial<JobStoreDriver> => ({
  claim: (request) =>
    Effect.gen(function* () {
      const all = [...(yield* driver.claim({ ...request, suspects: 1 }))]
      for (;;) {
        const more = yield* driver.claim({ ...request, suspects: 1 })
        const suspects = more.filter(({ suspect }) => suspect)
        all.push(...more)
        if (suspects.length === 0) return all
      }
    })
})

export const mutants: ReadonlyArray<Mutant> = [
  store("the fence is removed", ["no stale write"], fenceRemoved),
  store("the sweep is off", ["everything ends"], () => ({ reap: () => Effect.succeed([]) })),
  store("leases are not renewed", ["a live lease is safe"], () => ({
    renew: () => Effect.succeed({ lost: [], locked: [], cancelled: [] })
  })),
  store("the sweep takes live leases", ["a live lease is safe", "only owned attempts are reaped"], (driver) => ({
    reap: (options) => driver.reapTimeouts({ limit: options.limit, grace: -1_000_000 })
  })),
  store("unique keys are ignored", ["one job per key"], (driver) => ({
    enqueue: (jobs) => driver.enqueue(jobs.map((job) => ({ ...job, key: undefined })))
  })),
  store("an id is made anew when it is sent again", ["enqueue is idempotent", "nothing is lost"], (driver) => ({
    enqueue: (jobs) =>
      Effect.map(driver.enqueue(jobs), (outcomes) =>
        outcomes.map((outcome, i) =>
          outcome._tag === "Duplicate" && outcome.id === jobs[i]!.id ? { _tag: "Inserted" as const } : outcome
        )
      )
  })),
  store("an enqueue is told to be done, and is not", ["nothing is lost"], (driver) => {
    let count = 0
    return {
      enqueue: (jobs) =>
        ++count % 5 === 0
          ? Effect.succeed(jobs.map(() => ({ _tag: "Duplicate", id: jobs[0]!.id })))
          : driver.enqueue(jobs)
    }
  }),
  store("suspects run together", ["suspects run alone"], suspectRuleOff),
  store("a retry does not wait", ["never early"], (driver) => ({
    settle: (worker, settlements) =>
      driver.settle(
        worker,
        settlements.map((one) => (one._tag === "Failed" && one.retryIn !== undefined ? { ...one, retryIn: 0 } : one))
      )
  })),
  store("the relay is off and nobody looks", ["everything ends"], () => ({
    takeHints: () => Effect.succeed([]),
    claim: () => Effect.succeed([])
  })),
  store("claims are not named", ["every duplicate is explained", "everything ends"], () => ({
    abandon: () => Effect.succeed(0)
  })),
  store("settled before the commit: told to be written, and is not", ["rows tell what happened"], (driver) => {
    let count = 0
    return {
      settle: (worker, settlements) =>
        ++count % 7 === 0
          ? Effect.succeed(settlements.map(() => ({ _tag: "Settled", status: "succeeded" }) as const))
          : driver.settle(worker, settlements)
    }
  }),
  store("a requested cancel is forgotten", ["cancel is decisive", "rows tell what happened"], () => ({
    cancel: (ids) => Effect.succeed(ids.map(() => "requested" as const))
  })),
  store("poison is never quarantined", ["poison is quarantined", "rows tell what happened"], (driver) => ({
    enqueue: (jobs) => driver.enqueue(jobs.map((job) => ({ ...job, maxCrashes: 1_000 })))
  })),
  store("a settle that is sent again is not recognised", ["a settle is recognised"], (driver) => ({
    settle: (worker, settlements) =>
      Effect.map(driver.settle(worker, settlements), (outcomes) =>
        outcomes.map((outcome) => (outcome._tag === "AlreadyMine" ? { _tag: "LeaseLost" as const } : outcome))
      )
  })),
  store("what has ended runs again", ["an end is final"], (driver) => {
    const seen = new Set<string>()
    return {
      settle: (worker, settlements) =>
        Effect.tap(driver.settle(worker, settlements), () =>
          Effect.forEach(
            settlements.filter(({ id }) => !seen.has(id)),
            ({ id }) => {
              seen.add(id)
              return driver.requeue(id)
            },
            { discard: true }
          )
        )
    }
  }),
  store("the result of another attempt is stored", ["jobs become what they should"], (driver) => ({
    settle: (worker, settlements) =>
      driver.settle(
        worker,
        settlements.map((one) => (one._tag === "Succeeded" ? { ...one, result: "99" } : one))
      )
  })),
  store("the log forgets attempts", ["rows tell what happened"], (driver) => ({
    attempts: (id) =>
      Effect.map(driver.attempts(id), (log) => log.filter(({ finalizedBy }) => finalizedBy !== "reaper"))
  })),
  store("a pause holds nothing", ["a pause holds"], (driver) => ({
    pause: (request) => Effect.tap(driver.pause(request), () => driver.resume({ ...request }))
  })),
  store("retention takes what has not ended", ["only what has ended is deleted"], (driver) => ({
    prune: (retention, limit) =>
      Effect.gen(function* () {
        const [live] = yield* driver.list({ status: "queued", limit: 1 })
        const request = { ids: [live?.id ?? ""], by: { who: "mutant" }, operation: "", publishIn: 0 }
        yield* driver.act({ ...request, action: "fail" })
        yield* driver.act({ ...request, action: "purge" })
        return yield* driver.prune(retention, limit)
      })
  })),
  {
    name: "the clocks of workers are slow: leases end later for them",
    breaks: ["nobody runs past a lease"],
    monotonic: (elapsed) => elapsed / 10
  },
  {
    name: "settled before the handler's end",
    breaks: ["settled after its end"],
    handler: (run) => (payload) => Effect.as(Effect.forkDetach(run(payload)), 1)
  }
]
