/** Cases of hints: claiming named jobs, what the others are, and the leased publishing of hints that are due. */
import { assert } from "@effect/vitest"
import type { Disposition } from "../../store/JobStoreDriver.ts"
import { contractCase, failed, ids, LEASE, released, SLACK, snoozed, succeeded, uuid } from "./StoreUnderTest.ts"

/** A job whose hints are published, the first one when it is due. */
const hinted = { hinted: true, publishIn: 0 } as const

export const hintCases = [
  contractCase(
    "claimHinted answers for every id: claimed, or what it is",
    function* ({ advance, claimHinted, driver, insert, settle, take, type }) {
      const expired = yield* insert()
      yield* take(expired, { lease: LEASE })
      yield* advance(LEASE + SLACK)
      const ended = yield* insert()
      yield* settle(succeeded(yield* take(ended)))
      const gone = yield* insert()
      yield* driver.cancel([gone])
      const waiting = yield* insert({ delay: 60_000 })
      const leased = yield* insert()
      yield* take(leased)
      const unhandled = yield* insert({ type: `${type}Other` })
      const missing = uuid()
      const due = [yield* insert(), yield* insert()]
      const { claimed, rest } = yield* claimHinted([
        missing,
        ended,
        due[0]!,
        waiting,
        leased,
        expired,
        unhandled,
        gone,
        due[1]!,
        due[0]!
      ])
      assert.deepStrictEqual([...ids(claimed)].sort(), [...due].sort(), "each once, though one is named twice")
      const expected: ReadonlyArray<readonly [string, Disposition, number]> = [
        [missing, "missing", 0],
        [ended, "terminal", 1],
        [gone, "terminal", 0],
        [waiting, "waiting", 0],
        [leased, "leased", 1],
        [expired, "expired", 1],
        [unhandled, "unhandled", 0]
      ]
      assert.sameDeepMembers(
        [...rest],
        expected.map(([id, disposition, attempt]) => ({ id, disposition, attempt }))
      )
      assert.deepStrictEqual(yield* claimHinted([]), { claimed: [], rest: [] })
    }
  ),

  contractCase(
    "a hint in duplicate, or ahead of a retry, starts nothing",
    function* ({ advance, claimHinted, insert, settle, take }) {
      const id = yield* insert()
      const first = yield* take(id)
      assert.deepStrictEqual((yield* claimHinted([id])).rest, [{ id, disposition: "leased", attempt: 1 }])
      yield* settle(failed(first, 60_000))
      assert.deepStrictEqual((yield* claimHinted([id])).rest, [{ id, disposition: "waiting", attempt: 1 }])
      yield* advance(60_000)
      assert.strictEqual((yield* take(id)).attempt, 2)
    }
  ),

  contractCase(
    "an expired lease is ended by the reaper's own operation, then the hint claims it",
    function* ({ advance, claimHinted, driver, insert, row, take }) {
      const id = yield* insert()
      yield* take(id)
      yield* advance(LEASE + SLACK)
      assert.deepStrictEqual((yield* claimHinted([id])).rest, [{ id, disposition: "expired", attempt: 1 }])
      assert.strictEqual((yield* row(id)).crashes, 0, "a claim counts no crash")
      const reaped = yield* driver.reap({ limit: 1, exceptWorkers: [], ids: [id] })
      assert.deepStrictEqual(ids(reaped), [id])
      assert.strictEqual((yield* take(id)).attempt, 2)
    }
  ),

  contractCase(
    "takeHints answers hints due now, in claim order, bounded by limit",
    function* ({ driver, insert, queue, type }) {
      const low = yield* insert({ ...hinted, priority: 8 })
      const high = yield* insert({ ...hinted, priority: 1 })
      const middle = yield* insert({ ...hinted, priority: 4 })
      yield* insert({ priority: 0 })
      yield* insert({ ...hinted, delay: 60_000 })
      yield* insert({ ...hinted, publishIn: 60_000 })
      const first = yield* driver.takeHints({ limit: 2, again: true })
      assert.deepStrictEqual(first, [
        { id: high, queue, type, priority: 1, attempt: 0, publication: 1 },
        { id: middle, queue, type, priority: 4, attempt: 0, publication: 1 }
      ])
      assert.deepStrictEqual(ids(yield* driver.takeHints({ limit: 2, again: true })), [low])
      assert.deepStrictEqual(yield* driver.takeHints({ limit: 2, again: true }), [])
    }
  ),

  contractCase(
    "takeHints MUST move their `publishAt` forward (10 s, doubling to 10 min) before answering",
    function* ({ advance, driver, insert, row }) {
      const id = yield* insert(hinted)
      const periods = [10, 20, 40, 80, 160, 320, 600, 600].map((seconds) => seconds * 1_000)
      for (const [index, period] of periods.entries()) {
        const before = (yield* row(id)).publishAt!
        const hints = yield* driver.takeHints({ limit: 10, again: true })
        assert.deepStrictEqual(
          hints.map(({ publication }) => publication),
          [index + 1]
        )
        const moved = (yield* row(id)).publishAt! - before
        assert.isTrue(moved >= period && moved < period + SLACK, `publication ${index + 1} moved it ${moved} ms`)
        assert.deepStrictEqual(yield* driver.takeHints({ limit: 10, again: true }), [])
        yield* advance(moved)
      }
    }
  ),

  contractCase("takeHints with `again: false` takes first publications only", function* ({ advance, driver, insert }) {
    const old = yield* insert({ ...hinted, priority: 0 })
    yield* driver.takeHints({ limit: 10, again: false })
    yield* advance(60_000)
    const fresh = yield* insert(hinted)
    assert.deepStrictEqual(ids(yield* driver.takeHints({ limit: 10, again: false })), [fresh])
    assert.deepStrictEqual(ids(yield* driver.takeHints({ limit: 10, again: true })), [old])
  }),

  contractCase(
    "every move to `queued` makes a first hint due when the job is due, for hinted jobs only",
    function* ({ advance, crash, driver, insert, row, settle, take }) {
      const id = yield* insert({ ...hinted, maxCrashes: 9 })
      const silent = yield* insert({ maxCrashes: 9 })
      const due = function* (attempt: number, why: string) {
        const { publishAt, runAt } = yield* row(id)
        assert.strictEqual(publishAt, runAt, why)
        assert.isUndefined((yield* row(silent)).publishAt, why)
        const hints = yield* driver.takeHints({ limit: 10, again: false })
        assert.deepStrictEqual(
          hints.map(({ attempt, id, publication }) => ({ attempt, id, publication })),
          [{ attempt, id, publication: 1 }],
          why
        )
      }
      yield* due(0, "enqueued")
      for (const job of [id, silent]) yield* settle(failed(yield* take(job), 60_000))
      assert.deepStrictEqual(yield* driver.takeHints({ limit: 10, again: true }), [], "not before the retry is due")
      yield* advance(60_000)
      yield* due(1, "retried")
      for (const job of [id, silent]) yield* settle(snoozed(yield* take(job), 60_000))
      yield* advance(60_000)
      yield* due(2, "snoozed")
      for (const job of [id, silent]) yield* settle(released(yield* take(job)))
      yield* due(3, "released")
      for (const job of [id, silent]) yield* crash(yield* take(job))
      yield* due(4, "reaped")
      for (const job of [id, silent]) {
        yield* settle(succeeded(yield* take(job)))
        yield* driver.requeue(job)
      }
      yield* due(5, "requeued")
    }
  ),

  contractCase(
    "a job that is taken or has ended publishes nothing",
    function* ({ advance, driver, insert, settle, take }) {
      yield* take(yield* insert(hinted))
      yield* settle(succeeded(yield* take(yield* insert(hinted))))
      yield* driver.cancel([yield* insert(hinted)])
      yield* advance(60_000)
      assert.deepStrictEqual(yield* driver.takeHints({ limit: 10, again: true }), [])
    }
  )
]
