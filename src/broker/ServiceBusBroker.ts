/**
 * Azure Service Bus as a broker: hints are messages on queues, received under a peek-lock that is renewed as long as the
 * job runs. Import it from `polyqueue/service-bus`; it needs the package `@azure/service-bus`.
 *
 * What it asks of the namespace: a queue per queue of jobs (see `queue` and `entity`), without sessions, with any
 * LockDuration (locks are renewed every third of it), and a key or credential that may Send (producers) and Listen (workers). Duplicate
 * detection may be on. Messages that are not hints go to the dead-letter queue.
 *
 * Guarantees: a lost lock can settle nothing; what a worker held comes again when it dies; what it can not do itself (a
 * delay at giving back) is done by a scheduled copy. Limits: hints of one job may double, priorities are not looked at, the
 * depth is not known (that would need Manage rights).
 *
 * @example
 * ```ts
 * import { Config } from "effect"
 * import * as ServiceBusBroker from "polyqueue/service-bus"
 *
 * const BrokerLive = ServiceBusBroker.layerConfig({
 *   connectionString: Config.Redacted("POLYQUEUE_AZURE_SB_CONNECTION_STRING"),
 *   queue: Config.String("POLYQUEUE_AZURE_SB_QUEUE_NAME").pipe(Config.withDefault("polyqueue"))
 * })
 * ```
 */
import type { ServiceBusReceivedMessage } from "@azure/service-bus"
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { Broker } from "../Broker.ts"
import type { BrokerError } from "../JobError.ts"
import { defaultQueue } from "../JobPolicy.ts"
import type { BrokerDriver, BrokerHealth, Capabilities, Hint, ItemOutcome } from "./BrokerDriver.ts"
import { type Access, type ClientOptions, type Connection, make as connect } from "./serviceBus/Connection.ts"
import * as Failure from "./serviceBus/Failure.ts"
import { make as makeOutbox, type Outbox } from "./serviceBus/Outbox.ts"
import { make as makeConsumer } from "./serviceBus/ServiceBusConsumer.ts"

/** What this broker declares. */
export const capabilities: Capabilities = {
  name: "servicebus",
  carriesHints: true,
  transactionalPublish: false,
  // Only where the queue detects duplicates, and only for ten minutes
  idempotentPublish: false,
  fenced: true,
  priority: false,
  maxBatch: 500,
  // The longest LockDuration there is
  maxLease: 5 * 60_000,
  maxHold: undefined,
  maxReleaseDelay: 24 * 60 * 60_000,
  depth: "none"
}

/** What can be set whatever the way in. */
export interface Settings {
  /** The Service Bus queue of the job queue `default`. Default: the `EntityPath` of the connection string, or `polyqueue`. */
  readonly queue?: string
  /**
   * How long a delivery may be held before one warning is logged; its lock is renewed further. Default 3,600 seconds
   * (`POLYQUEUE_AZURE_SB_LOCK_RENEWAL`).
   */
  readonly lockRenewal?: Duration.Input
  /** Longest wait for the answer to one request. Default 10 seconds. */
  readonly requestTimeout?: Duration.Input
  /** How many settlements or renewals of one worker are under way at a time: the SDK has no batches of them. Default 50. */
  readonly concurrency?: number
}

/** What code alone can set. */
export interface Hooks {
  /**
   * The Service Bus queue of a job queue. Default: `queue` for `default`, `<queue>-<name>` for any other. Two job queues may
   * share one; then every worker of the one should serve the other too.
   */
  readonly entity?: (queue: string) => string
  /** Passed on to the SDK's client: web sockets, a custom endpoint, the user agent. */
  readonly client?: ClientOptions
}

/** Everything about a broker: the way in (a connection string, or a namespace and a credential) and the settings. */
export type Options = Access & Settings & Hooks

const DEFAULT_QUEUE = "polyqueue"

/** Names that Service Bus takes. */
const validName = /^[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,258}[A-Za-z0-9])?$/

/**
 * Makes the broker. Does not connect yet, so that producers start while the service is away; fails with `Misconfigured` when
 * the package is missing or an option cannot be honoured. The connection closes with the scope.
 */
export const make = Effect.fnUntraced(function* (
  options: Options
): Effect.fn.Return<BrokerDriver, BrokerError, Scope.Scope> {
  const concurrency = options.concurrency ?? 50
  const requestTimeout = Duration.fromInputUnsafe(options.requestTimeout ?? "10 seconds")
  const warnAfter = Duration.toMillis(Duration.fromInputUnsafe(options.lockRenewal ?? "1 hour"))
  if (!Number.isInteger(concurrency) || concurrency < 1) {
    return yield* misconfigured(`concurrency is ${concurrency}: it must be a whole number from 1`)
  }
  if (Duration.toMillis(requestTimeout) < 100) {
    return yield* misconfigured(`requestTimeout is ${Duration.format(requestTimeout)}: it must be 100 ms or more`)
  }
  const connection = yield* connect({ access: options, requestTimeout, clientOptions: options.client })
  const { entityPath } = connection
  const queue = options.queue ?? entityPath ?? DEFAULT_QUEUE
  if (!validName.test(queue)) return yield* misconfigured(`"${queue}" is no name of a Service Bus queue`)
  if (entityPath !== undefined && entityPath !== queue) {
    return yield* misconfigured(
      `the connection string is for queue "${entityPath}", but the queue is set to "${queue}"`
    )
  }
  const entity = options.entity ?? ((name: string) => (name === defaultQueue ? queue : `${queue}-${name}`))
  const outbox = makeOutbox(connection)
  /** Entities that somebody here receives from. */
  const subscribed = new Set<string>()

  return {
    capabilities,
    publish: (hints) => publish(outbox, entity, hints),
    consumer: ({ lease, queues }) => {
      const entities = [...new Set(queues.map(entity))]
      for (const name of entities) subscribed.add(name)
      return Effect.andThen(
        Effect.forEach(entities, (name) => connection.reach("consume", name), { discard: true }),
        makeConsumer({ connection, outbox, entities, lease, concurrency, warnAfter })
      )
    },
    depth: () => Effect.succeed(undefined),
    purge: (name) => purge(connection, entity(name)),
    health: health(connection, outbox, () => (outbox.reached.size > 0 ? outbox.reached : new Set([queue])), subscribed)
  }
})

