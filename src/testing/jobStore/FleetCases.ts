/** Cases of the counts that the fleet keeps. Other cases' jobs are in the store too, so each looks at its own queue. */
import { assert } from "@effect/vitest"
import type { FleetStatsRequest } from "../../store/JobStoreDriver.ts"
import { contractCase, failed, SLACK, succeeded, uuid } from "./StoreUnderTest.ts"

/** Longer than any count of a case keeps its answer. */
const LONG = 3_600_000
const by = { who: "ada", reason: "a test" }

const request = (worker: string, override?: Partial<FleetStatsRequest>): FleetStatsRequest => ({
  worker,
  interval: 10 * SLACK,
  staleAfter: 2 * SLACK,
  ...override
})

export const fleetCases = [
  contractCase(
    "the fleet's counts agree with the jobs",
    function* ({ advance, driver, insert, queue, settle, take, type, worker }) {
      yield* advance(LONG)
      yield* settle(succeeded(yield* take(yield* insert())))
      yield* settle(failed(yield* take(yield* insert())))
      yield* driver.cancel([yield* insert()])
      const silent = yield* take(yield* insert(), { lease: 2 * LONG })
      yield* driver.progress([{ ...silent, progress: "1" }])
      yield* take(yield* insert(), { lease: 2 * LONG })
      yield* insert({ priority: 1 })
      yield* insert({ type: `${type}Paused` })
      yield* insert({ delay: LONG })
      yield* driver.pause({ type: `${type}Paused`, by, operation: uuid() })
      yield* advance(5 * SLACK)
      const stats = yield* driver.fleetStats(request(worker))
      yield* driver.resume({ type: `${type}Paused`, by, operation: uuid() })
      const { oldestAge, ...counts } = stats!.queues.find((one) => one.queue === queue)!
      assert.deepStrictEqual(counts, {
        queue,
        claimable: 1,
        due: 2,
        waiting: 1,
        processing: 2,
        stale: 1,
        succeeded: 1,
        failed: 1,
        cancelled: 1
      })
      assert.isTrue(oldestAge >= 5 * SLACK && oldestAge < 10 * SLACK, `${oldestAge} ms`)
    }
  ),

  contractCase(
    "counts are kept for their interval, and then made anew by whoever asks",
    function* ({ advance, driver, insert, queue }) {
      yield* advance(LONG)
      yield* insert()
      const first = yield* driver.fleetStats(request("a"))
      yield* insert()
      yield* advance(LONG)
      const later = yield* driver.fleetStats(request("b"))
      const due = (stats: typeof first) => stats!.queues.find((one) => one.queue === queue)!.due
      assert.deepStrictEqual([due(first), due(later)], [1, 2])
      assert.isAbove(later!.countedAt, first!.countedAt)
    }
  ),

  contractCase(
    "the lag of the relay is the age of the oldest hint that was never published",
    function* ({ advance, driver, insert, worker }) {
      yield* advance(LONG)
      yield* driver.takeHints({ limit: 1_000, again: true })
      yield* insert({ hinted: true, publishIn: 0 })
      yield* advance(5 * SLACK)
      const stats = yield* driver.fleetStats(request(worker))
      assert.isTrue(stats!.relayLag >= 5 * SLACK && stats!.relayLag < 10 * SLACK, `${stats!.relayLag} ms`)
      yield* driver.takeHints({ limit: 1_000, again: true })
      yield* advance(LONG)
      assert.strictEqual((yield* driver.fleetStats(request(worker)))!.relayLag, 0)
    }
  )
]
