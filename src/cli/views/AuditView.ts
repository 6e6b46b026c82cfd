/** The audit log as the CLI shows it. */
import type { AuditRecord } from "../../store/JobStoreDriver.ts"
import * as Output from "../Output.ts"
import * as Spans from "../Spans.ts"
import type { Style } from "../Style.ts"
import type { Column } from "../Table.ts"

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const text = (name: string, value: unknown): string => {
  if (value === undefined || value === null) return "-"
  if (typeof value === "number" && /(At|^until|^since)$/.test(name)) return Output.instant(value) ?? "-"
  return typeof value === "object" ? JSON.stringify(value) : String(value)
}

/** What changed, in one line: each part that differs, with what it was and what it became. */
export const change = ({ after, before }: AuditRecord): string => {
  const [was, is] = [isRecord(before) ? before : {}, isRecord(after) ? after : {}]
  const parts = [...new Set([...Object.keys(was), ...Object.keys(is)])].flatMap((name) => {
    const [a, b] = [text(name, was[name]), text(name, is[name])]
    if (a === b) return []
    return before === undefined
      ? [`${name} ${b}`]
      : after === undefined
        ? [`${name} was ${a}`]
        : [`${name} ${a} → ${b}`]
  })
  return parts.length === 0 ? "nothing" : parts.join(", ")
}

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
