/**
 * A stand-in for Amazon SQS on localhost, for the vendor's real SDK: the AWS JSON 1.0 protocol with long polling,
 * receipts, visibility, partial batch failures, FIFO, dead-letter queues and AWS's limits and errors, in memory. It
 * encodes AWS's documentation, checked by `SqsServer.test.ts`, which can be pointed at other servers.
 *
 * Two habits of the real one matter to clients: a poll whose client went away still takes a message
 * (`swallowsAbortedPolls`), and batches answer 200 with failures inside. Beyond SQS: a request log, faults, and a
 * server that can be stopped and started on its port.
 */
import { randomUUID } from "node:crypto"
import http from "node:http"
import type { AddressInfo } from "node:net"
import * as Failure from "./sqs/SqsErrors.ts"
import { type Options, SqsActions } from "./sqs/SqsActions.ts"
import type { Body } from "./sqs/SqsQueue.ts"

export type { Options } from "./sqs/SqsActions.ts"
export * as SqsErrors from "./sqs/SqsErrors.ts"

/** What goes wrong with a request. */
export type Fault =
  /** It is refused with this error. */
  | { readonly _tag: "Error"; readonly failure: Failure.SqsFailure }
  /** These entries of a batch fail with this error, by no fault of the sender; the others are done. */
  | { readonly _tag: "Entries"; readonly failure: Failure.SqsFailure; readonly indexes: ReadonlyArray<number> }
  /** The connection is cut, before or after the work is done. */
  | { readonly _tag: "Cut"; readonly when: "before" | "after" }
  /** It is done, but never answered. */
  | { readonly _tag: "Hang" }
  /** It waits this many milliseconds before it is done. */
  | { readonly _tag: "Delay"; readonly millis: number }

/** One request as the server saw it. */
export interface Logged {
  readonly action: string
  /** The last part of the queue's URL. */
  readonly queue: string
  /** Items of a batch; 1 where it was no batch. */
  readonly entries: number
  readonly request: Body
  /** Undefined until it is answered. */
  status: number | undefined
}

/** Starts a server on a free port. `close` it. */
export const startSqs = async (options: Options = {}): Promise<SqsServer> => {
  const server = new SqsServer(options)
  await server.start()
  return server
}

export class SqsServer {
  readonly requests: Array<Logged> = []
  readonly #actions: SqsActions
  readonly #faults: Array<{ readonly action: string; readonly fault: Fault; left: number }> = []
  readonly #watchers = new Set<() => void>()
  #port = 0
  #server: http.Server | undefined

