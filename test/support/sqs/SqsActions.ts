/**
 * The operations of the SQS stand-in: from a request's body to an answer or a `SqsFailure`, with long polling and partial
 * batch failures. It knows nothing of HTTP.
 */
import { randomUUID } from "node:crypto"
import * as Failure from "./SqsErrors.ts"
import { type Body, int, SqsQueue, type World } from "./SqsQueue.ts"

/** What a test may decide about the queues. */
export interface Options {
  /** A message may be given to a long poll whose client has gone, as AWS does. Default true. */
  readonly swallowsAbortedPolls?: boolean
  /** What becomes of a message sent. Default: kept. */
  readonly fate?: (queue: string) => "kept" | "lost" | "doubled"
}

/** One request, as far as an operation cares. */
export interface Call {
  readonly action: string
  readonly body: Body
  /** Entries of a batch that fail, and how. */
  readonly failing?: { readonly failure: Failure.SqsFailure; readonly indexes: ReadonlyArray<number> }
  /** Calls back when the client has gone. */
  readonly onGone: (listener: () => void) => void
}

interface Poll {
  readonly attempt: () => boolean
  readonly end: (messages: ReadonlyArray<Body>) => void
}

const ACCOUNT = "000000000000"
const REGION = "us-east-1"
const BATCH_BYTES = 1_048_576

export class SqsActions {
  readonly queues = new Map<string, SqsQueue>()
  readonly polls = new Set<Poll>()
  readonly #options: Options
  readonly #endpoint: () => string
  readonly #waiting: () => void
  readonly #deletedAt = new Map<string, number>()
  readonly #world: World
  #shift = 0
  #waking = false

  /** `waiting` is called when a poll begins to wait. */
  constructor(options: Options, endpoint: () => string, waiting: () => void) {
    this.#options = options
    this.#endpoint = endpoint
    this.#waiting = waiting
    this.#world = {
      now: () => Date.now() + this.#shift,
      changed: () => this.#wake(),
      wakeAt: (time) => void setTimeout(() => this.#wake(), Math.max(0, time - this.#world.now()) + 1).unref(),
      queueByArn: (arn) => [...this.queues.values()].find((queue) => queue.arn === arn)
    }
  }

  /** Moves the clock forward. */
  advance(millis: number): void {
    this.#shift += millis
    this.#wake()
  }

  /** Ends all polls, empty. */
  endPolls(): void {
    for (const poll of this.polls) poll.end([])
  }

  /** Lets the waiting polls try, oldest first, once per turn however much changed. */
  #wake(): void {
    if (this.#waking) return
    this.#waking = true
    setImmediate(() => {
      this.#waking = false
      for (const poll of this.polls) poll.attempt()
    })
  }

