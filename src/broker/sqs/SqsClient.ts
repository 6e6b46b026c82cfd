/**
 * The six requests of SQS that a broker needs, on the vendor's SDK: in batches of ten with an answer per item, with a
 * deadline each, with `BrokerError`s only. The only file that loads `@aws-sdk/client-sqs`.
 *
 * Two SDK clients, because both have a bounded number of sockets: a renewal must never wait behind long polls.
 */
import type * as AwsSqs from "@aws-sdk/client-sqs"
import type { BatchResultErrorEntry, Message, SQSClient, SQSClientConfig } from "@aws-sdk/client-sqs"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { BrokerError } from "../../JobError.ts"
import { oneLine } from "../../store/ErrorText.ts"
import type { ItemOutcome } from "../BrokerDriver.ts"
import * as SqsErrors from "./SqsErrors.ts"

/** What SQS takes in one request. */
export const BATCH = 10

/** Longest wait of one poll, in seconds. */
export const LONGEST_POLL = 20

/** Longest time a message can be held since it was received, in milliseconds. */
export const LONGEST_HOLD = 12 * 60 * 60 * 1_000

/** Requests of one call that are on their way at the same time. */
const CONCURRENCY = 8

/** Polls of one process at the same time: the SDK's default of 50 is few for a process with many consumers. */
const POLL_SOCKETS = 1_024

/** The SDK as a module: what `import("@aws-sdk/client-sqs")` answers. */
export type Sdk = typeof AwsSqs

/** A message to send. `group` and `deduplication` are for FIFO queues. */
export interface Outgoing {
  readonly body: string
  readonly group?: string
  readonly deduplication?: string
}

