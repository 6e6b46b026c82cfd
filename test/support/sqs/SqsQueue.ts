/**
 * One queue of the SQS stand-in: visibility, receipts, receive counts, delays, FIFO groups and deduplication, redrive to
 * a dead-letter queue, retention. Synchronous and without a clock of its own; long polling and HTTP are the server's.
 */
import { createHash, randomUUID } from "node:crypto"
import * as Failure from "./SqsErrors.ts"

/** A request's body, not checked yet. */
export type Body = Readonly<Record<string, any>>

interface Message {
  readonly id: string
  readonly body: string
  readonly attributes: unknown
  readonly group: string | undefined
  readonly dedup: string | undefined
  readonly sequence: string | undefined
  readonly sent: number
  visibleAt: number
  count: number
  firstReceived: number | undefined
  received: number
  handle: string | undefined
  source: string | undefined
}

/** What a queue needs of the server it lives in. */
export interface World {
  readonly now: () => number
  /** Something may be receivable now. */
  readonly changed: () => void
  /** Something may be receivable then. */
  readonly wakeAt: (time: number) => void
  readonly queueByArn: (arn: string) => SqsQueue | undefined
}

export const HOLD_LIMIT = 43_200_000
const DEDUPLICATION = 300_000
const PURGE_COOLDOWN = 60_000
const MAX_BYTES = 1_048_576

