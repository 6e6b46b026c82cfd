/**
 * Hints through pgmq, the message queue inside Postgres: no server besides the database, and hints that commit or roll
 * back with the job they are about. Fenced by read count: a receipt that somebody else's read has overtaken can neither
 * remove, archive nor extend the message.
 *
 * Publishing joins the caller's transaction on the ambient `SqlClient`; all else runs on up to three connections of the
 * broker's own, made from that client's settings, plus the two of its bell (LISTEN and NOTIFY). While it waits for hints it
 * holds no connection and no transaction: it looks again after `pollInterval`, then after ever longer times up to a second,
 * and at once when the bell rings. Behind a pooler in transaction mode set `listen: false`.
 *
 * Every Polyqueue queue has a pgmq queue of its own: `queue` for `default`, `queue__name` for others. pgmq 1.x is needed.
 */
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { SqlClient } from "effect/sql/SqlClient"
import { Broker } from "../Broker.ts"
import { BrokerError } from "../JobError.ts"
import type { BrokerDriver, BrokerHealth, Capabilities, Hint, ItemOutcome } from "./BrokerDriver.ts"
import * as Doorbell from "./Doorbell.ts"
import * as HintMessage from "./HintMessage.ts"
import * as Consumer from "./pgmq/Consumer.ts"
import { failure } from "./pgmq/Failure.ts"
import * as PgmqQueues from "./pgmq/Queues.ts"
import { BASE_RULE, isBase } from "./pgmq/QueueName.ts"
import * as PgmqSession from "./pgmq/Session.ts"
import * as Statements from "./pgmq/Statements.ts"
import * as PostgresBell from "./PostgresBell.ts"

/** What this broker declares. */
export const capabilities: Capabilities = {
  name: "pgmq",
  carriesHints: true,
  transactionalPublish: true,
  idempotentPublish: false,
  fenced: true,
  priority: false,
  maxBatch: 1_000,
  maxLease: undefined,
  maxHold: undefined,
  maxReleaseDelay: undefined,
  depth: "exact"
}

/** How the PGMQ broker behaves. */
export interface Options {
  /**
   * Name of the pgmq queue of the queue `default`, and the beginning of all others. At most 28 lower-case letters and
   * digits, with single underscores or hyphens between them. `POLYQUEUE_PGMQ_QUEUE_NAME`. Default `polyqueue`.
   */
  readonly queue?: string | undefined
  /**
   * Hides a delivery at least this long, even when the worker's lease is shorter. `POLYQUEUE_PGMQ_VISIBILITY_TIMEOUT`.
   * Default: the worker's lease. Only a worker that died makes anybody wait for it, and jobs do not: Postgres knows them.
   */
  readonly visibility?: Duration.Input | undefined
  /** Longest wait of one `receive`. `POLYQUEUE_PGMQ_POLL_SECONDS`. Default 5 seconds. */
  readonly pollFor?: Duration.Input | undefined
  /**
   * Time between the first two looks of a `receive`; shorter ones grow by half each time, up to a second.
   * `POLYQUEUE_PGMQ_POLL_INTERVAL_MS`. Default 100 ms.
   */
  readonly pollInterval?: Duration.Input | undefined
  /** Makes missing queues, for which the role needs DDL rights on schema `pgmq`. `POLYQUEUE_PGMQ_CREATE_QUEUE_IF_MISSING`. Default `true`. */
  readonly createIfMissing?: boolean | undefined
  /**
   * Makes queues that are not written ahead: faster, and empty after a crash of the server, which costs latency only. A queue
   * that exists otherwise is refused. `POLYQUEUE_PGMQ_USE_UNLOGGED_QUEUE`. Default `false`.
   */
  readonly unlogged?: boolean | undefined
  /**
   * Keeps the messages of jobs that succeeded in pgmq's archive, which nobody empties; those that were run by their message,
   * not those that a worker found by looking in the table. `POLYQUEUE_PGMQ_ARCHIVE_ON_SUCCESS`. Default `false`.
   */
  readonly archiveOnSuccess?: boolean | undefined
  /** The same for jobs that failed for good. `POLYQUEUE_PGMQ_ARCHIVE_ON_TERMINAL_FAIL`. Default `false`. */
  readonly archiveOnTerminalFail?: boolean | undefined
  /** Whether to ring and to hear a bell by LISTEN and NOTIFY. Without it hints are found by polling. Default `true`. */
  readonly listen?: boolean | undefined
}

const millis = (input: Duration.Input): number => Duration.toMillis(Duration.fromInputUnsafe(input))

/** Publishing to several queues at once uses this many connections. */
const CONCURRENCY = 3
const HEALTH_DEADLINE = 3_000

/**
 * Makes the broker. Fails with `Misconfigured` when pgmq is not in the database, with the way to install it, and with
 * `Unavailable` when the database cannot be reached. Later outages end nothing: connections come back by themselves.
 */
