/**
 * One AMQP connection to a namespace, made when first used and again after every loss, closed with its scope. Every
 * call on it has a deadline of ours, and the SDK's own retries are off: one place decides what is tried again.
 *
 * When a link is being opened while the connection dies, the SDK holds everything up for a minute. So a call that misses
 * its deadline costs the client: a new one takes its place, and deliveries are settled there by their lock tokens.
 */
import type * as Sdk from "@azure/service-bus"
import type { ServiceBusClient, ServiceBusClientOptions, TokenCredential } from "@azure/service-bus"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type { BrokerError, BrokerReason } from "../../JobError.ts"
import * as Failure from "./Failure.ts"

/** How to get in: the connection string of a namespace, or its host name and a credential (of `@azure/identity`). */
export type Access =
  | { readonly connectionString: Redacted.Redacted<string> }
  | { readonly namespace: string; readonly credential: TokenCredential }

/** What is passed on to the SDK's client. */
export type ClientOptions = Pick<
  ServiceBusClientOptions,
  "webSocketOptions" | "customEndpointAddress" | "userAgentOptions"
>

/** A call on the SDK: what it is for, on which entity, and when to give up. */
export interface Call<A> {
  readonly operation: string
  readonly entity: string
  readonly run: () => Promise<A>
  /** Milliseconds; default: the request timeout. */
  readonly deadline?: number
  /** What no answer in time means. Default `OutcomeUnknown`. */
  readonly late?: BrokerReason
}

/** The connection. */
export interface Connection {
  /** The client to use now: another one after a renewal. */
  readonly client: () => ServiceBusClient
  /** Called when the client was replaced; what was made with the old one is of no use any more. Answers how to stop. */
  readonly onRenewal: (listener: () => void) => () => void
  /** Replaces the client, and with it the connection. */
  readonly renew: () => void
  /** Milliseconds until a request is given up. */
  readonly requestTimeout: number
  /** The queue that the connection string itself names (`EntityPath`). */
  readonly entityPath: string | undefined
  /** Fails with `Misconfigured` for any other queue than `entityPath`, if there is one: the SDK would only throw. */
  readonly reach: (operation: string, entity: string) => Effect.Effect<void, BrokerError>
  readonly call: <A>(call: Call<A>) => Effect.Effect<A, BrokerError | Failure.LockLost>
  readonly failure: (operation: string, entity: string, thrown: unknown) => BrokerError | Failure.LockLost
}

/** Beyond the SDK's own timeout, so that its better message comes first. */
const GRACE = 1_000

/** Longest wait for links to close in order; the socket ends with the process anyway. */
const CLOSE_TIMEOUT = 5_000

/** Loads the SDK, an optional peer dependency. `load` is there for the test of its absence. */
export const loadSdk = (
  load: () => Promise<typeof Sdk> = () => import("@azure/service-bus")
): Effect.Effect<typeof Sdk, BrokerError> =>
  Effect.tryPromise({
    try: load,
    catch: (cause) => {
      const missing = "ServiceBusBroker needs the package @azure/service-bus: npm install @azure/service-bus"
      return Failure.make("Misconfigured", "connect", `${missing} (${cause instanceof Error ? cause.message : cause})`)
    }
  })

/** Makes the connection. Nothing is sent yet: a producer starts also while the service is away. */
export const make = Effect.fnUntraced(function* (options: {
  readonly access: Access
  readonly requestTimeout: Duration.Input
  readonly clientOptions: ClientOptions | undefined
}): Effect.fn.Return<Connection, BrokerError, Scope.Scope> {
  const sdk = yield* loadSdk()
  const { access } = options
  const requestTimeout = Duration.toMillis(Duration.fromInputUnsafe(options.requestTimeout))
  const clientOptions = { ...options.clientOptions, retryOptions: { maxRetries: 0, timeoutInMs: requestTimeout } }
  const open = (): ServiceBusClient =>
    "connectionString" in access
      ? new sdk.ServiceBusClient(Redacted.value(access.connectionString), clientOptions)
      : new sdk.ServiceBusClient(access.namespace, access.credential, clientOptions)
  const { entityPath, first, secrets } = yield* Effect.try({
    try: () => {
      if (!("connectionString" in access)) return { first: open(), entityPath: undefined, secrets: [] }
      const text = Redacted.value(access.connectionString)
      const { entityPath, sharedAccessKey, sharedAccessSignature } = sdk.parseServiceBusConnectionString(text)
      return { first: open(), entityPath, secrets: [text, sharedAccessKey ?? "", sharedAccessSignature ?? ""] }
    },
    // The thrown value may quote the connection string: it is not passed on
    catch: () => Failure.make("Misconfigured", "connect", malformed[Number("connectionString" in access)]!)
  })
  const redact = (text: string) =>
    secrets.reduce((clean, secret) => (secret === "" ? clean : clean.replaceAll(secret, "<redacted>")), text)
  const failure = (operation: string, entity: string, thrown: unknown) =>
    Failure.from(operation, entity, thrown, redact)

  const listeners = new Set<() => void>()
  /** Clients on their way out. */
  const closing = new Set<Promise<void>>()
  let current = first
  const discard = (client: ServiceBusClient) => {
    // How a broken connection closes is of no interest, only when
    const closed = client
      .close()
      .catch(() => {})
      .finally(() => closing.delete(closed))
    closing.add(closed)
  }
  const renew = () => {
    discard(current)
    current = open()
    for (const listener of listeners) listener()
  }

  const call = <A>({ deadline = requestTimeout, entity, late = "OutcomeUnknown", operation, run }: Call<A>) =>
    Effect.suspend(() => {
      const before = current
      return Effect.tryPromise({ try: run, catch: (thrown) => failure(operation, entity, thrown) }).pipe(
        Effect.timeoutOrElse({
          duration: deadline + GRACE,
          orElse: () => {
            if (before === current) renew()
            const told = `${operation} on Service Bus queue "${entity}" was not answered within ${deadline + GRACE} ms`
            return Effect.fail(Failure.make(late, operation, told))
          }
        })
      )
    })
  yield* Effect.addFinalizer(() =>
    Effect.suspend(() => {
      discard(current)
      return Effect.promise(() => Promise.all(closing))
    }).pipe(
      Effect.timeoutOption(CLOSE_TIMEOUT),
      Effect.tap((done) =>
        Option.isNone(done) ? Effect.logDebug("a Service Bus connection is still closing") : Effect.void
      )
    )
  )
  return {
    client: () => current,
    onRenewal: (listener) => {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    renew,
    requestTimeout,
    entityPath,
    reach: (operation, entity) => {
      if (entityPath === undefined || entityPath === entity) return Effect.void
      const told = `the connection string reaches only Service Bus queue "${entityPath}" (EntityPath), not "${entity}"`
      return Effect.fail(Failure.make("Misconfigured", operation, `${told}: use one of the whole namespace`))
    },
    call,
    failure
  }
})

const malformed = [
  "ServiceBusBroker cannot use this namespace and credential: give the host name (<name>.servicebus.windows.net) and a TokenCredential",
  "ServiceBusBroker cannot read its connection string: it must look like Endpoint=sb://<host>/;SharedAccessKeyName=<name>;SharedAccessKey=<key>"
]
