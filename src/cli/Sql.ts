/** Reading with plain SQL: rows as arrays, values in types that every client decodes alike, errors as `StoreError`. */
import * as Effect from "effect/Effect"
import type { SqlClient } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type { StoreError } from "../JobError.ts"
import { fromSqlError } from "../store/postgres/Failure.ts"
import type { Rows } from "../store/postgres/Sessions.ts"

/** Runs one statement. */
export const run = (
  sql: SqlClient,
  operation: string,
  text: string,
  params: ReadonlyArray<unknown> = []
): Effect.Effect<Rows, StoreError> =>
  Effect.catchTag(sql.unsafe(text, params).values, "SqlError", (error: SqlError) =>
    Effect.fail(fromSqlError(operation, error))
  )
