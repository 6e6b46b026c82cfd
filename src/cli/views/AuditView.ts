/** The audit log as the CLI shows it. */
import type { AuditRecord } from "../../store/JobStoreDriver.ts"
import * as Output from "../Output.ts"
import * as Spans from "../Spans.ts"
import type { Style } from "../Style.ts"
import type { Column } from "../Table.ts"

const state = (value: unknown): string | undefined => {
  if (value === undefined || value === null) return undefined
  if (typeof value !== "object") return String(value)
  return Object.entries(value)
    .map(([name, part]) => `${name}=${typeof part === "object" ? JSON.stringify(part) : String(part)}`)
    .join(" ")
}

/** What changed, in one line: what it was, and what it became. */
export const change = (record: AuditRecord): string => `${state(record.before) ?? "-"} → ${state(record.after) ?? "-"}`

/** The columns of the log at the store's `now`. */
export const columns =
  (now: number) =>
  (_style: Style): ReadonlyArray<Column<AuditRecord>> => [
    { title: "ENTRY", cell: (record) => record.id, align: "right" },
    { title: "WHEN", cell: (record) => Spans.ago(Math.min(record.at, now), now) },
    { title: "WHO", cell: (record) => record.who, flexible: true },
    { title: "ACTION", cell: (record) => record.action },
    { title: "TARGET", cell: (record) => record.target },
    { title: "CHANGE", cell: change, flexible: true },
    { title: "REASON", cell: (record) => record.reason, flexible: true }
  ]

/** An entry as JSON. */
export const toJson = (record: AuditRecord) => ({
  id: record.id,
  at: Output.instant(record.at),
  who: record.who,
  reason: record.reason ?? null,
  action: record.action,
  operation: record.operation,
  kind: record.kind,
  target: record.target,
  before: record.before ?? null,
  after: record.after ?? null
})
