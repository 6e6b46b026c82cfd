/**
 * A transaction whose session is lost cannot roll back, and the SQL client then reports everything as defects: what went
 * wrong first, and the rollback. A lost connection is no defect: callers are told of it, and try again.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { SqlError } from "effect/sql/SqlError"
import { StoreError } from "../../JobError.ts"

/** Fails with the first error again when a transaction has died of nothing but errors that `isTyped` knows. */
export const undying = <A, E, R>(
  transaction: Effect.Effect<A, E, R>,
  isTyped: (error: unknown) => error is E
): Effect.Effect<A, E, R> =>
  Effect.catchCause(transaction, (cause) => {
    const errors = cause.reasons.map((reason) =>
      Cause.isFailReason(reason) ? reason.error : Cause.isDieReason(reason) ? reason.defect : undefined
    )
    const [first] = errors
    return cause.reasons.some(Cause.isDieReason) && errors.every(isTyped) && isTyped(first)
      ? Effect.fail(first)
      : Effect.failCause(cause)
  })

/** What the statements of the store fail with. */
export const isStoreFailure = (error: unknown): error is StoreError | SqlError =>
  error instanceof StoreError || error instanceof SqlError
