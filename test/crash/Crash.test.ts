/** Worker processes that die, stall and stop, against a real server: nothing lost, nothing settled twice. */
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { describePostgres } from "../support/Postgres.ts"
import { attempts, audit, count, inDatabase, jobs, spawnWorker, until } from "./Harness.ts"
import { Poison, Steady } from "./jobs.ts"

/** Statements of Polyqueue that run in this database. */
const active = `pg_stat_activity where datname = current_database() and application_name like 'polyqueue%'
  and state = 'active' and pid <> pg_backend_pid()`

describePostgres("worker processes", () => {
  it.live(
    "one killed with SIGKILL in the middle of jobs: nothing is lost, the next owner finishes",
    () =>
      inDatabase((url) =>
        Effect.gen(function* () {
          yield* Steady.enqueueAll(Array.from({ length: 60 }, (_, n) => ({ n, ms: 150 })))
          const first = yield* spawnWorker(url, 10)
          yield* until(Effect.map(count("effects where phase = 'end'"), (n) => n >= 10))
          first.child.kill("SIGKILL")
          yield* first.exited
          // What it had sent, Postgres may still be doing
          yield* until(Effect.map(count(active), (n) => n === 0))
          const inFlight = yield* count(`${jobs} where status = 'processing'`)
          yield* spawnWorker(url, 10)
          yield* until(Effect.map(count(`${jobs} where status = 'succeeded'`), (n) => n === 60))
          yield* audit
          assert.strictEqual(yield* count(`${attempts} where outcome = 'crashed'`), inFlight)
          // A duplicate execution is explained by the kill: no more of them than jobs in flight
          const twice = yield* count(
            "(select job_id from effects where phase = 'end' group by job_id having count(*) > 1) d"
          )
          assert.isAtMost(twice, inFlight)
        })
      ),
    60_000
  )

  it.live(
    "one paused past its lease and resumed: the stale one gets LeaseLost, the other's outcome stands",
    () =>
      inDatabase((url) =>
        Effect.gen(function* () {
          const stale = yield* spawnWorker(url, 5)
          yield* Steady.enqueueAll(Array.from({ length: 5 }, (_, n) => ({ n, ms: 2_500 })))
          yield* until(Effect.map(count("effects where phase = 'start'"), (n) => n === 5))
          stale.child.kill("SIGSTOP")
          yield* spawnWorker(url, 5)
          yield* until(Effect.map(count(`${attempts} where attempt = 1 and outcome = 'crashed'`), (n) => n === 5))
          stale.child.kill("SIGCONT")
          yield* until(Effect.map(count(`${jobs} where status = 'succeeded'`), (n) => n === 5))
          yield* until(Effect.sync(() => stale.output().split("lease lost").length >= 6))
          yield* audit
          // What the stale owner ran to its end, or would have: attempt 1 is the reaper's, and another attempt won
          assert.strictEqual(yield* count(`${attempts} where attempt = 1 and outcome = 'crashed'`), 5)
          assert.strictEqual(yield* count(`${attempts} where attempt = 1 and outcome = 'succeeded'`), 0)
        })
      ),
    60_000
  )

  it.live(
    "one asked to stop with SIGTERM: waits its grace, gives back the rest at no cost, and exits",
    () =>
      inDatabase((url) =>
        Effect.gen(function* () {
          yield* Steady.enqueueAll([
            { n: 1, ms: 400 },
            { n: 2, ms: 60_000 },
            { n: 3, ms: 60_000 }
          ])
          const worker = yield* spawnWorker(url, 2, { grace: 1_500, lease: 30_000 })
          yield* until(Effect.map(count("effects where phase = 'start'"), (n) => n >= 2))
          worker.child.kill("SIGTERM")
          const { code } = yield* worker.exited
          assert.strictEqual(code, 130)
          assert.strictEqual(yield* count(`${jobs} where status = 'processing'`), 0)
          assert.strictEqual(yield* count(`${jobs} where status = 'succeeded'`), 1)
          assert.strictEqual(yield* count(`${jobs} where failures > 0 or crashes > 0`), 0)
          assert.strictEqual(yield* count("polyqueue.polyqueue_workers where status = 'stopped'"), 1)
          yield* audit
        })
      ),
    60_000
  )

  it.live(
    "a poison job among 200 others, two workers of 100 slots: three kills, everybody else succeeds",
    () =>
      inDatabase((url) =>
        Effect.gen(function* () {
          yield* Steady.enqueueAll(Array.from({ length: 100 }, (_, n) => ({ n, ms: 100 })))
          const poison = yield* Poison.enqueue()
          yield* Steady.enqueueAll(Array.from({ length: 100 }, (_, n) => ({ n: 100 + n, ms: 100 })))
          let kills = 0
          // A process manager: whoever dies is started again
          const keepAlive = Effect.forever(
            Effect.scoped(
              Effect.gen(function* () {
                const worker = yield* spawnWorker(url, 100)
                const { signal } = yield* worker.exited
                if (signal === "SIGKILL") kills++
              })
            )
          )
          yield* Effect.forkScoped(keepAlive)
          yield* Effect.forkScoped(keepAlive)
          const error = yield* Effect.flip(poison.await)
          assert.strictEqual(error._tag === "JobStopped" && error.reason, "poison")
          yield* until(Effect.map(count(`${jobs} where status = 'succeeded'`), (n) => n === 200))
          assert.strictEqual(kills, 3)
          assert.strictEqual(yield* count("effects where phase = 'start' and job_id = '" + poison.id + "'"), 3)
          assert.strictEqual(yield* count(`${jobs} where type = 'Steady' and crashes >= 2`), 0)
          yield* audit
        })
      ),
    120_000
  )
})
