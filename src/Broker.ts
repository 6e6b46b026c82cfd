/**
 * The broker port: carries hints about which job to look at, or only rings a bell. Postgres holds the truth, so whatever
 * a broker loses, doubles, delays or forges costs latency, never a job. Swapping brokers is providing another layer.
 *
 * Brokers with a server of their own live in subpaths, so that nobody loads a client library they do not use:
 * `polyqueue/redis`, `polyqueue/sqs`, `polyqueue/service-bus`, `polyqueue/pgmq`.
 */
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import type { SqlClient } from "effect/sql/SqlClient"
import type { BrokerDriver } from "./broker/BrokerDriver.ts"
import * as MemoryBroker from "./broker/MemoryBroker.ts"
import * as PostgresBroker from "./broker/PostgresBroker.ts"

/**
 * What carries hints from those who make jobs to those who run them.
 *
 * @example
 * ```ts
 * import { Layer } from "effect"
 * import { Broker } from "polyqueue"
 *
 * const BrokerLive: Layer.Layer<Broker> = Broker.layerMemory
 * ```
 */
export class Broker extends Context.Service<Broker, BrokerDriver>()("polyqueue/Broker") {
  /**
   * In-process: wakes the workers of this process, and nothing else. Needs no server; on Effect's `Clock`. Workers of other
   * processes on the same store find the job at their next poll.
   */
  static readonly layerMemory: Layer.Layer<Broker> = Layer.effect(Broker, MemoryBroker.make)

  /**
   * Plain Postgres: workers claim straight from the jobs table. They look every second (±20%), and at once when a job is
   * made, by LISTEN/NOTIFY on up to two sessions of their own. Never fails to build: where listening is impossible it
   * polls and logs one warning.
   */
  static readonly layerPostgres: Layer.Layer<Broker, never, SqlClient> = Layer.effect(Broker, PostgresBroker.make())

  /**
   * Like `layerPostgres`, with a poll interval, a channel, or without listening (behind a pooler in transaction mode). Bind
   * the result to a constant: two calls are two brokers.
   */
  static readonly layerPostgresWith = (options: PostgresBroker.Options): Layer.Layer<Broker, never, SqlClient> =>
    Layer.effect(Broker, PostgresBroker.make(options))
}
