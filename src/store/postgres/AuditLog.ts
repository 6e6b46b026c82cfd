/**
 * The audit log: rows are written by the statements that do what they tell, through `insertAudit`; read here, by store and
 * registry, each its own kinds.
 */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../JobError.ts"
import type { AuditRecord, AuditRequest, By } from "../JobStoreDriver.ts"
import { type DatabaseClock, millis } from "./DatabaseClock.ts"
import { type Binder, binder } from "./Filter.ts"
import type { Names } from "./Names.ts"
import * as Params from "./Params.ts"
import type { Run } from "./Sessions.ts"

/** What an action says of itself. */
interface Told {
  readonly action: AuditRecord["action"]
  readonly kind: AuditRecord["kind"]
  readonly by: By
  readonly operation: string
}

/** An INSERT of one row per row of `from`, with these expressions over it. `before` and `after` are jsonb or null. */
export const insertAudit = (
  names: Names,
  clock: DatabaseClock,
  { bind }: Binder,
  told: Told,
  row: { readonly target: string; readonly before: string; readonly after: string; readonly from: string }
): string =>
  `insert into ${names.audit} (at, operation, action, kind, target, who, reason, before, after)
    select ${clock.moment}, ${bind(Params.uuid(told.operation))}::uuid, '${told.action}', '${told.kind}', ${row.target},
      ${bind(Params.text(told.by.who))}::text, ${bind(Params.text(told.by.reason ?? null))}::text,
      ${row.before}, ${row.after} from ${row.from}`

type Row = [
  id: number,
  at: number,
  operation: string,
  action: AuditRecord["action"],
  kind: AuditRecord["kind"],
  target: string,
  who: string,
  reason: string | null,
  before: string | null,
  after: string | null
]

const parse = (text: string | null): unknown => (text === null ? undefined : JSON.parse(text))

const toRecord = (row: Row): AuditRecord => ({
  id: row[0],
  at: row[1],
  operation: row[2],
  action: row[3],
  kind: row[4],
  target: row[5],
  who: row[6],
  reason: row[7] ?? undefined,
  before: parse(row[8]),
  after: parse(row[9])
})

/** Reads the rows of these kinds, newest first. */
export const makeAudit =
  (names: Names, run: Run, kinds: ReadonlyArray<AuditRecord["kind"]>) =>
  (request: AuditRequest): Effect.Effect<ReadonlyArray<AuditRecord>, StoreError> => {
    const { bind, params } = binder()
    const all = [`a.kind in (${kinds.map((kind) => `'${kind}'`).join(", ")})`]
    if (request.target !== undefined) all.push(`a.target = ${bind(Params.text(request.target))}`)
    if (request.action !== undefined) all.push(`a.action = ${bind(Params.text(request.action))}`)
    if (request.who !== undefined) all.push(`a.who = ${bind(Params.text(request.who))}`)
    if (request.operation !== undefined) all.push(`a.operation = ${bind(Params.uuid(request.operation))}::uuid`)
    if (request.after !== undefined) all.push(`a.id < ${bind(Params.float(request.after))}::float8::bigint`)
    const text = `select a.id::float8, ${millis("a.at")}, a.operation::text, a.action, a.kind, a.target, a.who, a.reason,
        a.before::text, a.after::text
      from ${names.audit} a where ${all.join(" and ")}
      order by a.id desc limit ${bind(Params.int(Params.limit(Math.max(0, request.limit))))}`
    return Effect.map(run("audit", text, params), (rows) => (rows as ReadonlyArray<Row>).map(toRecord))
  }
