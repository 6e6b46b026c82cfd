/**
 * `doctor`: rows that should not exist, as SQL. What can be repaired safely is repaired by the very code of the workers'
 * maintenance, or by a statement that gives a row back what every move to its state sets.
 */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../JobError.ts"
import { system } from "../../store/postgres/DatabaseClock.ts"
import type { Names } from "../../store/postgres/Names.ts"
import * as Spans from "../Spans.ts"
import { type Check, type Finding, ok, type Patient, problem } from "./Finding.ts"

/** What maintenance of any live worker does within seconds is late after this long. */
const late = "interval '2 minutes'"

interface Invariant {
  readonly name: string
  /** What is wrong with the rows, after their number. */
  readonly says: string
  /** Answers ids of wrong rows. */
  readonly find: (names: Names) => string
  readonly fix?: string
  /** Only of deployments of which this is true. */
  readonly onlyIf?: (patient: Patient) => boolean
  /** Repairs them; safe beside running workers. */
  readonly repair?: (patient: Patient) => Effect.Effect<unknown, StoreError>
}

const batch = 1_000

/** Again, until it finds no more. */
const untilNone = <Row>(step: Effect.Effect<ReadonlyArray<Row>, StoreError>): Effect.Effect<void, StoreError> =>
  Effect.flatMap(step, (rows) => (rows.length === 0 ? Effect.void : untilNone(step)))

const invariants: ReadonlyArray<Invariant> = [
  {
    name: "abandoned",
    says: "running under a lease that ended more than 2 minutes ago: no worker does maintenance",
    find: (names) =>
      `select id from ${names.jobs} where status = 'processing' and lease_expires_at < ${system.now} - ${late}`,
    fix: "start a worker, or doctor --fix",
    repair: ({ store }) => untilNone(store.reap({ limit: batch, exceptWorkers: [] }))
  },
  {
    name: "overdue",
    says: "running more than 2 minutes past a timeout that should have stopped them",
    find: (names) =>
      `select id from ${names.jobs} where status = 'processing' and timeout_then <> 'ignore'
        and started_at + timeout * interval '1 millisecond' < ${system.now} - ${late}`,
    fix: "start a worker, or doctor --fix",
    repair: ({ store }) => untilNone(store.reapTimeouts({ limit: batch, grace: 120_000 }))
  },
  {
    name: "unowned",
    says: "running with a live lease of a worker that has stopped or is unknown",
    find: (names) =>
      `select j.id from ${names.jobs} j left join ${names.workers} w on w.id = j.lease_owner
      where j.status = 'processing' and j.lease_expires_at > ${system.now} and j.started_at < ${system.now} - ${late}
        and (w.id is null or w.status = 'stopped')`,
    fix: "nothing, if it ends by itself within a lease; else look for a process that has lost its registry"
  },
  {
    name: "unpublished",
    says: "queued for workers that wait for hints, but no hint will ever be due",
    find: (names) => `select id from ${names.jobs} where status = 'queued' and hinted and publish_at is null`,
    fix: "doctor --fix",
    repair: ({ names, sql }) =>
      Effect.orDie(
        sql.unsafe(
          `update ${names.jobs} set publish_at = greatest(run_at, ${system.now}), publications = 0
          where status = 'queued' and hinted and publish_at is null`
        )
      )
  },
  {
    name: "unrelayed",
    says: "whose first hint is due for more than 2 minutes: no worker relays hints",
    find: (names) => `select id from ${names.jobs} where publish_at < ${system.now} - ${late} and publications = 0`,
    // Where workers claim straight from the table, hints of producers that could not know are left alone
    onlyIf: ({ settings }) => settings.backend !== "postgres" && settings.backend !== "none",
    fix: "start a worker"
  },
  {
    name: "ended twice",
    says: "running an attempt that the log says has ended",
    find: (names) =>
      `select j.id from ${names.jobs} j join ${names.attempts} a on a.job_id = j.id and a.attempt = j.attempt
      where j.status = 'processing'`,
    fix: "please report this with the rows: it is a bug, or the tables were changed by hand"
  },
  {
    name: "ahead",
    says: "with a logged attempt beyond their own number of attempts",
    find: (names) =>
      `select j.id from ${names.jobs} j where exists (
        select from ${names.attempts} a where a.job_id = j.id and a.attempt > j.attempt)`,
    fix: "please report this with the rows: it is a bug, or the tables were changed by hand"
  },
  {
    name: "unlogged",
    says: "that succeeded within the last hour and whose last attempt is not in the log",
    find: (names) =>
      `select j.id from ${names.jobs} j where j.status = 'succeeded' and j.finished_at > ${system.now} - interval '1 hour'
        and not exists (select from ${names.attempts} a where a.job_id = j.id and a.attempt = j.attempt)`,
    fix: "please report this with the rows: it is a bug, or the tables were changed by hand"
  }
]

const count = (patient: Patient, invariant: Invariant) =>
  Effect.map(
    patient.read(
      `select count(*)::int, (array_agg(id::text))[1:3]::text from (${invariant.find(patient.names)}) as found(id)`
    ),
    ([row]) => ({ rows: Number(row?.[0]), sample: String(row?.[1] ?? "").replace(/[{}]/g, "") })
  )

const jobs = (rows: number): string => `${Spans.count(rows)} ${rows === 1 ? "job" : "jobs"}`

const examine = (patient: Patient, invariant: Invariant): Effect.Effect<ReadonlyArray<Finding>, StoreError> =>
  Effect.gen(function* () {
    const { rows, sample } = yield* count(patient, invariant)
    if (rows === 0) return []
    const message = `${jobs(rows)} ${invariant.says} (${sample}${rows > 3 ? ", …" : ""})`
    if (!patient.fix || invariant.repair === undefined) return [problem("rows", message, invariant.fix)]
    yield* invariant.repair(patient)
    const after = yield* count(patient, invariant)
    return after.rows === 0
      ? [{ check: "rows", verdict: "fixed" as const, message }]
      : [problem("rows", `${message}; still ${jobs(after.rows)} after the repair`, invariant.fix)]
  })

export const check: Check = (patient) =>
  Effect.map(
    Effect.forEach(
      invariants.filter(({ onlyIf }) => onlyIf === undefined || onlyIf(patient)),
      (invariant) => examine(patient, invariant)
    ),
    (findings) => {
      const all = findings.flat()
      return all.length > 0 ? all : [ok("rows", `none that should not exist (${findings.length} rules)`)]
    }
  )

/** The rules, for tests: each name, and the statement that finds rows that break it. */
export const rules = invariants.map(({ find, name }) => ({ name, find }))
