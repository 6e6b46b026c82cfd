/** Cases of what people do to many jobs at once: each action, its audit rows, and what it must leave alone. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { StoreError } from "../../JobError.ts"
import type { ActionRequest, ActionResult, JobAction, JobStoreDriver } from "../../store/JobStoreDriver.ts"
import { assertApart, contractCase, failed, ids, LEASE, leaseOf, succeeded, uuid } from "./StoreUnderTest.ts"

const by = { who: "ada", reason: "a test" }

const request = (action: JobAction, ids: ReadonlyArray<string>, override?: Partial<ActionRequest>): ActionRequest => ({
  action,
  ids,
  by,
  operation: uuid(),
  publishIn: 0,
  ...override
})

const outcomes = (results: ReadonlyArray<ActionResult>) => results.map(({ outcome }) => outcome)

/** The audit rows of one call, oldest first. */
const logged = (driver: JobStoreDriver, operation: string): Effect.Effect<ReadonlyArray<unknown>, StoreError> =>
  Effect.map(driver.audit({ operation, limit: 100 }), (records) =>
    records.toReversed().map(({ after, before, target }) => ({ after, before, target }))
  )

export const actCases = [
  contractCase(
    "requeue lets ended jobs run again, due now and published, budgets restored, counters kept",
    function* ({ claim, driver, insert, row, settle, take }) {
      const [won, lost, gone] = [yield* insert({ hinted: true }), yield* insert({ maxAttempts: 1 }), yield* insert()]
      yield* settle(succeeded(yield* take(won), "1"))
      yield* settle(failed(yield* take(lost)))
      yield* driver.cancel([gone])
      const running = yield* take(yield* insert())
      const missing = uuid()
      const results = yield* driver.act(request("requeue", [won, running.id, lost, missing, gone, won]))
      assert.deepStrictEqual(outcomes(results), ["done", "ineligible", "done", "missing", "done", "done"])
      const { attempt, priority, queue } = yield* row(won)
      assert.deepStrictEqual(results[0]!.hint, { attempt, priority, queue })
      assert.deepStrictEqual([results[0]!.status, results[1]!.hint], ["queued", undefined])
      assert.isDefined((yield* row(won)).publishAt)
      for (const id of [won, lost, gone]) {
        const { cancelRequestedAt, error, finishedAt, result, status } = yield* row(id)
        assert.deepStrictEqual(
          [status, cancelRequestedAt, error, finishedAt, result],
          ["queued", undefined, undefined, undefined, undefined]
        )
      }
      assert.strictEqual((yield* row(lost)).failures, 1)
      const again = yield* claim()
      assert.sameMembers([...ids(again)], [won, lost, gone])
      assert.strictEqual(again.find(({ id }) => id === lost)?.failures, 0, "the replay starts again")
    }
  ),

  contractCase(
    "requeue of what publishes itself leaves the relay its grace, and counts as the first publication",
    function* ({ advance, driver, insert, row, settle, take }) {
      const id = yield* insert({ hinted: true })
      yield* settle(succeeded(yield* take(id)))
      yield* driver.act(request("requeue", [id], { publishIn: 5_000 }))
      const { publishAt, runAt } = yield* row(id)
      assertApart(runAt, publishAt, 5_000)
      assert.deepStrictEqual(yield* driver.takeHints({ limit: 10, again: true }), [])
      yield* advance(5_000)
      assert.deepStrictEqual(yield* driver.takeHints({ limit: 10, again: false }), [])
      const again = yield* driver.takeHints({ limit: 10, again: true })
      assert.deepStrictEqual(
        again.map(({ id, publication }) => [id, publication]),
        [[id, 2]]
      )
    }
  ),

  contractCase(
    "requeue answers `keyTaken` for a job whose unique key another live job holds, also within one batch",
    function* ({ driver, insert, row, settle, take }) {
      const key = uuid()
      const make = function* () {
        const id = yield* insert({ key, keyScope: "live" })
        yield* settle(succeeded(yield* take(id)))
        return id
      }
      const both = [yield* make(), yield* make()].sort()
      const other = yield* insert()
      yield* driver.cancel([other])
      const results = yield* driver.act(request("requeue", [...both, other]))
      assert.deepStrictEqual(outcomes(results), ["done", "keyTaken", "done"])
      assert.strictEqual((yield* row(both[1]!)).status, "succeeded")
      assert.deepStrictEqual(outcomes(yield* driver.act(request("requeue", [both[1]!]))), ["keyTaken"])
    }
  ),

  contractCase(
    "fail MUST log the attempt that it ends, raise its counter, and make its owner's lease lost",
    function* ({ driver, insert, row, settle, take }) {
      const queued = yield* insert({ delay: 60_000, hinted: true })
      const running = yield* take(yield* insert({ hinted: true }))
      const done = yield* insert()
      yield* settle(succeeded(yield* take(done)))
      const asked = request("fail", [queued, running.id, done])
      assert.deepStrictEqual(outcomes(yield* driver.act(asked)), ["done", "done", "ineligible"])
      for (const id of [queued, running.id]) {
        const { error, publishAt, status } = yield* row(id)
        assert.deepStrictEqual([status, error?.code, publishAt], ["failed", "failedByAdmin", undefined])
        assert.include(error!.message, "ada")
      }
      assert.deepStrictEqual(yield* driver.attempts(queued), [])
      const [attempt] = yield* driver.attempts(running.id)
      assert.deepStrictEqual(
        [attempt?.outcome, attempt?.finalizedBy, attempt?.claim, attempt?.error?.code],
        ["failed", "admin", running.claim, "failedByAdmin"]
      )
      assert.strictEqual((yield* row(running.id)).failures, 1)
      assert.deepStrictEqual((yield* driver.renew([leaseOf(running)], LEASE)).lost, [leaseOf(running)])
      assert.deepStrictEqual(yield* settle(succeeded(running)), { _tag: "LeaseLost" })
      assert.strictEqual((yield* row(done)).status, "succeeded")
    }
  ),

  contractCase("fail lets a requested cancel win, as every exit does", function* ({ driver, insert, row, take }) {
    const running = yield* take(yield* insert())
    yield* driver.cancel([running.id])
    const [result] = yield* driver.act(request("fail", [running.id]))
    assert.deepStrictEqual([result?.outcome, result?.status], ["done", "cancelled"])
    assert.strictEqual((yield* row(running.id)).status, "cancelled")
  }),

  contractCase(
    "cancel ends queued jobs, asks the owners of running ones, and is done once",
    function* ({ claim, driver, insert, row, take }) {
      const queued = yield* insert({ hinted: true })
      const running = yield* take(yield* insert())
      const results = yield* driver.act(request("cancel", [queued, running.id]))
      assert.deepStrictEqual(
        results.map(({ outcome, status }) => [outcome, status]),
        [
          ["done", "cancelled"],
          ["done", "processing"]
        ]
      )
      assert.isUndefined((yield* row(queued)).publishAt)
      assert.deepStrictEqual((yield* driver.renew([leaseOf(running)], LEASE)).cancelled, [leaseOf(running)])
      const again = yield* driver.act(request("cancel", [queued, running.id]))
      assert.deepStrictEqual(outcomes(again), ["ineligible", "ineligible"])
      assert.deepStrictEqual(yield* claim(), [])
    }
  ),

  contractCase(
    "runNow makes queued jobs due and publishes them; what is due already keeps its place",
    function* ({ advance, claim, driver, insert, row, take }) {
      const due = yield* insert({ hinted: true })
      yield* advance(60_000)
      const before = (yield* row(due)).runAt
      const later = yield* insert({ delay: 3_600_000, hinted: true })
      const running = yield* take(yield* insert())
      const results = yield* driver.act(request("runNow", [later, due, running.id]))
      assert.deepStrictEqual(outcomes(results), ["done", "done", "ineligible"])
      assert.strictEqual((yield* row(due)).runAt, before)
      const hints = yield* driver.takeHints({ limit: 10, again: false })
      assert.sameMembers([...ids(hints)], [due, later])
      assert.deepStrictEqual(ids(yield* claim()), [due, later])
    }
  ),

  contractCase("purge deletes ended jobs, and no others; attempts stay", function* ({ driver, insert, settle, take }) {
    const done = yield* take(yield* insert())
    yield* settle(succeeded(done))
    const queued = yield* insert()
    const [first, second] = yield* driver.act(request("purge", [done.id, queued]))
    assert.deepStrictEqual([first?.outcome, first?.status, second?.outcome], ["done", undefined, "ineligible"])
    assert.deepStrictEqual(ids(yield* driver.get([done.id, queued])), [queued])
    assert.lengthOf(yield* driver.attempts(done.id), 1)
    assert.deepStrictEqual(outcomes(yield* driver.act(request("purge", [done.id]))), ["missing"])
  }),

  contractCase(
    "act MUST NOT change or log a job that is not eligible or does not match `filter` when held",
    function* ({ driver, insert, queue, row, settle, take, type }) {
      const [queued, other] = [yield* insert({ tags: ["a"] }), yield* insert({ queue: `${queue}-other` })]
      const done = yield* insert()
      yield* settle(succeeded(yield* take(done)))
      const before = yield* driver.get([queued, other, done])
      const filters = [
        { queue: `${queue}-other` },
        { type: `${type}Other` },
        { status: ["processing"] },
        { tag: "b" },
        { olderThan: 60_000 },
        { timedOut: true },
        { ids: [done] }
      ] as const
      for (const filter of filters) {
        const asked = request("cancel", [queued], { filter })
        assert.deepStrictEqual(outcomes(yield* driver.act(asked)), ["changed"])
        assert.deepStrictEqual(yield* logged(driver, asked.operation), [])
      }
      const asked = request("cancel", [done, uuid()])
      assert.deepStrictEqual(outcomes(yield* driver.act(asked)), ["ineligible", "missing"])
      assert.deepStrictEqual(yield* logged(driver, asked.operation), [])
      assert.deepStrictEqual(yield* driver.get([queued, other, done]), before)
      const all = {
        queue,
        type,
        status: ["queued", "processing"],
        tag: "a",
        newerThan: 60_000,
        timedOut: false
      } as const
      assert.deepStrictEqual(outcomes(yield* driver.act(request("cancel", [queued], { filter: all }))), ["done"])
      assert.strictEqual((yield* row(queued)).status, "cancelled")
      assert.deepStrictEqual(yield* driver.act(request("cancel", [])), [])
    }
  ),

  contractCase(
    "act MUST write the change and its audit row together: who, when, what, before, after, reason",
    function* ({ driver, insert, queue, row, take, type, worker }) {
      const running = yield* take(yield* insert())
      const asked = request("fail", [running.id])
      const { runAt } = yield* row(running.id)
      yield* driver.act(asked)
      const [record, ...others] = yield* driver.audit({ operation: asked.operation, limit: 10 })
      assert.deepStrictEqual(others, [])
      const { at, id, ...rest } = record!
      const state = { type, queue, attempt: 1, crashes: 0, runAt: Math.round(runAt) }
      assert.deepStrictEqual(rest, {
        who: "ada",
        reason: "a test",
        action: "fail",
        operation: asked.operation,
        kind: "job",
        target: running.id,
        before: { ...state, status: "processing", failures: 0, worker },
        after: { ...state, status: "failed", failures: 1, error: "failedByAdmin" }
      })
      assertApart((yield* row(running.id)).finishedAt, at, 0)
      const purge = request("purge", [running.id], { by: { who: "bob" } })
      yield* driver.act(purge)
      const [gone] = yield* driver.audit({ target: running.id, who: "bob", limit: 10 })
      assert.deepStrictEqual([gone?.action, gone?.after, gone?.reason], ["purge", undefined, undefined])
      assert.isAbove(gone!.id, id)
      const page = yield* driver.audit({ target: running.id, limit: 1, after: gone!.id })
      assert.deepStrictEqual(
        page.map(({ action }) => action),
        ["fail"]
      )
      assert.lengthOf(yield* driver.audit({ target: running.id, action: "purge", limit: 10 }), 1)
      assert.lengthOf(yield* driver.audit({ target: running.id, limit: 10 }), 2)
    }
  ),

  contractCase("an action that cannot be logged is not done", function* ({ driver, insert, row }) {
    const id = yield* insert()
    const before = yield* row(id)
    for (const nobody of [{ who: "" }, { who: "x".repeat(256) }, { who: "ada", reason: "x".repeat(2_001) }]) {
      const error = yield* Effect.flip(driver.act(request("cancel", [id], { by: nobody })))
      assert.strictEqual(error.reason, "Refused")
      const pause = yield* Effect.flip(driver.pause({ queue: "q", by: nobody, operation: uuid() }))
      assert.strictEqual(pause.reason, "Refused")
    }
    assert.deepStrictEqual(yield* row(id), before)
    assert.deepStrictEqual(yield* driver.pauses, [])
  })
]
