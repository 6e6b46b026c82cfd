/**
 * What kept jobs from being inserted: a job of the same id, or one that holds their unique key. Asked only about those that
 * were not inserted; locks nothing.
 */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../JobError.ts"
import type { EnqueueOutcome, NewJob } from "../JobStoreDriver.ts"
import type { Names } from "./Names.ts"
import * as Params from "./Params.ts"
import type { Run } from "./Sessions.ts"

/** A job of one enqueue call. */
export interface Entry {
  readonly job: NewJob
  readonly at: number
  /** As Postgres writes it. */
  readonly id: string
}

/**
 * `$1` ids, `$2` types: the jobs that exist, whether they are of that type, and whether this role may read payloads. A
 * statement that merely mentions a column that it may not read is refused, rows or no rows.
 */
const lookupStatement = (names: Names): string =>
  `select j.id::text, t.n::int, j.type = t.type, pg_catalog.has_column_privilege('${names.jobs}', 'payload', 'select')
  from unnest((select $1::uuid[]), (select $2::text[])) with ordinality as t(id, type, n)
  join ${names.jobs} j on j.id = t.id`

/** `$1` ids, `$2` payloads: which of the jobs that exist have another one. */
const differentStatement = (names: Names): string =>
  `select t.n::int from unnest((select $1::uuid[]), (select $2::text[])) with ordinality as t(id, payload, n)
  join ${names.jobs} j on j.id = t.id where j.payload <> t.payload::jsonb`

/** `$1` types, `$2` keys: who holds them. */
const holderStatement = (names: Names): string =>
  `select t.n::int, j.id::text
  from unnest((select $1::text[]), (select $2::text[])) with ordinality as t(type, unique_key, n)
  join ${names.jobs} j on j.type = t.type and j.unique_key = t.unique_key and j.unique_key is not null
    and (not j.unique_live or j.status in ('queued', 'processing'))`

/** Finds what kept these from being inserted, and answers those for which nothing was found. */
export const make = (names: Names) => {
  const lookup = lookupStatement(names)
  const different = differentStatement(names)
  const holder = holderStatement(names)
  return Effect.fnUntraced(function* (
    run: Run,
    entries: ReadonlyArray<Entry>,
    outcomes: Array<EnqueueOutcome>
  ): Effect.fn.Return<ReadonlyArray<Entry>, StoreError> {
    const known = (yield* run("enqueue", lookup, [
      Params.uuids(entries.map(({ id }) => id)),
      Params.texts(entries.map(({ job }) => job.type))
    ])) as ReadonlyArray<[string, number, boolean, boolean]>
    for (const [id, n, same] of known) {
      outcomes[entries[n - 1]!.at] = same ? { _tag: "Duplicate", id } : { _tag: "IdConflict" }
    }
    const comparable = known.flatMap(([, n, same, readable]) => (same && readable ? [entries[n - 1]!] : []))
    if (comparable.length > 0) {
      const others = yield* run("enqueue", different, [
        Params.uuids(comparable.map(({ id }) => id)),
        Params.texts(comparable.map(({ job }) => job.payload))
      ])
      for (const [n] of others as ReadonlyArray<[number]>) outcomes[comparable[n - 1]!.at] = { _tag: "IdConflict" }
    }
    const keyed = entries.filter(({ at, job }) => outcomes[at] === undefined && job.key !== undefined)
    if (keyed.length > 0) {
      const holders = yield* run("enqueue", holder, [
        Params.texts(keyed.map(({ job }) => job.type)),
        Params.texts(keyed.map(({ job }) => job.key))
      ])
      for (const [n, id] of holders as ReadonlyArray<[number, string]>) {
        outcomes[keyed[n - 1]!.at] = { _tag: "Duplicate", id }
      }
    }
    return entries.filter(({ at }) => outcomes[at] === undefined)
  })
}
