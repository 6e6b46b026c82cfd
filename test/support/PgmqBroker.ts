/** What the tests of the PGMQ broker share: a broker with a queue of its own, and steps that wait for what must come. */
import { Effect, Layer, Schedule } from "effect"
import { SqlClient } from "effect/sql"
import { randomBytes, randomUUID } from "node:crypto"
import type { ItemOutcome } from "../../src/broker/BrokerDriver.ts"
import * as PgmqBroker from "../../src/broker/PgmqBroker.ts"
import * as Statements from "../../src/broker/pgmq/Statements.ts"
import { installPgmq } from "./Pgmq.ts"
import { layerFresh } from "./Postgres.ts"

/** A fresh database with pgmq. */
export const Server = Layer.provideMerge(Layer.effectDiscard(installPgmq), layerFresh())

/** Longer than any test. */
export const LEASE = 3_600_000
/** Nothing is found by polling, so only a bell can wake anybody. */
export const onlyRings = { pollInterval: "1 hour", pollFor: "1 hour" } as const

/** A hint of a job that nobody knows. */
export const hint = (queue = "default") => ({ jobId: randomUUID(), queue, priority: 5, attempt: 1, publication: 1 })
/** Name of a queue that no test used before. */
export const base = () => `t${randomBytes(6).toString("hex")}`

/** A broker on the ambient client, with a consumer of its queue `default`, whose pgmq queue is `queue`. */
export const open = Effect.fnUntraced(function* (options: PgmqBroker.Options = {}) {
  const queue = options.queue ?? base()
  const broker = yield* PgmqBroker.make({ ...options, queue })
  const consumer = yield* broker.consumer({ queues: ["default"], lease: LEASE })
  return { sql: yield* SqlClient.SqlClient, broker, consumer, queue, table: Statements.tableOf(queue) }
})

/** Asks until the answer is right; the test's timeout ends it. */
export const until = <A, E, R>(effect: Effect.Effect<A, E, R>, right: (answer: A) => boolean): Effect.Effect<A, E, R> =>
  Effect.repeat(effect, { until: right, schedule: Schedule.spaced(20) })

/** Rows of a table. */
export const countOf = (sql: SqlClient.SqlClient, table: string) =>
  Effect.map(sql.unsafe<{ n: number }>(`select count(*)::int as n from ${table}`), ([row]) => row!.n)

/** Why an item failed, or what it is. */
export const reasonOf = (outcome: ItemOutcome | undefined) =>
  outcome?._tag === "Failed" ? outcome.error.reason : outcome?._tag

/** How an effect fails. */
export const reasonAndMessage = <A, R>(
  effect: Effect.Effect<A, { readonly reason: string; readonly message: string }, R>
) => Effect.map(Effect.flip(effect), ({ message, reason }) => ({ reason, message }))
