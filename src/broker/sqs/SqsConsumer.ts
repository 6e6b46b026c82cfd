/**
 * One worker's subscription to one or more SQS queues. Its heart is that a receive request, once sent, is never aborted:
 * SQS may hand messages to a poll whose client has gone, and they stay hidden for a visibility timeout. So polls run on
 * their own; `receive` only waits for what they bring. What comes when nobody waits goes to the next `receive`, or back
 * to SQS when none comes soon or the consumer is closed.
 *
 * Polls adapt: a single long one per SQS queue while it is quiet (empty receives are billed), shared by all receives that
 * wait meanwhile; twice as many each time one comes back full, up to what `max` asks for.
 */
import type { Message } from "@aws-sdk/client-sqs"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import type { BrokerError } from "../../JobError.ts"
import type { Consumer, Delivery } from "../BrokerDriver.ts"
import * as HintMessage from "../HintMessage.ts"
import { BATCH, LONGEST_HOLD, nameOf, type SqsClient } from "./SqsClient.ts"
import * as SqsReceipts from "./SqsReceipts.ts"

/** What a consumer needs of its broker. */
export interface Options {
  readonly client: SqsClient
  /** The Polyqueue queues it serves. */
  readonly queues: ReadonlySet<string>
  /** The SQS queues they travel in. */
  readonly urls: ReadonlyArray<string>
  /** Milliseconds. */
  readonly lease: number
  /** How long one poll waits while there is nothing, in seconds. */
  readonly longPoll: number
  /** Runs what must outlive the consumer: polls that are under way, and what gives their messages back. */
  readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
}

/** One SQS queue as one consumer polls it. */
interface Source {
  readonly url: string
  /** Polls under way, and how many messages they may bring. */
  polls: number
  room: number
  /** Polls that are worth having under way. */
  width: number
  failing: boolean
}

/** A message in our hands that no `receive` has taken yet. */
interface Waiting {
  readonly source: Source
  readonly delivery: Delivery
  readonly since: number
}

/** What one `receive` hears of polls: how many of those it started go on, and which queues failed while it waited. */
interface Round {
  pending: number
  readonly failed: Map<Source, BrokerError>
}

/** Most polls of one consumer on one SQS queue. */
const WIDEST = 10

/** How long a message waits for a `receive` before others may have it, in milliseconds; at most half the lease. */
const HANDOVER = 2_000

/** A hint of a queue that is not served here is released, later each time, and removed at the last one. */
const MISROUTED_DELAY_SECONDS = 2
const MISROUTED_DELIVERIES = 3

/** Clocks differ, requests take time: holds are asked for a little less than SQS allows. */
const HOLD_MARGIN = 5_000

