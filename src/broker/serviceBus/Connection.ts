/**
 * One AMQP connection to a namespace, made when first used and again after every loss, closed with its scope. Every
 * call on it has a deadline of ours, and the SDK's own retries are off: one place decides what is tried again.
 */
import type * as Sdk from "@azure/service-bus"
import type { ServiceBusClient, ServiceBusClientOptions, TokenCredential } from "@azure/service-bus"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
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
  readonly client: ServiceBusClient
  /** Milliseconds until a request is given up. */
  readonly requestTimeout: number
  /** The queue that the connection string itself names (`EntityPath`): then it reaches no other. */
  readonly entityPath: string | undefined
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
  const { client, entityPath, secrets } = yield* Effect.try({
    try: () => {
      if (!("connectionString" in access)) {
        const client = new sdk.ServiceBusClient(access.namespace, access.credential, clientOptions)
        return { client, entityPath: undefined, secrets: [] }
      }
      const text = Redacted.value(access.connectionString)
      const parsed = sdk.parseServiceBusConnectionString(text)
      const secrets = [parsed.sharedAccessKey ?? "", parsed.sharedAccessSignature ?? ""]
      const client = new sdk.ServiceBusClient(text, clientOptions)
      return { client, entityPath: parsed.entityPath, secrets: [text, ...secrets] }
    },
    // The thrown value may quote the connection string: it is not passed on
    catch: () => Failure.make("Misconfigured", "connect", malformed[Number("connectionString" in access)]!)
  })
  const redact = (text: string) =>
    secrets.reduce((clean, secret) => (secret === "" ? clean : clean.replaceAll(secret, "<redacted>")), text)
  const failure = (operation: string, entity: string, thrown: unknown) =>
    Failure.from(operation, entity, thrown, redact)
  const call = <A>({ deadline = requestTimeout, entity, late = "OutcomeUnknown", operation, run }: Call<A>) =>
    Effect.tryPromise({ try: run, catch: (thrown) => failure(operation, entity, thrown) }).pipe(
      Effect.timeoutOrElse({
        duration: deadline + GRACE,
        orElse: () => {
          const told = `${operation} on Service Bus queue "${entity}" was not answered within ${deadline + GRACE} ms`
          return Effect.fail(Failure.make(late, operation, told))
        }
      })
    )
  yield* Effect.addFinalizer(() =>
    call({ operation: "close", entity: "*", run: () => client.close(), deadline: CLOSE_TIMEOUT }).pipe(
      Effect.catch((error) => Effect.logDebug("closing the Service Bus connection", error))
    )
  )
  return { client, requestTimeout, entityPath, call, failure }
})

const malformed = [
  "ServiceBusBroker cannot use this namespace and credential: give the host name (<name>.servicebus.windows.net) and a TokenCredential",
  "ServiceBusBroker cannot read its connection string: it must look like Endpoint=sb://<host>/;SharedAccessKeyName=<name>;SharedAccessKey=<key>"
]
