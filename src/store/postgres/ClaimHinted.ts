/**
 * Claiming by name: the ids that hints brought. Same obligations as the claim, and an answer for every id: what was not
 * taken is looked up by a second statement, which only reads.
 */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../JobError.ts"
import type { Disposition, HintClaimRequest, HintClaims } from "../JobStoreDriver.ts"
import { paused, take, toClaimed } from "./Claim.ts"
import type { DatabaseClock } from "./DatabaseClock.ts"
import type { Names } from "./Names.ts"
import * as Params from "./Params.ts"
import type { Db } from "./Sessions.ts"

/** `$4` ids, sorted; `$5` types; `$6` suspects. */
export const claimHintedStatement = (names: Names, clock: DatabaseClock): string =>
  `with held as materialized (
    select j.* from unnest((select $4::uuid[])) as t(id) cross join lateral (
      select j.ctid as row, j.crashes > j.crash_from as suspect, j.priority, j.run_at, j.id from ${names.jobs} j
      where j.id = t.id and case when j.status = 'queued' and j.run_at <= ${clock.now} and j.type = any($5::text[])
        and not ${paused(names, clock, "j.queue", "j.type")} then true else false end
      for no key update skip locked
    ) j
  )
  ${take(
    names,
    clock,
    `select row from held where not suspect
    union all (select row from held where suspect order by priority, run_at, id limit $6::int4)`
  )}`

/** What the ids in `$1` are, when `$2` are the types asked for and whether a suspect may still be taken is `$3`. */
const disposeStatement = (names: Names, clock: DatabaseClock): string =>
  `select t.id, coalesce(j.attempt, 0), case
    when j.id is null then 'missing'
    when j.status = 'processing' then case when j.lease_expires_at > ${clock.moment} then 'leased' else 'expired' end
    when j.status <> 'queued' then 'terminal'
    when j.run_at > ${clock.now} then 'waiting'
    when ${paused(names, clock, "j.queue", "j.type")} then 'paused'
    when j.type <> all($2::text[]) then 'unhandled'
    when j.crashes > j.crash_from and not $3::bool then 'suspect'
    else 'locked' end
  from unnest((select $1::uuid[])) as t(id) left join ${names.jobs} j on j.id = t.id`

/** `JobStoreDriver.claimHinted`. */
export const make = (db: Db) => {
  const claim = claimHintedStatement(db.names, db.clock)
  const dispose = disposeStatement(db.names, db.clock)
  return Effect.fnUntraced(function* (request: HintClaimRequest): Effect.fn.Return<HintClaims, StoreError> {
    const ids = [...new Set(request.ids)].sort()
    if (ids.length === 0) return { claimed: [], rest: [] }
    const claimed = toClaimed(
      request.claim,
      yield* db.work("claimHinted", claim, [
        Params.uuid(request.claim),
        Params.text(request.worker),
        Params.float(request.lease),
        Params.uuids(ids),
        Params.texts(request.types),
        Params.int(request.suspects)
      ])
    )
    if (claimed.length === ids.length) return { claimed, rest: [] }
    const taken = new Set(claimed.map(({ id }) => id))
    const rows = yield* db.work("claimHinted", dispose, [
      Params.uuids(ids.filter((id) => !taken.has(id))),
      Params.texts(request.types),
      Params.bool(claimed.filter(({ suspect }) => suspect).length < request.suspects)
    ])
    const rest = (rows as ReadonlyArray<[string, number, Disposition]>).map(([id, attempt, disposition]) => ({
      id,
      attempt,
      disposition
    }))
    return { claimed, rest }
  })
}
