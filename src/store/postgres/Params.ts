/**
 * Array parameters with their types said: an array of strings would otherwise be `text[]`, one of nulls nothing at all,
 * and every new combination of types another prepared statement.
 */
import * as PgTypes from "@effect/sql-pg/PgTypes"
import * as Result from "effect/Result"

const array =
  <A>(oid: number) =>
  (values: ReadonlyArray<A>): PgTypes.Parameter =>
    Result.getOrThrow(PgTypes.array(values, oid))

/** The same, with `undefined` as SQL's null. */
const nullable = <A>(oid: number) => {
  const make = array<A | null>(oid)
  return (values: ReadonlyArray<A | undefined | null>): PgTypes.Parameter => make(values.map((value) => value ?? null))
}

export const uuids = array<string>(PgTypes.OID.uuid)
export const texts = nullable<string>(PgTypes.OID.text)
export const ints = array<number>(PgTypes.OID.int4)
export const floats = nullable<number>(PgTypes.OID.float8)
export const bools = array<boolean>(PgTypes.OID.bool)

export const uuid: (value: string | null) => PgTypes.Parameter = PgTypes.uuid
export const text: (value: string | null) => PgTypes.Parameter = PgTypes.text
export const int: (value: number | null) => PgTypes.Parameter = PgTypes.int4
export const float: (value: number | null) => PgTypes.Parameter = PgTypes.float8
export const bool: (value: boolean | null) => PgTypes.Parameter = PgTypes.bool

const maxInt = 2_147_483_647

/** A limit as the column can hold it: without end becomes as good as without end. */
export const limit = (value: number): number => Math.min(value, maxInt)
