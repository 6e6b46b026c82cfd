/**
 * One Service Bus queue in memory, as Microsoft documents it: peek-lock with a fixed lock duration, renewal, delivery
 * count and dead-letter queue, scheduled messages, deferral, duplicate detection. Knows nothing of links and frames: the
 * server hands it `Outlet`s that take messages while they have credit.
 */
import { randomUUID } from "node:crypto"
import rhea from "rhea"

/** What an entity is made with. */
export interface QueueOptions {
  /** Milliseconds a lock lasts from delivery or renewal. The real default is 60 s, its maximum five minutes. */
  readonly lockDuration?: number
  /** Deliveries after which a message is dead-lettered. */
  readonly maxDeliveryCount?: number
  /** Drops messages whose id was seen before (here: for ever). */
  readonly duplicateDetection?: boolean
}

/** A decoded AMQP message with what the broker adds. */
export interface Stored {
  readonly amqp: Record<string, any>
  readonly sequence: number
  readonly enqueuedAt: number
  readonly annotations: Record<string, any>
  /** How often it was delivered and came back. */
  deliveries: number
}

/** Where messages go: a receiver link of a client. */
export interface Outlet {
  readonly hasCredit: () => boolean
  readonly credit: () => number
  readonly settlesOnSend: boolean
  readonly deliver: (encoded: Buffer, lockToken: string) => void
}

/** A refusal, as AMQP carries it. */
export interface Refusal {
  readonly condition: string
  readonly description: string
}

/** What a client says about a delivery it holds. */
export type Disposition =
  | { readonly how: "complete" | "release" }
  | { readonly how: "abandon" | "defer"; readonly properties?: Record<string, unknown> | undefined }
  | {
      readonly how: "deadLetter"
      readonly reason?: string | undefined
      readonly description?: string | undefined
      readonly properties?: Record<string, unknown> | undefined
    }

interface Lock {
  readonly message: Stored
  until: number
  timer: NodeJS.Timeout
}

interface Scheduled {
  readonly amqp: Record<string, any>
  readonly at: number
  readonly timer: NodeJS.Timeout
}

const { message: codec, types } = rhea

/** The refusal of a settlement or renewal that came too late. */
export const lockLost: Refusal = {
  condition: "com.microsoft:message-lock-lost",
  description: "The lock supplied is invalid. Either the lock expired, or the message has already been removed."
}

/** One queue, and behind it its dead-letter queue. */
export class EmulatedQueue {
  readonly name: string
  readonly lockDuration: number
  readonly maxDeliveryCount: number
  readonly deadLetter: EmulatedQueue | undefined
  readonly active: Array<Stored> = []
  readonly locks = new Map<string, Lock>()
  readonly scheduled = new Map<number, Scheduled>()
  readonly deferred = new Map<number, Stored>()
  readonly outlets = new Set<Outlet>()
  /** How often a lock was renewed. */
  renewals = 0
  readonly #seen: Set<string> | undefined
  #sequence = 0

  constructor(name: string, options: QueueOptions = {}, isDeadLetter = false) {
    this.name = name
    this.lockDuration = options.lockDuration ?? 30_000
    this.maxDeliveryCount = isDeadLetter ? Infinity : (options.maxDeliveryCount ?? 10)
    this.#seen = options.duplicateDetection === true ? new Set() : undefined
    this.deadLetter = isDeadLetter ? undefined : new EmulatedQueue(`${name}/$deadletterqueue`, options, true)
  }

