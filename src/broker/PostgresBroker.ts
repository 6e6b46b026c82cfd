/**
 * The broker that is the jobs table itself: consumers look at it when their poll interval is over, or when somebody
 * rings. Publishing rings the consumers of this process at once, and those of other processes by NOTIFY, coalesced and
 * throttled. A notification that is missed costs one poll.
 *
 * Commits that notify wait for one another, all over the server. So nothing is notified inside users' transactions: it
 * is sent after the commit, on a session of the broker's own. Only the INSERT of a lone enqueue carries its notification
 * itself, where no worker of this process waits for it, and only while no other INSERT of Polyqueue in this database does.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import { SqlClient } from "effect/sql/SqlClient"
import type { Announcer } from "../store/Announcer.ts"
import type { BrokerDriver, BrokerHealth, Capabilities } from "./BrokerDriver.ts"
import * as Doorbell from "./Doorbell.ts"
import * as DoorbellDriver from "./DoorbellDriver.ts"
import * as PostgresBell from "./PostgresBell.ts"

/** What this broker declares. */
export const capabilities: Capabilities = { ...DoorbellDriver.capabilities, name: "postgres" }

/** How the Postgres broker waits. */
export interface Options {
  /** Longest time between two looks at the table, ±20% so that workers spread out. Default 1 second. */
  readonly pollInterval?: Duration.Input
  /**
   * Whether to open sessions of its own for LISTEN and NOTIFY (at most two, from the ambient client's settings). Turn it
   * off behind a pooler in transaction mode, where LISTEN succeeds and nothing ever arrives. Default `true`.
   */
  readonly listen?: boolean
  /** The channel: the same for all processes of one installation. Default `polyqueue`. */
  readonly channel?: string
  /**
   * Least time between two notifications of this process; what comes meanwhile is sent together. Default 5 ms: a job that
   * follows another one is not kept waiting. Many idle workers hear every one of them; a larger value spares them.
   */
  readonly throttle?: Duration.Input
}

/**
 * Makes the broker on the ambient client. Never fails: without a session to listen on it polls, says so once in the log,
 * and keeps trying. Its sessions and fibers end with the scope.
 */
export const make = Effect.fnUntraced(function* (
  options: Options = {}
): Effect.fn.Return<BrokerDriver, never, SqlClient | Scope.Scope> {
  const sql = yield* SqlClient
  const doorbell = Doorbell.make()
  const pollInterval = Duration.toMillis(Duration.fromInputUnsafe(options.pollInterval ?? 1_000))
  const client = pgClient(sql, yield* Effect.serviceOption(PgClient.PgClient))
  const bell =
    options.listen === false
      ? PostgresBell.silent
      : yield* PostgresBell.make({
          client,
          channel: options.channel ?? "polyqueue",
          throttle: Duration.toMillis(Duration.fromInputUnsafe(options.throttle ?? 5)),
          heard: (queues) => (queues === undefined ? doorbell.ringAll() : doorbell.ring(queues))
        })
  const driver = DoorbellDriver.make({
    capabilities,
    doorbell,
    ring(queues) {
      doorbell.ring(queues)
      bell.ring(queues)
    },
    waitAtMost: (wait) => Effect.map(Random.next, (random) => Math.min(wait, pollInterval * (0.8 + 0.4 * random))),
    health: health(sql, bell.problems)
  })
  return {
    ...driver,
    consumer: (request) => Effect.andThen(bell.listen, driver.consumer(request)),
    // PGlite is one session, whose notifications nobody else hears
    announcer:
      client === undefined || client.config.stream !== undefined ? undefined : announcer(client, bell, doorbell)
  }
})

/**
 * What is announced rings here, too. Where a worker of this process waits for the queue, nothing is: it is the first to know
 * without, and its claim should not meet the notification on its way.
 */
const announcer = (client: object, bell: PostgresBell.PostgresBell, doorbell: Doorbell.Doorbell): Announcer => ({
  client,
  announce: (queue) => {
    const announcement = doorbell.isHeard(queue) ? undefined : bell.announce(queue)
    return announcement === undefined
      ? undefined
      : {
          ...announcement,
          end: (announced) => {
            announcement.end(announced)
            if (announced === "sent") doorbell.ring([queue])
          }
        }
  }
})

/** The native client behind the ambient one: a session of our own needs its settings. */
const pgClient = (sql: SqlClient, service: Option.Option<PgClient.PgClient>): PgClient.PgClient | undefined =>
  isPgClient(sql) ? sql : Option.getOrUndefined(service)

const isPgClient = (sql: SqlClient): sql is PgClient.PgClient => PgClient.TypeId in sql

/** One round trip, outside any transaction of the caller, and bounded: a server that does not answer is a problem too. */
const health = (sql: SqlClient, bell: Effect.Effect<ReadonlyArray<string>>): Effect.Effect<BrokerHealth> =>
  Effect.scoped(Effect.flatMap(sql.reserve, (session) => session.executeRaw("select 1", []))).pipe(
    Effect.timeoutOrElse({
      duration: 3_000,
      orElse: () => Effect.fail({ message: "no answer within 3 seconds" })
    }),
    Effect.match({ onFailure: (error) => [unreachable(error.message)], onSuccess: () => [] }),
    Effect.flatMap((own) => Effect.map(bell, (others) => ({ ok: own.length === 0, problems: [...own, ...others] })))
  )

const unreachable = (why: string) => `Postgres does not answer (${why}): check that it runs, and the client's settings.`
