/**
 * What settings build: the database, the broker, and the defaults of jobs and workers. Brokers are imported when they are
 * chosen, so nobody pays for one he does not use; a missing package is said by the broker, with the command that installs it.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { SqlClient } from "effect/sql/SqlClient"
import { Broker } from "../Broker.ts"
import type { BrokerError, StoreError } from "../JobError.ts"
import { JobDefaults } from "../JobPolicy.ts"
import * as Pglite from "../store/Pglite.ts"
import { fromSqlError } from "../store/postgres/Failure.ts"
import * as Worker from "../Worker.ts"
import type { Resolved } from "./Resolve.ts"
import type { Settings } from "./Settings.ts"

/** The database, or the embedded one when there is no URL. */
export const database = ({ dbUrl }: Settings): Layer.Layer<SqlClient, StoreError> =>
  dbUrl === undefined
    ? Pglite.layer()
    : PgClient.layer({ url: dbUrl, applicationName: "polyqueue application" }).pipe(
        Layer.catchTag("SqlError", (error) => Layer.effectContext(Effect.fail(fromSqlError("connect", error))))
      )

/** Keys of installations that share a Redis differ as their tables do. */
const redisPrefix = ({ tablePrefix, tableSchema }: Settings): string =>
  tableSchema === "polyqueue" && tablePrefix === "polyqueue" ? "polyqueue" : `${tableSchema}.${tablePrefix}`

/** The broker that `backend` names. */
export const broker = ({ settings, sources }: Resolved): Layer.Layer<Broker, BrokerError, SqlClient> => {
  switch (settings.backend) {
    case "postgres":
      return Broker.layerPostgresWith({ pollInterval: Duration.seconds(settings.retryPollInterval) })
    case "none":
      return Broker.layerMemory
    case "redis": {
      const { redisUrl } = settings
      if (redisUrl === undefined) return missing("redisUrl")
      return load(
        () => import("../broker/RedisBroker.ts"),
        (module) => module.layer({ url: redisUrl, prefix: redisPrefix(settings) })
      )
    }
    case "sqs": {
      const { sqsQueueUrl, sqsRegion } = settings
      if (sqsQueueUrl === undefined) return missing("sqsQueueUrl")
      return load(
        () => import("../broker/SqsBroker.ts"),
        (module) => module.layer({ queueUrl: sqsQueueUrl, client: { region: sqsRegion } })
      )
    }
    case "azure_service_bus": {
      const { azureSbConnectionString, azureSbLockRenewal, azureSbQueueName } = settings
      if (azureSbConnectionString === undefined) return missing("azureSbConnectionString")
      return load(
        () => import("../broker/ServiceBusBroker.ts"),
        (module) =>
          module.layer({
            connectionString: azureSbConnectionString,
            // Unset, the connection string may name it
            ...(sources.azureSbQueueName === "default" ? {} : { queue: azureSbQueueName }),
            lockRenewal: Duration.seconds(azureSbLockRenewal)
          })
      )
    }
    case "pgmq":
      return load(
        () => import("../broker/PgmqBroker.ts"),
        (module) =>
          module.layer({
            queue: settings.pgmqQueueName,
            visibility: Duration.seconds(settings.pgmqVisibilityTimeout),
            pollFor: Duration.seconds(settings.pgmqPollSeconds),
            pollInterval: Duration.millis(settings.pgmqPollIntervalMs),
            createIfMissing: settings.pgmqCreateQueueIfMissing,
            unlogged: settings.pgmqUseUnloggedQueue,
            archiveOnSuccess: settings.pgmqArchiveOnSuccess,
            archiveOnTerminalFail: settings.pgmqArchiveOnTerminalFail
          })
      )
  }
}

const load = <Module>(
  module: () => Promise<Module>,
  layer: (module: Module) => Layer.Layer<Broker, BrokerError, SqlClient>
): Layer.Layer<Broker, BrokerError, SqlClient> => Layer.unwrap(Effect.map(Effect.promise(module), layer))

/** `resolve` has refused it. */
const missing = (key: keyof Settings): Layer.Layer<Broker> =>
  Layer.effect(Broker, Effect.die(new Error(`settings without ${key} were not checked`)))

const brokerLease = (settings: Settings): Duration.Duration | undefined => {
  switch (settings.backend) {
    case "sqs":
      return Duration.seconds(settings.sqsVisibilityTimeout)
    case "pgmq":
      return Duration.seconds(settings.pgmqVisibilityTimeout)
    default:
      return undefined
  }
}

/** The defaults of jobs (`JobDefaults`) and of workers (`Worker.Defaults`), for everything above this layer. */
export const defaults = (settings: Settings): Layer.Layer<never> => {
  const lease = brokerLease(settings)
  return Layer.mergeAll(
    Layer.succeed(JobDefaults, {
      ...JobDefaults.defaultValue(),
      maxAttempts: settings.maxAttempts,
      retryDelays: settings.retryBackoffSeconds.map((seconds) => seconds * 1_000),
      timeout: settings.defaultMaxRunSeconds === undefined ? undefined : settings.defaultMaxRunSeconds * 1_000,
      timeoutThen: settings.timeoutStrategy
    }),
    Layer.succeed(Worker.Defaults, {
      lease: Duration.seconds(settings.leaseDuration),
      ...(settings.heartbeatInterval === undefined ? {} : { renewEvery: Duration.seconds(settings.heartbeatInterval) }),
      sweepEvery: Duration.seconds(settings.reaperInterval),
      heartbeatEvery: Duration.seconds(settings.workerHeartbeatInterval),
      staleAfter: Duration.seconds(settings.workerStaleThreshold),
      staleProgressAfter: Duration.seconds(settings.staleProgressThreshold),
      ...(settings.workerName === undefined ? {} : { name: settings.workerName }),
      ...(lease === undefined ? {} : { brokerLease: lease })
    })
  )
}
