/**
 * The database's clock: the only clock that decides anything in the Postgres store, read through these fragments and
 * nowhere else. A test layer shifts it by a row of a table that only the test layer makes; no setting can do that.
 */
import type { Names } from "./Names.ts"

/** Two readings of one clock, as SQL expressions of type `timestamptz`. */
export interface DatabaseClock {
  /** The start of the transaction. Stable, so it can bound an index scan: for *is it due*. */
  readonly now: string
  /** This very moment, read after the row is held: for *until when*. */
  readonly moment: string
}

/** PostgreSQL's own, whatever a search path puts before it. */
export const system: DatabaseClock = { now: "pg_catalog.now()", moment: "pg_catalog.clock_timestamp()" }

/** For tests: PostgreSQL's own, shifted by the interval in the table of `shiftStatements`. */
export const shifted = (names: Names): DatabaseClock => {
  const shift = `(select shift from ${names.table("clock")})`
  return { now: `(${system.now} + ${shift})`, moment: `(${system.moment} + ${shift})` }
}

/** For tests: makes the table of the shift. */
export const shiftStatements = (names: Names): ReadonlyArray<string> => [
  `create table ${names.table("clock")} (shift interval not null)`,
  `insert into ${names.table("clock")} values (interval '0')`
]

/** For tests: moves the shifted clock forward by `$1` milliseconds. */
export const advanceStatement = (names: Names): string =>
  `update ${names.table("clock")} set shift = shift + $1::float8 * interval '1 millisecond'`

/** Epoch milliseconds of a `timestamptz` expression, as `float8`: decoded alike whatever the client is set up to do. */
export const millis = (instant: string): string => `(pg_catalog.date_part('epoch', ${instant}) * 1000)::float8`
