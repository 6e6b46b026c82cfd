/**
 * The conservation law: every exit from `processing` is logged once and raises exactly one counter, so that each job's
 * numbers and its log tell the same story. Checked after every case of the suite, whatever the case did.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { StoreError } from "../../JobError.ts"
import type { AttemptOutcome, AttemptRecord, JobRecord, JobStoreDriver } from "../../store/JobStoreDriver.ts"

/** Every job of the store obeys the law. */
export const auditAll = Effect.fnUntraced(function* (driver: JobStoreDriver): Effect.fn.Return<void, StoreError> {
  let after: string | undefined
  for (;;) {
    const page = yield* driver.list({ limit: 500, after })
    for (const row of page) audit(row, yield* driver.attempts(row.id))
    after = page.at(-1)?.id
    if (after === undefined) return
  }
})

/** One job and its whole log obey the law. Attempts logged before the row was enqueued belong to a pruned row of its id. */
export const audit = (row: JobRecord, log: ReadonlyArray<AttemptRecord>): void => {
  const ended = log.filter(({ endedAt }) => endedAt >= row.enqueuedAt)
  const running = row.status === "processing" ? 1 : 0
  const count = (...outcomes: ReadonlyArray<AttemptOutcome>) =>
    ended.filter(({ outcome }) => outcomes.includes(outcome)).length
  const expect = (actual: unknown, expected: unknown, what: string) =>
    assert.deepStrictEqual(actual, expected, `${what} of ${row.status} job ${row.id}`)

  const earlier = log.length - ended.length
  expect(
    ended.map(({ attempt }) => attempt),
    Array.from({ length: row.attempt - running - earlier }, (_, index) => earlier + index + 1),
    "logged attempts, one for every attempt that ended,"
  )
  expect(row.failures, count("failed", "timedOut"), "failures")
  expect(row.crashes, count("crashed"), "crashes")
  expect(row.interruptions, count("released"), "interruptions")
  expect(row.snoozes, count("snoozed"), "snoozes")
  if (row.status === "succeeded") expect(ended.at(-1)?.outcome, "succeeded", "last outcome")

  expect(row.worker !== undefined, running === 1, "owner while processing")
  expect(row.leaseExpiresAt !== undefined, running === 1, "lease while processing")
  expect(row.finishedAt !== undefined, row.status !== "queued" && running === 0, "end of an ended job")
  expect(row.result !== undefined, row.status === "succeeded", "result of a success")
  if (row.status !== "queued") expect(row.publishAt, undefined, "no hint is due")
}
