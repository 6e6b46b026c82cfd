/**
 * The Postgres implementations for the contract suites: on whatever client they are given, migrated, on a clock that the
 * suite can move.
 */
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import * as Migrations from "../../src/Migrations.ts"
import * as PostgresWorkerRegistry from "../../src/registry/PostgresWorkerRegistry.ts"
import { advanceStatement, shiftStatements } from "../../src/store/postgres/DatabaseClock.ts"
import * as Names from "../../src/store/postgres/Names.ts"
import * as PostgresJobStore from "../../src/store/PostgresJobStore.ts"
import * as JobStoreContract from "../../src/testing/JobStoreContract.ts"

/** Makes the tables and the clock that can be moved; answers how to move it. */
export const shiftedClock = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const names = yield* Effect.fromResult(Names.make())
  yield* Migrations.migrate()
  for (const statement of shiftStatements(names)) yield* sql.unsafe(statement)
  return (ms: number) => Effect.asVoid(Effect.orDie(sql.unsafe(advanceStatement(names), [ms])))
})

/** The store for the contract suite, on the ambient client. */
export const storeUnderTest = Layer.effect(
  JobStoreContract.StoreUnderTest,
  Effect.gen(function* () {
    const advance = yield* shiftedClock
    return { driver: yield* PostgresJobStore.makeShifted(), advance }
  })
)

/** The registry for its contract suite, on the ambient client. */
export const registryUnderTest = Effect.gen(function* () {
  const advance = yield* shiftedClock
  return { driver: yield* PostgresWorkerRegistry.makeShifted(), advance }
})
