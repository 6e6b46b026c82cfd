/**
 * What is done to deliveries we hold: complete, abandon, postpone, renew, dead-letter. The SDK takes them one by one, so a
 * batch is bounded parallel calls on one link, answered per item.
 */
import type { ServiceBusReceiver } from "@azure/service-bus"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { BrokerError } from "../../JobError.ts"
import type { Delivery, ItemOutcome } from "../BrokerDriver.ts"
import type { Connection } from "./Connection.ts"
import type { LockLost } from "./Failure.ts"
import type { Held } from "./Inbox.ts"
import { DELIVERIES, type Outbox } from "./Outbox.ts"

/** The four verbs, on receipts. */
export interface Settlement {
  readonly ack: (deliveries: ReadonlyArray<Delivery>) => Effect.Effect<ReadonlyArray<ItemOutcome>>
  readonly release: (
    deliveries: ReadonlyArray<Delivery>,
    delay: number
  ) => Effect.Effect<ReadonlyArray<ItemOutcome>, BrokerError>
  readonly extend: (deliveries: ReadonlyArray<Delivery>) => Effect.Effect<ReadonlyArray<ItemOutcome>>
  /** Makes everything that is held receivable again, as far as it can. */
  readonly giveBack: Effect.Effect<void>
  /** Moves a message that is no hint to the dead-letter queue. */
  readonly bury: (held: Held) => Effect.Effect<ItemOutcome>
}

const ok: ItemOutcome = { _tag: "Ok" }
const leaseLost: ItemOutcome = { _tag: "LeaseLost" }

const inTurn = async (item: Held, outcome: string, act: (receiver: ServiceBusReceiver) => Promise<void>) => {
  await item.inbox.turns.take(outcome)
  await act(item.inbox.receiver())
}

/** How often a hint was delivered, this time included: by this message, and by those it is a copy of. */
export const deliveriesOf = ({ message }: Held): number => {
  const before = message.applicationProperties?.[DELIVERIES]
  return (typeof before === "number" ? before : 0) + (message.deliveryCount ?? 0) + 1
}

