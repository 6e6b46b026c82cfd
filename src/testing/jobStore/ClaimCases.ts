/** Cases of `claim` and `nextDue`: what is taken, in which order, by whom, and what a claim does to the row. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import {
  assertApart,
  contractCase,
  failed,
  failure,
  ids,
  LEASE,
  released,
  SLACK,
  snoozed,
  succeeded,
  uuid
} from "./StoreUnderTest.ts"

export const claimCases = [
  contractCase(
    "takes due jobs in claim order (priority, then the oldest `runAt`, then id)",
    function* ({ claim, insert, queue, row, type }) {
      const now = (yield* row(yield* insert({ type: `${type}Other` }))).enqueuedAt
      const late = yield* insert({ priority: 5, runAt: now - 1_000 })
      const early = yield* insert({ priority: 5, runAt: now - 2_000 })
      const best = yield* insert({ priority: 0, runAt: now - 1 })
      const worst = yield* insert({ priority: 9, runAt: now - 9_000 })
      const twins = [yield* insert({ priority: 7, runAt: now - 500 }), yield* insert({ priority: 7, runAt: now - 500 })]
      const order = [best, early, late, ...twins.sort(), worst]
      const pools = (limit: number) => ({ pools: [{ ranges: [{ queue, type }], limit }] })
      const first = yield* claim(pools(1))
      const second = yield* claim(pools(2))
      const rest = yield* claim(pools(100))
      assert.deepStrictEqual([ids(first), ids(second), ids(rest)], [[best], [early, late], order.slice(3)])
    }
  ),

  contractCase(
    "between types of one priority the type with the oldest head goes first",
    function* ({ claim, insert, queue, row, type }) {
      const [a, b] = [`${type}A`, `${type}B`]
      const now = (yield* row(yield* insert())).enqueuedAt
      const b1 = yield* insert({ type: b, runAt: now - 3_000 })
      const b2 = yield* insert({ type: b, runAt: now - 1_000 })
      const a1 = yield* insert({ type: a, runAt: now - 2_000 })
      const urgent = yield* insert({ type: a, runAt: now - 1, priority: 1 })
      const ranges = [
        { queue, type: a },
        { queue, type: b }
      ]
      const next = (limit: number) => Effect.map(claim({ pools: [{ ranges, limit }] }), ids)
      assert.deepStrictEqual(yield* next(1), [urgent])
      assert.deepStrictEqual(yield* next(1), [b1])
      assert.deepStrictEqual(yield* next(1), [a1])
      assert.deepStrictEqual(yield* next(1), [b2])
    }
  ),

  contractCase(
    "MUST take only `queued` due jobs of the asked ranges",
    function* ({ claim, driver, insert, queue, settle, take, type }) {
      const due = yield* insert()
      yield* insert({ type: `${type}Other` })
      yield* insert({ queue: `${queue}-other` })
      yield* insert({ delay: 60_000 })
      yield* take(yield* insert())
      yield* settle(succeeded(yield* take(yield* insert())))
      yield* settle(failed(yield* take(yield* insert())))
      yield* settle(failed(yield* take(yield* insert()), 60_000))
      yield* settle(snoozed(yield* take(yield* insert()), 60_000))
      yield* driver.cancel([yield* insert()])
      assert.deepStrictEqual(yield* claim({ pools: [] }), [])
      assert.deepStrictEqual(yield* claim({ pools: [{ ranges: [], limit: 10 }] }), [])
      assert.deepStrictEqual(yield* claim({ pools: [{ ranges: [{ queue: "none", type }], limit: 10 }] }), [])
      assert.deepStrictEqual(ids(yield* claim()), [due])
    }
  ),

  contractCase(
    "each pool takes up to its own limit, whatever waits for the others",
    function* ({ claim, insert, queue, type }) {
      const [a, b, c] = [`${type}A`, `${type}B`, `${type}C`]
      for (let n = 0; n < 5; n++) for (const type of [a, b, c]) yield* insert({ type, priority: type === a ? 0 : 5 })
      const range = (type: string) => ({ queue, type })
      const jobs = yield* claim({
        pools: [
          { ranges: [range(a), range(b)], limit: 7 },
          { ranges: [range(c)], limit: 2 },
          { ranges: [range(type)], limit: 5 }
        ]
      })
      const count = (type: string) => jobs.filter((job) => job.type === type).length
      assert.deepStrictEqual([count(a), count(b), count(c)], [5, 2, 2])
      const none = yield* claim({ pools: [{ ranges: [range(a), range(b), range(c)], limit: 0 }] })
      assert.deepStrictEqual(none, [], "a limit of 0 takes nothing")
    }
  ),

  contractCase("MUST never give one job to two claims", function* ({ claim, claimHinted, driver, job, queue, type }) {
    const jobs = Array.from({ length: 60 }, () => job())
    yield* driver.enqueue(jobs)
    const pools = [{ ranges: [{ queue, type }], limit: 4 }]
    const sweeps = Array.from({ length: 12 }, () => claim({ pools }))
    const hinted = Array.from({ length: 6 }, (_, n) =>
      Effect.map(claimHinted(ids(jobs.slice(n * 5, n * 5 + 20))), ({ claimed }) => claimed)
    )
    const claims = yield* Effect.all([...sweeps, ...hinted], { concurrency: "unbounded" })
    const taken = claims.flatMap(ids)
    // What a lock hid from all of them is still there for the next
    const rest = ids(yield* claim())
    assert.deepStrictEqual([...taken, ...rest].sort(), [...ids(jobs)].sort(), "every job once, none twice")
    const rows = yield* driver.get(ids(jobs))
    assert.deepStrictEqual(
      rows.map(({ attempt }) => attempt),
      jobs.map(() => 1)
    )
  }),

  contractCase("MUST count the attempt and raise the fence", function* ({ claim, insert, row, settle }) {
    const id = yield* insert()
    const fences: Array<number> = []
    for (let attempt = 1; attempt <= 4; attempt++) {
      const mine = uuid()
      const [job] = yield* claim({ claim: mine })
      assert.strictEqual(job?.id, id)
      assert.deepStrictEqual([job?.attempt, job?.claim], [attempt, mine])
      assert.deepStrictEqual([(yield* row(id)).attempt, (yield* row(id)).fence], [attempt, job!.fence])
      fences.push(job!.fence)
      yield* settle(attempt % 2 === 0 ? released(job!) : failed(job!, 0))
    }
    assert.deepStrictEqual(
      fences,
      [...new Set(fences)].sort((a, b) => a - b),
      "each fence is above the one before"
    )
    assert.isTrue(fences.every(Number.isSafeInteger))
  }),

  contractCase(
    "a claimed row has owner, lease and timeout; its hint is withdrawn",
    function* ({ claim, insert, row, worker }) {
      const id = yield* insert({ timeout: 120_000, hinted: true })
      assert.isDefined((yield* row(id)).publishAt)
      yield* claim()
      const { leaseExpiresAt, publishAt, startedAt, status, timeoutAt, worker: owner } = yield* row(id)
      assert.deepStrictEqual(
        { status, owner, publishAt },
        { status: "processing", owner: worker, publishAt: undefined }
      )
      assertApart(startedAt, leaseExpiresAt, LEASE)
      assertApart(startedAt, timeoutAt, 120_000)
    }
  ),

  contractCase(
    "a claimed job carries all its worker needs",
    function* ({ advance, insert, queue, settle, take, type }) {
      const id = yield* insert({
        payload: `{"deep":[{"x":"ü€😀"}],"__proto__":{"polluted":true}}`,
        metadata: `{"traceparent":"00-1"}`,
        priority: 3,
        timeout: 5_000,
        timeoutThen: "ignore",
        maxAttempts: 9,
        maxSnoozes: 7
      })
      yield* settle(failed(yield* take(id), 0, { ...failure, trace: "00-2" }))
      yield* settle(snoozed(yield* take(id), 1_000))
      yield* advance(SLACK)
      const job = yield* take(id)
      const { claim, enqueuedAt, fence, payload, runAt, ...rest } = job
      assert.deepStrictEqual(rest, {
        id,
        attempt: 3,
        type,
        queue,
        priority: 3,
        failures: 1,
        snoozes: 1,
        maxAttempts: 9,
        maxSnoozes: 7,
        suspect: false,
        timeout: 5_000,
        timeoutThen: "ignore",
        metadata: { traceparent: "00-1" },
        failedTrace: "00-2"
      })
      assert.strictEqual(
        JSON.stringify(Object.entries(payload as object).sort()),
        `[["__proto__",{"polluted":true}],["deep",[{"x":"ü€😀"}]]]`
      )
      assert.isString(claim)
      assert.isTrue(fence > 0 && runAt > enqueuedAt)
    }
  ),

  contractCase(
    "nextDue answers when the earliest job of the ranges is due",
    function* ({ advance, claim, driver, insert, queue, type }) {
      const ranges = [{ queue, type }]
      assert.isUndefined(yield* driver.nextDue(ranges))
      assert.isUndefined(yield* driver.nextDue([]))
      yield* insert({ delay: 300_000, priority: 0 })
      yield* insert({ delay: 60_000, priority: 9 })
      yield* insert({ type: `${type}Other` })
      const soon = yield* driver.nextDue(ranges)
      assert.isTrue(soon !== undefined && soon > 60_000 - SLACK && soon <= 60_000)
      yield* advance(60_000)
      assert.strictEqual(yield* driver.nextDue(ranges), 0)
      assert.lengthOf(yield* claim(), 1)
      const later = yield* driver.nextDue(ranges)
      assert.isTrue(later !== undefined && later > 240_000 - SLACK && later <= 240_000)
    }
  )
]
