/**
 * Receiving from one entity. A receive of the SDK is never abandoned: messages sent to a receive that nobody reads stay
 * locked until their lock ends. So each one is short, runs to its end whatever becomes of who asked, and what it brings
 * waits here for the next who asks.
 */
import type { ServiceBusReceivedMessage, ServiceBusReceiver } from "@azure/service-bus"
import type { BrokerError } from "../../JobError.ts"
import type { Connection } from "./Connection.ts"
import * as Failure from "./Failure.ts"
import { Turns } from "./Turns.ts"

/** A message that was received and not settled yet. */
export interface Held {
  readonly inbox: Inbox
  readonly message: ServiceBusReceivedMessage
  /** When we received it, and when its lock was last renewed, by our clock. */
  readonly since: number
  touched: number
  /** Whether its long hold was reported. */
  warned: boolean
  /** A settlement of it went out and was not answered. */
  unsure: boolean
}

/** Room for the answer to the drain that ends each receive. */
const ANSWER = 10_000

/** One entity's receiving side, for one consumer. */
export class Inbox {
  readonly entity: string
  /** For settlements of what was received here: they share a link. */
  readonly turns = new Turns()
  readonly #connection: Connection
  readonly #ring: () => void
  readonly #ignoreRenewal: () => void
  readonly #arrived: Array<ServiceBusReceivedMessage> = []
  #receiver: ServiceBusReceiver | undefined
  #latest: ServiceBusReceivedMessage | undefined
  #failure: BrokerError | undefined
  #running: { readonly ends: Promise<void>; readonly deadline: number; readonly isLook: boolean } | undefined

  /** `ring` is called when something arrived or went wrong. */
  constructor(entity: string, connection: Connection, ring: () => void) {
    this.entity = entity
    this.#connection = connection
    this.#ring = ring
    this.#ignoreRenewal = connection.onRenewal(() => {
      this.#receiver = undefined
      this.#latest = undefined
      this.#running = undefined
      ring()
    })
  }

  /** Whether a receive is under way; `look`: one that only looks what is there. */
  isReceiving(kind?: "look"): boolean {
    return this.#running !== undefined && (kind === undefined || this.#running.isLook)
  }

  /** When the receive under way should have been answered, by our clock. */
  get deadline(): number | undefined {
    return this.#running?.deadline
  }

  /** What arrived and was not taken. */
  get waiting(): number {
    return this.#arrived.length
  }

  /** Starts to receive at most `max` messages for `wait` milliseconds. Not while one is under way. */
  start(max: number, wait: number, now: number, isLook: boolean): void {
    const ends = this.#receive(max, wait).finally(() => {
      if (this.#running?.ends !== ends) return
      this.#running = undefined
      this.#ring()
    })
    this.#running = { ends, deadline: now + wait + ANSWER, isLook }
  }

  /** Takes up to `max` of what arrived. */
  take(max: number): ReadonlyArray<ServiceBusReceivedMessage> {
    return this.#arrived.splice(0, max)
  }

  /** Takes what went wrong, once. */
  takeFailure(): BrokerError | undefined {
    const failure = this.#failure
    this.#failure = undefined
    return failure
  }

  /** Gives up a receive that was not answered by its deadline, and the connection with it. */
  giveUp(): void {
    this.#connection.renew()
    const told = `receiving from Service Bus queue "${this.entity}" was not answered in time; it is connected anew`
    this.#failure = Failure.make("Unavailable", "receive", told)
  }

  /** The receiver, which also settles and renews what earlier ones received. */
  receiver(): ServiceBusReceiver {
    this.#receiver ??= this.#connection.client().createReceiver(this.entity, {
      receiveMode: "peekLock",
      // Renewed by us, together with the lease in Postgres
      maxAutoLockRenewalDurationInMs: 0,
      skipParsingBodyAsJson: true
    })
    return this.#receiver
  }

  /**
   * Leaves the current link. The SDK opens a lost link again under its old name, and then settles deliveries of the old
   * one on it, which the service never answers; with a new receiver it settles them by their lock tokens.
   */
  renew(): void {
    const old = this.#receiver
    this.#receiver = undefined
    this.#latest = undefined
    // Its link is lost or stuck: nothing depends on how closing it ends
    old?.close().catch(() => {})
  }

  /** Waits until the receive under way is over; then nothing is sent to us any more. */
  ended(): Promise<void> {
    return this.#running?.ends ?? Promise.resolve()
  }

  /** Closes the link. */
  async close(): Promise<void> {
    this.#ignoreRenewal()
    await this.#receiver?.close()
  }

  async #receive(max: number, wait: number): Promise<void> {
    if (this.#latest !== undefined && !isLinkOpen(this.#latest)) this.renew()
    try {
      const messages = await this.receiver().receiveMessages(max, { maxWaitTimeInMs: wait })
      this.#latest = messages.at(-1) ?? this.#latest
      this.#arrived.push(...messages)
    } catch (thrown) {
      const failure = this.#connection.failure("receive", this.entity, thrown)
      this.#failure = failure._tag === "BrokerError" ? failure : Failure.make("Unexpected", "receive", failure.message)
      this.renew()
    }
  }
}

/** Whether the link that a message came on still stands. The SDK keeps it on the message, undocumented: else `true`. */
const isLinkOpen = (message: ServiceBusReceivedMessage): boolean => {
  const delivery: unknown = Reflect.get(message, "delivery")
  const link: unknown = typeof delivery === "object" && delivery !== null ? Reflect.get(delivery, "link") : undefined
  if (typeof link !== "object" || link === null) return true
  const isOpen: unknown = Reflect.get(link, "is_open")
  return typeof isOpen !== "function" || Reflect.apply(isOpen, link, []) !== false
}
