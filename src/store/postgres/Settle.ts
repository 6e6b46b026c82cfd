/**
 * The settle: ends attempts of this worker, in one statement for a whole batch, row and log together, ordered by id. It locks
 * first, skipping what somebody else holds, so that it never waits and never deadlocks. A batch of successes has a statement
 * of its own, the fast one: it does not lock first, gives up when a row stays locked, and leaves the batch to the other. Only
 * when fewer rows were written than sent is it asked what became of the rest.
 */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../JobError.ts"
import {
  type AttemptOutcome,
  type Lease,
  outcomeOf,
  type Settlement,
  type SettleOutcome,
  type Status
} from "../JobStoreDriver.ts"
import type { DatabaseClock } from "./DatabaseClock.ts"
import { errorText, heldColumns, leave, logAttempts, owned } from "./Exit.ts"
import type { Names } from "./Names.ts"
import * as Params from "./Params.ts"
import type { Db, Rows } from "./Sessions.ts"

/** How long the fast statement waits for a row that somebody holds, as renewals do for a moment. */
const lockTimeout = "20ms"

/**
 * `$1` ids, `$2` attempts, `$3` claims, sorted by id; `$4` results; `$5` worker, whose the rows must be.
 * Answers the count and, when short, the positions. Its lock timeout is set before the first row is looked at, and ends
 * with the statement.
 */
export const succeedStatement = (names: Names, clock: DatabaseClock): string =>
  `with u as (
    update ${names.jobs} j set status = 'succeeded', claim = null, lease_owner = null, lease_expires_at = null,
      finished_at = (select ${clock.moment}), result = t.result::jsonb, error = null
    from unnest(
      (select $1::uuid[] from pg_catalog.set_config('lock_timeout', '${lockTimeout}', true)),
      (select $2::int4[]), (select $3::uuid[]), (select $4::text[])
    ) with ordinality as t(id, attempt, claim, result, n)
    where j.id = t.id and case when ${owned} then j.lease_owner = $5::text else false end
    returning j.id, j.attempt, j.started_at, j.finished_at, t.claim, t.n
  ), log as (
    ${logAttempts(names)}
    select id, claim, started_at, finished_at, attempt, 'succeeded', 'worker', $5::text, null from u
  )
  select count(*)::int, case when count(*) < (select cardinality($1::uuid[])) then array_agg(n::int) end from u`

/** Of any kind, `$1` to `$4` as above: `$5` outcomes, `$6` statuses after it, `$7` waits, `$8` errors. Answers position and status. */
export const settleStatement = (names: Names, clock: DatabaseClock): string =>
  `with held as materialized (
    select t.n, t.outcome, t.next, t.wait, t.result::jsonb as result, t.error::jsonb as error, j.* from unnest(
      (select $1::uuid[]), (select $2::int4[]), (select $3::uuid[]), (select $4::text[]),
      (select $5::text[]), (select $6::text[]), (select $7::float8[]), (select $8::text[])
    ) with ordinality as t(id, attempt, claim, result, outcome, next, wait, error, n)
    cross join lateral (
      select ${heldColumns} from ${names.jobs} j where j.id = t.id and ${owned}
      for no key update skip locked
    ) j
  ), ${leave(names, clock, "worker")}
  select n::int, status from u`

/** What became of leases that a settle did not find: `$1` ids, `$2` attempts, `$3` claims. In order. */
export const classifyStatement = (names: Names): string =>
  `select case
    when exists (select from ${names.attempts} a
      where a.job_id = t.id and a.attempt = t.attempt and a.claim = t.claim and a.finalized_by = 'worker') then 'AlreadyMine'
    when exists (select from ${names.jobs} j where j.id = t.id and ${owned}) then 'Locked'
    else 'LeaseLost' end
  from unnest((select $1::uuid[]), (select $2::int4[]), (select $3::uuid[])) with ordinality as t(id, attempt, claim, n)
  order by t.n`

const resultOf = (settlement: Settlement): string | undefined =>
  settlement._tag === "Succeeded" ? (settlement.result ?? "null") : undefined

interface Ending {
  readonly outcome: AttemptOutcome
  readonly next: Status
  readonly wait?: number
  readonly result?: string | undefined
  readonly error?: string
}

const ending = (settlement: Settlement): Ending => {
  const outcome = outcomeOf(settlement)
  switch (settlement._tag) {
    case "Succeeded":
      return { outcome, next: "succeeded", result: resultOf(settlement) }
    case "Failed": {
      const error = errorText(settlement.error)
      return settlement.retryIn === undefined
        ? { outcome, next: "failed", error }
        : { outcome, next: "queued", wait: settlement.retryIn, error }
    }
    case "Snoozed":
      return { outcome, next: "queued", wait: settlement.delay }
    case "Released":
      return { outcome, next: "queued" }
    case "Cancelled":
      return { outcome, next: "cancelled" }
  }
}

