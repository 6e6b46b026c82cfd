/**
 * Sending: hints in as few messages as their size allows, with an answer per hint, and copies to appear later. Message
 * ids differ per publication, so that a queue with duplicate detection drops no retry.
 */
import type { ServiceBusMessage, ServiceBusSender } from "@azure/service-bus"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { BrokerError } from "../../JobError.ts"
import type { Hint, ItemOutcome } from "../BrokerDriver.ts"
import * as HintMessage from "../HintMessage.ts"
import type { Connection } from "./Connection.ts"
import * as Failure from "./Failure.ts"

/** Where a copy says how often its hint was delivered before: the service counts each message on its own. */
export const DELIVERIES = "polyqueue-deliveries"

/** A sequence number, as the SDK wants it back to cancel. */
export type ScheduledCopy = Awaited<ReturnType<ServiceBusSender["scheduleMessages"]>>[number]

/** The senders of a connection. */
export interface Outbox {
  /** Sends hints to one entity; answers in their order. */
  readonly send: (entity: string, hints: ReadonlyArray<Hint>) => Effect.Effect<ReadonlyArray<ItemOutcome>>
  /** Makes copies of deliveries appear after `delay` milliseconds, in one request. */
  readonly schedule: (
    entity: string,
    copies: ReadonlyArray<{ readonly hint: Hint; readonly deliveries: number; readonly receipt: string }>,
    delay: number
  ) => Effect.Effect<ReadonlyArray<ScheduledCopy>, BrokerError | Failure.LockLost>
  /** Takes scheduled copies back. */
  readonly cancel: (
    entity: string,
    copies: ReadonlyArray<ScheduledCopy>
  ) => Effect.Effect<void, BrokerError | Failure.LockLost>
  /** Opens the link to an entity, if it is not open: that it exists, and that we may send. */
  readonly open: (entity: string) => Effect.Effect<void, BrokerError>
  /** Entities that a link was opened to. */
  readonly reached: ReadonlySet<string>
}

const ok: ItemOutcome = { _tag: "Ok" }

/** Idle links are dropped by the service: the first send after that fails, and the next one works. */
const again = { times: 2, schedule: Schedule.jittered(Schedule.exponential(100)) } as const

const messageId = (hint: Hint) => `${hint.jobId}:${hint.attempt}:${hint.publication}`

// A Buffer travels as it is; a string would be sent as JSON of a string
const toMessage = (hint: Hint): ServiceBusMessage => ({
  body: Buffer.from(HintMessage.encode(hint)),
  messageId: messageId(hint),
  contentType: "application/json"
})

/** Makes the outbox. Senders are made once per entity and closed with the connection. */
export const make = ({ call, client, onRenewal, reach }: Connection): Outbox => {
  const senders = new Map<string, ServiceBusSender>()
  onRenewal(() => senders.clear())
  const reached = new Set<string>()

  /** Making a sender does not talk to the service yet. */
  const sender = (operation: string, entity: string): Effect.Effect<ServiceBusSender, BrokerError> =>
    Effect.as(
      reach(operation, entity),
      Effect.sync(() => {
        const made = senders.get(entity) ?? client().createSender(entity)
        senders.set(entity, made)
        return made
      })
    ).pipe(Effect.flatten)

  const emptyBatch = (entity: string, from: ServiceBusSender) =>
    call({ operation: "publish", entity, run: () => from.createMessageBatch(), late: "Unavailable" }).pipe(
      Effect.tap(() => Effect.sync(() => reached.add(entity)))
    )

  /** Sends as many of `hints` as fit into one message; answers how many were taken (at least one). */
  const sendSome = Effect.fnUntraced(function* (entity: string, hints: ReadonlyArray<Hint>) {
    const from = yield* sender("publish", entity)
    const batch = yield* emptyBatch(entity, from)
    let count = 0
    while (count < hints.length && batch.tryAddMessage(toMessage(hints[count]!))) count++
    if (count === 0) {
      const id = hints[0]!.jobId
      const told = `the hint of job ${id} is larger than Service Bus queue "${entity}" allows (${batch.maxSizeInBytes} bytes)`
      return yield* Failure.make("MessageRejected", "publish", told)
    }
    yield* call({ operation: "publish", entity, run: () => from.sendMessages(batch) })
    return count
  })

  const send = Effect.fnUntraced(function* (entity: string, hints: ReadonlyArray<Hint>) {
    const outcomes: Array<ItemOutcome> = []
    let limit = hints.length
    while (outcomes.length < hints.length) {
      const rest = hints.slice(outcomes.length, outcomes.length + limit)
      const sent = yield* sendSome(entity, rest).pipe(
        Effect.retry({ ...again, while: (error) => error._tag === "BrokerError" && error.reason === "Unavailable" }),
        Effect.catchTag("polyqueue/LockLost", (lost) =>
          Effect.fail(Failure.make("Unexpected", "publish", lost.message))
        ),
        Effect.result
      )
      if (sent._tag === "Success") {
        for (let index = 0; index < sent.success; index++) outcomes.push(ok)
      } else if (sent.failure.reason === "MessageRejected" && rest.length > 1) {
        // The service takes less than its link said: halve until the one that does not fit stands alone
        limit = Math.ceil(rest.length / 2)
      } else {
        const alone = sent.failure.reason === "MessageRejected" ? 1 : hints.length - outcomes.length
        for (let index = 0; index < alone; index++) outcomes.push({ _tag: "Failed", error: sent.failure })
      }
    }
    return outcomes
  })

  return {
    send,
    reached,
    schedule: Effect.fnUntraced(function* (entity, copies, delay) {
      const from = yield* sender("release", entity)
      const at = new Date((yield* Clock.currentTimeMillis) + delay)
      const messages = copies.map(({ deliveries, hint, receipt }) => ({
        ...toMessage(hint),
        messageId: `${messageId(hint)}:${receipt}`,
        applicationProperties: { [DELIVERIES]: deliveries }
      }))
      return yield* call({ operation: "release", entity, run: () => from.scheduleMessages(messages, at) })
    }),
    cancel: Effect.fnUntraced(function* (entity, copies) {
      const from = yield* sender("release", entity)
      yield* call({ operation: "release", entity, run: () => from.cancelScheduledMessages([...copies]) })
    }),
    open: (entity) =>
      Effect.flatMap(sender("health", entity), (from) => emptyBatch(entity, from)).pipe(
        Effect.catchTag("polyqueue/LockLost", (lost) =>
          Effect.fail(Failure.make("Unexpected", "health", lost.message))
        ),
        Effect.asVoid
      )
  }
}
