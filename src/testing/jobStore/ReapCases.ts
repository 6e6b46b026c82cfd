/** Cases of the reapers: expired leases with their crash budget, overdue timeouts with their strategies. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { contractCase, failed, ids, LEASE, leaseOf, SLACK, succeeded } from "./StoreUnderTest.ts"

export const reapCases = [
  contractCase(
    "ends attempts whose lease has expired, and no others",
    function* ({ advance, driver, insert, queue, row, settle, take, type }) {
      yield* settle(succeeded(yield* take(yield* insert())))
      yield* insert()
      const dead = yield* take(yield* insert())
      yield* advance(LEASE - SLACK)
      assert.deepStrictEqual(yield* driver.reap({ limit: 10, exceptWorkers: [] }), [], "the lease still holds")
      const alive = yield* take(yield* insert())
      yield* advance(2 * SLACK)
      const reaped = yield* driver.reap({ limit: 10, exceptWorkers: [] })
      assert.deepStrictEqual(reaped, [{ id: dead.id, type, queue, attempt: 1, status: "queued" }])
      const { crashes, failures, interruptions, status } = yield* row(dead.id)
      assert.deepStrictEqual(
        { crashes, failures, interruptions, status },
        { crashes: 1, failures: 0, interruptions: 0, status: "queued" }
      )
      assert.strictEqual((yield* row(alive.id)).status, "processing")
      const [record] = yield* driver.attempts(dead.id)
      assert.deepStrictEqual([record?.outcome, record?.finalizedBy, record?.claim], ["crashed", "reaper", dead.claim])
      assert.deepStrictEqual(yield* driver.reap({ limit: 10, exceptWorkers: [] }), [], "once")
    }
  ),

  contractCase(
    "crash back-off: none the first time, then 2 s doubling to 60 s, ±20 %",
    function* ({ advance, crash, driver, insert, row, take }) {
      const id = yield* insert({ maxCrashes: 20 })
      const delays = [0, 2, 4, 8, 16, 32, 60, 60].map((seconds) => seconds * 1_000)
      for (const [index, delay] of delays.entries()) {
        const job = yield* take(id)
        yield* crash(job)
        const { crashes, runAt, status } = yield* row(id)
        assert.deepStrictEqual([status, crashes], ["queued", index + 1])
        const waited = runAt - (yield* driver.attempts(id)).at(-1)!.endedAt
        assert.isTrue(waited >= delay * 0.8 - 2 && waited <= delay * 1.2 + 2, `crash ${crashes} waits ${waited} ms`)
        yield* advance(delay * 1.2 + 1_000)
      }
    }
  ),

  contractCase(
    "a job that crashed `maxCrashes` times is quarantined as poison",
    function* ({ advance, crash, driver, insert, row, take }) {
      const id = yield* insert({ maxCrashes: 3, maxAttempts: 100 })
      for (let n = 1; n <= 3; n++) {
        yield* crash(yield* take(id))
        assert.strictEqual((yield* row(id)).status, n < 3 ? "queued" : "failed")
        yield* advance(60_000)
      }
      const { attempt, crashes, error, failures } = yield* row(id)
      assert.deepStrictEqual([attempt, crashes, failures, error?.code], [3, 3, 0, "poison"])
      assert.deepStrictEqual(
        (yield* driver.attempts(id)).map(({ outcome }) => outcome),
        ["crashed", "crashed", "crashed"]
      )
    }
  ),

  contractCase("crashes use a budget of their own, failures theirs", function* ({ crash, insert, row, settle, take }) {
    const id = yield* insert({ maxCrashes: 2, maxAttempts: 2 })
    yield* crash(yield* take(id))
    const job = yield* take(id)
    assert.deepStrictEqual([job.attempt, job.failures], [2, 0], "a crash is no failure")
    yield* settle(failed(job, 0))
    assert.strictEqual((yield* row(id)).status, "queued")
    yield* crash(yield* take(id))
    assert.strictEqual((yield* row(id)).status, "failed")
  }),

  contractCase(
    "a crashed job whose cancel was requested ends as cancelled",
    function* ({ advance, driver, insert, row, take }) {
      const job = yield* take(yield* insert())
      yield* driver.cancel([job.id])
      yield* advance(LEASE + SLACK)
      const reaped = yield* driver.reap({ limit: 10, exceptWorkers: [] })
      assert.deepStrictEqual(
        reaped.map(({ status }) => status),
        ["cancelled"]
      )
      assert.strictEqual((yield* row(job.id)).crashes, 1)
    }
  ),

  contractCase(
    "reap is bounded by limit, skips rows of `exceptWorkers`, and with `ids` ends only those",
    function* ({ advance, driver, insert, take }) {
      const mine = [yield* insert(), yield* insert(), yield* insert(), yield* insert(), yield* insert()]
      for (const id of mine) yield* take(id, { worker: "here" })
      const theirs = yield* insert()
      yield* take(theirs, { worker: "there" })
      yield* advance(LEASE + SLACK)
      assert.deepStrictEqual(ids(yield* driver.reap({ limit: 10, exceptWorkers: ["here"] })), [theirs])
      const named = mine.slice(0, 2)
      assert.deepStrictEqual(yield* driver.reap({ limit: 10, exceptWorkers: [], ids: [] }), [])
      const some = yield* driver.reap({ limit: 10, exceptWorkers: [], ids: [...named, theirs] })
      assert.deepStrictEqual([...ids(some)].sort(), [...named].sort())
      assert.lengthOf(yield* driver.reap({ limit: 2, exceptWorkers: [] }), 2)
      assert.lengthOf(yield* driver.reap({ limit: 2, exceptWorkers: [] }), 1)
    }
  ),

  contractCase("any number of reapers end each attempt once", function* ({ advance, driver, insert, row, take }) {
    const jobs = []
    for (let n = 0; n < 10; n++) jobs.push(yield* take(yield* insert()))
    yield* advance(LEASE + SLACK)
    const all = yield* Effect.all(
      Array.from({ length: 8 }, () => driver.reap({ limit: 10, exceptWorkers: [] })),
      { concurrency: "unbounded" }
    )
    const rest = yield* driver.reap({ limit: 10, exceptWorkers: [] })
    assert.deepStrictEqual([...ids([...all.flat(), ...rest])].sort(), [...ids(jobs)].sort())
    for (const { id } of jobs) assert.strictEqual((yield* row(id)).crashes, 1)
  }),

  contractCase(
    "ends attempts past their timeout by `grace`, lease or not",
    function* ({ advance, driver, insert, queue, row, take, type }) {
      const slow = yield* take(yield* insert({ timeout: 60_000 }))
      yield* take(yield* insert({ timeout: 600_000 }))
      yield* take(yield* insert())
      yield* advance(60_000 + SLACK)
      const sweep = (grace: number) => driver.reapTimeouts({ limit: 10, grace })
      assert.deepStrictEqual(yield* sweep(60_000), [], "within the grace")
      assert.deepStrictEqual(yield* sweep(1_000), [{ id: slow.id, type, queue, attempt: 1, status: "queued" }])
      const { crashes, error, failures } = yield* row(slow.id)
      assert.deepStrictEqual([failures, crashes, error?.code], [1, 0, "timedOut"])
      const [record] = yield* driver.attempts(slow.id)
      assert.deepStrictEqual([record?.outcome, record?.finalizedBy], ["timedOut", "reaper"])
      assert.deepStrictEqual((yield* driver.renew([leaseOf(slow)], LEASE)).lost, [leaseOf(slow)])
    }
  ),

  contractCase(
    "a timeout with `retry` follows the row's retry delays (±20 %) to `maxAttempts`",
    function* ({ advance, driver, insert, row, take }) {
      const id = yield* insert({ timeout: 60_000, maxAttempts: 5, retryDelays: [100_000, 200_000] })
      for (const delay of [100_000, 200_000, 200_000, 200_000, undefined]) {
        yield* take(id)
        yield* advance(60_000 + SLACK)
        const [reaped] = yield* driver.reapTimeouts({ limit: 10, grace: 0 })
        assert.strictEqual(reaped?.status, delay === undefined ? "failed" : "queued")
        if (delay === undefined) break
        const waits = (yield* row(id)).runAt - (yield* driver.attempts(id)).at(-1)!.endedAt
        assert.isTrue(waits >= delay * 0.8 - 2 && waits <= delay * 1.2 + 2, `it waits ${waits} ms of ${delay}`)
        yield* advance(delay * 1.2 + 1_000)
      }
      assert.strictEqual((yield* row(id)).failures, 5)
    }
  ),

  contractCase(
    "a timeout with `fail` ends the job, one with `ignore` is left alone",
    function* ({ advance, driver, insert, row, take }) {
      const fail = yield* take(yield* insert({ timeout: 60_000, timeoutThen: "fail" }))
      const ignore = yield* take(yield* insert({ timeout: 60_000, timeoutThen: "ignore" }))
      yield* advance(60_000 + SLACK)
      const reaped = yield* driver.reapTimeouts({ limit: 10, grace: 0 })
      assert.deepStrictEqual(
        reaped.map(({ id, status }) => ({ id, status })),
        [{ id: fail.id, status: "failed" }]
      )
      assert.strictEqual((yield* row(ignore.id)).status, "processing")
    }
  ),

  contractCase(
    "reapTimeouts is bounded by limit, and obeys a requested cancel",
    function* ({ advance, driver, insert, take }) {
      for (let n = 0; n < 3; n++) {
        const { id } = yield* take(yield* insert({ timeout: 60_000 }))
        yield* driver.cancel([id])
      }
      yield* advance(60_000 + SLACK)
      const statuses = (limit: number) =>
        Effect.map(driver.reapTimeouts({ limit, grace: 0 }), (reaped) => reaped.map(({ status }) => status))
      assert.deepStrictEqual(yield* statuses(2), ["cancelled", "cancelled"])
      assert.deepStrictEqual(yield* statuses(2), ["cancelled"])
    }
  )
]
