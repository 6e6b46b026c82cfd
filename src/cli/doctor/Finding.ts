/** What a check of `doctor` has to say, and what all checks work on. */
import * as Effect from "effect/Effect"
import type { SqlClient } from "effect/sql/SqlClient"
import type { Settings } from "../../config/Settings.ts"
import type { StoreError } from "../../JobError.ts"
import type { JobStoreService } from "../../JobStore.ts"
import type { Names } from "../../store/postgres/Names.ts"
import type { Rows } from "../../store/postgres/Sessions.ts"

/** `ok`; `warning`: worth knowing; `problem`: wrong now; `fixed`: was wrong until `--fix`. */
export type Verdict = "ok" | "warning" | "problem" | "fixed"

export interface Finding {
  /** Short name of the check. */
  readonly check: string
  readonly verdict: Verdict
  /** What was found, for a person. */
  readonly message: string
  /** What to do about it: a command, a setting or SQL. */
  readonly fix?: string | undefined
}

/** What checks work on. */
export interface Patient {
  /** Runs one statement that reads. */
  readonly read: (text: string, params?: ReadonlyArray<unknown>) => Effect.Effect<Rows, StoreError>
  readonly sql: SqlClient
  readonly names: Names
  readonly store: JobStoreService
  readonly settings: Settings
  /** Whether what can be repaired safely is to be repaired. */
  readonly fix: boolean
}

/** A check answers at least one finding. */
export type Check = (patient: Patient) => Effect.Effect<ReadonlyArray<Finding>, StoreError>

export const ok = (check: string, message: string): Finding => ({ check, verdict: "ok", message })
export const warning = (check: string, message: string, fix?: string): Finding => ({
  check,
  verdict: "warning",
  message,
  fix
})
export const problem = (check: string, message: string, fix?: string): Finding => ({
  check,
  verdict: "problem",
  message,
  fix
})

/** The findings, or one that says that all is well. */
export const orOk = (findings: ReadonlyArray<Finding>, check: string, message: string): ReadonlyArray<Finding> =>
  findings.length === 0 ? [ok(check, message)] : findings

/** A check that could not be made is a finding of its own; an unreachable server ends the whole examination. */
export const guarded = (
  name: string,
  check: Effect.Effect<ReadonlyArray<Finding>, StoreError>
): Effect.Effect<ReadonlyArray<Finding>, StoreError> =>
  Effect.catch(check, (error) =>
    error.reason === "Unavailable" ? Effect.fail(error) : Effect.succeed([problem(name, error.message)])
  )
