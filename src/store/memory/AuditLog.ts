/**
 * The audit log of the in-memory store and registry. Their records are numbered in one sequence, as those of one database
 * are, so that two logs can be read as one.
 */
import { StoreError } from "../../JobError.ts"
import type { AuditRecord, AuditRequest, By } from "../JobStoreDriver.ts"
import { refusedText } from "./Storable.ts"

let last = 0

const MAX_WHO = 255
const MAX_REASON = 2_000

/** What the table's checks would refuse. */
export const refusedBy = (operation: string, { reason, who }: By): StoreError | undefined => {
  const why = who === "" ? "it is empty" : refusedText(who, MAX_WHO)
  const whyReason = reason === undefined ? undefined : refusedText(reason, MAX_REASON)
  const message = why !== undefined ? `who: ${why}` : whyReason !== undefined ? `reason: ${whyReason}` : undefined
  return message === undefined
    ? undefined
    : new StoreError({ reason: "Refused", operation, message: `${operation}: ${message}` })
}

export class AuditLog {
  readonly #records: Array<AuditRecord> = []

  write(
    at: number,
    {
      by,
      ...told
    }: Pick<AuditRecord, "action" | "kind" | "operation" | "target" | "before" | "after"> & { readonly by: By }
  ): void {
    last += 1
    this.#records.push({ id: last, at, who: by.who, reason: by.reason, ...told })
  }

  /** A page, newest first. */
  read(request: AuditRequest): ReadonlyArray<AuditRecord> {
    const is = <A>(asked: A | undefined, actual: A) => asked === undefined || asked === actual
    return this.#records
      .filter(
        (record) =>
          is(request.target, record.target) &&
          is(request.action, record.action) &&
          is(request.who, record.who) &&
          is(request.operation, record.operation) &&
          (request.after === undefined || record.id < request.after)
      )
      .reverse()
      .slice(0, Math.max(0, request.limit))
      .map((record) => structuredClone(record))
  }
}
