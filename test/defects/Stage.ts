/**
 * A deployment for the defects that concern brokers: a fresh database, one of the four brokers on a server of its own, the
 * client and the ports over both. With hands on either side: what the broker and the store do can be changed, and the
 * server says what it holds and refuses what it is told to.
 */
import { Context, Effect, Layer, Redacted, Schedule, type Scope } from "effect"
import { SqlClient } from "effect/sql"
import * as PgmqBroker from "../../src/broker/PgmqBroker.ts"
import type { BrokerDriver, Consumer, Delivery } from "../../src/broker/BrokerDriver.ts"
import * as RedisBroker from "../../src/broker/RedisBroker.ts"
import * as ServiceBusBroker from "../../src/broker/ServiceBusBroker.ts"
import * as SqsBroker from "../../src/broker/SqsBroker.ts"
import {
  Broker,
  type BrokerError,
  JobStore,
  Metrics,
  Migrations,
  Polyqueue,
  type Worker,
  WorkerRegistry
} from "../../src/index.ts"
import { installPgmq } from "../support/Pgmq.ts"
import { freshDatabase, layerUrl } from "../support/Postgres.ts"
import { adminOf, ownRedis } from "../support/Redis.ts"
import { localServer } from "../support/ServiceBus.ts"
import { standIn } from "../support/Sqs.ts"
import { SqsErrors } from "../support/SqsServer.ts"

/** The brokers that carry hints, as they are named in titles. */
export type Name = "Redis" | "SQS" | "Service Bus" | "PGMQ"

/** What a server can be asked and told. */
export interface Server {
  readonly broker: Layer.Layer<Broker, BrokerError, SqlClient.SqlClient>
  /** From now on it takes no message. */
  readonly refuse: Effect.Effect<void>
  /** How many messages it holds, whatever their state. */
  readonly messages: Effect.Effect<number>
}

type Make = (url: string, hold: number) => Effect.Effect<Server, never, Scope.Scope>

const redis: Make = Effect.fnUntraced(function* () {
  const { url } = yield* ownRedis()
  const admin = yield* adminOf(url)
  const held = Effect.promise(async () => {
    const sizes = ["ready", "leases", "delayed"].map((part) => admin.zcard(`{polyqueue}:default:${part}`))
    return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0)
  })
  return {
    broker: RedisBroker.layer({ url: Redacted.make(url) }),
    refuse: Effect.asVoid(Effect.promise(() => admin.config("SET", "maxmemory", "1mb"))),
    messages: held
  }
})

const sqs: Make = Effect.fnUntraced(function* () {
  const { config, createQueue, server } = yield* standIn()
  const queueUrl = yield* Effect.promise(() => createQueue())
  return {
    broker: SqsBroker.layer({ queueUrl, client: config }),
    refuse: Effect.sync(() =>
      server.fail("SendMessageBatch", { _tag: "Error", failure: SqsErrors.overLimit() }, Infinity)
    ),
    messages: Effect.sync(() => server.size(queueUrl))
  }
})

const serviceBus: Make = Effect.fnUntraced(function* (_url, hold) {
  const server = yield* localServer
  const queue = server.createQueue("polyqueue", { lockDuration: hold })
  server.createQueue("polyqueue-elsewhere", { lockDuration: hold })
  const refusal = { condition: "amqp:resource-limit-exceeded", description: "the test says that the queue is full" }
  return {
    broker: ServiceBusBroker.layer({ connectionString: Redacted.make(server.connectionString) }),
    refuse: Effect.sync(() => void (server.faults.send = () => refusal)),
    messages: Effect.sync(() => queue.active.length + queue.locks.size + queue.scheduled.size)
  }
})

