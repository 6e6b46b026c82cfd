/**
 * One connection to Redis: opened with a scope and gone with it, reconnecting by itself as long as it lives. A command
 * fails at once while there is no connection, and after a deadline while there is no answer; nothing is queued and nothing
 * is sent twice. A dead peer is noticed by its silence.
 *
 * The only file that touches ioredis.
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type { Cluster, Redis, RedisOptions } from "ioredis"
import { isIP } from "node:net"
import type { BrokerError } from "../../JobError.ts"
import { isNoScript, mayPass, misconfigured, toBrokerError } from "./Errors.ts"
import type { Script } from "./Scripts.ts"
import type { Settings } from "./Settings.ts"

/** The part of ioredis that is used, the same for one server and for a cluster. */
interface Client {
  readonly call: (command: string, ...args: ReadonlyArray<string | number>) => Promise<unknown>
  readonly connect: () => Promise<void>
  readonly disconnect: () => void
  readonly on: (event: "error" | "ready" | "close", listener: (error?: unknown) => void) => unknown
  /** The servers that take writes. */
  readonly masters: () => ReadonlyArray<Pick<Client, "call">>
}

/** A connection that may be up or down; commands say which. */
export interface Connection {
  /** Sends one command. `operation` names what we were doing, for the error. */
  readonly call: (
    operation: string,
    command: string,
    ...args: ReadonlyArray<string | number>
  ) => Effect.Effect<unknown, BrokerError>
  /** Runs a script, sending it in full where the server does not know it. */
  readonly run: (
    script: Script,
    keys: ReadonlyArray<string>,
    args: ReadonlyArray<string | number>
  ) => Effect.Effect<unknown, BrokerError>
  /** What each server that takes writes says about itself (`INFO`). */
  readonly info: Effect.Effect<ReadonlyArray<string>, BrokerError>
}

/** What a connection is for. */
export interface Role {
  /** Shown in `CLIENT LIST`. */
  readonly name: string
  /** The longest a command on it blocks by intent, in ms: 0 for a connection on which every command is prompt. */
  readonly blocksFor: number
}

/** What we take from the package. */
interface Library {
  readonly Redis: typeof Redis
  readonly Cluster: typeof Cluster
}

/**
 * Loads ioredis. Fails with `Misconfigured`, naming the package, where it is not installed.
 *
 * @internal
 */
export const load = (importer: () => Promise<Library>): Effect.Effect<Library, BrokerError> =>
  Effect.tryPromise({
    try: importer,
    catch: (cause) =>
      cause instanceof Error && "code" in cause && cause.code === "ERR_MODULE_NOT_FOUND"
        ? misconfigured("redis: the package `ioredis` is not installed: run `npm install ioredis`")
        : toBrokerError("connect", cause)
  })

/**
 * Opens a connection. A server that cannot be reached now is no failure: it says so in the log and keeps trying, for ever.
 * Wrong credentials and settings fail.
 */
export const open = Effect.fnUntraced(function* (
  settings: Settings,
  role: Role
): Effect.fn.Return<Connection, BrokerError, Scope.Scope> {
  const library = yield* load(() => import("ioredis"))
  const log = Effect.runForkWith(yield* Effect.context<never>())
  /** Why there is no connection; `undefined` while there is one, or before the first error. */
  let lastError: unknown = undefined
  /** ioredis goes on in database 0 when it may not select ours: we do not. */
  let wrongDatabase: unknown = undefined
  let state: "opening" | "up" | "down" = "opening"

  const client = yield* Effect.acquireRelease(
    Effect.try({ try: () => create(library, settings, role), catch: (cause) => toBrokerError("connect", cause) }),
    (client) => Effect.sync(() => client.disconnect())
  )
  client.on("error", (cause) => {
    lastError = cause
    if (/DB index is out of range/.test(String(cause))) wrongDatabase = cause
    if (state !== "up") return
    state = "down"
    log(Effect.logWarning(`lost the connection, trying again until there is one. ${toBrokerError("", cause).message}`))
  })
  client.on("close", () => {
    wrongDatabase = undefined
  })
  client.on("ready", () => {
    lastError = undefined
    if (state === "down") log(Effect.logInfo("redis: connected again"))
    state = "up"
  })

  const attempt = <A>(operation: string, use: () => Promise<A>): Effect.Effect<A, BrokerError> =>
    Effect.tryPromise({
      try: () => (wrongDatabase === undefined ? use() : Promise.reject(wrongDatabase)),
      catch: (cause) => toBrokerError(operation, cause, lastError)
    })

  const connection: Connection = {
    call: (operation, command, ...args) => attempt(operation, () => client.call(command, ...args)),
    run: (script, keys, args) =>
      attempt(script.name, () =>
        client.call("evalsha", script.sha, keys.length, ...keys, ...args).catch((cause: unknown) => {
          if (!isNoScript(cause)) throw cause
          return client.call("eval", script.lua, keys.length, ...keys, ...args)
        })
      ),
    info: Effect.suspend(() => {
      const masters = client.masters()
      return masters.length === 0
        ? Effect.fail(toBrokerError("health", new Error("Cluster isn't ready: no node is known"), lastError))
        : Effect.forEach(
            masters,
            (master) =>
              Effect.map(
                attempt("health", () => master.call("info")),
                String
              ),
            {
              concurrency: "unbounded"
            }
          )
    })
  }

  yield* attempt("connect", () => client.connect()).pipe(
    Effect.timeoutOrElse({
      duration: settings.commandTimeout,
      orElse: () => Effect.fail(toBrokerError("connect", new Error("ETIMEDOUT: no connection in time"), lastError))
    }),
    Effect.andThen(attempt("connect", () => client.call("ping"))),
    Effect.catchIf(mayPass, (error) => {
      state = "down"
      return Effect.logWarning(`trying again until there is a connection. ${error.message}`)
    })
  )
  return connection
})

