/**
 * What PostgreSQL and its driver report, as a `StoreError`: one table of reasons, with what to do. Never the data: errors
 * of the server quote rows and values, so only their code, and the text of codes that quote nothing, goes on.
 */
import type { SqlError } from "effect/sql/SqlError"
import { StoreError, type StoreReason } from "../../JobError.ts"
import { oneLine } from "../ErrorText.ts"

const field = (cause: unknown, name: string): string | undefined => {
  if (typeof cause !== "object" || cause === null || !(name in cause)) return undefined
  const value = Reflect.get(cause, name)
  return typeof value === "string" ? value : undefined
}

/** SQLSTATE of an error, if the server reported it. */
export const sqlState = (error: SqlError): string | undefined => field(error.reason.cause, "code")

const byState = (state: string): StoreReason | undefined => {
  switch (state) {
    case "42P01":
    case "42703":
    case "3F000":
      return "NotMigrated"
    case "57014":
    case "55P03":
    case "25P03":
    case "57P05":
      return "Timeout"
    case "42501":
      return "Denied"
    case "25006":
      return "Unavailable"
  }
  switch (state.slice(0, 2)) {
    case "08":
    case "53":
    case "57":
      return "Unavailable"
    case "28":
    case "3D":
      return "Denied"
    case "40":
      return "Conflict"
    case "22":
    case "23":
    case "54":
      return "Refused"
    default:
      return undefined
  }
}

const byTag = (error: SqlError): StoreReason => {
  switch (error.reason._tag) {
    case "ConnectionError":
      return "Unavailable"
    case "AuthenticationError":
    case "AuthorizationError":
      return "Denied"
    case "DeadlockError":
    case "SerializationError":
      return "Conflict"
    case "LockTimeoutError":
    case "StatementTimeoutError":
      return "Timeout"
    case "ConstraintError":
      return "Refused"
    default:
      // A parameter that the driver cannot encode as its type: an id that is no UUID, a number out of range
      return field(error.reason.cause, "_tag") === "PgTypesCodecError" ? "Refused" : "Unexpected"
  }
}

const advice: Record<StoreReason, string> = {
  Unavailable: "PostgreSQL cannot be reached or is not accepting work: check that it runs, and its connection limit",
  Timeout: "PostgreSQL gave up waiting (statement or lock timeout): look for long transactions and a busy server",
  Conflict: "it conflicted with another transaction: retry the whole transaction",
  Refused: "PostgreSQL cannot store this data",
  Denied: "PostgreSQL refused the login or the privilege: check the role and what it was granted",
  NotMigrated: "the tables are missing or older than this version: run the migrations",
  Foreign: "tables of that name are not ours: choose another schema or prefix",
  InsideTransaction: "it cannot be done inside an open transaction",
  Undecodable: "what is stored does not fit",
  Unsupported: "it is not possible here",
  Unexpected: "this is a bug in Polyqueue: please report it"
}

/** The text of these codes may quote values. */
const quotesData = (state: string | undefined): boolean => state === undefined || /^(22|23|54)/.test(state)

/** What the driver says when a server, or somebody in between, has no TLS for a URL that insists on it. It has no code. */
const noTls = "The server does not support TLS"

/** Translates an error of the driver for one operation of the store. */
export const fromSqlError = (operation: string, error: SqlError): StoreError => {
  const state = sqlState(error)
  const reason = (state === undefined ? undefined : byState(state)) ?? byTag(error)
  const said = field(error.reason.cause, "message")
  const text = quotesData(state) && said !== noTls ? undefined : said
  const constraint = field(error.reason.cause, "constraint")
  const detail = [state, constraint, text === undefined ? undefined : oneLine(text)]
    .filter((part) => part !== undefined)
    .join(", ")
  return new StoreError({
    reason,
    operation,
    message: `${operation}: ${advice[reason]}${detail === "" ? "" : ` (${detail})`}`,
    cause: new Error(`${error.reason._tag}${detail === "" ? "" : `: ${detail}`}`)
  })
}
