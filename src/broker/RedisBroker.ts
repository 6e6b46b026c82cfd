/**
 * The broker on Redis 7 or Valkey (`polyqueue/redis`, needs the package `ioredis`). A delivery is a lease with a token:
 * it comes again when the lease ends, and a token of the past can do nothing. There is one hint per job however often it
 * is published, higher priorities come first, and batches of up to 500 take one round trip.
 *
 * Redis may lose everything at any time: hints are then claimed from Postgres and published again. Give it
 * `maxmemory-policy noeviction`. Connections come back by themselves; nothing needs a restart.
 *
 * It holds one connection for commands, and one more per consumer to wait on. An ACL must allow its keys, `{prefix}:*`,
 * and the commands HELLO, PING, INFO, SELECT (for another database than 0), EVAL, EVALSHA, BZPOPMIN, UNLINK and, in
 * scripts, TIME, DEL and those of hashes and sorted sets.
 *
 * @example
 * ```ts
 * import { Config, type Layer } from "effect"
 * import type { Broker, BrokerError } from "polyqueue"
 * import * as RedisBroker from "polyqueue/redis"
 *
 * const BrokerLive: Layer.Layer<Broker, Config.ConfigError | BrokerError> = RedisBroker.layerConfig({
 *   url: Config.Redacted("POLYQUEUE_REDIS_URL")
 * })
 * ```
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { Broker } from "../Broker.ts"
import { BrokerError } from "../JobError.ts"
import type { BrokerDriver, BrokerHealth, Capabilities, Hint, ItemOutcome } from "./BrokerDriver.ts"
import * as Connection from "./redis/Connection.ts"
import * as Consumer from "./redis/Consumer.ts"
import { misconfigured } from "./redis/Errors.ts"
import * as Health from "./redis/Health.ts"
import * as Keys from "./redis/Keys.ts"
import * as Message from "./redis/Message.ts"
import * as Scripts from "./redis/Scripts.ts"
import * as Settings from "./redis/Settings.ts"

export type { Options, TlsOptions } from "./redis/Settings.ts"

/** What this broker declares. */
export const capabilities: Capabilities = {
  name: "redis",
  carriesHints: true,
  transactionalPublish: false,
  idempotentPublish: true,
  fenced: true,
  priority: true,
  maxBatch: 500,
  maxLease: undefined,
  maxHold: undefined,
  maxReleaseDelay: undefined,
  depth: "exact"
}

/**
 * Makes the broker; its connections close with the scope. A Redis that cannot be reached now is no failure (the log says
 * so, and it connects as soon as it can); wrong credentials, a server older than 7, and options that cannot be honoured
 * are.
 */
export const make = Effect.fnUntraced(function* (
  options: Settings.Options
): Effect.fn.Return<BrokerDriver, BrokerError, Scope.Scope> {
  const settings = yield* Settings.parse(options)
  const keys = Keys.make(settings.prefix)
  const connection = yield* Connection.open(settings, { name: `polyqueue:${settings.prefix}`, blocksFor: 0 })
  yield* check(connection)

  const publish = Effect.fnUntraced(function* (hints: ReadonlyArray<Hint>) {
    const valid = hints.filter(Message.isHint)
    if (valid.length > 0) {
      const queues = [...new Set(valid.map((hint) => hint.queue))]
      const args = valid.flatMap((hint) => [queues.indexOf(hint.queue), hint.jobId, Message.encode(hint)])
      yield* connection.run(Scripts.publish, keys.of(queues), args)
    }
    // A script is done as a whole or not at all
    return hints.map((hint) => (Message.isHint(hint) ? OK : notAHint(hint)))
  })

  return {
    capabilities,
    publish,
    consumer: ({ lease, queues }) =>
      Consumer.make({ settings, connection, keys, queues, lease, maxBatch: capabilities.maxBatch }),
    depth: (queue) => Effect.map(connection.run(Scripts.depth, keys.of([queue]), []), Number),
    purge: (queue) => Effect.asVoid(connection.call("purge", "unlink", ...keys.of([queue]))),
    health: health(connection)
  }
})

const OK: ItemOutcome = { _tag: "Ok" }

const notAHint = ({ attempt, jobId, priority, publication }: Hint): ItemOutcome => ({
  _tag: "Failed",
  error: new BrokerError({
    reason: "MessageRejected",
    operation: "publish",
    message:
      `redis: no hint can be kept of job ${jobId}, attempt ${attempt}, publication ${publication}, priority ${priority}: ` +
      "the id must be a UUID, the priority 0 to 9"
  })
})

/** Refuses a server that cannot run the scripts, and warns of one that will lose hints. */
const check = Effect.fnUntraced(function* (connection: Connection.Connection) {
  const infos = yield* Effect.match(connection.info, { onFailure: () => [], onSuccess: (infos) => infos })
  for (const info of infos) {
    const old = Health.tooOld(info)
    if (old !== undefined) return yield* Effect.fail(misconfigured(`redis: ${old}`))
    for (const problem of Health.problemsOf(info)) yield* Effect.logWarning(`redis: ${problem}`)
  }
})

const health = (connection: Connection.Connection): Effect.Effect<BrokerHealth> =>
  connection.info.pipe(
    Effect.map((infos) => infos.flatMap(Health.problemsOf)),
    Effect.timeoutOrElse({
      duration: 3_000,
      orElse: () => Effect.succeed(["Redis did not answer within 3 seconds: check that it runs and is not overloaded."])
    }),
    Effect.catch((error) => Effect.succeed([error.message])),
    Effect.map((problems) => ({ ok: problems.length === 0, problems }))
  )

/** Redis as the broker. Bind the result to a constant: two calls are two brokers with connections of their own. */
export const layer = (options: Settings.Options): Layer.Layer<Broker, BrokerError> =>
  Layer.effect(Broker, make(options))

/** The same from `Config`, so that url and password come from the environment. */
export const layerConfig = (
  options: Config.Wrap<Settings.Options>
): Layer.Layer<Broker, Config.ConfigError | BrokerError> =>
  Layer.effect(Broker, Effect.flatMap(Config.unwrap(options), make))