export const make = Effect.fnUntraced(function* (
  options: Options = {}
): Effect.fn.Return<BrokerDriver, BrokerError, SqlClient | Scope.Scope> {
  const base = options.queue ?? "polyqueue"
  if (!isBase(base))
    return yield* misconfigured(`the queue name ${JSON.stringify(base)} cannot be used: take ${BASE_RULE}.`)
  const session = yield* PgmqSession.make
  const problem = PgmqQueues.problemOf(session.probed)
  if (problem !== undefined) return yield* misconfigured(problem)
  const queues = PgmqQueues.make(session, {
    base,
    createIfMissing: options.createIfMissing ?? true,
    unlogged: options.unlogged ?? false
  })
  const doorbell = Doorbell.make()
  const bell =
    options.listen === false
      ? PostgresBell.silent
      : yield* PostgresBell.make({
          client: session.native,
          channel: `polyqueue_pgmq_${base}`,
          throttle: 50,
          heard: (names) => (names === undefined ? doorbell.ringAll() : doorbell.ring(names))
        })

  const send = (queue: string, hints: ReadonlyArray<Hint>, inTransaction: boolean) => {
    const call = { operation: "publish", subject: `queue ${queue}` }
    const run = inTransaction ? session.joined : session.own
    const sending = Effect.flatMap(queues.ensure(queue), ({ name }) =>
      run(call, Statements.send, [name, hints.map(HintMessage.encode)])
    )
    return (inTransaction ? session.savepoint(call, sending) : sending).pipe(
      Effect.tapError((error) => Effect.sync(() => error.reason === "QueueNotFound" && queues.forget(queue))),
      // Dropped since it was last seen: it is looked for again, and made again where that is asked for
      Effect.retry({ times: 1, while: (error) => error.reason === "QueueNotFound" })
    )
  }

  const publish = Effect.fnUntraced(function* (hints: ReadonlyArray<Hint>) {
    const outcomes: Array<ItemOutcome> = hints.map(() => ({ _tag: "Ok" }))
    const inTransaction = yield* session.inTransaction
    const groups = Map.groupBy(hints.keys(), (index) => hints[index]!.queue)
    const rung = new Set<string>()
    yield* Effect.forEach(
      groups,
      ([queue, at]) =>
        Effect.match(
          send(
            queue,
            at.map((index) => hints[index]!),
            inTransaction
          ),
          {
            onFailure: (error) => at.forEach((index) => (outcomes[index] = { _tag: "Failed", error })),
            onSuccess: () => void rung.add(queue)
          }
        ),
      { concurrency: inTransaction ? 1 : CONCURRENCY, discard: true }
    )
    yield* session.afterCommit(
      Effect.sync(() => {
        doorbell.ring(rung)
        bell.ring(rung)
      })
    )
    return outcomes
  })

  const consumer: BrokerDriver["consumer"] = Effect.fnUntraced(function* ({ lease, queues: asked }) {
    const names = [...new Set(asked)]
    yield* Effect.forEach(names, queues.ensure, { discard: true })
    yield* bell.listen
    return Consumer.make({
      session,
      queues,
      names,
      bell: yield* doorbell.subscribe(names),
      lease,
      visibility: millis(options.visibility ?? 0),
      pollInterval: Math.max(1, millis(options.pollInterval ?? 100)),
      pollFor: millis(options.pollFor ?? 5_000),
      maxBatch: capabilities.maxBatch,
      archived: (ended) =>
        (ended === "succeeded" && options.archiveOnSuccess === true) ||
        (ended === "failed" && options.archiveOnTerminalFail === true)
    })
  })

  /** A queue that will be made when it is first used is an empty one. */
  const counted = Effect.fnUntraced(function* (
    operation: string,
    queue: string,
    text: string,
    params: ReadonlyArray<unknown>
  ) {
    if ((options.createIfMissing ?? true) && !(yield* queues.exists(queue))) return 0
    const [row] = yield* session.own({ operation, subject: `queue ${queue}` }, text, params)
    return Number(row?.[0] ?? 0)
  })

  const depth = (queue: string) => counted("depth", queue, Statements.depth(queues.named(queue).table), [])

  const purge = Effect.fnUntraced(function* (queue: string) {
    const { table } = queues.named(queue)
    const newest = String(yield* counted("purge", queue, Statements.newest(table), []))
    while ((yield* counted("purge", queue, Statements.purge(table), [newest])) > 0);
  })

  return { capabilities, publish, consumer, depth, purge, health: health(session, bell) }
})

const misconfigured = (message: string): BrokerError =>
  new BrokerError({ reason: "Misconfigured", operation: "connect", message })

const health = (session: PgmqSession.Session, bell: PostgresBell.PostgresBell): Effect.Effect<BrokerHealth> =>
  session.own({ operation: "health", subject: "schema pgmq" }, Statements.probe).pipe(
    Effect.timeoutOrElse({
      duration: HEALTH_DEADLINE,
      orElse: () => Effect.fail(failure("health", "Unavailable", `no answer in ${HEALTH_DEADLINE} ms`))
    }),
    Effect.match({ onFailure: (error) => [error.message], onSuccess: ([row]) => problemsOf(row ?? []) }),
    Effect.flatMap((own) =>
      Effect.map(bell.problems, (others) => ({ ok: own.length === 0, problems: [...own, ...others] }))
    )
  )

const problemsOf = (probed: PgmqSession.Row): ReadonlyArray<string> => {
  const problem = PgmqQueues.problemOf(probed)
  const standby = probed[5] === true ? ["The server is a read-only standby: connect to the primary."] : []
  return problem === undefined ? standby : [problem, ...standby]
}

/**
 * The broker on the `SqlClient` that the jobs are on: then hints commit with their jobs. Bind the result to a constant: two
 * calls are two brokers.
 *
 * @example
 * ```ts
 * import { PgClient } from "@effect/sql-pg"
 * import { Config, Layer } from "effect"
 * import * as PgmqBroker from "polyqueue/pgmq"
 *
 * const Database = PgClient.layerConfig({ url: Config.Redacted("DATABASE_URL") })
 * const BrokerLive = PgmqBroker.layer({ queue: "mail" }).pipe(Layer.provide(Database))
 * ```
 */
export const layer = (options: Options = {}): Layer.Layer<Broker, BrokerError, SqlClient> =>
  Layer.effect(Broker, make(options))

/** Like `layer`, from configuration. */
export const layerConfig = (
  options: Config.Wrap<Options>
): Layer.Layer<Broker, Config.ConfigError | BrokerError, SqlClient> =>
  Layer.effect(Broker, Effect.flatMap(Config.unwrap(options), make))
