/** Cases of what a person does to a job: cancel it, run it again; and of retention, which lets it go. */
import { assert } from "@effect/vitest"
import { contractCase, failed, ids, LEASE, leaseOf, SLACK, snoozed, succeeded, uuid } from "./StoreUnderTest.ts"

export const controlCases = [
  contractCase(
    "cancel answers in order: a queued job ends at once, a running one is asked, the rest stay",
    function* ({ claim, driver, insert, row, settle, take }) {
      const queued = yield* insert()
      const waiting = yield* insert({ delay: 60_000 })
      const running = yield* take(yield* insert())
      const ended = yield* insert()
      yield* settle(succeeded(yield* take(ended)))
      const before = yield* row(ended)
      const outcomes = yield* driver.cancel([ended, queued, uuid(), running.id, waiting])
      assert.deepStrictEqual(outcomes, ["ended", "cancelled", "missing", "requested", "cancelled"])
      assert.deepStrictEqual(yield* row(ended), before)
      for (const id of [queued, waiting]) {
        const { attempt, finishedAt, status } = yield* row(id)
        assert.deepStrictEqual([status, attempt, finishedAt !== undefined], ["cancelled", 0, true])
        assert.deepStrictEqual(yield* driver.attempts(id), [])
      }
      assert.strictEqual((yield* row(running.id)).status, "processing")
      assert.isDefined((yield* row(running.id)).cancelRequestedAt)
      assert.deepStrictEqual(yield* claim(), [], "a cancelled job never starts")
      assert.deepStrictEqual(
        yield* driver.cancel([queued, running.id]),
        ["ended", "requested"],
        "again changes nothing"
      )
      assert.deepStrictEqual(yield* driver.cancel([]), [])
      const twice = yield* insert()
      assert.deepStrictEqual(yield* driver.cancel([twice, twice]), ["cancelled", "cancelled"])
    }
  ),

  contractCase("cancel beats a retry that waits", function* ({ advance, claim, driver, insert, row, settle, take }) {
    const retried = yield* insert()
    yield* settle(failed(yield* take(retried), 60_000))
    const slept = yield* insert()
    yield* settle(snoozed(yield* take(slept), 60_000))
    assert.deepStrictEqual(yield* driver.cancel([retried, slept]), ["cancelled", "cancelled"])
    yield* advance(120_000)
    assert.deepStrictEqual(yield* claim(), [])
    assert.strictEqual((yield* row(retried)).failures, 1)
  }),

  contractCase(
    "requeue lets an ended job run again, whatever its end was",
    function* ({ claim, driver, insert, row, settle, take }) {
      const [won, lost, gone] = [yield* insert({ hinted: true }), yield* insert(), yield* insert({ delay: 60_000 })]
      yield* settle(succeeded(yield* take(won), "1"))
      yield* settle(failed(yield* take(lost)))
      yield* driver.cancel([gone])
      for (const id of [won, lost, gone]) {
        assert.strictEqual(yield* driver.requeue(id), "requeued")
        const { cancelRequestedAt, error, finishedAt, result, status } = yield* row(id)
        assert.deepStrictEqual(
          { cancelRequestedAt, error, finishedAt, result, status },
          { cancelRequestedAt: undefined, error: undefined, finishedAt: undefined, result: undefined, status: "queued" }
        )
      }
      assert.isDefined((yield* row(won)).publishAt, "its hint is due")
      const jobs = yield* claim()
      assert.deepStrictEqual([...ids(jobs)].sort(), [won, lost, gone].sort(), "due at once")
      for (const job of jobs) yield* settle(succeeded(job))
    }
  ),

  contractCase(
    "requeue never resets counters, and restores the budgets",
    function* ({ advance, crash, driver, insert, row, settle, take }) {
      const id = yield* insert({ maxAttempts: 2, maxCrashes: 2, timeout: 60_000, retryDelays: [60_000, 300_000] })
      yield* settle(failed(yield* take(id), 0))
      yield* crash(yield* take(id))
      yield* crash(yield* take(id))
      assert.strictEqual((yield* row(id)).status, "failed")
      assert.strictEqual(yield* driver.requeue(id), "requeued")
      const { attempt, crashes, failures } = yield* row(id)
      assert.deepStrictEqual({ attempt, crashes, failures }, { attempt: 3, crashes: 2, failures: 1 })
      yield* crash(yield* take(id))
      assert.strictEqual((yield* row(id)).status, "queued", "one crash of a new budget of two")
      const job = yield* take(id)
      assert.deepStrictEqual([job.attempt, job.failures], [5, 0], "the replay starts again")
      yield* advance(60_000 + SLACK)
      yield* driver.reapTimeouts({ limit: 10, grace: 0 })
      const after = yield* row(id)
      assert.deepStrictEqual([after.status, after.failures], ["queued", 2], "one failure of a new budget of two")
      const waits = after.runAt - (yield* driver.attempts(id)).at(-1)!.endedAt
      assert.isBelow(waits, 60_000 * 1.2 + 2, "the first delay, not the last")
    }
  ),

  contractCase("requeue answers `live` and `missing`", function* ({ driver, insert, row, take }) {
    const queued = yield* insert()
    const running = yield* take(yield* insert())
    for (const id of [queued, running.id]) {
      const before = yield* row(id)
      assert.strictEqual(yield* driver.requeue(id), "live")
      assert.deepStrictEqual(yield* row(id), before)
    }
    assert.strictEqual(yield* driver.requeue(uuid()), "missing")
  }),

  contractCase(
    "requeue answers `keyTaken` when another live job holds its unique key",
    function* ({ driver, insert, row, settle, take }) {
      const key = uuid()
      const first = yield* insert({ key, keyScope: "live" })
      yield* settle(succeeded(yield* take(first)))
      const second = yield* insert({ key, keyScope: "live" })
      const before = yield* row(first)
      assert.strictEqual(yield* driver.requeue(first), "keyTaken")
      assert.deepStrictEqual(yield* row(first), before)
      yield* settle(succeeded(yield* take(second)))
      assert.strictEqual(yield* driver.requeue(first), "requeued")
      assert.strictEqual(yield* driver.requeue(second), "keyTaken")
    }
  ),

  contractCase(
    "prune deletes ended jobs past the retention of their outcome, and no others",
    function* ({ advance, driver, insert, settle, take }) {
      const all: Record<string, string> = {}
      const make = function* (name: string) {
        yield* settle(succeeded(yield* take((all[`${name} success`] = yield* insert()))))
        yield* settle(failed(yield* take((all[`${name} failure`] = yield* insert()))))
        yield* driver.cancel([(all[`${name} cancel`] = yield* insert())])
      }
      yield* make("old")
      const queued = yield* insert()
      const running = yield* take(yield* insert(), { lease: 10 * LEASE })
      yield* advance(300_000)
      yield* make("new")
      const left = function* () {
        const rows = yield* driver.get(Object.values(all))
        return Object.keys(all).filter((name) => rows.some(({ id }) => id === all[name]))
      }
      const forEver = { succeeded: undefined, failed: undefined, cancelled: undefined, attempts: undefined }
      assert.strictEqual(yield* driver.prune(forEver, 100), 0)
      assert.strictEqual(yield* driver.prune({ ...forEver, succeeded: 400_000, failed: 200_000 }, 100), 1)
      assert.deepStrictEqual(yield* left(), ["old success", "old cancel", "new success", "new failure", "new cancel"])
      assert.strictEqual(yield* driver.prune({ ...forEver, succeeded: 200_000, cancelled: 200_000 }, 100), 2)
      assert.deepStrictEqual(yield* left(), ["new success", "new failure", "new cancel"])
      yield* advance(SLACK)
      assert.strictEqual(yield* driver.prune({ ...forEver, succeeded: 0, failed: 0, cancelled: 0 }, 100), 3)
      assert.deepStrictEqual([...ids(yield* driver.get([queued, running.id]))].sort(), [queued, running.id].sort())
    }
  ),

  contractCase(
    "prune is bounded by `limit`: jobs and attempts",
    function* ({ advance, driver, insert, queue, settle, take }) {
      for (let n = 0; n < 5; n++) yield* settle(succeeded(yield* take(yield* insert())))
      yield* advance(SLACK)
      const retention = { succeeded: 0, failed: 0, cancelled: 0, attempts: undefined }
      assert.strictEqual(yield* driver.prune(retention, 3), 3)
      assert.lengthOf(yield* driver.list({ queue, limit: 10 }), 2)
      assert.strictEqual(yield* driver.prune(retention, 3), 2)
      assert.strictEqual(yield* driver.prune({ ...retention, attempts: 0 }, 3), 3)
      assert.strictEqual(yield* driver.prune({ ...retention, attempts: 0 }, 3), 2)
      assert.strictEqual(yield* driver.prune({ ...retention, attempts: 0 }, 3), 0)
    }
  ),

  contractCase(
    "attempts outlive their job until a retention of their own",
    function* ({ advance, driver, insert, settle, take }) {
      const job = yield* take(yield* insert())
      yield* settle(succeeded(job))
      yield* advance(60_000)
      const retention = { succeeded: 0, failed: 0, cancelled: 0, attempts: 120_000 }
      assert.strictEqual(yield* driver.prune(retention, 10), 1)
      assert.deepStrictEqual(yield* driver.get([job.id]), [])
      assert.deepStrictEqual(
        (yield* driver.attempts(job.id)).map(({ attempt, claim }) => ({ attempt, claim })),
        [{ attempt: 1, claim: job.claim }]
      )
      assert.deepStrictEqual((yield* driver.renew([leaseOf(job)], LEASE)).lost, [leaseOf(job)])
      yield* advance(120_000)
      assert.strictEqual(yield* driver.prune(retention, 10), 1)
      assert.deepStrictEqual(yield* driver.attempts(job.id), [])
    }
  )
]
