/**
 * Hints through Amazon SQS, standard or FIFO: `polyqueue/sqs`. Needs the package `@aws-sdk/client-sqs`.
 *
 * One SQS queue carries the hints of all Polyqueue queues, or each has its own (`queueUrls`). Everything travels in
 * batches of ten; receives are long polls that are never cut off. SQS holds a delivery for at most 12 hours, counts
 * approximately, and a standard queue may deliver a hint twice: none of that can touch a job, whose state is in Postgres.
 *
 * Endpoint, region and credentials are found the way every program on AWS finds them: environment, profile, role.
 *
 * @example
 * ```ts
 * import { Config } from "effect"
 * import * as SqsBroker from "polyqueue/sqs"
 *
 * const BrokerLive = SqsBroker.layerConfig({ queueUrl: Config.String("SQS_QUEUE_URL") })
 * ```
 */
import type { SQSClientConfig } from "@aws-sdk/client-sqs"
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { Broker } from "../Broker.ts"
import { BrokerError } from "../JobError.ts"
import type { BrokerDriver, BrokerHealth, Capabilities, Hint, ItemOutcome } from "./BrokerDriver.ts"
import * as HintMessage from "./HintMessage.ts"
import * as SqsClient from "./sqs/SqsClient.ts"
import * as SqsConsumer from "./sqs/SqsConsumer.ts"

/** Where the SQS queues are and how to talk to them. */
export interface Options {
  /**
   * URL of the SQS queue for every queue that `queueUrls` does not name. Ends in `.fifo` if it is a FIFO queue.
   *
   * Meant for workers that serve all of these queues. One that serves some passes the other hints on with a delay of
   * seconds, and removes them at the third delivery: their jobs are then found in the store. Name queues with workers of
   * their own in `queueUrls`.
   */
  readonly queueUrl?: string | undefined
  /** URLs by Polyqueue queue. Needed to purge one queue, or to count one queue's hints alone. */
  readonly queueUrls?: Readonly<Record<string, string>> | undefined
  /** The SDK's own configuration: `endpoint`, `region`, `credentials`, … Default: what the SDK finds in the environment. */
  readonly client?: SQSClientConfig | undefined
  /** How long one request may take, besides the time it waits for messages. Default 5 seconds. */
  readonly requestTimeout?: Duration.Input | undefined
  /**
   * How long one request waits for messages while there are none: 1 to 20 seconds. An idle worker makes one such request
   * after the other on each SQS queue, and each is billed; a message is answered at once, however long it is. Longer is
   * cheaper, and closing may take as long. Default 5 seconds.
   */
  readonly longPoll?: Duration.Input | undefined
  /**
   * How long closing the layer waits for receives that are under way, so that no message is left hidden for a visibility
   * timeout. Default: a second longer than `longPoll`. With less they may be cut off; the jobs of hints that are hidden then
   * are found in the store.
   */
  readonly closeTimeout?: Duration.Input | undefined
}

/** `Options` from configuration. The SDK reads its own variables besides (`AWS_REGION`, `AWS_ENDPOINT_URL_SQS`, …). */
export interface ConfigOptions {
  readonly queueUrl?: Config.Config<string | undefined>
  readonly queueUrls?: Config.Config<Readonly<Record<string, string>> | undefined>
  readonly endpoint?: Config.Config<string | undefined>
  readonly region?: Config.Config<string | undefined>
  readonly client?: SQSClientConfig
  readonly requestTimeout?: Config.Config<Duration.Input | undefined>
  readonly longPoll?: Config.Config<Duration.Input | undefined>
  readonly closeTimeout?: Config.Config<Duration.Input | undefined>
}

/**
 * What this broker declares. `fenced` on FIFO queues only: a standard queue accepts a delete with a receipt of the past
 * and may do nothing.
 */
export const capabilities = (options: Options): Capabilities => {
  const urls = urlsOf(options)
  return {
    name: "sqs",
    carriesHints: true,
    transactionalPublish: false,
    idempotentPublish: false,
    fenced: urls.length > 0 && urls.every(isFifo),
    priority: false,
    maxBatch: SqsClient.BATCH,
    maxLease: SqsClient.LONGEST_HOLD,
    maxHold: SqsClient.LONGEST_HOLD,
    maxReleaseDelay: SqsClient.LONGEST_HOLD,
    depth: "approximate"
  }
}

/** The broker, for applications. Fails with `Misconfigured` when the SDK is missing or a URL is none. */
export const layer = (options: Options): Layer.Layer<Broker, BrokerError> => Layer.effect(Broker, make(options))