/** The columns that name leases. */
export const leaseColumns = (leases: ReadonlyArray<Lease>) =>
  [
    Params.uuids(leases.map(({ id }) => id)),
    Params.ints(leases.map(({ attempt }) => attempt)),
    Params.uuids(leases.map(({ claim }) => claim))
  ] as const

/** Leases in the order in which statements lock: by id. */
export const byId = (a: Lease, b: Lease): number => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0)

/** Positions (from 1) in the sorted batch that were written, and the status they got. */
type Written = ReadonlyMap<number, Status> | "all"

/** Whether the fast statement can take the batch as it is. */
const areOrderedSuccesses = (batch: ReadonlyArray<Settlement>): boolean =>
  batch.every(({ _tag, id }, at) => _tag === "Succeeded" && (at === 0 || batch[at - 1]!.id < id))

/** `JobStoreDriver.settle`. */
export const make = (db: Db) => {
  const succeed = succeedStatement(db.names, db.clock)
  const settle = settleStatement(db.names, db.clock)
  const classify = classifyStatement(db.names)

  const writeSuccesses = (worker: string, sorted: ReadonlyArray<Settlement>): Effect.Effect<Written, StoreError> =>
    Effect.map(
      db.work("settle", succeed, [...leaseColumns(sorted), Params.texts(sorted.map(resultOf)), Params.text(worker)]),
      (rows) => {
        const [row] = rows as ReadonlyArray<[number, ReadonlyArray<number> | null]>
        if (row?.[0] === sorted.length) return "all"
        return new Map((row?.[1] ?? []).map((n) => [n, "succeeded"]))
      }
    )

  const writeAny = (sorted: ReadonlyArray<Settlement>): Effect.Effect<Written, StoreError> => {
    const endings = sorted.map(ending)
    const params = [
      ...leaseColumns(sorted),
      Params.texts(endings.map(({ result }) => result)),
      Params.texts(endings.map(({ outcome }) => outcome)),
      Params.texts(endings.map(({ next }) => next)),
      Params.floats(endings.map(({ wait }) => wait)),
      Params.texts(endings.map(({ error }) => error))
    ]
    return Effect.map(
      db.work("settle", settle, params),
      (rows: Rows) => new Map(rows as ReadonlyArray<[number, Status]>)
    )
  }

  const write = (worker: string, sorted: ReadonlyArray<Settlement>): Effect.Effect<Written, StoreError> =>
    sorted.every(({ _tag }) => _tag === "Succeeded")
      ? Effect.catchIf(
          writeSuccesses(worker, sorted),
          (error) => error.reason === "Timeout",
          () => writeAny(sorted)
        )
      : writeAny(sorted)

  /** Notes what was written, and answers the positions of those whose rows somebody held. */
  const conclude = Effect.fnUntraced(function* (
    entries: ReadonlyArray<Entry>,
    written: Written,
    outcomes: Array<SettleOutcome>
  ): Effect.fn.Return<ReadonlyArray<Entry>, StoreError> {
    const missing = entries.filter(({ at }, n) => {
      const status = written === "all" ? "succeeded" : written.get(n + 1)
      if (status !== undefined) outcomes[at] = status === "succeeded" ? succeeded : { _tag: "Settled", status }
      return status === undefined
    })
    if (missing.length === 0) return missing
    const rows = yield* db.work("settle", classify, leaseColumns(missing.map(({ settlement }) => settlement)))
    const tags = rows as ReadonlyArray<["AlreadyMine" | "Locked" | "LeaseLost"]>
    return missing.filter(({ at }, n) => {
      const _tag = tags[n]![0]
      outcomes[at] = { _tag }
      return _tag === "Locked"
    })
  })

  return Effect.fnUntraced(function* (
    worker: string,
    settlements: ReadonlyArray<Settlement>
  ): Effect.fn.Return<ReadonlyArray<SettleOutcome>, StoreError> {
    if (settlements.length === 0) return []
    const first = areOrderedSuccesses(settlements) ? yield* write(worker, settlements) : undefined
    if (first === "all") return settlements.map(() => succeeded)
    const entries = settlements
      .map((settlement, at) => ({ settlement, at }))
      .sort((a, b) => byId(a.settlement, b.settlement))
    const sorted = entries.map(({ settlement }) => settlement)
    const outcomes = Array.from<SettleOutcome>({ length: settlements.length })
    const locked = yield* conclude(entries, first ?? (yield* write(worker, sorted)), outcomes)
    // Once more: a claim that began before these rows were claimed follows them to their newest version, and holds that
    // for the rest of its statement
    if (locked.length > 0) {
      const rest = locked.map(({ settlement }) => settlement)
      yield* conclude(locked, yield* writeAny(rest), outcomes)
    }
    return outcomes
  })
}

interface Entry {
  readonly settlement: Settlement
  readonly at: number
}

const succeeded: SettleOutcome = { _tag: "Settled", status: "succeeded" }