const DEFAULTS: Record<string, string> = {
  VisibilityTimeout: "30",
  DelaySeconds: "0",
  MessageRetentionPeriod: "345600",
  MaximumMessageSize: String(MAX_BYTES),
  ReceiveMessageWaitTimeSeconds: "0"
}
const SETTABLE = new Set([
  ...Object.keys(DEFAULTS),
  "RedrivePolicy",
  "RedriveAllowPolicy",
  "FifoQueue",
  "ContentBasedDeduplication",
  "Policy",
  "KmsMasterKeyId",
  "KmsDataKeyReusePeriodSeconds",
  "DeduplicationScope",
  "FifoThroughputLimit",
  "SqsManagedSseEnabled"
])
/** XML 1.0 characters: what SQS takes. */
const FORBIDDEN = /[^\t\n\r\u0020-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/u

export const md5 = (text: string): string => createHash("md5").update(text).digest("hex")

/** A whole number within bounds, or AWS's complaint. */
export const int = (value: unknown, low: number, high: number, name: string): number => {
  const number = Number(value)
  if (Number.isInteger(number) && number >= low && number <= high) return number
  throw Failure.invalidParameter(
    `Value ${String(value)} for parameter ${name} is invalid. Reason: Must be >= ${low} and <= ${high}, if provided.`
  )
}

let sequence = 10n ** 19n

export class SqsQueue {
  readonly name: string
  readonly arn: string
  readonly fifo: boolean
  readonly world: World
  attributes: Record<string, string>
  /** By id, oldest first. */
  readonly messages = new Map<string, Message>()
  readonly created: number
  #dedup = new Map<string, { readonly at: number; readonly answer: Body }>()
  #purgedAt = -Infinity

  constructor(name: string, arn: string, attributes: Record<string, string>, world: World) {
    this.name = name
    this.arn = arn
    this.fifo = name.endsWith(".fifo")
    this.world = world
    this.created = world.now()
    this.attributes = { ...DEFAULTS }
    this.setAttributes(attributes)
  }

  setAttributes(changes: Record<string, string>): void {
    for (const name of Object.keys(changes)) if (!SETTABLE.has(name)) throw Failure.unknownAttribute(name)
    if (changes["VisibilityTimeout"]) int(changes["VisibilityTimeout"], 0, 43_200, "VisibilityTimeout")
    if (changes["DelaySeconds"]) int(changes["DelaySeconds"], 0, 900, "DelaySeconds")
    const policy = changes["RedrivePolicy"]
    if (policy && this.world.queueByArn(JSON.parse(policy).deadLetterTargetArn) === undefined) {
      throw Failure.invalidParameter(
        `Value ${policy} for parameter RedrivePolicy is invalid. Reason: Dead letter target does not exist.`
      )
    }
    Object.assign(this.attributes, changes)
  }

  get redrive(): { readonly deadLetterTargetArn: string; readonly maxReceiveCount: number } | undefined {
    const policy = this.attributes["RedrivePolicy"]
    return policy ? JSON.parse(policy) : undefined
  }

  send(entry: Body): Body {
    const body: unknown = entry["MessageBody"]
    if (typeof body !== "string" || body === "") throw Failure.missingParameter("MessageBody")
    const limit = Number(this.attributes["MaximumMessageSize"])
    if (Buffer.byteLength(body) > limit) {
      throw Failure.invalidParameter(
        `One or more parameters are invalid. Reason: Message must be shorter than ${limit} bytes.`
      )
    }
    if (FORBIDDEN.test(body)) throw Failure.invalidContents()
    const delay = this.#delayOf(entry)
    const dedup = this.fifo ? this.#dedupOf(entry, body) : undefined
    const now = this.world.now()
    if (dedup !== undefined) {
      const before = this.#dedup.get(dedup)
      if (before !== undefined && before.at > now - DEDUPLICATION) return before.answer
    }
    const message: Message = {
      id: randomUUID(),
      body,
      attributes: entry["MessageAttributes"],
      group: entry["MessageGroupId"],
      dedup,
      sequence: this.fifo ? String((sequence += 1n)) : undefined,
      sent: now,
      visibleAt: now + delay * 1000,
      count: 0,
      firstReceived: undefined,
      received: 0,
      handle: undefined,
      source: undefined
    }
    this.messages.set(message.id, message)
    if (delay > 0) this.world.wakeAt(message.visibleAt)
    else this.world.changed()
    const answer: Body = {
      MessageId: message.id,
      MD5OfMessageBody: md5(body),
      ...(message.sequence === undefined ? {} : { SequenceNumber: message.sequence })
    }
    if (dedup !== undefined) this.#dedup.set(dedup, { at: now, answer })
    return answer
  }

  #delayOf(entry: Body): number {
    const asked: unknown = entry["DelaySeconds"]
    if (asked === undefined) return Number(this.attributes["DelaySeconds"])
    if (this.fifo && asked !== 0) {
      throw Failure.invalidParameter(
        `Value ${String(asked)} for parameter DelaySeconds is invalid. Reason: The request include parameter that is ` +
          "not valid for this queue type."
      )
    }
    return int(asked, 0, 900, "DelaySeconds")
  }

  #dedupOf(entry: Body, body: string): string {
    for (const name of ["MessageGroupId", "MessageDeduplicationId"]) {
      const value: unknown = entry[name]
      if (value !== undefined && !/^[!-~]{1,128}$/.test(String(value))) {
        throw Failure.invalidParameter(
          `Value ${String(value)} for parameter ${name} is invalid. Reason: ${name} can only include alphanumeric and ` +
            "punctuation characters. 1 to 128 in length."
        )
      }
    }
    if (!entry["MessageGroupId"]) throw Failure.missingParameter("MessageGroupId")
    if (entry["MessageDeduplicationId"]) return entry["MessageDeduplicationId"]
    if (this.attributes["ContentBasedDeduplication"] === "true") {
      return createHash("sha256").update(body).digest("hex")
    }
    throw Failure.invalidParameter(
      "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly"
    )
  }

  /** Takes what is receivable: at most ten, never two that a group forbids, never one that is due for the other queue. */
  receive(request: Body): ReadonlyArray<Body> {
    const now = this.world.now()
    const max = int(request["MaxNumberOfMessages"] ?? 1, 1, 10, "MaxNumberOfMessages")
    const visibility = int(
      request["VisibilityTimeout"] ?? this.attributes["VisibilityTimeout"],
      0,
      43_200,
      "VisibilityTimeout"
    )
    const blocked = this.#blockedGroups(now)
    const taken: Array<Message> = []
    for (const message of this.messages.values()) {
      if (taken.length >= max) break
      if (message.visibleAt > now || blocked.has(message.group)) continue
      if (this.#outlived(message, now) || this.#redriven(message)) continue
      message.count++
      message.firstReceived ??= now
      message.received = now
      message.visibleAt = now + visibility * 1000
      message.handle = Buffer.from(JSON.stringify([this.name, message.id, randomUUID()])).toString("base64")
      this.world.wakeAt(message.visibleAt)
      taken.push(message)
    }
    return taken.map((message) => this.#view(message, request))
  }

  #blockedGroups(now: number): ReadonlySet<string | undefined> {
    const groups = new Set<string | undefined>()
    if (this.fifo) for (const message of this.messages.values()) if (message.visibleAt > now) groups.add(message.group)
    return groups
  }

  #outlived(message: Message, now: number): boolean {
    const over = message.sent + 1000 * Number(this.attributes["MessageRetentionPeriod"]) <= now
    if (over) this.messages.delete(message.id)
    return over
  }

  #redriven(message: Message): boolean {
    const policy = this.redrive
    if (policy === undefined || message.count < Number(policy.maxReceiveCount)) return false
    this.messages.delete(message.id)
    Object.assign(message, { count: 0, firstReceived: undefined, handle: undefined, source: this.arn })
    message.visibleAt = this.world.now()
    this.world.queueByArn(policy.deadLetterTargetArn)?.messages.set(message.id, message)
    this.world.changed()
    return true
  }

  #view(message: Message, request: Body): Body {
    const wanted = new Set<string>([
      ...(request["MessageSystemAttributeNames"] ?? []),
      ...(request["AttributeNames"] ?? [])
    ])
    const all: Record<string, string | undefined> = {
      SenderId: "AIDATEST",
      SentTimestamp: String(message.sent),
      ApproximateReceiveCount: String(message.count),
      ApproximateFirstReceiveTimestamp: String(message.firstReceived),
      MessageGroupId: message.group,
      MessageDeduplicationId: message.dedup,
      SequenceNumber: message.sequence,
      DeadLetterQueueSourceArn: message.source
    }
    const Attributes = Object.fromEntries(
      Object.entries(all).filter(([name, value]) => value !== undefined && (wanted.has("All") || wanted.has(name)))
    )
    return {
      MessageId: message.id,
      ReceiptHandle: message.handle,
      MD5OfBody: md5(message.body),
      Body: message.body,
      ...(Object.keys(Attributes).length === 0 ? {} : { Attributes }),
      ...(message.attributes === undefined || !request["MessageAttributeNames"]?.length
        ? {}
        : { MessageAttributes: message.attributes })
    }
  }

  /**
   * A handle of the past: "the request will succeed, but the message might not be deleted" on a standard queue, an error
   * on a FIFO one. The newest handle still deletes after its visibility timeout on a standard queue.
   */
  delete(handle: unknown): void {
    const message = this.#byHandle(handle)
    if (message === undefined) return
    if (this.fifo && (message.handle !== handle || !this.#inflight(message)))
      throw Failure.expiredHandle(String(handle))
    if (message.handle !== handle) return
    this.messages.delete(message.id)
    // The next of its group may be receivable
    this.world.changed()
  }

  changeVisibility(handle: unknown, timeout: unknown): void {
    const seconds = int(timeout, 0, 43_200, "VisibilityTimeout")
    const message = this.#byHandle(handle)
    if (message === undefined) throw Failure.noLongerThere(String(handle))
    if (message.handle !== handle || !this.#inflight(message)) throw Failure.notInflight()
    const now = this.world.now()
    if (now + seconds * 1000 > message.received + HOLD_LIMIT) throw Failure.heldTooLong()
    message.visibleAt = now + seconds * 1000
    if (seconds === 0) this.world.changed()
    else this.world.wakeAt(message.visibleAt)
  }

  /** Ends the visibility timeout of a delivery now, whoever holds it. */
  expire(handle: string): void {
    const message = this.#byHandle(handle)
    if (message === undefined || message.handle !== handle) return
    message.visibleAt = this.world.now()
    this.world.changed()
  }

  purge(): void {
    const now = this.world.now()
    if (this.#purgedAt > now - PURGE_COOLDOWN) throw Failure.purgeInProgress(this.name)
    this.#purgedAt = now
    this.messages.clear()
  }

  /** Moves everything to where it came from, or to `target`. */
  moveTo(target: (source: string | undefined) => SqsQueue | undefined): void {
    for (const message of Array.from(this.messages.values())) {
      const queue = target(message.source)
      if (queue === undefined) continue
      this.messages.delete(message.id)
      Object.assign(message, { count: 0, handle: undefined, visibleAt: this.world.now() })
      queue.messages.set(message.id, message)
    }
    this.world.changed()
  }

  describe(): Record<string, string> {
    const now = this.world.now()
    const all = [...this.messages.values()].filter((message) => !this.#outlived(message, now))
    const count = (matches: (message: Message) => boolean) => String(all.filter(matches).length)
    return {
      ...this.attributes,
      QueueArn: this.arn,
      CreatedTimestamp: String(Math.floor(this.created / 1000)),
      LastModifiedTimestamp: String(Math.floor(this.created / 1000)),
      ApproximateNumberOfMessages: count((m) => m.visibleAt <= now),
      ApproximateNumberOfMessagesNotVisible: count((m) => this.#inflight(m)),
      ApproximateNumberOfMessagesDelayed: count((m) => m.handle === undefined && m.visibleAt > now)
    }
  }

  #byHandle(handle: unknown): Message | undefined {
    if (typeof handle !== "string" || handle === "") throw Failure.missingParameter("ReceiptHandle")
    let parts: unknown
    try {
      parts = JSON.parse(Buffer.from(handle, "base64").toString())
    } catch {
      throw Failure.invalidHandle(handle)
    }
    if (!Array.isArray(parts) || parts[0] !== this.name) throw Failure.invalidHandle(handle)
    return this.messages.get(parts[1])
  }

  #inflight(message: Message): boolean {
    return message.handle !== undefined && message.visibleAt > this.world.now()
  }
}