  async perform(call: Call): Promise<Body> {
    const { action, body } = call
    const batch = (one: (entry: Body) => Body) => this.#batch(call, one)
    switch (action) {
      case "CreateQueue":
        return this.#create(body)
      case "GetQueueUrl": {
        if (!this.queues.has(body["QueueName"])) throw Failure.missingQueue()
        return { QueueUrl: this.#urlOf(body["QueueName"]) }
      }
      case "ListQueues": {
        const names = [...this.queues.keys()].filter((name) => name.startsWith(body["QueueNamePrefix"] ?? ""))
        return { QueueUrls: names.map((name) => this.#urlOf(name)) }
      }
      case "DeleteQueue": {
        const queue = this.queueOf(body)
        this.queues.delete(queue.name)
        this.#deletedAt.set(queue.name, this.#world.now())
        return {}
      }
      case "PurgeQueue":
        this.queueOf(body).purge()
        return {}
      case "GetQueueAttributes": {
        const all = this.queueOf(body).describe()
        const names: ReadonlyArray<string> = body["AttributeNames"] ?? []
        const wanted = Object.entries(all).filter(([name]) => names.includes("All") || names.includes(name))
        return { Attributes: Object.fromEntries(wanted) }
      }
      case "SetQueueAttributes":
        this.queueOf(body).setAttributes(body["Attributes"] ?? {})
        return {}
      case "SendMessage":
        return this.#send(this.queueOf(body), body)
      case "SendMessageBatch": {
        const queue = this.queueOf(body)
        return batch((entry) => this.#send(queue, entry))
      }
      case "ReceiveMessage":
        return this.#receive(call)
      case "DeleteMessage":
        this.queueOf(body).delete(body["ReceiptHandle"])
        return {}
      case "DeleteMessageBatch": {
        const queue = this.queueOf(body)
        return batch((entry) => (queue.delete(entry["ReceiptHandle"]), {}))
      }
      case "ChangeMessageVisibility":
        this.queueOf(body).changeVisibility(body["ReceiptHandle"], body["VisibilityTimeout"])
        return {}
      case "ChangeMessageVisibilityBatch": {
        const queue = this.queueOf(body)
        return batch((entry) => (queue.changeVisibility(entry["ReceiptHandle"], entry["VisibilityTimeout"]), {}))
      }
      case "ListDeadLetterSourceQueues": {
        const { arn } = this.queueOf(body)
        const sources = [...this.queues.values()].filter((queue) => queue.redrive?.deadLetterTargetArn === arn)
        return { queueUrls: sources.map((queue) => this.#urlOf(queue.name)) }
      }
      case "StartMessageMoveTask": {
        const source = this.#world.queueByArn(body["SourceArn"])
        if (source === undefined) throw Failure.missingResource()
        source.moveTo((from) => this.#world.queueByArn(body["DestinationArn"] ?? from))
        return { TaskHandle: randomUUID() }
      }
      default:
        throw Failure.unsupported(action)
    }
  }

  #send(queue: SqsQueue, entry: Body): Body {
    const fate = this.#options.fate?.(queue.name) ?? "kept"
    const answer = queue.send(entry)
    if (fate === "lost") queue.messages.delete(answer["MessageId"])
    if (fate === "doubled" && !queue.fifo) queue.send(entry)
    return answer
  }

  #create(body: Body): Body {
    const name: string = body["QueueName"] ?? ""
    const attributes: Record<string, string> = body["Attributes"] ?? {}
    const fifo = attributes["FifoQueue"] === "true"
    if (!/^[\w-]{1,80}$/.test(name.replace(/\.fifo$/, "")) || name.length > 80 || fifo !== name.endsWith(".fifo")) {
      throw Failure.invalidParameter(
        "The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, must end with .fifo" +
          " suffix and be 1 to 80 in length."
      )
    }
    if ((this.#deletedAt.get(name) ?? -Infinity) > this.#world.now() - 60_000) throw Failure.deletedRecently()
    const existing = this.queues.get(name)
    if (existing === undefined) {
      const arn = `arn:aws:sqs:${REGION}:${ACCOUNT}:${name}`
      this.queues.set(name, new SqsQueue(name, arn, attributes, this.#world))
    }
    for (const [key, value] of Object.entries(attributes)) {
      if (existing !== undefined && existing.attributes[key] !== value) throw Failure.otherQueueOfThatName(key)
    }
    return { QueueUrl: this.#urlOf(name) }
  }

  async #receive({ body, onGone }: Call): Promise<Body> {
    const queue = this.queueOf(body)
    const asked = body["WaitTimeSeconds"] ?? queue.attributes["ReceiveMessageWaitTimeSeconds"]
    const wait = int(asked, 0, 20, "WaitTimeSeconds")
    const answer = (messages: ReadonlyArray<Body>): Body => (messages.length === 0 ? {} : { Messages: messages })
    const now = queue.receive(body)
    if (now.length > 0 || wait === 0) return answer(now)
    return new Promise((resolve) => {
      const poll: Poll = {
        attempt: () => {
          const messages = queue.receive(body)
          if (messages.length > 0) poll.end(messages)
          return messages.length > 0
        },
        end: (messages) => {
          this.polls.delete(poll)
          clearTimeout(timer)
          resolve(answer(messages))
        }
      }
      const timer = setTimeout(() => poll.end([]), wait * 1000).unref()
      if (this.#options.swallowsAbortedPolls === false) onGone(() => poll.end([]))
      this.polls.add(poll)
      this.#waiting()
    })
  }

  #batch({ body, failing }: Call, one: (entry: Body) => Body): Body {
    const entries: ReadonlyArray<Body> = body["Entries"] ?? []
    if (entries.length === 0) throw Failure.emptyBatch()
    if (entries.length > 10) throw Failure.tooManyEntries(entries.length)
    const ids = new Set<string>()
    for (const { Id } of entries) {
      if (!/^[\w-]{1,80}$/.test(Id)) throw Failure.invalidEntryId()
      if (ids.has(Id)) throw Failure.repeatedEntryId(Id)
      ids.add(Id)
    }
    const bytes = entries.reduce((sum, entry) => sum + Buffer.byteLength(entry["MessageBody"] ?? ""), 0)
    if (bytes > BATCH_BYTES) throw Failure.batchTooLong()
    const Successful: Array<Body> = []
    const Failed: Array<Body> = []
    for (const [index, entry] of entries.entries()) {
      try {
        if (failing?.indexes.includes(index)) throw failing.failure
        Successful.push({ Id: entry["Id"], ...one(entry) })
      } catch (error) {
        if (!(error instanceof Failure.SqsFailure)) throw error
        const SenderFault = error !== failing?.failure
        Failed.push({ Id: entry["Id"], SenderFault, Code: error.code, Message: error.message })
      }
    }
    return { ...(Successful.length === 0 ? {} : { Successful }), ...(Failed.length === 0 ? {} : { Failed }) }
  }

  queueOf(body: Body): SqsQueue {
    const url: unknown = body["QueueUrl"]
    if (typeof url !== "string") throw Failure.missingParameter("QueueUrl")
    const queue = this.queues.get(url.split("/").at(-1)!)
    if (queue === undefined) throw Failure.missingQueue()
    return queue
  }

  #urlOf(name: string): string {
    return `${this.#endpoint()}/${ACCOUNT}/${name}`
  }
}