/** Neither queues commands while there is no connection, nor sends again what may have been done: we decide that. */
const create = ({ Cluster, Redis }: Library, settings: Settings, role: Role): Client => {
  const connection = {
    // A connection on which commands block must not lose them to a deadline; its silence still ends it
    ...(role.blocksFor === 0 ? { commandTimeout: settings.commandTimeout } : {}),
    socketTimeout: settings.commandTimeout * 2 + role.blocksFor,
    connectTimeout: settings.commandTimeout,
    connectionName: role.name,
    ...(settings.username === undefined ? {} : { username: settings.username }),
    ...(settings.password === undefined ? {} : { password: Redacted.value(settings.password) }),
    ...(settings.tls === undefined ? {} : { tls: tlsOf(settings) }),
    // Only what was in flight is rejected by this, at once when the connection is lost
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    // A failover left us on a replica
    reconnectOnError: (error: Error) => error.message.startsWith("READONLY")
  } satisfies RedisOptions
  if (settings.cluster) {
    const cluster = new Cluster([{ host: settings.host, port: settings.port }], {
      lazyConnect: true,
      enableOfflineQueue: false,
      clusterRetryStrategy: retryDelay,
      slotsRefreshTimeout: settings.commandTimeout,
      // With TLS, node names are checked against certificates: do not resolve them to addresses
      ...(settings.tls === undefined
        ? {}
        : { dnsLookup: (name: string, done: (error: null, address: string) => void) => done(null, name) }),
      redisOptions: connection
    })
    return clientOf(cluster, () => cluster.nodes("master"))
  }
  const { db, host, port } = settings
  const redis = new Redis({
    ...connection,
    host,
    port,
    db,
    lazyConnect: true,
    enableOfflineQueue: false,
    retryStrategy: retryDelay
  })
  return clientOf(redis, () => [redis])
}

const clientOf = (client: Omit<Client, "masters">, masters: Client["masters"]): Client => ({
  call: (command, ...args) => client.call(command, ...args),
  connect: () => client.connect(),
  disconnect: () => client.disconnect(),
  on: (event, listener) => client.on(event, listener),
  masters
})

const tlsOf = ({ host, tls }: Settings) => ({
  // An address is no server name
  ...(tls?.servername === undefined && isIP(host) !== 0 ? {} : { servername: tls?.servername ?? host }),
  ...(tls?.ca === undefined ? {} : { ca: tls.ca }),
  ...(tls?.cert === undefined ? {} : { cert: tls.cert }),
  ...(tls?.key === undefined ? {} : { key: Redacted.value(tls.key) }),
  ...(tls?.rejectUnauthorized === undefined ? {} : { rejectUnauthorized: tls.rejectUnauthorized })
})

/** 50 ms doubled up to a second, then every second, and up to half of it more so that a fleet does not come back as one. */
const retryDelay = (times: number): number => Math.min(1_000, 25 * 2 ** Math.min(times, 10)) * (1 + Math.random() / 2)
