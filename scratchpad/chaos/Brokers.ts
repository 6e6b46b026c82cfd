/** The brokers that chaos runs on, each on a server of its own, with what hurts it. */
import { CreateQueueCommand, SendMessageCommand, SQSClient } from "@aws-sdk/client-sqs"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { SqlClient } from "effect/sql/SqlClient"
import { Redis } from "ioredis"
import { installPgmq } from "../../test/support/Pgmq.ts"
import { startRedis } from "../../test/support/Redis.ts"
import { ServiceBusServer } from "../../test/support/ServiceBusServer.ts"
import { startSqs } from "../../test/support/SqsServer.ts"
import type { Spec } from "./Spec.ts"

export type BrokerName = Spec["name"]

export const names: ReadonlyArray<BrokerName> = ["memory", "postgres", "redis", "pgmq", "sqs", "service-bus"]

/** A running broker, and what hurts it. What it has not cannot be done to it. */
export interface BrokerServer {
  readonly spec: Spec
  /** Drops everything it holds, deliveries in the hands of workers included. */
  readonly loseAll?: Effect.Effect<void>
  /** Ends it as a crash does. */
  readonly stop?: Effect.Effect<void>
  readonly start?: Effect.Effect<void>
  /** Puts messages into it that are not ours. */
  readonly foreign?: Effect.Effect<void>
  /** Redis: evicts keys as it likes. */
  readonly evict?: Effect.Effect<void>
}

const garbage = ["", "not JSON", "{}", '{"jobId":7}', "\uFFFD\u0000\u001B[2J", "x".repeat(200_000)]

const redis: Effect.Effect<BrokerServer, never, Scope.Scope> = Effect.gen(function* () {
  const server = yield* Effect.acquireRelease(
    Effect.promise(() => startRedis()),
    ({ destroy }) => Effect.promise(destroy)
  )
  const admin = (run: (client: Redis) => Promise<unknown>) =>
    Effect.promise(async () => {
      const client = new Redis(server.url, { maxRetriesPerRequest: 1 })
      client.on("error", () => undefined)
      try {
        await run(client)
      } finally {
        client.disconnect()
      }
    })
  return {
    spec: { name: "redis", url: server.url },
    loseAll: admin((client) => client.flushall()),
    stop: Effect.promise(server.kill),
    start: Effect.promise(server.start),
    foreign: admin(async (client) => {
      for (const key of await client.keys("*")) {
        const type = await client.type(key)
        for (const [i, text] of [...garbage, "y".repeat(1_000_000)].entries()) {
          if (type === "zset") await client.zadd(key, i, text)
          else if (type === "list") await client.rpush(key, text)
          else if (type === "hash") await client.hset(key, `stranger ${i}`, text)
        }
      }
    }),
    evict: admin(async (client) => {
      await client.config("SET", "maxmemory-policy", "allkeys-random")
      await client.config("SET", "maxmemory", "1mb")
      await client.set("ballast", "z".repeat(3_000_000)).catch(() => undefined)
      await client.config("SET", "maxmemory", "2mb")
    })
  }
})

const sqs: Effect.Effect<BrokerServer, never, Scope.Scope> = Effect.gen(function* () {
  const server = yield* Effect.acquireRelease(
    Effect.promise(() => startSqs()),
    (server) => Effect.promise(() => server.close())
  )
  const client = yield* Effect.acquireRelease(
    Effect.sync(
      () =>
        new SQSClient({
          endpoint: server.endpoint,
          region: "us-east-1",
          credentials: { accessKeyId: "AKIDTEST", secretAccessKey: "not a secret" },
          maxAttempts: 3
        })
    ),
    (client) => Effect.sync(() => client.destroy())
  )
  const { QueueUrl = "" } = yield* Effect.promise(() => client.send(new CreateQueueCommand({ QueueName: "polyqueue" })))
  return {
    spec: { name: "sqs", queueUrl: QueueUrl, endpoint: server.endpoint },
    // Not a purge: SQS allows one a minute
    loseAll: Effect.sync(() => server.wipe()),
    stop: Effect.promise(() => server.close()),
    start: Effect.promise(() => server.start()),
    foreign: Effect.promise(async () => {
      for (const MessageBody of garbage.filter((text) => text !== "" && !text.includes("\u0000")))
        await client.send(new SendMessageCommand({ QueueUrl, MessageBody }))
    })
  }
})

const serviceBus: Effect.Effect<BrokerServer, never, Scope.Scope> = Effect.gen(function* () {
  const server = yield* Effect.acquireRelease(
    Effect.promise(() => ServiceBusServer.start({ polyqueue: { lockDuration: 5_000 } })),
    (server) => Effect.promise(() => server.close())
  )
  return {
    spec: { name: "service-bus", connectionString: server.connectionString },
    loseAll: Effect.sync(() => server.queue("polyqueue").clear()),
    stop: Effect.promise(() => server.stop()),
    start: Effect.promise(() => server.start()),
    foreign: Effect.sync(() => {
      for (const body of [...garbage, Buffer.from([0xff, 0xfe, 0x00]), 7, null]) {
        server.queue("polyqueue").accept({ body, message_id: `stranger ${Math.random()}` })
      }
    })
  }
})

/** Runs on the database of the jobs, by `sql`. */
const pgmq = Effect.fnUntraced(function* () {
  const sql = yield* SqlClient
  yield* Effect.orDie(installPgmq)
  const server: BrokerServer = {
    spec: { name: "pgmq" },
    loseAll: Effect.asVoid(Effect.orDie(sql`truncate pgmq.q_polyqueue`)),
    foreign: Effect.orDie(
      Effect.forEach(
        ["{}", '"text"', '{"jobId":7}', "[1,2]", `"${"x".repeat(1_000_000)}"`],
        (text) => sql`insert into pgmq.q_polyqueue (vt, message) values (clock_timestamp(), ${text}::jsonb)`,
        { discard: true }
      )
    )
  }
  return server
})

/** Starts one, for the scope. */
export const start = (name: BrokerName): Effect.Effect<BrokerServer, never, SqlClient | Scope.Scope> => {
  switch (name) {
    case "memory":
    case "postgres":
      return Effect.succeed({ spec: { name } })
    case "redis":
      return redis
    case "sqs":
      return sqs
    case "service-bus":
      return serviceBus
    case "pgmq":
      return pgmq()
  }
}