  /** Takes a message that a client sent, now or at its scheduled time. */
  accept(amqp: Record<string, any>): void {
    const at = amqp.message_annotations?.["x-opt-scheduled-enqueue-time"]
    if (at !== undefined && +at > Date.now()) this.schedule(amqp, +at)
    else if (!this.#isDuplicate(amqp)) this.#enqueue(amqp, {})
  }

  /** Takes a message to be enqueued at `at`; answers the sequence number that cancels it. */
  schedule(amqp: Record<string, any>, at: number): number {
    const sequence = ++this.#sequence
    if (this.#isDuplicate(amqp)) return sequence
    const due = () => {
      this.scheduled.delete(sequence)
      this.#enqueue(amqp, { "x-opt-enqueue-sequence-number": types.wrap_long(sequence) })
    }
    this.scheduled.set(sequence, { amqp, at, timer: setTimeout(due, Math.max(0, at - Date.now())) })
    return sequence
  }

  /** Forgets a scheduled message; `false` when there is none. */
  cancel(sequence: number): boolean {
    clearTimeout(this.scheduled.get(sequence)?.timer)
    return this.scheduled.delete(sequence)
  }

  /** Hands messages to outlets in turn, as long as both last. */
  pump(): void {
    for (;;) {
      const ready = [...this.outlets].filter((outlet) => outlet.hasCredit())
      if (ready.length === 0 || this.active.length === 0) return
      for (const outlet of ready) {
        const message = this.active.shift()
        if (message === undefined) return
        const token = randomUUID()
        if (outlet.settlesOnSend) outlet.deliver(this.encode(message), token)
        else outlet.deliver(this.encode(message, this.lock(token, message)), token)
      }
    }
  }

  /** Locks a message under a token; answers until when. */
  lock(token: string, message: Stored): number {
    const until = Date.now() + this.lockDuration
    this.locks.set(token, { message, until, timer: setTimeout(() => this.expire(token), this.lockDuration) })
    return until
  }

  /** Resets a lock to the queue's lock duration; `undefined` when it is lost. */
  renew(token: string): number | undefined {
    const lock = this.locks.get(token)
    if (lock === undefined) return undefined
    clearTimeout(lock.timer)
    lock.until = Date.now() + this.lockDuration
    lock.timer = setTimeout(() => this.expire(token), this.lockDuration)
    this.renewals++
    return lock.until
  }

  /** Ends a lock as time would: the message comes again, counted. */
  expire(token: string): void {
    const message = this.#unlock(token)
    if (message !== undefined) this.#return(message)
  }

  /** Ends every lock now. */
  expireAll(): void {
    const held = Array.from(this.locks.keys())
    for (const token of held) this.expire(token)
  }

  /** Does what a client says about its delivery; a refusal when it is no longer the client's. */
  settle(token: string, disposition: Disposition): Refusal | undefined {
    const message = this.#unlock(token)
    if (message === undefined) return lockLost
    switch (disposition.how) {
      case "complete":
        return undefined
      case "release":
        message.deliveries--
        this.#return(message)
        return undefined
      case "abandon":
        this.#return(withProperties(message, disposition.properties))
        return undefined
      case "defer":
        this.deferred.set(message.sequence, withProperties(message, disposition.properties))
        return undefined
      case "deadLetter":
        this.#bury(message, disposition)
        return undefined
    }
  }

  /** Takes a deferred message out by its sequence number. */
  takeDeferred(sequence: number): Stored | undefined {
    const message = this.deferred.get(sequence)
    this.deferred.delete(sequence)
    return message
  }

  /** Messages from a sequence number on, whatever their state, without locking them. */
  peek(from: number, count: number): ReadonlyArray<Buffer> {
    const all: Array<readonly [number, () => Buffer]> = [
      ...this.active.map((message) => [message.sequence, () => this.encode(message)] as const),
      ...[...this.locks.values()].map(({ message }) => [message.sequence, () => this.encode(message)] as const),
      ...[...this.deferred.values()].map((message) => [message.sequence, () => this.encode(message, 0, 1)] as const),
      ...[...this.scheduled].map(([sequence, { amqp, at }]) => {
        const annotations = { "x-opt-scheduled-enqueue-time": types.wrap_timestamp(at) }
        const message = { amqp, sequence, enqueuedAt: at, annotations, deliveries: 0 }
        return [sequence, () => this.encode(message, 0, 2)] as const
      })
    ]
    const found = all.filter(([sequence]) => sequence >= from).sort(([a], [b]) => a - b)
    return found.slice(0, count).map(([, encode]) => encode())
  }

  /** A message as the client gets it. State: 0 active, 1 deferred, 2 scheduled. */
  encode(message: Stored, lockedUntil = 0, state = 0): Buffer {
    return codec.encode({
      ...message.amqp,
      delivery_count: message.deliveries,
      message_annotations: {
        ...message.amqp.message_annotations,
        ...message.annotations,
        "x-opt-sequence-number": types.wrap_long(message.sequence),
        "x-opt-enqueued-time": types.wrap_timestamp(message.enqueuedAt),
        ...(lockedUntil > 0 ? { "x-opt-locked-until": types.wrap_timestamp(lockedUntil) } : {}),
        "x-opt-message-state": types.wrap_int(state)
      }
    })
  }

  /** How many messages are in which state. */
  get counts() {
    return {
      active: this.active.length,
      locked: this.locks.size,
      scheduled: this.scheduled.size,
      deferred: this.deferred.size,
      dead: this.deadLetter?.active.length ?? 0
    }
  }

  /** Forgets everything, as an outage without storage would: also what is locked or scheduled. */
  clear(): void {
    for (const { timer } of this.locks.values()) clearTimeout(timer)
    for (const { timer } of this.scheduled.values()) clearTimeout(timer)
    this.locks.clear()
    this.scheduled.clear()
    this.active.length = 0
  }

  /** Stops all timers. */
  close(): void {
    for (const { timer } of this.locks.values()) clearTimeout(timer)
    for (const { timer } of this.scheduled.values()) clearTimeout(timer)
    this.deadLetter?.close()
  }

  #enqueue(amqp: Record<string, any>, annotations: Record<string, any>): void {
    const { message_annotations: own, ...rest } = amqp
    const at = own?.["x-opt-scheduled-enqueue-time"]
    const kept = at === undefined ? own : { ...own, "x-opt-scheduled-enqueue-time": types.wrap_timestamp(+at) }
    this.active.push({
      amqp: { ...rest, message_annotations: kept },
      sequence: ++this.#sequence,
      enqueuedAt: Date.now(),
      annotations,
      deliveries: 0
    })
    this.pump()
  }

  #isDuplicate({ message_id: id }: Record<string, any>): boolean {
    if (this.#seen === undefined || id === undefined) return false
    const before = this.#seen.size
    return this.#seen.add(String(id)).size === before
  }

  #unlock(token: string): Stored | undefined {
    const lock = this.locks.get(token)
    clearTimeout(lock?.timer)
    this.locks.delete(token)
    return lock?.message
  }