  constructor(options: Options) {
    this.#actions = new SqsActions(
      options,
      () => this.endpoint,
      () => this.#notify()
    )
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.#port}`
  }

  /** Long polls that wait now. */
  get polls(): number {
    return this.#actions.polls.size
  }

  /** Open connections. */
  connections(): Promise<number> {
    return new Promise((resolve, reject) => {
      if (this.#server === undefined) resolve(0)
      else this.#server.getConnections((error, count) => (error === null ? resolve(count) : reject(error)))
    })
  }

  /** Listens, on the port of before if there was one. */
  async start(): Promise<void> {
    const server = http.createServer((request, response) => this.#accept(request, response))
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject)
      server.listen(this.#port, "127.0.0.1", resolve)
    })
    // Idle connections stay until somebody closes them: a client that leaks some is seen
    server.keepAliveTimeout = 0
    this.#server = server
    this.#port = (server.address() as AddressInfo).port
  }

  /** Cuts all connections and listens no more. Queues are kept for the next `start`. */
  async close(): Promise<void> {
    const server = this.#server
    if (server === undefined) return
    this.#server = undefined
    await new Promise<void>((resolve) => {
      server.close(() => resolve())
      server.closeAllConnections()
    })
    this.#actions.endPolls()
  }

  /** The next `times` requests of this action (`*`: any) meet this fault. */
  fail(action: string, fault: Fault, times = 1): void {
    this.#faults.push({ action, fault, left: times })
  }

  /** Ends all faults. */
  heal(): void {
    this.#faults.length = 0
  }

  /** Moves the server's clock forward. */
  advance(millis: number): void {
    this.#actions.advance(millis)
  }

  /** Ends the visibility timeout of a delivery now. */
  expire(handle: string): void {
    for (const queue of this.#actions.queues.values()) {
      if ([...queue.messages.values()].some((message) => message.handle === handle)) queue.expire(handle)
    }
  }

  /** Everything in a queue is gone, as after a purge or a loss. */
  wipe(): void {
    for (const queue of this.#actions.queues.values()) queue.messages.clear()
  }

  /** How many messages a queue holds, whatever their state. */
  size(queueUrl: string): number {
    return this.#actions.queueOf({ QueueUrl: queueUrl }).messages.size
  }

  /** Requests of an action, oldest first. */
  requestsOf(action: string): ReadonlyArray<Logged> {
    return this.requests.filter((request) => request.action === action)
  }

  /** Waits until this holds; it is asked whenever a request came, was answered, or began to wait. */
  async until(holds: () => boolean): Promise<void> {
    if (holds()) return
    await new Promise<void>((resolve) => {
      const watcher = () => {
        if (!holds()) return
        this.#watchers.delete(watcher)
        resolve()
      }
      this.#watchers.add(watcher)
    })
  }

  #notify(): void {
    for (const watcher of this.#watchers) watcher()
  }

  #accept(request: http.IncomingMessage, response: http.ServerResponse): void {
    const chunks: Array<Buffer> = []
    request.on("error", () => response.destroy())
    request.on("data", (chunk: Buffer) => chunks.push(chunk))
    request.on("end", () => {
      const action = String(request.headers["x-amz-target"] ?? "").replace(/^AmazonSQS\./, "")
      const text = Buffer.concat(chunks).toString()
      const body: Body = text === "" ? {} : JSON.parse(text)
      const logged: Logged = {
        action,
        queue: String(body["QueueUrl"] ?? body["QueueName"] ?? "")
          .split("/")
          .at(-1)!,
        entries: body["Entries"]?.length ?? 1,
        request: body,
        status: undefined
      }
      this.requests.push(logged)
      this.#notify()
      void this.#answer(action, body, response).then(
        (answer) => this.#reply(response, logged, 200, answer),
        (error: unknown) => {
          const failure = error instanceof Failure.SqsFailure ? error : Failure.internalFailure()
          const side = failure.status >= 500 ? "Receiver" : "Sender"
          this.#reply(
            response,
            logged,
            failure.status,
            { __type: failure.type, message: failure.message },
            { "x-amzn-query-error": `${failure.code};${side}` }
          )
        }
      )
    })
  }

  #reply(
    response: http.ServerResponse,
    logged: Logged,
    status: number,
    body: Body | undefined,
    headers: Record<string, string> = {}
  ): void {
    logged.status = status
    if (body !== undefined && !response.destroyed) {
      response.writeHead(status, {
        "content-type": "application/x-amz-json-1.0",
        "x-amzn-requestid": randomUUID(),
        ...headers
      })
      response.end(JSON.stringify(body))
    }
    this.#notify()
  }

  /** The answer, or undefined when there will be none. */
  async #answer(action: string, body: Body, response: http.ServerResponse): Promise<Body | undefined> {
    const fault = this.#faultFor(action)
    const call = { action, body, onGone: (listener: () => void) => void response.once("close", listener) }
    switch (fault?._tag) {
      case undefined:
        return this.#actions.perform(call)
      case "Error":
        throw fault.failure
      case "Entries":
        return this.#actions.perform({ ...call, failing: fault })
      case "Delay":
        await new Promise((resolve) => setTimeout(resolve, fault.millis))
        return this.#actions.perform(call)
      case "Hang":
        await this.#actions.perform(call)
        return undefined
      case "Cut":
        if (fault.when === "after") await this.#actions.perform(call)
        response.socket?.destroy()
        return undefined
    }
  }

  #faultFor(action: string): Fault | undefined {
    const index = this.#faults.findIndex((entry) => entry.action === "*" || entry.action === action)
    const found = this.#faults[index]
    if (found !== undefined && --found.left <= 0) this.#faults.splice(index, 1)
    return found?.fault
  }
}
