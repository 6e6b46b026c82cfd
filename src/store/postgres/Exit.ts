/**
 * The only ways out of `processing` in SQL: every statement that ends attempts finds and locks its rows in a CTE `held`
 * and goes through `leave`, which changes the row and logs the attempt in the same statement, raises exactly one counter
 * (or ends the job), and lets a requested cancel win over everything but success.
 */
import type { StoredError } from "../JobStoreDriver.ts"
import type { DatabaseClock } from "./DatabaseClock.ts"
import type { Names } from "./Names.ts"

/** The fence of every owner's write. In a CASE, so that no statistics about `processing` rows can spoil the plan. */
export const owned = `case when j.status = 'processing' and j.attempt = t.attempt and j.claim = t.claim then true else false end`

/**
 * What `held` has to say of a row besides its own columns of this list. Rows are found again by id: one that was
 * changed between the statement's snapshot and our lock has another `ctid` by then, which the snapshot cannot see.
 */
export const heldColumns = `j.id, j.claim, j.lease_owner, j.started_at, j.cancel_requested_at is not null as cancelled`

/** The log of these ended attempts, read from the CTE `u`. */
export const logAttempts = (names: Names): string =>
  `insert into ${names.attempts} (job_id, claim, claimed_at, ended_at, attempt, outcome, finalized_by, worker, error)`

/**
 * CTEs `u` and `log`. `held` must have `heldColumns` and: `n`, a position for the caller, or null; `outcome`; `next`, the
 * status after it; `wait`, milliseconds until it runs again (null: at once); `result` and `error`, jsonb or null. `also`:
 * what else `u` returns.
 */
export const leave = (
  names: Names,
  clock: DatabaseClock,
  finalizedBy: "worker" | "reaper" | "admin",
  also?: string
): string => {
  const at = clock.moment
  const ends = "h.outcome = 'succeeded' or h.cancelled or h.next <> 'queued'"
  return `u as (
    update ${names.jobs} j set
      status = case when h.outcome <> 'succeeded' and h.cancelled then 'cancelled' else h.next end,
      claim = null, lease_owner = null, lease_expires_at = null,
      failures = j.failures + (h.outcome in ('failed', 'timedOut'))::int,
      crashes = j.crashes + (h.outcome = 'crashed')::int,
      interruptions = j.interruptions + (h.outcome = 'released')::int,
      snoozes = j.snoozes + (h.outcome = 'snoozed')::int,
      run_at = case when ${ends} then j.run_at else h.at + coalesce(h.wait, 0) * interval '1 millisecond' end,
      publish_at = case when j.hinted and not (${ends}) then h.at + coalesce(h.wait, 0) * interval '1 millisecond' end,
      publications = 0,
      finished_at = case when ${ends} then h.at end,
      result = h.result,
      error = case when h.outcome = 'succeeded' then null else coalesce(h.error, j.error) end
    from (select *, ${at} as at from held) h where j.id = h.id
    returning j.id, j.type, j.queue, j.attempt, j.status, h.claim, h.lease_owner, h.started_at, h.at, h.outcome, h.error, h.n${also === undefined ? "" : `, ${also}`}
  ), log as (
    ${logAttempts(names)}
    select id, claim, started_at, at, attempt, outcome, '${finalizedBy}', lease_owner, error from u
  )`
}

/** A stored error as JSON text: its `value` is JSON already. */
export const errorText = (error: StoredError): string => {
  const value = error.value === undefined ? "" : `,"value":${error.value}`
  const stack = error.stack === undefined ? "" : `,"stack":${JSON.stringify(error.stack)}`
  const trace = error.trace === undefined ? "" : `,"trace":${JSON.stringify(error.trace)}`
  return `{"code":${JSON.stringify(error.code)},"message":${JSON.stringify(error.message)}${value}${stack}${trace}}`
}

/** A stored error from its JSON text. */
export const toStoredError = (text: string | null): StoredError | undefined => {
  if (text === null) return undefined
  const stored = JSON.parse(text) as Omit<StoredError, "value"> & { readonly value?: unknown }
  const { code, message, stack, trace, value } = stored
  return {
    code,
    message,
    ...(value === undefined ? {} : { value: JSON.stringify(value) }),
    ...(stack === undefined ? {} : { stack }),
    ...(trace === undefined ? {} : { trace })
  }
}
