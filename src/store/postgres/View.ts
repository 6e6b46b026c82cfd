/** One job as the claim sees it: by the claim's own predicates, in one statement, at one moment. */
import * as Effect from "effect/Effect"
import type { ControlDriver } from "../JobStoreDriver.ts"
import { suspicious } from "./Claim.ts"
import { millis } from "./DatabaseClock.ts"
import { recordColumns, type RecordRow, toRecord } from "./Inspect.ts"
import * as Params from "./Params.ts"
import { fromJson, pausesJson } from "./Pauses.ts"
import type { Db } from "./Sessions.ts"

type Row = [now: number, waiting: boolean, suspect: boolean, expired: boolean, pauses: string | null, ...job: RecordRow]

/** `ControlDriver.view`. */
export const make = (db: Db): ControlDriver["view"] => {
  const { clock, names } = db
  const text = `select ${millis(clock.now)}, j.status = 'queued' and j.run_at > ${clock.now}, ${suspicious},
      coalesce(j.lease_expires_at <= ${clock.now}, false), ${pausesJson(names, clock, "j.queue", "j.type")},
      ${recordColumns}
    from ${names.jobs} j where j.id = $1::uuid`
  return (id) =>
    Effect.map(db.ambient("view", text, [Params.uuid(id)]), (rows) => {
      const [row] = rows as unknown as ReadonlyArray<Row>
      if (row === undefined) return undefined
      const [now, waiting, suspect, expired, pauses, ...job] = row
      return { job: toRecord(job), now, waiting, suspect, expired, pauses: fromJson(pauses) }
    })
}
