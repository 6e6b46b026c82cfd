/**
 * One worker's subscription to some entities: asks all of them, hands out what arrived, keeps what is held by receipt,
 * and at the end lets every receive finish and gives everything back before the links close.
 */
import type { ServiceBusReceivedMessage } from "@azure/service-bus"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type { BrokerError } from "../../JobError.ts"
import type { Consumer, Delivery } from "../BrokerDriver.ts"
import * as HintMessage from "../HintMessage.ts"
import type { Connection } from "./Connection.ts"
import { type Held, Inbox } from "./Inbox.ts"
import type { Outbox } from "./Outbox.ts"
import * as Settlement from "./Settlement.ts"

/** Milliseconds of a receive that only looks what is there: its end makes the service send all it has, up to `max`. */
const LOOK = 20

/** Longest receive that waits; a longer wait is several of them. Also how long a shutdown may wait for one. */
const SLICE = 2_000

/** A shorter LockDuration than this cannot be set: a clock that is ahead of the service's would seem to show one. */
const SHORTEST_LOCK = 5_000

/** Locks last five minutes at most: what was not touched for longer is nobody's, and is forgotten. */
const FORGET = 10 * 60_000

/** Longest time to give back what is held when the consumer closes. */
const CLOSE_TIMEOUT = 5_000

/** What a consumer stands on. */
export interface Options {
  readonly connection: Connection
  readonly outbox: Outbox
  readonly entities: ReadonlyArray<string>
  /** Milliseconds: how long the worker expects a delivery to stay its own between two renewals. */
  readonly lease: number
  readonly concurrency: number
  readonly warnAfter: number
}

/** Subscribes. Links are opened by the first receive. */
export const make = Effect.fnUntraced(function* (options: Options): Effect.fn.Return<Consumer, never, Scope.Scope> {
  const { connection, lease } = options
  const held = new Map<string, Held>()
  const arrival = Latch.makeUnsafe(false)
  const oneAtATime = Semaphore.makeUnsafe(1)
  const inboxes = options.entities.map((entity) => new Inbox(entity, connection, () => arrival.openUnsafe()))
  const settlement = Settlement.make({ ...options, held })
  /** Whose turn it is to be asked first. */
  let turn = 0
  let foreign = 0

  /** The queue's LockDuration, as far as the clocks agree: what was asked for is not up to us. */
  const lockOf = ({ lockedUntilUtc }: ServiceBusReceivedMessage, now: number): number | undefined => {
    const lock = lockedUntilUtc === undefined ? lease : Math.max(SHORTEST_LOCK, lockedUntilUtc.getTime() - now)
    return lock < lease ? lock : undefined
  }

  const accept = Effect.fnUntraced(function* (inbox: Inbox, message: ServiceBusReceivedMessage, now: number) {
    const item: Held = { inbox, message, since: now, touched: now, warned: false, unsure: false }
    held.set(message.lockToken!, item)
    const hint = HintMessage.decode(Buffer.isBuffer(message.body) ? message.body.toString() : String(message.body))
    if (hint !== undefined) {
      const receipt = message.lockToken!
      return { hint, receipt, deliveryCount: Settlement.deliveriesOf(item), lease: lockOf(message, now) }
    }
    const outcome = yield* settlement.bury(item)
    yield* Effect.logWarning(
      `a message on Service Bus queue "${inbox.entity}" is not a hint of Polyqueue and was ` +
        (outcome._tag === "Ok" ? "moved to its dead-letter queue" : "left there: it could not be dead-lettered"),
      { messageId: message.messageId, foreign: ++foreign }
    )
    return undefined
  })

  /** Hands out what arrived, at most `max`. */
  const take = Effect.fnUntraced(function* (max: number, now: number) {
    const taken: Array<Delivery> = []
    for (const inbox of inboxes) {
      const messages = inbox.take(max - taken.length)
      const accepted = yield* Effect.forEach(messages, (message) => accept(inbox, message, now), {
        concurrency: options.concurrency
      })
      for (const delivery of accepted) if (delivery !== undefined) taken.push(delivery)
    }
    return taken
  }, Effect.uninterruptible)

  /** Looks at as many entities as may bring something, sharing `max` among them. */
  const look = (max: number, now: number) => {
    const idle = inboxes.filter((inbox) => !inbox.isReceiving())
    const asked = Math.min(idle.length, max)
    for (let index = 0; index < asked; index++) {
      const share = Math.floor(max / asked) + (index < max % asked ? 1 : 0)
      idle[(turn + index) % idle.length]!.start(share, LOOK, now, true)
    }
    turn += asked
  }

  const receive = Effect.fnUntraced(function* (max: number, wait: number) {
    if (max <= 0) return []
    const started = yield* Clock.currentTimeMillis
    for (const [token, { touched }] of held) {
      if (started - touched < FORGET) break
      held.delete(token)
    }
    if (inboxes.every((inbox) => inbox.waiting === 0)) look(max, started)
    for (;;) {
      arrival.closeUnsafe()
      const now = yield* Clock.currentTimeMillis
      const taken = yield* take(max, now)
      if (taken.length > 0) return taken
      const failure = firstFailure(inboxes)
      if (failure !== undefined) return yield* failure
      const left = started + wait - now
      const looking = inboxes.some((inbox) => inbox.isReceiving("look"))
      if (left <= 0 && !looking) return []
      if (left > 0 && !looking) {
        for (const inbox of inboxes) if (!inbox.isReceiving()) inbox.start(1, Math.min(left, SLICE), now, false)
      }
      inboxes.find((inbox) => inbox.deadline !== undefined && inbox.deadline < now)?.giveUp()
      const deadlines = inboxes.flatMap((inbox) => inbox.deadline ?? [])
      const patience = Math.max(1, Math.min(...deadlines, ...(looking ? [] : [now + left])) - now)
      yield* Effect.timeoutOption(arrival.await, patience)
    }
  })

  /** What is here goes back, also what the worker did not settle: at once, instead of when its lock ends. */
  const giveBack = Effect.gen(function* () {
    yield* Effect.promise(() => Promise.all(inboxes.map((inbox) => inbox.ended())))
    const now = yield* Clock.currentTimeMillis
    for (const inbox of inboxes) {
      for (const message of inbox.take(Infinity)) {
        held.set(message.lockToken!, { inbox, message, since: now, touched: now, warned: false, unsure: false })
      }
    }
    yield* settlement.giveBack
  })

  yield* Effect.addFinalizer(() =>
    giveBack.pipe(
      Effect.timeoutOption(SLICE + CLOSE_TIMEOUT),
      Effect.andThen(
        Effect.forEach(
          inboxes,
          (inbox) =>
            connection
              .call({ operation: "close", entity: inbox.entity, run: () => inbox.close(), deadline: CLOSE_TIMEOUT })
              .pipe(Effect.catch((error) => Effect.logDebug("closing a Service Bus receiver", error))),
          { concurrency: "unbounded", discard: true }
        )
      )
    )
  )

  return {
    receive: ({ max, wait }) => Semaphore.withPermit(oneAtATime)(receive(max, wait)),
    ack: settlement.ack,
    release: settlement.release,
    extend: settlement.extend
  }
})

const firstFailure = (inboxes: ReadonlyArray<Inbox>): BrokerError | undefined => {
  for (const inbox of inboxes) {
    const failure = inbox.takeFailure()
    if (failure !== undefined) return failure
  }
  return undefined
}