const pgmq: Make = Effect.fnUntraced(function* (url) {
  const database = yield* Layer.build(Layer.orDie(layerUrl(url, { maxConnections: 2 })))
  const run = <A, E>(use: (sql: SqlClient.SqlClient) => Effect.Effect<A, E>) =>
    Effect.orDie(Effect.flatMap(SqlClient.SqlClient, use).pipe(Effect.provide(database)))
  yield* Effect.orDie(Effect.provide(installPgmq, database))
  yield* run((sql) => sql`select pgmq.create('polyqueue')`)
  return {
    broker: PgmqBroker.layer(),
    refuse: run((sql) =>
      Effect.andThen(
        sql`create function refuse() returns trigger language plpgsql as 'begin raise ''the test refuses it''; end'`,
        sql`create trigger refuse before insert on pgmq.q_polyqueue execute function refuse()`
      )
    ),
    messages: Effect.map(
      run((sql) => sql<{ n: number }>`select count(*)::int as n from pgmq.q_polyqueue`),
      ([row]) => row?.n ?? -1
    )
  }
})

const servers: Readonly<Record<Name, Make>> = { Redis: redis, SQS: sqs, "Service Bus": serviceBus, PGMQ: pgmq }

/** What is done to a deployment, besides what its server can be told. */
export interface Changes {
  /** How long a delivery is held before the broker gives it to another, in ms, where that belongs to its queue. */
  readonly hold?: number
  readonly broker?: (driver: BrokerDriver) => BrokerDriver
  readonly store?: (store: JobStore["Service"]) => JobStore["Service"]
}

/** The client and its ports, on a database. */
export const client = (
  url: string,
  broker: Layer.Layer<Broker, BrokerError, SqlClient.SqlClient>,
  changes: Changes = {}
) =>
  Polyqueue.layer.pipe(
    Layer.provideMerge(
      Layer.mergeAll(
        Layer.effect(Broker, Effect.map(Broker, changes.broker ?? ((driver) => driver))).pipe(Layer.provide(broker)),
        Layer.effect(JobStore, Effect.map(JobStore, changes.store ?? ((store) => store))).pipe(
          Layer.provide(JobStore.layerPostgres)
        ),
        WorkerRegistry.layerPostgres,
        Metrics.layerNoop
      )
    ),
    Layer.provide(Migrations.layer()),
    Layer.provideMerge(Layer.fresh(layerUrl(url)))
  )

/** The server of a deployment, and its database. */
export class Stage extends Context.Service<Stage, Server & { readonly url: string }>()("test/defects/Stage") {}

/** A deployment on a broker. */
export const layer = (name: Name, changes: Changes = {}) =>
  Layer.unwrap(
    Effect.gen(function* () {
      const url = yield* freshDatabase
      const server = yield* servers[name](url, changes.hold ?? 30_000)
      return Layer.merge(client(url, server.broker, changes), Layer.succeed(Stage, { ...server, url }))
    })
  )

/** A worker that notices everything soon. */
export const quick: Worker.Options = {
  concurrency: 10,
  lease: "3 seconds",
  brokerLease: "3 seconds",
  sweepEvery: "200 millis",
  interruptGrace: "200 millis",
  shutdownGrace: "200 millis"
}

/** Asks again until the answer is right; the test's timeout ends it. */
export const until = <A, E, R>(question: Effect.Effect<A, E, R>, right: (answer: A) => boolean) =>
  Effect.repeat(question, { until: right, schedule: Schedule.spaced("20 millis") })

/** Receives until so many deliveries are there; the test's timeout ends it. */
export const receive = Effect.fnUntraced(function* (consumer: Consumer, count: number) {
  const got: Array<Delivery> = []
  while (got.length < count) got.push(...(yield* consumer.receive({ max: count - got.length, wait: 1_000 })))
  return got
})

/** How every attempt of a job ended, and who said so. */
export const endings = (id: string) =>
  Polyqueue.use((queue) =>
    Effect.map(queue.attempts(id), (log) => log.map(({ finalizedBy, outcome }) => `${outcome} by ${finalizedBy}`))
  )

/** A driver whose every delivery is shown to `look`, and whose extensions `extend` may fail. */
export const watched = (
  driver: BrokerDriver,
  look: (delivery: Delivery) => void,
  extend: Effect.Effect<void, BrokerError> = Effect.void
): BrokerDriver => ({
  ...driver,
  consumer: (options) =>
    Effect.map(driver.consumer(options), (consumer) => ({
      ...consumer,
      receive: (asked) => Effect.tap(consumer.receive(asked), (got) => Effect.sync(() => got.forEach(look))),
      extend: (deliveries, lease) => Effect.andThen(extend, consumer.extend(deliveries, lease))
    }))
})