/** Makes a consumer; closing the scope gives back what no `receive` has taken. */
export const make = Effect.fnUntraced(function* (options: Options): Effect.fn.Return<Consumer, never, Scope.Scope> {
  const { client, fork, lease, queues } = options
  const longPoll = Math.floor(options.longPoll)
  const sources = options.urls.map((url): Source => ({ url, polls: 0, room: 0, width: 1, failing: false }))
  const scope = yield* Effect.scope
  const handover = Math.min(HANDOVER, lease / 2)
  const visibility = Math.max(1, Math.ceil(lease / 1_000))
  let waiting: Array<Waiting> = []
  let closed = false
  let returning = false
  const rounds = new Set<Round>()
  let dropped = 0
  let signal = Deferred.makeUnsafe<void>()

  const notify = () => {
    const before = signal
    signal = Deferred.makeUnsafe()
    Deferred.doneUnsafe(before, Exit.void)
  }

  /** Back to SQS, for anybody, at once. An item that fails comes back by itself when its visibility timeout ends. */
  const giveBack = (messages: ReadonlyArray<Waiting>): Effect.Effect<void> =>
    Effect.asVoid(
      hide(
        messages.map((message) => message.delivery),
        () => 0
      )
    )

  /** Gives back what nobody took for a while, until nothing is left. */
  const returnUntaken = Effect.gen(function* () {
    while (waiting.length > 0) {
      yield* Effect.sleep(handover)
      const now = yield* Clock.currentTimeMillis
      const old = waiting.filter((message) => now - message.since >= handover)
      waiting = waiting.filter((message) => now - message.since < handover)
      yield* Effect.uninterruptible(giveBack(old))
    }
    returning = false
  })

  /** Sorts what a poll brought: ours, of another queue, or no hint at all. */
  const accept = Effect.fnUntraced(function* (source: Source, messages: ReadonlyArray<Message>) {
    const now = yield* Clock.currentTimeMillis
    const own: Array<Waiting> = []
    const misrouted: Array<{ readonly handle: string; readonly count: number }> = []
    const garbage: Array<string> = []
    for (const message of messages) {
      const handle = message.ReceiptHandle ?? ""
      const hint = HintMessage.decode(message.Body ?? "")
      const count = Number(message.Attributes?.ApproximateReceiveCount ?? Number.NaN)
      if (hint === undefined) garbage.push(handle)
      else if (!queues.has(hint.queue)) misrouted.push({ handle, count })
      else {
        const receipt = SqsReceipts.format({ source: sources.indexOf(source), since: now, handle })
        const deliveryCount = Number.isNaN(count) ? undefined : count
        own.push({ source, delivery: { hint, receipt, deliveryCount }, since: now })
      }
    }
    if (closed) yield* giveBack(own)
    else waiting.push(...own)
    notify()
    if (garbage.length > 0) yield* dropGarbage(source, garbage)
    if (misrouted.length > 0) yield* passOn(source, misrouted)
    // The receive that was just notified takes its share before this looks
    if (!closed && !returning && waiting.length > 0) {
      returning = true
      yield* Effect.forkIn(returnUntaken, scope)
    }
  })

  const dropGarbage = Effect.fnUntraced(function* (source: Source, handles: ReadonlyArray<string>) {
    dropped += handles.length
    yield* Effect.logWarning(
      `removed what is no hint of ours from SQS queue "${nameOf(source.url)}" (${handles.length} now, ${dropped} so far): ` +
        "something else writes to this queue"
    )
    yield* client.delete(source.url, handles)
  })

  /** Somebody else's: the row publishes itself anew if that somebody is too slow to find it. */
  const passOn = Effect.fnUntraced(function* (
    source: Source,
    messages: ReadonlyArray<{ readonly handle: string; readonly count: number }>
  ) {
    const jitter = yield* Random.next
    const later = messages
      .filter((message) => !(message.count >= MISROUTED_DELIVERIES))
      .map(({ count, handle }) => ({
        handle,
        // A closed consumer polls no more: others may have it at once
        seconds: closed ? 0 : Math.ceil(MISROUTED_DELAY_SECONDS * 2 ** ((count || 1) - 1) * (0.5 + jitter / 2))
      }))
    const never = messages.filter((message) => message.count >= MISROUTED_DELIVERIES).map((message) => message.handle)
    yield* client.changeVisibility(source.url, later)
    yield* client.delete(source.url, never)
  })

  const startPoll = (source: Source, max: number, wait: number, round: Round) => {
    source.polls++
    source.room += max
    round.pending++
    fork(
      client.receive(source.url, { max, wait, visibility }).pipe(
        Effect.onExit(() =>
          Effect.sync(() => {
            source.polls--
            source.room -= max
          })
        ),
        Effect.tap((messages) => {
          if (messages.length === 0) source.width = 1
          else if (messages.length === max) source.width = Math.min(WIDEST, source.width * 2)
          return recovered(source)
        }),
        Effect.flatMap((messages) => accept(source, messages)),
        Effect.catch((error) => {
          source.width = 1
          // Whoever started it: an answer that never comes outlives the receive that asked
          for (const waiter of rounds) waiter.failed.set(source, error)
          return failed(source, error)
        }),
        Effect.ensuring(
          Effect.sync(() => {
            round.pending--
            notify()
          })
        )
      )
    )
  }

  // Each receive fails when all its queues do; one of several that fails is said once, not at every poll
  const failed = (source: Source, error: BrokerError) => {
    if (source.failing || sources.length === 1) return Effect.void
    source.failing = true
    return Effect.logWarning(`receiving from one of several SQS queues fails: ${error.message}`)
  }
  const recovered = (source: Source) => {
    if (!source.failing) return Effect.void
    source.failing = false
    return Effect.logInfo(`receiving from SQS queue "${nameOf(source.url)}" works again`)
  }

  /**
   * At least one poll under way per queue, more where the last ones came back full. `asked`: how long the receive waits, in
   * milliseconds. A poll outlives it, so that several that wait for a second share one; who waits less may never ask again.
   */
  const startPolls = (max: number, asked: number, round: Round) => {
    const wait = asked >= 1_000 ? longPoll : Math.ceil(asked / 1_000)
    for (const source of sources) {
      if (round.failed.has(source)) continue
      const width = Math.min(source.width, Math.ceil(max / BATCH))
      while (source.polls === 0 || (source.polls < width && source.room < max)) {
        startPoll(source, Math.min(BATCH, max - source.room), wait, round)
      }
    }
  }

  const receiveIn = Effect.fnUntraced(function* (round: Round, max: number, wait: number) {
    const deadline = (yield* Clock.currentTimeMillis) + wait
    for (let first = true; ; first = false) {
      const changed = signal
      if (waiting.length > 0) return waiting.splice(0, max).map((message) => message.delivery)
      const [error] = round.failed.values()
      if (error !== undefined && round.failed.size === sources.length) return yield* Effect.fail(error)
      const left = Math.max(0, deadline - (yield* Clock.currentTimeMillis))
      if (left === 0 && !first && (wait > 0 || round.pending === 0)) {
        return error === undefined ? [] : yield* Effect.fail(error)
      }
      if (first || left > 0) startPolls(max, wait, round)
      if (round.pending === 0 && wait <= 0) return []
      // Without a wait of its own it waits for the short polls, which end by themselves
      yield* wait > 0 ? Effect.timeoutOption(Deferred.await(changed), left) : Deferred.await(changed)
    }
  })

  const receive: Consumer["receive"] = ({ max, wait }) =>
    Effect.suspend(() => {
      if (max <= 0) return Effect.succeed([])
      const round: Round = { pending: 0, failed: new Map() }
      rounds.add(round)
      return Effect.ensuring(
        receiveIn(round, max, wait),
        Effect.sync(() => rounds.delete(round))
      )
    })

  /** Changes visibility timeouts. `undefined` from `secondsOf`: SQS cannot hold it any longer. */
  const hide = (deliveries: ReadonlyArray<Delivery>, secondsOf: (left: number) => number | undefined) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) =>
      SqsReceipts.settle(
        options.urls,
        deliveries,
        ({ handle, since }) => {
          const seconds = secondsOf(holdLeft(now, since))
          return seconds === undefined ? undefined : { handle, seconds }
        },
        client.changeVisibility
      )
    )

  yield* Effect.addFinalizer(() => {
    closed = true
    const rest = waiting
    waiting = []
    // A fiber of its own: in a finalizer nothing can be interrupted
    return rest.length === 0 ? Effect.void : Effect.asVoid(Fiber.await(fork(giveBack(rest))))
  })

  return {
    receive,
    extend: (deliveries, lease) => {
      const seconds = Math.max(1, Math.ceil(lease / 1_000))
      return hide(deliveries, (left) => (left < 1 ? undefined : Math.min(seconds, left)))
    },
    ack: (deliveries) => SqsReceipts.settle(options.urls, deliveries, ({ handle }) => handle, client.delete),
    release: (deliveries, delay) => {
      const seconds = Math.max(0, Math.ceil(delay / 1_000))
      return hide(deliveries, (left) => Math.max(0, Math.min(seconds, left)))
    }
  }
})

/** Seconds that SQS still holds a message received at `since`. */
const holdLeft = (now: number, since: number): number => Math.floor((since + LONGEST_HOLD - HOLD_MARGIN - now) / 1_000)
