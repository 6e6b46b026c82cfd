/** Cases of holding an attempt: `renew`, `progress`, `abandon`. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { contractCase, ids, LEASE, leaseOf, SLACK, succeeded, uuid } from "./StoreUnderTest.ts"

export const leaseCases = [
  contractCase("renew extends leases to now + `lease`", function* ({ advance, driver, insert, row, take }) {
    const job = yield* take(yield* insert(), { lease: 60_000 })
    const before = (yield* row(job.id)).leaseExpiresAt!
    yield* advance(30_000)
    assert.deepStrictEqual(yield* driver.renew([leaseOf(job)], 60_000), { lost: [], locked: [], cancelled: [] })
    const moved = (yield* row(job.id)).leaseExpiresAt! - before
    assert.isTrue(moved >= 30_000 && moved < 30_000 + SLACK)
    yield* advance(45_000)
    assert.deepStrictEqual(yield* driver.reap({ limit: 10, exceptWorkers: [] }), [], "it is not expired")
    assert.deepStrictEqual(yield* driver.renew([], 60_000), { lost: [], locked: [], cancelled: [] })
  }),

  contractCase(
    "renew tells what is lost, and extends the rest",
    function* ({ crash, driver, insert, row, settle, take }) {
      const crashed = yield* take(yield* insert({ maxCrashes: 9 }))
      yield* crash(crashed)
      const mine = yield* take(yield* insert())
      const done = yield* take(yield* insert())
      yield* settle(succeeded(done))
      const next = yield* take(crashed.id)
      const before = yield* row(next.id)
      const wrong = [
        { ...leaseOf(mine), claim: uuid() },
        { ...leaseOf(mine), attempt: 2 }
      ]
      const unknown = { id: uuid(), attempt: 1, claim: uuid() }
      const { cancelled, locked, lost } = yield* driver.renew(
        [leaseOf(crashed), leaseOf(done), unknown, ...wrong, leaseOf(mine)],
        2 * LEASE
      )
      assert.deepStrictEqual([locked, cancelled], [[], []])
      assert.sameDeepMembers([...lost], [leaseOf(crashed), leaseOf(done), unknown, ...wrong])
      const { leaseExpiresAt, startedAt } = yield* row(mine.id)
      assert.isAtLeast(leaseExpiresAt! - startedAt!, 2 * LEASE)
      assert.deepStrictEqual(yield* row(next.id), before, "the new owner's lease is its own")
    }
  ),

  contractCase(
    "renew extends a lease that expired, while nobody reaped it",
    function* ({ advance, driver, insert, take }) {
      const job = yield* take(yield* insert())
      yield* advance(LEASE + SLACK)
      assert.deepStrictEqual((yield* driver.renew([leaseOf(job)], LEASE)).lost, [])
      assert.deepStrictEqual(yield* driver.reap({ limit: 10, exceptWorkers: [] }), [])
    }
  ),

  contractCase(
    "renew tells that cancel was requested, every time, and goes on extending",
    function* ({ advance, driver, insert, take }) {
      const job = yield* take(yield* insert())
      const other = yield* take(yield* insert())
      yield* driver.cancel([job.id])
      for (let n = 0; n < 2; n++) {
        const renewal = yield* driver.renew([leaseOf(other), leaseOf(job)], LEASE)
        assert.deepStrictEqual(renewal, { lost: [], locked: [], cancelled: [leaseOf(job)] })
        yield* advance(LEASE - SLACK)
      }
      assert.deepStrictEqual(yield* driver.reap({ limit: 10, exceptWorkers: [] }), [])
    }
  ),

  contractCase("records an overrun of `ignore` timeouts once", function* ({ advance, driver, insert, row, take }) {
    const overrun = yield* take(yield* insert({ timeout: 60_000, timeoutThen: "ignore" }))
    const strict = yield* take(yield* insert({ timeout: 60_000, timeoutThen: "retry" }))
    const free = yield* take(yield* insert())
    const renew = driver.renew([overrun, strict, free].map(leaseOf), LEASE)
    yield* renew
    assert.isUndefined((yield* row(overrun.id)).overranAt, "not before its timeout")
    yield* advance(60_000 + SLACK)
    yield* renew
    const { overranAt, timeoutAt } = yield* row(overrun.id)
    assert.isTrue(overranAt !== undefined && overranAt >= timeoutAt!)
    yield* advance(60_000)
    yield* renew
    assert.strictEqual((yield* row(overrun.id)).overranAt, overranAt, "once")
    assert.strictEqual((yield* row(overrun.id)).timeoutAt, timeoutAt, "renewals never move the timeout")
    for (const { id } of [strict, free]) assert.isUndefined((yield* row(id)).overranAt)
  }),

  contractCase(
    "progress is stored with its time; undefined moves only the time",
    function* ({ advance, driver, insert, row, take }) {
      const job = yield* take(yield* insert())
      yield* driver.progress([{ ...leaseOf(job), progress: `{"done":3}` }])
      const first = yield* row(job.id)
      assert.deepStrictEqual(first.progress, { done: 3 })
      yield* advance(60_000)
      yield* driver.progress([{ ...leaseOf(job), progress: undefined }])
      const second = yield* row(job.id)
      assert.deepStrictEqual(second.progress, { done: 3 })
      assert.isAtLeast(second.progressAt! - first.progressAt!, 60_000)
      yield* driver.progress([])
    }
  ),

  contractCase("progress of stale leases is ignored", function* ({ crash, driver, insert, row, settle, take }) {
    const stale = yield* take(yield* insert())
    yield* crash(stale)
    const job = yield* take(stale.id)
    const before = yield* row(job.id)
    yield* driver.progress([
      { ...leaseOf(stale), progress: "1" },
      { ...leaseOf(job), claim: uuid(), progress: "2" },
      { ...leaseOf(job), attempt: 7, progress: "3" },
      { id: uuid(), attempt: 1, claim: uuid(), progress: "4" }
    ])
    assert.deepStrictEqual(yield* row(job.id), before)
    yield* settle(succeeded(job))
    const ended = yield* row(job.id)
    yield* driver.progress([{ ...leaseOf(job), progress: "5" }])
    assert.deepStrictEqual(yield* row(job.id), ended)
  }),

  contractCase("progress that cannot be stored is refused", function* ({ driver, insert, take }) {
    const job = yield* take(yield* insert())
    const error = yield* Effect.flip(driver.progress([{ ...leaseOf(job), progress: `"\\u0000"` }]))
    assert.strictEqual(error.reason, "Refused")
  }),

  contractCase(
    "abandon gives back every job held under these claims, and answers how many",
    function* ({ claim, driver, insert, queue, row, settle, type, worker }) {
      for (let n = 0; n < 6; n++) yield* insert({ maxAttempts: 1 })
      const pools = [{ ranges: [{ queue, type }], limit: 2 }]
      const [a, b, c] = [uuid(), uuid(), uuid()]
      const first = yield* claim({ pools, claim: a })
      const second = yield* claim({ pools, claim: b })
      const third = yield* claim({ pools, claim: c })
      yield* settle(succeeded(second[0]!))
      yield* driver.cancel([second[1]!.id])
      assert.strictEqual(yield* driver.abandon("another", [a, b, c]), 0, "another worker's claims")
      assert.strictEqual(yield* driver.abandon(worker, [a, b, uuid()]), 3)
      assert.strictEqual(yield* driver.abandon(worker, [a, b]), 0, "they are given back already")
      assert.strictEqual(yield* driver.abandon(worker, []), 0)
      for (const { id } of first) {
        const { failures, interruptions, status } = yield* row(id)
        assert.deepStrictEqual({ failures, interruptions, status }, { failures: 0, interruptions: 1, status: "queued" })
        assert.deepStrictEqual(
          (yield* driver.attempts(id)).map(({ finalizedBy, outcome }) => ({ finalizedBy, outcome })),
          [{ finalizedBy: "worker", outcome: "released" }]
        )
      }
      assert.strictEqual((yield* row(second[1]!.id)).status, "cancelled", "a requested cancel wins")
      for (const { id } of third) assert.strictEqual((yield* row(id)).status, "processing")
      assert.deepStrictEqual([...ids(yield* claim())].sort(), [...ids(first)].sort(), "due at once")
    }
  )
]