/** The broker as a layer. Bind it to a constant: two calls are two connections. */
export const layer = (options: Options): Layer.Layer<Broker, BrokerError> => Layer.effect(Broker, make(options))

/** What `layerConfig` reads: a connection string, and optionally the settings. */
export interface ConfigOptions extends Settings {
  readonly connectionString: Redacted.Redacted<string>
}

/** The broker from configuration: one `Config` per option, or one for all of them. */
export const layerConfig = (
  options: Config.Wrap<ConfigOptions>,
  hooks: Hooks = {}
): Layer.Layer<Broker, Config.ConfigError | BrokerError> =>
  Layer.effect(
    Broker,
    Effect.flatMap(Config.unwrap(options), (read) => make({ ...read, ...hooks }))
  )

const misconfigured = (told: string) => Failure.make("Misconfigured", "connect", `ServiceBusBroker: ${told}`)

/** Sends each entity its hints, side by side; answers in the order of the hints. */
const publish = Effect.fnUntraced(function* (
  outbox: Outbox,
  entity: (queue: string) => string,
  hints: ReadonlyArray<Hint>
) {
  const outcomes: Array<ItemOutcome> = []
  const byEntity = Map.groupBy(
    hints.map((hint, index) => ({ hint, index })),
    ({ hint }) => entity(hint.queue)
  )
  yield* Effect.forEach(
    byEntity,
    Effect.fnUntraced(function* ([name, items]) {
      const answers = yield* outbox.send(
        name,
        items.map(({ hint }) => hint)
      )
      items.forEach(({ index }, position) => (outcomes[index] = answers[position]!))
    }),
    { concurrency: 8, discard: true }
  )
  return outcomes
})

/** How many messages one receive of a purge takes, and how long it looks for more: then the queue is empty. */
const PURGE = { batch: 1_000, wait: 1_000 } as const

/** Receives and deletes until nothing comes. Locked and scheduled messages stay. */
const purge = Effect.fnUntraced(function* ({ call, client, reach }: Connection, entity: string) {
  yield* reach("purge", entity)
  const receiver = client().createReceiver(entity, { receiveMode: "receiveAndDelete", skipParsingBodyAsJson: true })
  const run = (): Promise<ReadonlyArray<ServiceBusReceivedMessage>> =>
    receiver.receiveMessages(PURGE.batch, { maxWaitTimeInMs: PURGE.wait })
  const once = call({ operation: "purge", entity, run }).pipe(
    Effect.catchTag("polyqueue/LockLost", (lost) => Effect.fail(Failure.make("Unexpected", "purge", lost.message)))
  )
  yield* Effect.repeat(once, { until: (messages) => messages.length === 0 }).pipe(
    Effect.ensuring(Effect.ignore(call({ operation: "purge", entity, run: () => receiver.close() })))
  )
})

/** Longest wait of a health check for one entity. */
const HEALTH_TIMEOUT = 3_000

/** That every entity in use can be sent to, and looked into where somebody here receives. Fails never. */
const health = (
  { call, client }: Connection,
  outbox: Outbox,
  entities: () => ReadonlySet<string>,
  subscribed: ReadonlySet<string>
): Effect.Effect<BrokerHealth> =>
  Effect.suspend(() =>
    Effect.forEach(
      entities(),
      (entity) => {
        // A link that looks open may be dead: looking into the queue is a round trip
        const look = Effect.acquireUseRelease(
          Effect.sync(() => client().createReceiver(entity)),
          (receiver) => call({ operation: "health", entity, run: () => receiver.peekMessages(1), late: "Unavailable" }),
          (receiver) => Effect.ignore(call({ operation: "health", entity, run: () => receiver.close() }))
        )
        return outbox.open(entity).pipe(
          Effect.andThen(subscribed.has(entity) ? look : Effect.void),
          Effect.timeoutOrElse({
            duration: HEALTH_TIMEOUT,
            orElse: () =>
              Effect.fail({ message: `Service Bus queue "${entity}" did not answer in ${HEALTH_TIMEOUT} ms` })
          }),
          Effect.match({ onSuccess: () => [], onFailure: ({ message }) => [message] })
        )
      },
      { concurrency: 8 }
    )
  ).pipe(
    Effect.map((found) => found.flat()),
    Effect.map((problems) => ({ ok: problems.length === 0, problems }))
  )
