/**
 * Which deployment a command is about. By default the one that the `POLYQUEUE_*` variables name; an application that is its
 * own `polyqueue` command, and tests, may name another.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type { SqlClient } from "effect/sql/SqlClient"
import * as Backends from "../config/Backends.ts"
import * as Resolve from "../config/Resolve.ts"
import * as PolyqueueConfig from "../config/PolyqueueConfig.ts"
import { variables } from "../config/Variables.ts"
import type { Broker } from "../Broker.ts"
import type { BrokerError, StoreError } from "../JobError.ts"
import { fromSqlError } from "../store/postgres/Failure.ts"
import { type CliFailure, fromConfigError, usage } from "./Failure.ts"
import type { Operator } from "./Operator.ts"

/** Where our tables are. */
export interface TableNames {
  readonly schema: string
  readonly prefix: string
}

/** A database and where our tables are in it. */
export interface Connection {
  readonly names: TableNames
  /** A small client that says who it is (`application_name`) and does not wait long for a server. */
  readonly database: Layer.Layer<SqlClient, StoreError>
  /** The broker of the settings. Built by `doctor` only. */
  readonly broker: Layer.Layer<Broker, BrokerError, SqlClient>
  readonly settings: PolyqueueConfig.Settings
}

export interface DeploymentService {
  /** Known without a database. */
  readonly tableNames: Effect.Effect<TableNames, CliFailure>
  readonly connection: Effect.Effect<Connection, CliFailure>
  /** Given: what `inspect`, `explain` and `admin` work on, instead of `connection`. */
  readonly operator?: Layer.Layer<Operator, StoreError> | undefined
}

/** Schema and prefix alone, by the rules of all settings: what only prints SQL needs no other. */
const namesOf = (schema: Option.Option<string>, prefix: Option.Option<string>) =>
  Result.match(
    Resolve.resolve(
      {
        ...(Option.isSome(schema) ? { tableSchema: schema.value } : {}),
        ...(Option.isSome(prefix) ? { tablePrefix: prefix.value } : {}),
        backend: "none"
      },
      "environment"
    ),
    {
      onFailure: (problems) => Effect.fail(usage(problems.join("; "))),
      onSuccess: ({ settings }) => Effect.succeed({ schema: settings.tableSchema, prefix: settings.tablePrefix })
    }
  )

const fromEnvironment: DeploymentService = {
  tableNames: Config.all([
    Config.option(Config.String(variables.tableSchema.name)),
    Config.option(Config.String(variables.tablePrefix.name))
  ]).pipe(
    Effect.mapError(fromConfigError),
    Effect.flatMap(([schema, prefix]) => namesOf(schema, prefix))
  ),
  connection: Effect.gen(function* () {
    const resolved = yield* Effect.mapError(PolyqueueConfig.environment, fromConfigError)
    const { settings } = resolved
    if (settings.dbUrl === undefined) {
      return yield* usage(`${variables.dbUrl.name} is not set: it must be ${variables.dbUrl.kind.allowed}`)
    }
    const database = PgClient.layer({
      url: settings.dbUrl,
      applicationName: "polyqueue cli",
      maxConnections: 4,
      connectTimeout: "5 seconds"
    })
    return {
      settings,
      names: { schema: settings.tableSchema, prefix: settings.tablePrefix },
      broker: Backends.broker(resolved),
      database: Layer.catchTag(database, "SqlError", (error) =>
        Layer.effectContext(Effect.fail(fromSqlError("connect", error)))
      )
    }
  })
}

/** The deployment in question. */
export const Deployment: Context.Reference<DeploymentService> = Context.Reference<DeploymentService>(
  "polyqueue/cli/Deployment",
  { defaultValue: () => fromEnvironment }
)

/** Its database and tables. */
export const connection: Effect.Effect<Connection, CliFailure> = Effect.flatMap(
  Deployment,
  (deployment) => deployment.connection
)

/** Where its tables are; known without a database. */
export const tableNames: Effect.Effect<TableNames, CliFailure> = Effect.flatMap(
  Deployment,
  (deployment) => deployment.tableNames
)

/** Running jobs without a sign of progress for this many milliseconds are stale: a setting, where there are settings. */
export const staleProgress: Effect.Effect<number, CliFailure> = Effect.flatMap(Deployment, (deployment) =>
  deployment.operator === undefined
    ? Effect.map(deployment.connection, ({ settings }) => settings.staleProgressThreshold * 1_000)
    : Effect.succeed(variables.staleProgressThreshold.default * 1_000)
)
