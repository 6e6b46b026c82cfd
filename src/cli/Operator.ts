/**
 * What the commands work on: a database with our tables, and what stands on it. Needs no broker's credentials, whatever the
 * backend: what an action makes runnable is rung for by NOTIFY, which workers of the Postgres broker hear at once, and is
 * published by the workers' relay on the others, within about a second. Never migrates; `polyqueue migrate` does.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { SqlClient } from "effect/sql/SqlClient"
import { Admin } from "../Admin.ts"
import { Broker } from "../Broker.ts"
import type { StoreError } from "../JobError.ts"
import { JobStore } from "../JobStore.ts"
import type { NamesOptions } from "../store/postgres/Names.ts"
import { WorkerRegistry } from "../WorkerRegistry.ts"
import * as Deployment from "./Deployment.ts"
import type { CliFailure } from "./Failure.ts"
import * as Sql from "./Sql.ts"

/** The store's clock, in epoch milliseconds: what instants are compared with. */
export class StoreNow extends Context.Service<StoreNow, Effect.Effect<number, StoreError>>()("polyqueue/cli/StoreNow") {
  /** The clock of the database. */
  static readonly layerPostgres: Layer.Layer<StoreNow, never, SqlClient> = Layer.effect(
    StoreNow,
    Effect.map(SqlClient, (sql) =>
      Effect.map(Sql.run(sql, "now", "select date_part('epoch', clock_timestamp()) * 1000"), ([row]) =>
        Number(row?.[0])
      )
    )
  )

  /** Effect's `Clock`, for stores in memory. */
  static readonly layerClock: Layer.Layer<StoreNow> = Layer.effect(
    StoreNow,
    Effect.map(Clock.Clock, (clock) => clock.currentTimeMillis)
  )
}

/** The services of `inspect`, `explain` and `admin`. */
export type Operator = Admin | JobStore | WorkerRegistry | StoreNow

/** On a client and tables of that name. */
export const onTables = (names: NamesOptions): Layer.Layer<Operator, StoreError, SqlClient> =>
  Layer.mergeAll(Layer.provide(Admin.layer, Broker.layerPostgres), StoreNow.layerPostgres).pipe(
    Layer.provideMerge(Layer.mergeAll(JobStore.layerPostgresWith(names), WorkerRegistry.layerPostgresWith(names)))
  )

/** On the deployment that the settings name. */
export const layer: Layer.Layer<Operator, CliFailure | StoreError> = Layer.unwrap(
  Effect.gen(function* () {
    const deployment = yield* Deployment.Deployment
    if (deployment.operator !== undefined) return deployment.operator
    const { database, names } = yield* deployment.connection
    return onTables(names).pipe(Layer.provide(database))
  })
)