/** Makes the verbs on the deliveries that a consumer holds, by receipt. */
export const make = (options: {
  readonly connection: Connection
  readonly outbox: Outbox
  readonly held: Map<string, Held>
  readonly concurrency: number
  /** Milliseconds after which a held delivery is reported. */
  readonly warnAfter: number
}): Settlement => {
  const { concurrency, connection, held, outbox } = options

  /** Does something to each delivery that we hold; what we do not hold (any more) is lost. */
  const each = <E>(
    deliveries: ReadonlyArray<Delivery>,
    one: (item: Held, delivery: Delivery) => Effect.Effect<ItemOutcome, E>
  ) =>
    Effect.forEach(
      deliveries,
      (delivery) => {
        const item = held.get(delivery.receipt)
        return item === undefined ? Effect.succeed(leaseLost) : one(item, delivery)
      },
      { concurrency }
    )

  const forget = (item: Held): void => void held.delete(item.message.lockToken!)

  /** One settlement: afterwards it is not ours, unless its outcome is unknown. */
  const settle = (item: Held, operation: string, act: (receiver: ServiceBusReceiver) => Promise<void>) =>
    connection.call({ operation, entity: item.inbox.entity, run: () => inTurn(item, operation, act) }).pipe(
      Effect.as(ok),
      Effect.tap(() => Effect.sync(() => forget(item))),
      Effect.catch((error) =>
        Effect.sync((): ItemOutcome => {
          // "Already settled" has no code: it is what an unanswered settlement that did arrive looks like
          if (error._tag !== "BrokerError" || (item.unsure && error.reason === "Unexpected")) {
            forget(item)
            return leaseLost
          }
          if (error.reason === "OutcomeUnknown") {
            item.unsure = true
            item.inbox.renew()
          }
          return { _tag: "Failed", error }
        })
      )
    )

  const complete = (item: Held) => settle(item, "ack", (receiver) => receiver.completeMessage(item.message))

  const abandon = (item: Held) => settle(item, "release", (receiver) => receiver.abandonMessage(item.message))

  const renew = Effect.fnUntraced(function* (item: Held) {
    const { entity } = item.inbox
    const run = () => item.inbox.receiver().renewMessageLock(item.message)
    const outcome = yield* connection.call({ operation: "extend", entity, run }).pipe(
      Effect.as(ok),
      Effect.catch((error: BrokerError | LockLost) =>
        Effect.sync((): ItemOutcome => {
          if (error._tag === "BrokerError") return { _tag: "Failed", error }
          forget(item)
          return leaseLost
        })
      )
    )
    if (outcome !== ok) return outcome
    const now = yield* Clock.currentTimeMillis
    item.touched = now
    // Kept in the order of their last touch
    if (held.delete(item.message.lockToken!)) held.set(item.message.lockToken!, item)
    if (!item.warned && now - item.since > options.warnAfter) {
      item.warned = true
      const minutes = Math.round((now - item.since) / 60_000)
      yield* Effect.logWarning(
        `a delivery of Service Bus queue "${entity}" is held for ${minutes} minutes; its lock is renewed further`,
        { messageId: item.message.messageId }
      )
    }
    return outcome
  })

  /**
   * The service cannot give back with a delay: a copy is scheduled, and only then the original completed, so that a crash in
   * between doubles the hint and loses nothing. Copies of deliveries that turn out to be lost are taken back.
   */
  const postpone = Effect.fnUntraced(function* (
    entity: string,
    items: ReadonlyArray<{ readonly item: Held; readonly delivery: Delivery }>,
    delay: number
  ) {
    const copies = items.map(({ delivery, item }) => ({ ...delivery, deliveries: deliveriesOf(item) }))
    const scheduled = yield* outbox.schedule(entity, copies, delay)
    const outcomes = yield* Effect.forEach(items, ({ item }) => complete(item), { concurrency })
    const needless = scheduled.filter((_, index) => outcomes[index]?._tag === "LeaseLost")
    if (needless.length > 0) {
      yield* outbox
        .cancel(entity, needless)
        .pipe(Effect.catch((error) => Effect.logDebug("a needless copy of a hint stays scheduled", error)))
    }
    return outcomes
  })

  const release: Settlement["release"] = Effect.fnUntraced(function* (deliveries, delay) {
    if (delay <= 0) return yield* each(deliveries, abandon)
    const outcomes: Array<ItemOutcome> = deliveries.map(() => leaseLost)
    const byEntity = Map.groupBy(
      deliveries.flatMap((delivery, index) => {
        const item = held.get(delivery.receipt)
        return item === undefined ? [] : [{ item, delivery, index }]
      }),
      ({ item }) => item.inbox.entity
    )
    for (const [entity, items] of byEntity) {
      const answers = yield* postpone(entity, items, delay).pipe(
        Effect.catchTag("polyqueue/LockLost", () => Effect.succeed(items.map(() => leaseLost))),
        Effect.catchTag("BrokerError", (error) =>
          Effect.succeed(items.map((): ItemOutcome => ({ _tag: "Failed", error })))
        )
      )
      items.forEach(({ index }, position) => (outcomes[index] = answers[position]!))
    }
    return outcomes
  })

  return {
    ack: (deliveries) => each(deliveries, complete),
    release,
    extend: (deliveries) => each(deliveries, renew),
    giveBack: Effect.suspend(() => Effect.forEach(Array.from(held.values()), abandon, { concurrency, discard: true })),
    bury: (item) => {
      const why = { deadLetterReason: "NotAHint", deadLetterErrorDescription: "not a message of Polyqueue" }
      return settle(item, "dead-letter", (receiver) => receiver.deadLetterMessage(item.message, why))
    }
  }
}
