/** A broker as a worker process is told of it: plain data, on its command line. Loads no client library but the one it needs. */
import { Effect, Layer, Redacted } from "effect"
import type { SqlClient } from "effect/sql"
import { Broker, type BrokerError } from "../../src/index.ts"

export type BrokerSpec =
  | { readonly name: "postgres" }
  | { readonly name: "pgmq" }
  | { readonly name: "redis"; readonly url: string }
  | { readonly name: "sqs"; readonly queueUrl: string; readonly endpoint: string }
  | { readonly name: "service-bus"; readonly connectionString: string }

const load = async (spec: BrokerSpec): Promise<Layer.Layer<Broker, BrokerError, SqlClient.SqlClient>> => {
  switch (spec.name) {
    case "postgres":
      return Broker.layerPostgres
    case "pgmq":
      return (await import("../../src/broker/PgmqBroker.ts")).layer()
    case "redis":
      return (await import("../../src/broker/RedisBroker.ts")).layer({ url: Redacted.make(spec.url) })
    case "sqs":
      return (await import("../../src/broker/SqsBroker.ts")).layer({
        queueUrl: spec.queueUrl,
        client: {
          endpoint: spec.endpoint,
          region: "us-east-1",
          credentials: { accessKeyId: "AKIDTEST", secretAccessKey: "not a secret" }
        }
      })
    case "service-bus":
      return (await import("../../src/broker/ServiceBusBroker.ts")).layer({
        connectionString: Redacted.make(spec.connectionString),
        queue: "polyqueue"
      })
  }
}

/** The layer of a spec. */
export const brokerOf = (spec: BrokerSpec): Layer.Layer<Broker, BrokerError, SqlClient.SqlClient> =>
  Layer.unwrap(Effect.promise(() => load(spec)))