  /** Back into its place, counted, or into the dead-letter queue. */
  #return(message: Stored): void {
    message.deliveries++
    if (message.deliveries >= this.maxDeliveryCount) {
      const description = `Message could not be consumed after ${this.maxDeliveryCount} delivery attempts.`
      this.#bury(message, { reason: "MaxDeliveryCountExceeded", description })
      return
    }
    const place = this.active.findIndex((other) => other.sequence > message.sequence)
    this.active.splice(place < 0 ? this.active.length : place, 0, message)
    this.pump()
  }

  #bury(
    message: Stored,
    why: {
      readonly reason?: string | undefined
      readonly description?: string | undefined
      readonly properties?: Record<string, unknown> | undefined
    }
  ): void {
    const buried = withProperties(message, {
      ...why.properties,
      ...(why.reason === undefined ? {} : { DeadLetterReason: why.reason }),
      ...(why.description === undefined ? {} : { DeadLetterErrorDescription: why.description })
    })
    const target = this.deadLetter ?? this
    target.#enqueue(buried.amqp, { "x-opt-deadletter-source": this.name })
  }
}

const withProperties = (message: Stored, properties: Record<string, unknown> | undefined): Stored => ({
  ...message,
  amqp: { ...message.amqp, application_properties: { ...message.amqp.application_properties, ...properties } }
})
