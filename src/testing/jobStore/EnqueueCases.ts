/** Cases of `enqueue`: idempotent ids, unique keys and their scopes, numbering after retention, data that is refused. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { assertApart, contractCase, failed, ids, SLACK, succeeded, uuid } from "./StoreUnderTest.ts"

export const enqueueCases = [
  contractCase("enqueue answers in order, also for a batch of many outcomes", function* ({ driver, insert, job }) {
    const known = yield* insert({ payload: "1" })
    const key = uuid()
    const first = job({ key })
    const outcomes = yield* driver.enqueue([
      job(),
      job({ id: known, payload: "1" }),
      job({ id: known, payload: "2" }),
      first,
      job({ key }),
      job()
    ])
    assert.deepStrictEqual(outcomes, [
      { _tag: "Inserted" },
      { _tag: "Duplicate", id: known },
      { _tag: "IdConflict" },
      { _tag: "Inserted" },
      { _tag: "Duplicate", id: first.id },
      { _tag: "Inserted" }
    ])
    assert.deepStrictEqual(yield* driver.enqueue([]), [])
  }),

  contractCase("MUST be idempotent per id", function* ({ claim, driver, enqueueOne, job, row, settle }) {
    const one = job({ payload: `{"a":1,"b":[true,null]}` })
    const [first, second] = yield* driver.enqueue([one, { ...one, freshId: false }])
    assert.deepStrictEqual([first, second], [{ _tag: "Inserted" }, { _tag: "Duplicate", id: one.id }])
    const again = { ...one, freshId: false, payload: `{ "b": [true, null], "a": 1.0 }`, priority: 0, delay: 1_000 }
    assert.deepStrictEqual(yield* enqueueOne(again), { _tag: "Duplicate", id: one.id })
    assert.strictEqual((yield* row(one.id)).priority, 5, "the job stays as it was first enqueued")
    const jobs = yield* claim()
    assert.deepStrictEqual(ids(jobs), [one.id], "there is one job")
    yield* settle(succeeded(jobs[0]!))
    assert.deepStrictEqual(yield* enqueueOne(again), { _tag: "Duplicate", id: one.id })
    assert.deepStrictEqual(yield* claim(), [], "an ended job is not run again")
  }),

  contractCase(
    "MUST refuse an id taken by another type or payload (compared as JSON)",
    function* ({ enqueueOne, insert, job, row, type }) {
      const id = yield* insert({ payload: `{"a":1}` })
      for (const payload of [`{"a":2}`, `{"a":1,"b":null}`, `{}`, `[{"a":1}]`, `"a"`, `null`]) {
        assert.deepStrictEqual(yield* enqueueOne(job({ id, payload })), { _tag: "IdConflict" }, payload)
      }
      const otherType = job({ id, payload: `{"a":1}`, type: `${type}Other` })
      assert.deepStrictEqual(yield* enqueueOne(otherType), { _tag: "IdConflict" })
      assert.deepStrictEqual((yield* row(id)).payload, { a: 1 })
      assert.strictEqual((yield* row(id)).type, type)
    }
  ),

  contractCase(
    "a unique key in scope MUST answer with the job that holds it",
    function* ({ driver, enqueueOne, insert, job, type }) {
      const key = uuid()
      const holder = yield* insert({ key })
      const duplicate = { _tag: "Duplicate", id: holder } as const
      assert.deepStrictEqual(yield* enqueueOne(job({ key })), duplicate)
      assert.deepStrictEqual(yield* enqueueOne(job({ key, payload: "[]", keyScope: "live" })), duplicate)
      assert.deepStrictEqual(yield* enqueueOne(job({ key: `${key}x` })), { _tag: "Inserted" })
      const otherType = job({ key, type: `${type}Other` })
      assert.deepStrictEqual(yield* enqueueOne(otherType), { _tag: "Inserted" }, "a key is unique per type")
      assert.lengthOf(yield* driver.list({ limit: 10 }), 3)
    }
  ),

  contractCase(
    "a key of scope `retained` is held until retention removes the row",
    function* ({ advance, driver, enqueueOne, insert, job, settle, take }) {
      const key = uuid()
      const holder = yield* insert({ key, keyScope: "retained" })
      yield* settle(succeeded(yield* take(holder)))
      const next = job({ key, keyScope: "live" })
      assert.deepStrictEqual(yield* enqueueOne(next), { _tag: "Duplicate", id: holder })
      yield* advance(SLACK)
      yield* driver.prune({ succeeded: 1, failed: 1, cancelled: 1, attempts: undefined }, 10)
      assert.deepStrictEqual(yield* enqueueOne(next), { _tag: "Inserted" })
    }
  ),

  contractCase(
    "a key of scope `live` is held until the job ends",
    function* ({ driver, enqueueOne, insert, job, settle, take }) {
      const key = uuid()
      const refused = (id: string) =>
        Effect.map(enqueueOne(job({ key, keyScope: "live" })), (outcome) =>
          assert.deepStrictEqual(outcome, { _tag: "Duplicate", id })
        )
      const first = yield* insert({ key, keyScope: "live" })
      yield* refused(first)
      const attempt = yield* take(first)
      yield* refused(first)
      yield* settle(failed(attempt, 0))
      yield* refused(first)
      yield* settle(succeeded(yield* take(first)))
      const second = yield* insert({ key, keyScope: "live" })
      yield* refused(second)
      yield* settle(failed(yield* take(second)))
      const third = yield* insert({ key, keyScope: "live" })
      assert.deepStrictEqual(yield* driver.cancel([third]), ["cancelled"])
      yield* insert({ key, keyScope: "retained" })
    }
  ),

  contractCase(
    "concurrent enqueues of one key make one job, and every other caller is told its id",
    function* ({ driver, enqueueOne, job }) {
      const key = uuid()
      const outcomes = yield* Effect.all(
        Array.from({ length: 20 }, () => enqueueOne(job({ key }))),
        { concurrency: "unbounded" }
      )
      const rows = yield* driver.list({ limit: 100 })
      assert.lengthOf(rows, 1)
      assert.lengthOf(
        outcomes.filter(({ _tag }) => _tag === "Inserted"),
        1
      )
      for (const outcome of outcomes) {
        if (outcome._tag !== "Inserted") assert.deepStrictEqual(outcome, { _tag: "Duplicate", id: rows[0]!.id })
      }
    }
  ),

  contractCase(
    "MUST start `attempt` above the highest logged attempt of that id unless `freshId`",
    function* ({ advance, driver, enqueueOne, insert, job, row, settle, take }) {
      const id = yield* insert()
      yield* settle(failed(yield* take(id), 0))
      const last = yield* take(id)
      yield* settle(succeeded(last))
      yield* advance(SLACK)
      yield* driver.prune({ succeeded: 1, failed: 1, cancelled: 1, attempts: undefined }, 10)
      assert.deepStrictEqual(yield* driver.get([id]), [])
      yield* advance(SLACK)
      assert.deepStrictEqual(yield* enqueueOne(job({ id, freshId: false, payload: `"other"` })), { _tag: "Inserted" })
      const again = yield* take(id)
      assert.strictEqual(again.attempt, 3, "(job, attempt) never repeats")
      assert.isAbove(again.fence, last.fence, "the fence grows on")
      assert.deepStrictEqual(yield* settle(succeeded(last)), { _tag: "AlreadyMine" }, "of the pruned row")
      assert.deepStrictEqual(yield* settle(succeeded(again)), { _tag: "Settled", status: "succeeded" })
      const { failures, status } = yield* row(id)
      assert.deepStrictEqual({ failures, status }, { failures: 0, status: "succeeded" })
      assert.lengthOf(yield* driver.attempts(id), 3)
    }
  ),

  contractCase(
    "MUST NOT change the job it finds: an enqueue of a running job leaves it alone",
    function* ({ enqueueOne, insert, job, row, settle, take }) {
      const key = uuid()
      const id = yield* insert({ key })
      const attempt = yield* take(id)
      const before = yield* row(id)
      yield* enqueueOne(job({ id, key, freshId: false }))
      yield* enqueueOne(job({ key }))
      assert.deepStrictEqual(yield* row(id), before)
      assert.deepStrictEqual(yield* settle(succeeded(attempt)), { _tag: "Settled", status: "succeeded" })
    }
  ),

  contractCase(
    "a job is not claimed before its delay, or before its `runAt`, which wins",
    function* ({ advance, claim, insert, row }) {
      const delayed = yield* insert({ delay: 60_000 })
      const { enqueuedAt, runAt } = yield* row(delayed)
      assertApart(enqueuedAt, runAt, 60_000)
      const timed = yield* insert({ delay: 1, runAt: runAt + 60_000 })
      const past = yield* insert({ delay: 60_000, runAt: enqueuedAt })
      assertApart(runAt, (yield* row(timed)).runAt, 60_000)
      assert.deepStrictEqual(ids(yield* claim()), [past])
      yield* advance(60_000 - SLACK)
      assert.deepStrictEqual(yield* claim(), [])
      yield* advance(SLACK)
      assert.deepStrictEqual(ids(yield* claim()), [delayed])
      yield* advance(60_000)
      assert.deepStrictEqual(ids(yield* claim()), [timed])
    }
  )
]
