/** Cases of searching, and of one job as the claim sees it. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { JobFilter } from "../../store/JobStoreDriver.ts"
import { contractCase, failed, failure, ids, LEASE, SLACK, succeeded, uuid } from "./StoreUnderTest.ts"

export const findCases = [
  contractCase("find answers the jobs that match, every filter alone", function* (steps) {
    const { advance, driver, insert, queue, settle, take, type, worker } = steps
    const old = yield* insert({ tags: ["a", "b"], delay: 100_000_000 })
    yield* advance(3_600_000)
    const other = yield* insert({ queue: `${queue}-other`, type: `${type}Other`, tags: ["b"] })
    const lost = yield* insert()
    yield* settle(failed(yield* take(lost)))
    yield* advance(600_000)
    const won = yield* insert()
    yield* settle(succeeded(yield* take(won)))
    const silent = yield* take(yield* insert({ timeout: 60_000, timeoutThen: "ignore" }), { lease: 10 * LEASE })
    yield* advance(300_000)
    const reported = yield* take(yield* insert({ timeout: 60_000_000 }))
    yield* driver.progress([{ ...reported, progress: "1" }])
    const fresh = reported.id
    yield* driver.cancel([fresh])
    const cases: ReadonlyArray<readonly [JobFilter, ReadonlyArray<string>]> = [
      [{}, [old, other, lost, won, silent.id, fresh]],
      [{ ids: [old, won, uuid()] }, [old, won]],
      [{ status: ["queued"] }, [old, other]],
      [{ status: ["failed", "succeeded"] }, [lost, won]],
      [{ status: [] }, []],
      [{ type: `${type}Other` }, [other]],
      [{ queue: `${queue}-other` }, [other]],
      [{ tag: "b" }, [old, other]],
      [{ tag: "a" }, [old]],
      [{ worker }, [silent.id, fresh]],
      [{ worker: "a stranger" }, []],
      [{ errorCode: failure.code }, [lost]],
      [{ olderThan: 2_000_000 }, [old]],
      [{ newerThan: 2_000_000 }, [other, lost, won, silent.id, fresh]],
      [{ endedFor: 500_000 }, [lost]],
      [{ endedFor: 1_000 }, [lost, won]],
      [{ staleProgress: 200_000 }, [silent.id]],
      [{ timedOut: true }, [silent.id]],
      [{ timedOut: false }, [old, other, lost, won, fresh]],
      [{ cancelRequested: true }, [fresh]],
      [{ cancelRequested: false }, [old, other, lost, won, silent.id]],
      [{ status: ["queued"], tag: "b", olderThan: 2_000_000 }, [old]]
    ]
    for (const [filter, expected] of cases) {
      const found = ids(yield* driver.find({ ...filter, limit: 100 }))
      assert.deepStrictEqual(found, [...expected].sort().reverse(), JSON.stringify(filter))
      assert.strictEqual(yield* driver.count(filter), expected.length, JSON.stringify(filter))
    }
  }),

  contractCase("find MUST be stable under `after` while jobs come and go", function* ({ driver, insert, job, queue }) {
    const jobs = Array.from({ length: 6 }, () => job())
    yield* driver.enqueue(jobs)
    const newest = [...ids(jobs)].sort().reverse()
    const page = (after?: string) => Effect.map(driver.find({ queue, limit: 2, after }), ids)
    const first = yield* page()
    yield* insert({ id: `ffffffff-ffff-7fff-bfff-${uuid().slice(-12)}` })
    yield* driver.act({
      action: "purge",
      ids: first,
      by: { who: "ada" },
      operation: uuid(),
      publishIn: 0
    })
    yield* driver.cancel(first)
    const second = yield* page(first.at(-1))
    const third = yield* page(second.at(-1))
    assert.deepStrictEqual([...first, ...second, ...third], newest)
    assert.deepStrictEqual(yield* page(third.at(-1)), [])
    assert.deepStrictEqual(yield* driver.find({ queue, limit: 0 }), [])
  }),

  contractCase(
    "find says of a job what `get` says, but for what may be large or secret",
    function* ({ advance, driver, insert, row, settle, take }) {
      const plain = yield* insert({ tags: ["a"], key: uuid(), timeout: 5_000 })
      const long = yield* insert()
      yield* settle(failed(yield* take(long), undefined, { code: "error", message: "é".repeat(700), value: `"s"` }))
      const running = yield* take(yield* insert({ timeout: 60_000, timeoutThen: "ignore" }))
      yield* driver.progress([{ ...running, progress: `{"secret":1}` }])
      yield* advance(60_000 + SLACK)
      yield* driver.renew([running], LEASE)
      yield* driver.cancel([running.id])
      for (const id of [plain, long, running.id]) {
        const [summary] = yield* driver.find({ ids: [id], limit: 1 })
        const {
          error,
          fence: _f,
          metadata: _m,
          payload: _p,
          progress: _g,
          publishAt: _h,
          result: _r,
          ...rest
        } = yield* row(id)
        const shown = error === undefined ? undefined : { code: error.code, message: error.message.slice(0, 500) }
        assert.deepStrictEqual({ ...summary! }, { ...rest, error: shown })
      }
    }
  ),

  contractCase(
    "view is one job as the claim sees it",
    function* ({ advance, claim, crash, driver, insert, queue, take, type }) {
      const flags = function* (id: string) {
        const view = yield* driver.view(id)
        const { expired, pauses, suspect, waiting } = view!
        return [waiting, suspect, expired, pauses.length]
      }
      const id = yield* insert({ delay: 60_000 })
      assert.deepStrictEqual(yield* flags(id), [true, false, false, 0])
      yield* advance(60_000)
      assert.deepStrictEqual(yield* flags(id), [false, false, false, 0])
      for (const target of [{}, { queue }, { type }, { queue, type }, { queue: "other" }, { type: "Other" }]) {
        yield* driver.pause({ ...target, by: { who: "ada" }, operation: uuid() })
      }
      yield* driver.pause({ queue, duration: 30_000, by: { who: "ada", reason: "mail" }, operation: uuid() })
      const view = yield* driver.view(id)
      assert.deepStrictEqual(
        view!.pauses.map(({ queue, reason, type }) => ({ queue, type, reason })),
        [
          { queue: undefined, type: undefined, reason: undefined },
          { queue: undefined, type, reason: undefined },
          { queue, type: undefined, reason: "mail" },
          { queue, type, reason: undefined }
        ]
      )
      for (const target of yield* driver.pauses) {
        yield* driver.resume({ queue: target.queue, type: target.type, by: { who: "ada" }, operation: uuid() })
      }
      const [job] = yield* claim()
      assert.deepStrictEqual(yield* flags(id), [false, false, false, 0])
      assert.strictEqual((yield* driver.view(id))!.job.status, "processing")
      yield* advance(LEASE + SLACK)
      assert.deepStrictEqual(yield* flags(id), [false, false, true, 0])
      yield* crash(job!)
      assert.deepStrictEqual(yield* flags(id), [false, true, false, 0])
      yield* take(id)
      assert.isUndefined(yield* driver.view(uuid()))
    }
  )
]
