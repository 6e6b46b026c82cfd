/** Cases of suspects: jobs that crashed a worker before run at most one at a time, so that the culprit dies alone. */
import { assert } from "@effect/vitest"
import { contractCase, ids, succeeded } from "./StoreUnderTest.ts"

export const suspectCases = [
  contractCase(
    "a job that crashed a worker is claimed only as a suspect, and at most one per claim",
    function* ({ claim, crash, insert, queue, row, settle, take, type }) {
      const [a, b] = [`${type}A`, `${type}B`]
      const suspects = [yield* insert({ type: a }), yield* insert({ type: b }), yield* insert({ type: b })]
      for (const id of suspects) yield* crash(yield* take(id, { types: [a, b] }))
      const innocent = yield* insert({ type: a })
      const pools = [
        { ranges: [{ queue, type: a }], limit: 10 },
        { ranges: [{ queue, type: b }], limit: 10 }
      ]
      assert.deepStrictEqual(ids(yield* claim({ pools, suspects: 0 })), [innocent])
      for (let n = 0; n < suspects.length; n++) {
        const jobs = yield* claim({ pools, suspects: 1 })
        assert.deepStrictEqual(
          jobs.map(({ suspect }) => suspect),
          [true]
        )
        assert.strictEqual((yield* row(jobs[0]!.id)).crashes, 1)
      }
      assert.deepStrictEqual(yield* claim({ pools, suspects: 1 }), [])
      assert.deepStrictEqual(yield* settle(succeeded({ id: innocent, attempt: 1, claim: innocent })), {
        _tag: "LeaseLost"
      })
    }
  ),

  contractCase(
    "a suspect that is due comes beside jobs that crashed nobody, and not before its time",
    function* ({ advance, claim, crash, insert, take }) {
      const id = yield* insert({ maxCrashes: 9 })
      yield* crash(yield* take(id))
      yield* crash(yield* take(id))
      const innocent = yield* insert()
      assert.deepStrictEqual(ids(yield* claim({ suspects: 1 })), [innocent], "the second crash makes it wait")
      yield* advance(60_000)
      const others = [yield* insert(), yield* insert()]
      const jobs = yield* claim({ suspects: 1 })
      assert.deepStrictEqual([...ids(jobs)].sort(), [id, ...others].sort())
    }
  ),

  contractCase(
    "hinted suspects: one is claimed, the others are told `suspect`",
    function* ({ claimHinted, crash, insert, take }) {
      const suspects = [yield* insert(), yield* insert()]
      for (const id of suspects) yield* crash(yield* take(id))
      const none = yield* claimHinted(suspects, { suspects: 0 })
      assert.deepStrictEqual(ids(none.claimed), [])
      assert.sameDeepMembers(
        [...none.rest],
        suspects.map((id) => ({ id, disposition: "suspect" as const, attempt: 1 }))
      )
      const { claimed, rest } = yield* claimHinted(suspects, { suspects: 1 })
      assert.lengthOf(claimed, 1)
      assert.isTrue(claimed[0]?.suspect)
      const other = suspects.find((id) => id !== claimed[0]?.id)
      assert.deepStrictEqual(rest, [{ id: other!, disposition: "suspect", attempt: 1 }])
    }
  ),

  contractCase("requeue clears the suspicion", function* ({ claim, crash, driver, insert, row, settle, take }) {
    const id = yield* insert()
    yield* crash(yield* take(id))
    yield* settle(succeeded(yield* take(id)))
    assert.strictEqual(yield* driver.requeue(id), "requeued")
    const [job] = yield* claim({ suspects: 0 })
    assert.deepStrictEqual([job?.id, job?.suspect], [id, false])
    assert.strictEqual((yield* row(id)).crashes, 1, "the counter stays")
  })
]