/** SQS, as this broker uses it. `url` is always the queue's URL. */
export interface SqsClient {
  /** Sends in batches of ten. */
  readonly send: (url: string, messages: ReadonlyArray<Outgoing>) => Effect.Effect<ReadonlyArray<ItemOutcome>>
  /**
   * One receive of at most ten. Times in seconds. Interrupting it aborts the request, and what the answer would have
   * brought stays hidden for the visibility timeout: do not.
   */
  readonly receive: (
    url: string,
    options: { readonly max: number; readonly wait: number; readonly visibility: number }
  ) => Effect.Effect<ReadonlyArray<Message>, BrokerError>
  /** Changes visibility timeouts, in seconds from now, in batches of ten. */
  readonly changeVisibility: (
    url: string,
    entries: ReadonlyArray<{ readonly handle: string; readonly seconds: number }>
  ) => Effect.Effect<ReadonlyArray<ItemOutcome>>
  /** Deletes in batches of ten. */
  readonly delete: (url: string, handles: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<ItemOutcome>>
  /** Attributes of the queue; those it does not have are missing. */
  readonly attributes: (
    url: string,
    names: ReadonlyArray<
      "ApproximateNumberOfMessages" | "ApproximateNumberOfMessagesDelayed" | "DelaySeconds" | "RedrivePolicy"
    >
  ) => Effect.Effect<Readonly<Record<string, string | undefined>>, BrokerError>
  /** Drops everything in the queue; SQS allows that once a minute. */
  readonly purge: (url: string) => Effect.Effect<void, BrokerError>
}

/** The name of the queue in a URL: what errors and logs may show. */
export const nameOf = (url: string): string => url.slice(url.lastIndexOf("/") + 1)

/** Loads the SDK, which is an optional peer dependency. */
export const load = (
  importing: () => Promise<Sdk> = () => import("@aws-sdk/client-sqs")
): Effect.Effect<Sdk, BrokerError> =>
  Effect.tryPromise({
    try: importing,
    catch: (cause) =>
      new BrokerError({
        reason: "Misconfigured",
        operation: "load",
        message: "the SQS broker needs the package @aws-sdk/client-sqs: npm install @aws-sdk/client-sqs",
        cause
      })
  })

/** Makes the clients; their connections are closed with the scope. `timeout`: how long a request may take, in ms. */
export const make = Effect.fnUntraced(function* (
  sdk: Sdk,
  config: SQSClientConfig,
  timeout: number
): Effect.fn.Return<SqsClient, BrokerError, Scope.Scope> {
  const logger = onceLogger(Effect.runForkWith(yield* Effect.context<never>()))
  const open = (overrides: SQSClientConfig) =>
    Effect.acquireRelease(
      Effect.try({
        // Retries are ours: they know what is worth one and end with the call's deadline
        try: () => new sdk.SQSClient({ maxAttempts: 1, logger, ...overrides, ...config }),
        catch: (thrown) => SqsErrors.fromThrown("connect", "", thrown)
      }),
      (client) => Effect.sync(() => client.destroy())
    )
  const control = yield* open({})
  const polling = yield* open({
    requestHandler: { httpAgent: { maxSockets: POLL_SOCKETS }, httpsAgent: { maxSockets: POLL_SOCKETS } }
  })

  const call = <A>(
    operation: string,
    url: string,
    within: number,
    run: (abortSignal: AbortSignal) => Promise<A>
  ): Effect.Effect<A, BrokerError> =>
    Effect.suspend(() => {
      // Of the network's time, not of Effect's: it must hold in finalizers too, where nothing can be interrupted
      const deadline = AbortSignal.timeout(within)
      return Effect.tryPromise({
        try: (interrupted) => run(AbortSignal.any([interrupted, deadline])),
        catch: (thrown) =>
          deadline.aborted
            ? SqsErrors.overdue(operation, nameOf(url), within)
            : SqsErrors.fromThrown(operation, nameOf(url), thrown)
      }).pipe(Effect.retry({ schedule: again, while: (error) => SqsErrors.isTransient(error) && !deadline.aborted }))
    })

  const inBatches = <Item>(
    operation: string,
    url: string,
    items: ReadonlyArray<Item>,
    run: (client: SQSClient, batch: ReadonlyArray<Item>, abortSignal: AbortSignal) => Promise<BatchAnswer>
  ): Effect.Effect<ReadonlyArray<ItemOutcome>> =>
    Effect.map(
      Effect.forEach(
        chunksOf(items),
        (batch) =>
          call(operation, url, timeout, (signal) => run(control, batch, signal)).pipe(
            Effect.map((answer) => outcomesOf(operation, url, batch.length, answer)),
            Effect.catch((error) => Effect.succeed(batch.map((): ItemOutcome => ({ _tag: "Failed", error }))))
          ),
        { concurrency: CONCURRENCY }
      ),
      (outcomes) => outcomes.flat()
    )

  return {
    send: (QueueUrl, messages) =>
      inBatches("send", QueueUrl, messages, (client, batch, abortSignal) => {
        const Entries = batch.map(({ body, deduplication, group }, index) => ({
          Id: String(index),
          MessageBody: body,
          ...(group === undefined ? {} : { MessageGroupId: group }),
          ...(deduplication === undefined ? {} : { MessageDeduplicationId: deduplication })
        }))
        return client.send(new sdk.SendMessageBatchCommand({ QueueUrl, Entries }), { abortSignal })
      }),
    receive: (QueueUrl, { max, visibility, wait }) =>
      call("receive", QueueUrl, wait * 1_000 + timeout, (abortSignal) =>
        polling.send(
          new sdk.ReceiveMessageCommand({
            QueueUrl,
            MaxNumberOfMessages: max,
            WaitTimeSeconds: wait,
            VisibilityTimeout: visibility,
            MessageSystemAttributeNames: ["ApproximateReceiveCount"]
          }),
          { abortSignal }
        )
      ).pipe(Effect.map((answer) => answer.Messages ?? [])),
    changeVisibility: (QueueUrl, entries) =>
      inBatches("changeVisibility", QueueUrl, entries, (client, batch, abortSignal) => {
        const Entries = batch.map(({ handle, seconds }, index) => ({
          Id: String(index),
          ReceiptHandle: handle,
          VisibilityTimeout: seconds
        }))
        return client.send(new sdk.ChangeMessageVisibilityBatchCommand({ QueueUrl, Entries }), { abortSignal })
      }),
    delete: (QueueUrl, handles) =>
      inBatches("delete", QueueUrl, handles, (client, batch, abortSignal) => {
        const Entries = batch.map((ReceiptHandle, index) => ({ Id: String(index), ReceiptHandle }))
        return client.send(new sdk.DeleteMessageBatchCommand({ QueueUrl, Entries }), { abortSignal })
      }),
    attributes: (QueueUrl, names) =>
      call("attributes", QueueUrl, timeout, (abortSignal) =>
        control.send(new sdk.GetQueueAttributesCommand({ QueueUrl, AttributeNames: [...names] }), { abortSignal })
      ).pipe(Effect.map((answer) => answer.Attributes ?? {})),
    purge: (QueueUrl) =>
      Effect.asVoid(
        call("purge", QueueUrl, timeout, (abortSignal) =>
          control.send(new sdk.PurgeQueueCommand({ QueueUrl }), { abortSignal })
        )
      )
  }
})

/** The SDK repeats its warnings with every request, and on the console: each is said once, in the log. */
const onceLogger = (log: (effect: Effect.Effect<void>) => unknown): NonNullable<SQSClientConfig["logger"]> => {
  const said = new Set<string>()
  return {
    // These hold requests and answers
    debug: () => {},
    info: () => {},
    error: () => {},
    warn: (...content) => {
      const text = content.map(String).join(" ")
      if (said.has(text)) return
      said.add(text)
      log(Effect.logWarning(`the SDK of SQS says: ${oneLine(text)}`))
    }
  }
}

/** Two more tries within a quarter of a second: a connection that was closed while idle, a hiccup. */
const again = Schedule.exponential("50 millis").pipe(Schedule.jittered, Schedule.upTo({ times: 2 }))

interface BatchAnswer {
  readonly Successful?: ReadonlyArray<{ readonly Id: string | undefined }> | undefined
  readonly Failed?: ReadonlyArray<BatchResultErrorEntry> | undefined
}

const ok: ItemOutcome = { _tag: "Ok" }
const leaseLost: ItemOutcome = { _tag: "LeaseLost" }

/** SQS answers 200 with failures inside, in any order. What it does not mention has an unknown outcome. */
const outcomesOf = (operation: string, url: string, count: number, answer: BatchAnswer): ReadonlyArray<ItemOutcome> => {
  const done = new Set(answer.Successful?.map((entry) => entry.Id))
  const failed = new Map(answer.Failed?.map((entry) => [entry.Id, entry]))
  return Array.from({ length: count }, (_, index): ItemOutcome => {
    const id = String(index)
    if (done.has(id)) return ok
    const entry = failed.get(id)
    const error =
      entry === undefined
        ? SqsErrors.fromThrown(operation, nameOf(url), {
            name: "TimeoutError",
            message: "SQS did not mention this item"
          })
        : SqsErrors.fromEntry(operation, nameOf(url), entry)
    return error === undefined ? leaseLost : { _tag: "Failed", error }
  })
}

const chunksOf = <Item>(items: ReadonlyArray<Item>): ReadonlyArray<ReadonlyArray<Item>> =>
  Array.from({ length: Math.ceil(items.length / BATCH) }, (_, index) => items.slice(index * BATCH, (index + 1) * BATCH))
