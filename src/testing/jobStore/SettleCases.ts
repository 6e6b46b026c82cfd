/** Cases of `settle`: every outcome, who may write it, and what becomes of data that cannot be stored. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { StoredError } from "../../store/JobStoreDriver.ts"
import {
  cancelled,
  contractCase,
  failed,
  failure,
  ids,
  LEASE,
  leaseOf,
  released,
  SLACK,
  snoozed,
  succeeded,
  uuid
} from "./StoreUnderTest.ts"

/** An error without the formatting of its JSON text, which a store may change. */
const normal = (error: StoredError | undefined) =>
  error?.value === undefined ? error : { ...error, value: JSON.parse(error.value) }

export const settleCases = [
  contractCase(
    "a success stores its result and ends the job",
    function* ({ driver, insert, row, settle, take, worker }) {
      const id = yield* insert()
      const job = yield* take(id)
      const { startedAt } = yield* row(id)
      assert.deepStrictEqual(yield* settle(succeeded(job, `{"ok":[1,null]}`)), { _tag: "Settled", status: "succeeded" })
      const after = yield* row(id)
      assert.deepStrictEqual(after.result, { ok: [1, null] })
      assert.deepStrictEqual([after.status, after.error], ["succeeded", undefined])
      const [record, ...others] = yield* driver.attempts(id)
      assert.deepStrictEqual(others, [])
      const { endedAt, error, ...rest } = record!
      assert.deepStrictEqual(rest, {
        jobId: id,
        attempt: 1,
        claim: job.claim,
        worker,
        outcome: "succeeded",
        finalizedBy: "worker",
        claimedAt: startedAt
      })
      assert.isTrue(error === undefined && endedAt >= startedAt! && after.finishedAt! >= startedAt!)
    }
  ),

  contractCase("a success without a result stores JSON null", function* ({ insert, row, settle, take }) {
    const id = yield* insert()
    yield* settle({ ...leaseOf(yield* take(id)), _tag: "Succeeded", result: undefined })
    assert.isNull((yield* row(id)).result)
  }),

  contractCase(
    "a failure waits its delay, with its error stored",
    function* ({ advance, claim, driver, insert, row, settle, take }) {
      const id = yield* insert()
      const error: StoredError = { code: "error", message: "no", value: `{"_tag":"Oops","n":[1]}`, stack: "at x" }
      assert.deepStrictEqual(yield* settle(failed(yield* take(id), 60_000, error)), {
        _tag: "Settled",
        status: "queued"
      })
      const after = yield* row(id)
      assert.deepStrictEqual([after.status, after.failures, after.finishedAt], ["queued", 1, undefined])
      assert.deepStrictEqual(normal(after.error), normal(error))
      assert.deepStrictEqual(normal((yield* driver.attempts(id))[0]?.error), normal(error))
      assert.deepStrictEqual(yield* claim(), [])
      yield* advance(60_000 - SLACK)
      assert.deepStrictEqual(yield* claim(), [], "never earlier than asked")
      yield* advance(SLACK)
      const [again] = yield* claim()
      assert.deepStrictEqual([again?.id, again?.attempt, again?.failures], [id, 2, 1])
      assert.deepStrictEqual(yield* settle(succeeded(again!)), { _tag: "Settled", status: "succeeded" })
      assert.isUndefined((yield* row(id)).error, "a success has no error")
    }
  ),

  contractCase("a failure that gives up ends the job as failed", function* ({ driver, insert, row, settle, take }) {
    const id = yield* insert()
    assert.deepStrictEqual(yield* settle(failed(yield* take(id))), { _tag: "Settled", status: "failed" })
    const after = yield* row(id)
    assert.deepStrictEqual([after.status, after.failures, after.result], ["failed", 1, undefined])
    assert.deepStrictEqual(normal(after.error), normal(failure))
    const timedOut = yield* insert()
    yield* settle(failed(yield* take(timedOut), undefined, { code: "timedOut", message: "too long" }))
    assert.strictEqual((yield* row(timedOut)).failures, 1)
    assert.deepStrictEqual(
      (yield* driver.attempts(timedOut)).map(({ outcome }) => outcome),
      ["timedOut"]
    )
  }),

  contractCase(
    "a snooze runs again after its delay and counts no failure",
    function* ({ advance, claim, insert, row, settle, take }) {
      const id = yield* insert({ maxAttempts: 1 })
      assert.deepStrictEqual(yield* settle(snoozed(yield* take(id), 60_000)), { _tag: "Settled", status: "queued" })
      const after = yield* row(id)
      assert.deepStrictEqual([after.snoozes, after.failures, after.error], [1, 0, undefined])
      yield* advance(60_000 - SLACK)
      assert.deepStrictEqual(yield* claim(), [])
      yield* advance(SLACK)
      assert.deepStrictEqual(ids(yield* claim()), [id])
    }
  ),

  contractCase(
    "a release costs nothing: due at once, only an interruption counted",
    function* ({ claim, insert, row, settle, take }) {
      const id = yield* insert({ maxAttempts: 1, maxCrashes: 1 })
      for (let n = 1; n <= 5; n++) {
        assert.deepStrictEqual(yield* settle(released(yield* take(id))), { _tag: "Settled", status: "queued" })
        const { crashes, failures, interruptions, snoozes } = yield* row(id)
        assert.deepStrictEqual(
          { crashes, failures, interruptions, snoozes },
          { crashes: 0, failures: 0, interruptions: n, snoozes: 0 }
        )
      }
      assert.deepStrictEqual(ids(yield* claim()), [id])
    }
  ),

  contractCase(
    "settle answers in order, a whole batch of different outcomes",
    function* ({ driver, insert, take, worker }) {
      const jobs = []
      for (let n = 0; n < 6; n++) jobs.push(yield* take(yield* insert()))
      const [a, b, c, d, e, f] = jobs
      yield* driver.cancel([e!.id])
      const outcomes = yield* driver.settle(worker, [
        snoozed(f!, 1_000),
        succeeded(a!),
        { ...succeeded(b!), claim: uuid() },
        failed(c!, 1),
        failed(d!),
        cancelled(e!),
        succeeded({ id: uuid(), attempt: 1, claim: uuid() })
      ])
      assert.deepStrictEqual(outcomes, [
        { _tag: "Settled", status: "queued" },
        { _tag: "Settled", status: "succeeded" },
        { _tag: "LeaseLost" },
        { _tag: "Settled", status: "queued" },
        { _tag: "Settled", status: "failed" },
        { _tag: "Settled", status: "cancelled" },
        { _tag: "LeaseLost" }
      ])
      assert.deepStrictEqual(yield* driver.settle(worker, []), [])
    }
  ),

  contractCase(
    "MUST write only while the job is `processing` under that (attempt, claim)",
    function* ({ advance, crash, driver, insert, row, settle, take }) {
      const lost = { _tag: "LeaseLost" }
      const id = yield* insert({ maxCrashes: 9 })
      const first = yield* take(id)
      assert.deepStrictEqual(yield* settle(succeeded({ ...first, claim: uuid() })), lost, "another claim")
      assert.deepStrictEqual(yield* settle(succeeded({ ...first, attempt: 2 })), lost, "another attempt")
      yield* crash(first)
      const before = yield* row(id)
      const late = [
        succeeded(first),
        failed(first),
        failed(first, 0),
        snoozed(first, 1),
        released(first),
        cancelled(first)
      ]
      for (const settlement of late) assert.deepStrictEqual(yield* settle(settlement), lost, "queued again")
      assert.deepStrictEqual(yield* row(id), before)
      const second = yield* take(id)
      const running = yield* row(id)
      for (const settlement of late) assert.deepStrictEqual(yield* settle(settlement), lost, "somebody else's")
      assert.deepStrictEqual(yield* row(id), running)
      assert.lengthOf(yield* driver.attempts(id), 1)
      assert.deepStrictEqual(yield* settle(succeeded(second)), { _tag: "Settled", status: "succeeded" })
      const ended = yield* row(id)
      for (const settlement of late) assert.deepStrictEqual(yield* settle(settlement), lost, "ended")
      assert.deepStrictEqual(yield* row(id), ended, "terminal is final")
      yield* advance(SLACK)
      yield* driver.prune({ succeeded: 1, failed: 1, cancelled: 1, attempts: 1 }, 10)
      assert.deepStrictEqual(yield* settle(succeeded(second)), lost, "deleted")
    }
  ),

  contractCase(
    "an attempt may be settled after its lease has ended, while nobody reaped it",
    function* ({ advance, insert, settle, take }) {
      const job = yield* take(yield* insert())
      yield* advance(LEASE + SLACK)
      assert.deepStrictEqual(yield* settle(succeeded(job)), { _tag: "Settled", status: "succeeded" })
    }
  ),

  contractCase(
    "a settle that was written already answers AlreadyMine and writes nothing",
    function* ({ driver, insert, row, settle, take }) {
      for (const end of [succeeded, (lease: Parameters<typeof failed>[0]) => failed(lease, 0), released]) {
        const id = yield* insert()
        const job = yield* take(id)
        assert.strictEqual((yield* settle(end(job)))._tag, "Settled")
        const before = yield* row(id)
        assert.deepStrictEqual(yield* settle(end(job)), { _tag: "AlreadyMine" })
        assert.deepStrictEqual(yield* row(id), before)
        assert.lengthOf(yield* driver.attempts(id), 1)
        assert.deepStrictEqual(
          yield* settle(end({ ...job, claim: uuid() })),
          { _tag: "LeaseLost" },
          "not of this claim"
        )
      }
    }
  ),

  contractCase("MUST write job and attempts log together", function* ({ driver, insert, row, settle, take }) {
    const id = yield* insert()
    for (let attempt = 1; attempt <= 3; attempt++) {
      const job = yield* take(id)
      assert.lengthOf(yield* driver.attempts(id), attempt - 1, "a running attempt is not in the log")
      yield* settle(attempt < 3 ? failed(job, 0) : succeeded(job))
      const log = yield* driver.attempts(id)
      assert.deepStrictEqual(
        log.map((record) => record.attempt),
        Array.from({ length: attempt }, (_, index) => index + 1)
      )
      assert.strictEqual(log.at(-1)?.claim, job.claim)
    }
    assert.deepStrictEqual((yield* row(id)).status, "succeeded")
  }),

  contractCase(
    "MUST let a requested cancel win over anything but success",
    function* ({ driver, insert, row, settle, take }) {
      const ends = [
        (lease: Parameters<typeof failed>[0]) => failed(lease, 0),
        (lease: Parameters<typeof failed>[0]) => failed(lease),
        (lease: Parameters<typeof failed>[0]) => snoozed(lease, 1_000),
        released,
        cancelled
      ]
      for (const end of ends) {
        const id = yield* insert()
        const job = yield* take(id)
        assert.deepStrictEqual(yield* driver.cancel([id]), ["requested"])
        assert.deepStrictEqual(yield* settle(end(job)), { _tag: "Settled", status: "cancelled" }, end(job)._tag)
        assert.strictEqual((yield* row(id)).status, "cancelled")
        assert.isDefined((yield* row(id)).finishedAt)
      }
      const id = yield* insert()
      const job = yield* take(id)
      yield* driver.cancel([id])
      assert.deepStrictEqual(yield* settle(succeeded(job, "7")), { _tag: "Settled", status: "succeeded" })
      assert.deepStrictEqual((yield* row(id)).result, 7)
    }
  ),

  contractCase(
    "MUST fail the whole call with reason `Refused` and write nothing when the data of any row cannot be stored",
    function* ({ driver, insert, row, take, worker }) {
      const hostile = [`"\\u0000"`, `{"\\u0000":1}`, `"\\ud800"`, `"\\udc00x"`, `{"a":`, "", "undefined", "NaN"]
      for (const text of hostile) {
        const [good, bad] = [yield* take(yield* insert()), yield* take(yield* insert())]
        for (const settlement of [succeeded(bad, text), failed(bad, 0, { ...failure, value: text })]) {
          const error = yield* Effect.flip(driver.settle(worker, [succeeded(good), settlement]))
          assert.deepStrictEqual([error.reason, error.operation.includes("settle")], ["Refused", true], text)
        }
        for (const { id } of [good, bad]) assert.strictEqual((yield* row(id)).status, "processing", text)
        assert.deepStrictEqual(yield* driver.settle(worker, [succeeded(good), succeeded(bad, `"\\\\u0000"`)]), [
          { _tag: "Settled", status: "succeeded" },
          { _tag: "Settled", status: "succeeded" }
        ])
        assert.strictEqual((yield* row(bad.id)).result, "\\u0000", "an escaped backslash is no escape")
      }
    }
  ),

  contractCase("concurrent settles of one attempt write it once", function* ({ driver, insert, settle, take }) {
    const id = yield* insert()
    const job = yield* take(id)
    const outcomes = yield* Effect.all(
      Array.from({ length: 10 }, (_, n) => settle(n % 2 === 0 ? succeeded(job) : failed(job))),
      { concurrency: "unbounded" }
    )
    const tags = outcomes.map(({ _tag }) => _tag)
    assert.lengthOf(
      tags.filter((tag) => tag === "Settled"),
      1
    )
    assert.lengthOf(yield* driver.attempts(id), 1)
  })
]
