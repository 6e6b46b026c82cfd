/**
 * A broker that misbehaves, around any broker, in the process that uses it: it drops, doubles, reorders and delays hints,
 * invents some, forgets that it acked, extends nothing, and is given stale receipts.
 */
import { randomUUID } from "node:crypto"
import * as Effect from "effect/Effect"
import type { BrokerDriver, Consumer, Delivery, Hint, ItemOutcome } from "../../src/broker/BrokerDriver.ts"
import { BrokerError } from "../../src/JobError.ts"

/** Shares are from 0 to 1. */
export interface Troubles {
  readonly drop?: number
  readonly double?: number
  readonly reorder?: boolean
  /** Up to so many ms late. */
  readonly delay?: number
  /** Hints of jobs that do not exist. */
  readonly ghosts?: number
  /** Old hints are sent again, of jobs that have ended by then or run. */
  readonly again?: number
  /** The publisher is told that it failed although it did not. */
  readonly publishUnsure?: number
  /** Acks that take effect and are answered with a failure. */
  readonly ackUnsure?: number
  /** Acks that are lost on the way, and answered with success. */
  readonly ackLost?: number
  /** Extensions that fail, at no effect. */
  readonly extendFails?: number
  /** Every ack is followed by one with the receipt of an earlier delivery. */
  readonly staleReceipts?: boolean
}

const failed = (operation: string): BrokerError =>
  new BrokerError({ reason: "OutcomeUnknown", operation, message: `${operation}: the answer was lost` })

const ok: ItemOutcome = { _tag: "Ok" }

/** `random`: numbers from 0 to 1. */
export const around = (broker: BrokerDriver, troubles: Troubles, random: () => number): BrokerDriver => {
  const happens = (share = 0) => share > 0 && random() < share
  const old: Array<Hint> = []
  const receipts: Array<Delivery> = []
  const ghost = (like: Hint): Hint => ({ ...like, jobId: randomUUID() })

  const arriving = (hints: ReadonlyArray<Hint>): Array<Hint> => {
    const out: Array<Hint> = []
    for (const hint of hints) {
      if (old.length < 200) old.push(hint)
      if (happens(troubles.drop)) continue
      out.push(hint)
      if (happens(troubles.double)) out.push(hint)
      if (happens(troubles.ghosts)) out.push(ghost(hint))
      if (happens(troubles.again)) out.push(old[Math.floor(random() * old.length)]!)
    }
    if (troubles.reorder === true) out.sort(() => random() - 0.5)
    return out
  }

  const consumerOf = (consumer: Consumer): Consumer => ({
    receive: (asked) =>
      Effect.tap(consumer.receive(asked), (deliveries) =>
        Effect.sync(() => {
          if (troubles.staleReceipts === true) receipts.push(...deliveries)
        })
      ),
    release: consumer.release,
    extend: (deliveries, lease) =>
      happens(troubles.extendFails) ? Effect.fail(failed("extend")) : consumer.extend(deliveries, lease),
    ack: (deliveries) => {
      if (happens(troubles.ackLost)) return Effect.succeed(deliveries.map(() => ok))
      const acked = consumer.ack(deliveries)
      const stale = receipts.splice(0, Math.max(0, receipts.length - 50))
      const settled =
        stale.length === 0
          ? acked
          : Effect.tap(acked, () => Effect.ignore(Effect.andThen(consumer.extend(stale, 1_000), consumer.ack(stale))))
      return happens(troubles.ackUnsure) ? Effect.andThen(settled, Effect.fail(failed("ack"))) : settled
    }
  })

  const publish = (hints: ReadonlyArray<Hint>): Effect.Effect<ReadonlyArray<ItemOutcome>, BrokerError> => {
    const send = (all: ReadonlyArray<Hint>) =>
      all.length === 0 ? Effect.succeed<ReadonlyArray<ItemOutcome>>([]) : broker.publish(all)
    // Told that all is well: nobody hears of a hint that was lost, or is late
    const answered = hints.map(() => ok)
    const all = arriving(hints)
    const sent: Effect.Effect<void, BrokerError> =
      troubles.delay === undefined
        ? Effect.asVoid(send(all))
        : Effect.asVoid(Effect.forkDetach(Effect.ignore(Effect.delay(send(all), Math.ceil(random() * troubles.delay)))))
    return happens(troubles.publishUnsure)
      ? Effect.andThen(sent, Effect.fail(failed("publish")))
      : Effect.as(sent, answered)
  }

  return {
    ...broker,
    publish: (hints) => Effect.suspend(() => publish(hints)),
    consumer: (options) => Effect.map(broker.consumer(options), consumerOf)
  }
}
