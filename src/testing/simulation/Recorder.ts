/**
 * A store that tells the history what it decided, call by call, on behalf of one process. It changes nothing. Memory answers
 * in one step, so what it answers and what is then read from it belong to one instant.
 */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../JobError.ts"
import { type JobStoreDriver, outcomeOf, type Settlement } from "../../store/JobStoreDriver.ts"
import type { History } from "./History.ts"
import type { Process } from "./Process.ts"
import type { World } from "./World.ts"

/** How long after its settle a job may not be claimed. */
const delayOf = (settlement: Settlement): number =>
  settlement._tag === "Failed" ? (settlement.retryIn ?? 0) : settlement._tag === "Snoozed" ? settlement.delay : 0

export const make = (driver: JobStoreDriver, history: History, world: World, process: Process): JobStoreDriver => {
  const tap = <A>(effect: Effect.Effect<A, StoreError>, then: (answer: A) => void) =>
    Effect.tap(effect, (answer) => Effect.sync(() => then(answer)))

  /** The row as it stands: where a job may go next is the store's to say, when it draws a jittered delay. */
  const runAtOf = (ids: ReadonlyArray<string>) =>
    Effect.map(driver.get(ids), (rows) => new Map(rows.map(({ id, runAt }) => [id, runAt])))

  const reaping = (
    effect: ReturnType<JobStoreDriver["reap"]>,
    outcome: "crashed" | "timedOut"
  ): ReturnType<JobStoreDriver["reap"]> =>
    Effect.tap(effect, (rows) =>
      Effect.map(runAtOf(rows.map(({ id }) => id)), (runAt) => {
        for (const { attempt, id, status } of rows) {
          history.reaped(id, attempt, outcome, status, runAt.get(id) ?? world.now)
        }
      })
    )

  return {
    ...driver,
    enqueue: (jobs) =>
      tap(driver.enqueue(jobs), (outcomes) => {
        outcomes.forEach((outcome, i) => {
          if (outcome._tag === "Inserted") history.inserted(jobs[i]!)
          else if (outcome._tag === "Duplicate") history.duplicate(jobs[i]!, outcome.id)
        })
      }),
    claim: (request) =>
      tap(driver.claim(request), (jobs) => {
        for (const job of jobs) history.claimed(process, request, job)
      }),
    claimHinted: (request) =>
      tap(driver.claimHinted(request), ({ claimed }) => {
        for (const job of claimed) history.claimed(process, request, job)
      }),
    settle: (worker, settlements) =>
      tap(driver.settle(worker, settlements), (outcomes) => {
        outcomes.forEach((outcome, i) => {
          const settlement = settlements[i]!
          if (outcome._tag === "Settled") {
            history.settled(settlement, outcomeOf(settlement), outcome.status, world.now + delayOf(settlement))
          } else if (outcome._tag === "LeaseLost") history.refused(settlement, outcomeOf(settlement))
          else if (outcome._tag === "AlreadyMine") history.repeated(settlement)
        })
      }),
    renew: (leases, lease) =>
      tap(driver.renew(leases, lease), ({ locked, lost }) => {
        for (const one of leases) {
          if (!locked.includes(one)) history.renewed(one, lease, lost.includes(one))
        }
      }),
    abandon: (worker, claims) =>
      Effect.suspend(() => {
        const held = [...history.jobs.values()].flatMap(({ job, owner }) =>
          owner !== undefined && claims.includes(owner.claim) ? [job.id] : []
        )
        return Effect.tap(driver.abandon(worker, claims), () =>
          Effect.map(driver.get(held), (rows) => {
            for (const row of rows) if (row.status !== "processing") history.abandoned(row.id, row.status, row.runAt)
          })
        )
      }),
    reap: (options) => reaping(driver.reap(options), "crashed"),
    reapTimeouts: (options) => reaping(driver.reapTimeouts(options), "timedOut"),
    cancel: (ids) =>
      tap(driver.cancel(ids), (outcomes) => {
        outcomes.forEach((outcome, i) => {
          if (outcome === "cancelled" || outcome === "requested") history.cancelled(ids[i]!, outcome)
        })
      }),
    requeue: (id) =>
      tap(driver.requeue(id), (outcome) => {
        if (outcome === "requeued") history.requeued(id)
      }),
    act: (request) =>
      tap(driver.act(request), (results) => {
        const seen = new Set<string>()
        for (const { id, outcome, status } of results) {
          if (outcome !== "done" || seen.has(id)) continue
          seen.add(id)
          switch (request.action) {
            case "requeue":
              history.requeued(id)
              break
            case "cancel":
              history.cancelled(id, status === "cancelled" ? "cancelled" : "requested")
              break
            case "fail":
              history.failed(id, status ?? "failed")
              break
            case "runNow":
              history.hurried(id)
              break
            case "purge":
              history.deleted(id)
          }
        }
      }),
    pause: (request) => tap(driver.pause(request), (pause) => history.paused(pause)),
    resume: (request) => tap(driver.resume(request), () => history.resumed(request)),
    prune: (retention, limit) =>
      Effect.suspend(() => {
        const kept = [...history.jobs.values()].filter(({ isGone }) => !isGone).map(({ job }) => job.id)
        return Effect.tap(driver.prune(retention, limit), () =>
          Effect.map(driver.get(kept), (rows) => {
            const left = new Set(rows.map(({ id }) => id))
            for (const id of kept) if (!left.has(id)) history.deleted(id)
          })
        )
      })
  }
}