/** The broker from configuration. */
export const layerConfig = (options: ConfigOptions): Layer.Layer<Broker, Config.ConfigError | BrokerError> =>
  Layer.effect(
    Broker,
    Effect.gen(function* () {
      const { endpoint, region, ...rest } = yield* Config.all({
        queueUrl: options.queueUrl ?? nothing,
        queueUrls: options.queueUrls ?? nothing,
        endpoint: options.endpoint ?? nothing,
        region: options.region ?? nothing,
        requestTimeout: options.requestTimeout ?? nothing,
        longPoll: options.longPoll ?? nothing,
        closeTimeout: options.closeTimeout ?? nothing
      })
      const client = {
        ...options.client,
        ...(endpoint === undefined ? {} : { endpoint }),
        ...(region === undefined ? {} : { region })
      }
      return yield* make({ ...rest, client })
    })
  )

const nothing = Config.succeed(undefined)

/** Makes the driver. `load`: where the SDK comes from. */
export const make = Effect.fnUntraced(function* (
  options: Options,
  load: Effect.Effect<SqsClient.Sdk, BrokerError> = SqsClient.load()
): Effect.fn.Return<BrokerDriver, BrokerError, Scope.Scope> {
  const urls = yield* checkedUrls(options)
  const timeout = Duration.toMillis(options.requestTimeout ?? "5 seconds")
  const longPoll = Duration.toSeconds(options.longPoll ?? "5 seconds")
  if (!(longPoll >= 1 && longPoll <= SqsClient.LONGEST_POLL)) {
    return yield* misconfigured(`\`longPoll\` is ${longPoll} s: SQS waits 1 to ${SqsClient.LONGEST_POLL} seconds`)
  }
  const client = yield* SqsClient.make(yield* load, options.client ?? {}, timeout)
  const background = yield* FiberSet.make<void>()
  const fork = yield* FiberSet.runtime(background)()
  const closeTimeout = options.closeTimeout ?? Duration.seconds(longPoll + 1)
  yield* Effect.addFinalizer(() =>
    // Forked, because in a finalizer nothing can be interrupted, and so nothing could time out
    FiberSet.awaitEmpty(background).pipe(
      Effect.timeoutOption(closeTimeout),
      Effect.forkDetach({ startImmediately: true }),
      Effect.flatMap(Fiber.await)
    )
  )

  const own = new Map(Object.entries(options.queueUrls ?? {}))
  const urlOf = (queue: string): string | undefined => own.get(queue) ?? options.queueUrl
  const requireUrl = (operation: string, queue: string): Effect.Effect<string, BrokerError> => {
    const url = urlOf(queue)
    return url === undefined ? Effect.fail(unmapped(operation, queue)) : Effect.succeed(url)
  }

  /** Whether an SQS queue carries this queue's hints and no other's. */
  const isAlone = (queue: string, url: string): boolean =>
    url !== options.queueUrl &&
    Object.entries(options.queueUrls ?? {}).every(([other, its]) => other === queue || its !== url)

  const publish = Effect.fnUntraced(function* (hints: ReadonlyArray<Hint>) {
    const outcomes: Array<ItemOutcome> = []
    const groups = new Map<string, Array<number>>()
    for (const [at, { queue }] of hints.entries()) {
      const url = urlOf(queue)
      if (url === undefined) outcomes[at] = { _tag: "Failed", error: unmapped("publish", queue) }
      else if (groups.has(url)) groups.get(url)!.push(at)
      else groups.set(url, [at])
    }
    yield* Effect.forEach(
      groups,
      ([url, indexes]) =>
        Effect.map(
          client.send(
            url,
            indexes.map((at) => messageOf(url, hints[at]!))
          ),
          (answers) => {
            for (const [index, answer] of answers.entries()) outcomes[indexes[index]!] = answer
          }
        ),
      { concurrency: "unbounded", discard: true }
    )
    return outcomes
  })

  return {
    capabilities: capabilities(options),
    publish,
    consumer: Effect.fnUntraced(function* ({ lease, queues }) {
      if (lease > SqsClient.LONGEST_HOLD) {
        return yield* new BrokerError({
          reason: "Misconfigured",
          operation: "consumer",
          message: `SQS holds a message for at most 12 hours: a lease of ${lease} ms is too long`
        })
      }
      const found = yield* Effect.forEach(queues, (queue) => requireUrl("consumer", queue))
      const urls = [...new Set(found)]
      return yield* SqsConsumer.make({ client, queues: new Set(queues), urls, lease, longPoll, fork })
    }),
    depth: Effect.fnUntraced(function* (queue) {
      const url = yield* requireUrl("depth", queue)
      const found = yield* client.attributes(url, ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed"])
      return (
        Number(found["ApproximateNumberOfMessages"] ?? 0) + Number(found["ApproximateNumberOfMessagesDelayed"] ?? 0)
      )
    }),
    purge: Effect.fnUntraced(function* (queue) {
      const url = yield* requireUrl("purge", queue)
      if (isAlone(queue, url)) return yield* client.purge(url)
      return yield* new BrokerError({
        reason: "Unsupported",
        operation: "purge",
        message:
          `queue "${queue}" shares its SQS queue with others, which a purge would empty too: ` +
          "give it one of its own in `queueUrls`, or purge the SQS queue with AWS's tools"
      })
    }),
    health: Effect.map(
      Effect.forEach(urls, (url) => healthOf(client, url), { concurrency: "unbounded" }),
      (all): BrokerHealth => ({
        ok: all.every((one) => one.ok),
        problems: all.flatMap((one) => one.problems)
      })
    )
  }
})

const isFifo = (url: string): boolean => url.endsWith(".fifo")

const urlsOf = (options: Options): ReadonlyArray<string> => [
  ...new Set([...(options.queueUrl === undefined ? [] : [options.queueUrl]), ...Object.values(options.queueUrls ?? {})])
]

const misconfigured = (message: string): Effect.Effect<never, BrokerError> =>
  Effect.fail(new BrokerError({ reason: "Misconfigured", operation: "layer", message }))

const checkedUrls = (options: Options): Effect.Effect<ReadonlyArray<string>, BrokerError> => {
  const urls = urlsOf(options)
  if (urls.length === 0) return misconfigured("the SQS broker needs `queueUrl`, `queueUrls`, or both")
  for (const url of urls) {
    const parsed = URL.parse(url)
    if (parsed === null || !/^https?:$/.test(parsed.protocol) || SqsClient.nameOf(url) === "") {
      return misconfigured(
        "`queueUrl` or one of `queueUrls` is not the URL of an SQS queue (https://sqs.<region>.…/<account>/<name>)"
      )
    }
    if (parsed.username !== "" || parsed.password !== "") {
      return misconfigured(
        "a queue URL contains credentials: they belong into the SDK's configuration, and URLs into logs"
      )
    }
  }
  return Effect.succeed(urls)
}

const unmapped = (operation: string, queue: string): BrokerError =>
  new BrokerError({
    reason: "QueueNotFound",
    operation,
    message: `no SQS queue is configured for queue "${queue}": name it in \`queueUrls\`, or set \`queueUrl\` for all`
  })

/**
 * On FIFO queues hints of one job keep their order, and the same publication twice within five minutes is one. A newer
 * publication must not be taken for a repetition, so its number is part of the id.
 */
const messageOf = (url: string, hint: Hint): SqsClient.Outgoing => {
  const body = HintMessage.encode(hint)
  return isFifo(url)
    ? { body, group: hint.jobId, deduplication: `${hint.jobId}:${hint.attempt}:${hint.publication}` }
    : { body }
}

/** Fewer receives than this before a message is moved to a dead-letter queue is a problem: releases count, too. */
const FEW_RECEIVES = 10

const healthOf = (client: SqsClient.SqsClient, url: string): Effect.Effect<BrokerHealth> =>
  client.attributes(url, ["DelaySeconds", "RedrivePolicy"]).pipe(
    Effect.map((attributes) => ({ ok: true, problems: problemsOf(SqsClient.nameOf(url), attributes) })),
    Effect.catch((error) => Effect.succeed({ ok: false, problems: [error.message] }))
  )

const problemsOf = (name: string, attributes: Readonly<Record<string, string | undefined>>): ReadonlyArray<string> => {
  const problems: Array<string> = []
  const delay = Number(attributes["DelaySeconds"] ?? 0)
  if (delay > 0) problems.push(`SQS queue "${name}" delays every hint by ${delay} s: set its DelaySeconds to 0`)
  const receives = /"maxReceiveCount"\s*:\s*"?(\d+)/.exec(attributes["RedrivePolicy"] ?? "")?.[1]
  if (receives !== undefined && Number(receives) < FEW_RECEIVES) {
    problems.push(
      `SQS queue "${name}" moves hints to its dead-letter queue after ${receives} receives, releases included: ` +
        `set maxReceiveCount to ${FEW_RECEIVES} or more, or remove the redrive policy: Postgres keeps the failed jobs`
    )
  }
  return problems
}
