/**
 * The job store on PostgreSQL: every transition is one statement (one per file in `postgres/`), READ COMMITTED on
 * sessions of our own. Enqueues and reads join the caller's transaction. Needs the tables of `Migrations.ts` and the
 * client of `@effect/sql-pg` (a server, or PGlite behind its `stream`).
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { SqlClient } from "effect/sql/SqlClient"
import type { StoreError } from "../JobError.ts"
import type { JobStoreDriver } from "./JobStoreDriver.ts"
import * as Abandon from "./postgres/Abandon.ts"
import * as Act from "./postgres/Act.ts"
import { makeAudit } from "./postgres/AuditLog.ts"
import * as Cancel from "./postgres/Cancel.ts"
import * as Claim from "./postgres/Claim.ts"
import * as ClaimHinted from "./postgres/ClaimHinted.ts"
import { type DatabaseClock, shifted, system } from "./postgres/DatabaseClock.ts"
import * as Enqueue from "./postgres/Enqueue.ts"
import * as Find from "./postgres/Find.ts"
import * as FleetStats from "./postgres/FleetStats.ts"
import * as Inspect from "./postgres/Inspect.ts"
import { make as makeNames, type Names, type NamesOptions } from "./postgres/Names.ts"
import * as NextDue from "./postgres/NextDue.ts"
import * as Pauses from "./postgres/Pauses.ts"
import * as Progress from "./postgres/Progress.ts"
import * as Prune from "./postgres/Prune.ts"
import * as Reap from "./postgres/Reap.ts"
import * as ReapTimeouts from "./postgres/ReapTimeouts.ts"
import * as Renew from "./postgres/Renew.ts"
import * as Sessions from "./postgres/Sessions.ts"
import * as Settle from "./postgres/Settle.ts"
import * as TakeHints from "./postgres/TakeHints.ts"
import * as View from "./postgres/View.ts"

/** Where the tables are. */
export type Options = NamesOptions

const makeWith = (options: NamesOptions, clockOf: (names: Names) => DatabaseClock) =>
  Effect.gen(function* () {
    const names = yield* Effect.fromResult(makeNames(options))
    const sessions = yield* Sessions.make
    const db: Sessions.Db = { ...sessions, names, clock: clockOf(names) }
    const driver: JobStoreDriver = {
      inTransaction: db.inTransaction,
      afterCommit: (effect) => db.ambientClient.afterCommit(effect),
      enqueue: Enqueue.make(db),
      claim: Claim.make(db),
      claimHinted: ClaimHinted.make(db),
      nextDue: NextDue.make(db),
      settle: Settle.make(db),
      renew: Renew.make(db),
      progress: Progress.make(db),
      abandon: Abandon.make(db),
      get: Inspect.makeGet(db),
      ended: Inspect.makeEnded(db),
      attempts: Inspect.makeAttempts(db),
      list: Inspect.makeList(db),
      stats: Inspect.makeStats(db),
      cancel: Cancel.makeCancel(db),
      requeue: Cancel.makeRequeue(db),
      reap: Reap.make(db),
      reapTimeouts: ReapTimeouts.make(db),
      takeHints: TakeHints.make(db),
      prune: Prune.make(db),
      fleetStats: FleetStats.make(db),
      find: Find.makeFind(db),
      count: Find.makeCount(db),
      act: Act.make(db),
      pause: Pauses.makePause(db),
      resume: Pauses.makeResume(db),
      pauses: Pauses.makePauses(db),
      view: View.make(db),
      audit: makeAudit(names, db.ambient, ["job", "queue"])
    }
    return driver
  })

/**
 * Makes the store on the ambient `SqlClient`. Opens no connection and does not migrate; fails with `Refused` (names) or
 * `Unsupported` (not a PgClient).
 */
export const make = (options: NamesOptions = {}): Effect.Effect<JobStoreDriver, StoreError, SqlClient | Scope.Scope> =>
  makeWith(options, () => system)

/**
 * For tests: the same store on a clock that `DatabaseClock.advanceStatement` shifts. Needs the table of
 * `DatabaseClock.shiftStatements`, which nothing but a test makes.
 */
export const makeShifted = (
  options: NamesOptions = {}
): Effect.Effect<JobStoreDriver, StoreError, SqlClient | Scope.Scope> => makeWith(options, shifted)
