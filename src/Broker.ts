/**
 * The broker port: carries hints about which job to look at, or only rings a bell. Postgres holds the truth, so whatever
 * a broker loses, doubles, delays or forges costs latency, never a job. Swapping brokers is providing another layer.
 *
 * Brokers with a server of their own live in subpaths, so that nobody loads a client library they do not use:
 * `polyqueue/redis`, `polyqueue/sqs`, `polyqueue/service-bus`, `polyqueue/pgmq`.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { SqlClient } from "effect/sql/SqlClient"
import type { BrokerDriver } from "./broker/BrokerDriver.ts"
import * as CompositeBroker from "./broker/CompositeBroker.ts"
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

  /**
   * More than one broker at once: each queue's hints go through the broker it is routed to, all others through `otherwise`.
   *
   * ```ts
   * const BrokerLive = Broker.layerRouted({ queues: { mail: Redis, billing: Sqs }, otherwise: Broker.layerPostgres })
   * ```
   */
  static readonly layerRouted = <E1, R1, E2, R2>(routes: {
    readonly queues: Readonly<Record<string, Layer.Layer<Broker, E1, R1>>>
    readonly otherwise: Layer.Layer<Broker, E2, R2>
  }): Layer.Layer<Broker, E1 | E2, R1 | R2> =>
    Layer.effect(
      Broker,
      Effect.gen(function* () {
        // One layer under several names is one broker
        const layers = Array.from(
          new Set<Layer.Layer<Broker, E1 | E2, R1 | R2>>([routes.otherwise, ...Object.values(routes.queues)])
        )
        const brokers = yield* Effect.forEach(layers, buildBroker)
        const route = (queue: string) => {
          const named = Object.hasOwn(routes.queues, queue) ? routes.queues[queue] : undefined
          return named === undefined ? 0 : layers.indexOf(named)
        }
        return CompositeBroker.make({ brokers, publishTo: route, consumeFrom: (queue) => [route(queue)] })
      })
    )

  /**
   * Moves a running fleet from one broker to another without losing or stopping anything. Deploy in three steps:
   *
   * 1. `Broker.layerSwap({ to: Old, from: New })` everywhere: still publishing to the old one, listening to both.
   * 2. `Broker.layerSwap({ to: New, from: Old })` everywhere: publishing to the new one, listening to both, until the old
   *    one's `depth` is 0.
   * 3. `New` alone. What was still in the old one is found in Postgres.
   */
  static readonly layerSwap = <E1, R1, E2, R2>(brokers: {
    /** Published to and listened to. */
    readonly to: Layer.Layer<Broker, E1, R1>
    /** Only listened to. */
    readonly from: Layer.Layer<Broker, E2, R2>
  }): Layer.Layer<Broker, E1 | E2, R1 | R2> =>
    Layer.effect(
      Broker,
      Effect.gen(function* () {
        const both = [yield* buildBroker(brokers.to), yield* buildBroker(brokers.from)]
        return CompositeBroker.make({ brokers: both, publishTo: () => 0, consumeFrom: () => [0, 1] })
      })
    )
}

const buildBroker = <E, R>(layer: Layer.Layer<Broker, E, R>) =>
  Effect.map(Layer.build(Layer.fresh(layer)), Context.get(Broker))
