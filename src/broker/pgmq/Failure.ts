/**
 * What PostgreSQL, its driver and pgmq report, as a `BrokerError`: one table of reasons, with what to do. The server's
 * text goes on only for codes whose text quotes names, never values.
 */
import type { SqlError } from "effect/sql/SqlError"
import { BrokerError, type BrokerReason } from "../../JobError.ts"
import { oneLine } from "../../store/ErrorText.ts"

const field = (cause: unknown, name: string): string | undefined => {
  if (typeof cause !== "object" || cause === null || !(name in cause)) return undefined
  const value = Reflect.get(cause, name)
  return typeof value === "string" ? value : undefined
}

/** A queue's table is `pgmq.q_…`; any other missing relation is pgmq itself, or its archive. */
const missingQueue = /"pgmq\.q_/

const byState = (state: string, text: string): BrokerReason | undefined => {
  switch (state) {
    case "42P01":
      return missingQueue.test(text) ? "QueueNotFound" : "Misconfigured"
    case "3D000": // no such database
    case "3F000": // no such schema
    case "42883": // no such function
    case "42703": // no such column
    case "P0001": // pgmq does not accept the queue's name
      return "Misconfigured"
    case "42501":
      return "Unauthorized"
    case "25006": // a standby, or the old primary after a failover
      return "Unavailable"
    case "08007": // connection lost at commit
      return "OutcomeUnknown"
    case "53100": // disk full
    case "53400":
      return "QuotaExceeded"
    case "57014": // statement timeout
    case "55P03": // lock timeout
      return "Throttled"
  }
  switch (state.slice(0, 2)) {
    case "08":
    case "57":
      return "Unavailable"
    case "28":
      return "Unauthorized"
    case "40": // deadlock, serialization: nothing was done
    case "53": // too many connections, out of memory
      return "Throttled"
    case "22":
    case "23":
    case "54":
      return "MessageRejected"
    default:
      return undefined
  }
}

const byTag = (error: SqlError): BrokerReason => {
  switch (error.reason._tag) {
    case "ConnectionError":
      return "Unavailable"
    case "AuthenticationError":
    case "AuthorizationError":
      return "Unauthorized"
    default:
      return "Unexpected"
  }
}

/** How pgmq gets into a database. */
export const INSTALL =
  "run `create extension pgmq` (the extension has to be on the server: packages and container images exist, and managed " +
  "servers list it), or install its SQL file alone, as pgmq's installation guide shows; on PGlite load " +
  "`@electric-sql/pglite-pgmq` first"

const advice: Record<BrokerReason, string> = {
  Unavailable: "PostgreSQL cannot be reached or takes no writes: check that it runs and is the primary",
  Throttled:
    "PostgreSQL is too busy for this now: it is tried again; look for long transactions and the connection limit",
  QuotaExceeded: "PostgreSQL is out of space: free some",
  QueueNotFound: "the pgmq queue does not exist: make it with `select pgmq.create(…)`, or leave `createIfMissing` on",
  Unauthorized:
    "PostgreSQL refused the login or the privilege: the role needs usage of schema pgmq, and select, insert, update and " +
    "delete on its tables",
  MessageRejected: "PostgreSQL cannot store this hint",
  OutcomeUnknown: "the answer was lost: it is not known whether it was done; publishing again is always allowed",
  Unsupported: "it is not possible here",
  Misconfigured: `pgmq is missing here, too old, or refuses the queue: ${INSTALL}`,
  Unexpected: "something nobody foresaw; if what follows does not explain it, please report it"
}

/** The text of these codes may quote values. */
const quotesData = (state: string | undefined): boolean => state === undefined || /^(22|23|54)/.test(state)

/** Makes an error of one operation on one queue: what happened there, and what to do. */
export const failure = (operation: string, reason: BrokerReason, detail: string, cause?: unknown): BrokerError =>
  new BrokerError({
    reason,
    operation,
    message: `pgmq ${operation}: ${advice[reason]}${detail === "" ? "" : ` (${detail})`}`,
    ...(cause === undefined ? {} : { cause })
  })

/** Translates an error of the driver. `subject`: the queue, or whatever the operation was about. */
export const fromSqlError = (operation: string, subject: string, error: SqlError): BrokerError => {
  const state = field(error.reason.cause, "code")
  const text = oneLine(field(error.reason.cause, "message") ?? "")
  const reason = (state === undefined ? undefined : byState(state, text)) ?? byTag(error)
  const detail = [subject, state, quotesData(state) ? "" : text].filter((part) => part !== undefined && part !== "")
  return failure(operation, reason, detail.join(", "), new Error([error.reason._tag, ...detail].join(": ")))
}
