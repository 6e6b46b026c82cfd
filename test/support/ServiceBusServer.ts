/**
 * A local Azure Service Bus on AMQP 1.0, for the vendor's real SDK: CBS, sender and receiver links, settlement by
 * disposition, credit and drain, `$management`. Speaks plain TCP; its connection string says
 * `UseDevelopmentEmulator=true`, which makes the SDK do the same. Faults are injected through `faults`, `detach`,
 * `dropConnections`, `stop` and `start`.
 *
 * What the queues behind it do is in `serviceBus/`; `ServiceBusServer.test.ts` compares it with the documentation.
 */
import type { AddressInfo, Server } from "node:net"
import rhea, { type Connection, type EventContext, type Receiver, type Sender } from "rhea"
import { type Disposition, EmulatedQueue, type Outlet, type QueueOptions } from "./serviceBus/EmulatedQueue.ts"
import { Turns } from "../../src/broker/serviceBus/Turns.ts"
import type { Faults } from "./serviceBus/Faults.ts"
import { answer } from "./serviceBus/Management.ts"
import { deliveryTag, drainable, internals, missing, notFound } from "./serviceBus/Wire.ts"

const { message: codec, types } = rhea
/** The message format of a batch that the SDK sends: each data section is a message. */
const BATCH = 0x80013700
const MAX_MESSAGE_SIZE = 262_144
const MANAGEMENT = "/$management"
const DEAD_LETTER = "/$deadletterqueue"

/** What a link of a client is about, besides what rhea knows. */
interface Attached {
  readonly queue: EmulatedQueue
  readonly outlet: Outlet
  /** Sent since the last flow: rhea counts credit only when the frame is written. */
  outstanding: number
  readonly turns: Turns
}

/** The server. Make it with `ServiceBusServer.start`. */
export class ServiceBusServer {
  readonly faults: Faults = {}
  /** How often each operation was asked for: `send`, `complete`, `com.microsoft:renew-lock`, … */
  readonly calls = new Map<string, number>()
  /** The tokens that were presented. */
  readonly tokens: Array<string> = []
  /** The largest number of management requests that were unanswered at one time. */
  peakManagement = 0
  readonly #host = "127.0.0.1"
  readonly #queues = new Map<string, EmulatedQueue>()
  readonly #connections = new Set<Connection>()
  readonly #attached = new WeakMap<object, Attached>()
  /** Where replies go, per connection: links by their address and by their name. */
  readonly #replies = new WeakMap<object, Map<string, Sender>>()
  readonly #tokens = new WeakMap<object, string>()
  readonly #container = rhea.create_container({ id: "service-bus-server" })
  #listener: Server | undefined
  #port = 0
  #unanswered = 0

  /** Starts a server with these queues, on a free port. */
  static async start(queues: Readonly<Record<string, QueueOptions>> = {}): Promise<ServiceBusServer> {
    const server = new ServiceBusServer()
    for (const [name, options] of Object.entries(queues)) server.createQueue(name, options)
    server.#listen()
    await server.start()
    return server
  }

  /** What the SDK connects with. */
  get connectionString(): string {
    return `Endpoint=sb://${this.#host}:${this.#port};SharedAccessKeyName=Root;SharedAccessKey=c2VjcmV0LWtleQ==;UseDevelopmentEmulator=true;`
  }

  /** Makes a queue, or empties it if it exists. */
  createQueue(name: string, options: QueueOptions = {}): EmulatedQueue {
    this.#queues.get(name.toLowerCase())?.close()
    const queue = new EmulatedQueue(name, options)
    this.#queues.set(name.toLowerCase(), queue)
    return queue
  }

  /** A queue by its address: also `<name>/$DeadLetterQueue`. */
  queue(address: string): EmulatedQueue {
    const queue = this.#find(address)
    if (queue === undefined) throw new Error(`no queue ${address}`)
    return queue
  }

  /** How many links of clients receive from a queue. */
  receivers(name: string): number {
    return this.queue(name).outlets.size
  }

  /** How many messages the receivers of a queue are ready to take. */
  credit(name: string): number {
    return [...this.queue(name).outlets].reduce((sum, outlet) => sum + outlet.credit(), 0)
  }

  /** Open connections of clients. */
  get connections(): number {
    return this.#connections.size
  }

  /** Listens, again after `stop`, on the same port. */
  async start(): Promise<void> {
    const options = {
      port: this.#port,
      host: this.#host,
      max_frame_size: 65_536,
      receiver_options: { autoaccept: false, credit_window: 1_000 },
      sender_options: { autosettle: false, treat_modified_as_released: false }
    }
    const listener = this.#container.listen(options) as unknown as Server
    this.#listener = listener
    await new Promise<void>((resolve, reject) => {
      listener.once("listening", resolve)
      listener.once("error", reject)
    })
    this.#port = (listener.address() as AddressInfo).port
  }

  /** Stops listening and drops every connection; messages stay. */
  async stop(): Promise<void> {
    const closed = new Promise((resolve) => this.#listener?.close(resolve))
    this.dropConnections()
    await closed
  }

  /** Ends the server and its timers. */
  async close(): Promise<void> {
    for (const queue of this.#queues.values()) queue.close()
    await this.stop()
  }

  /** Resets every TCP connection, as a network does. */
  dropConnections(): void {
    const open = Array.from(this.#connections)
    for (const connection of open) {
      ;(connection as unknown as { socket: { destroy(): void } }).socket.destroy()
      // rhea tells the end of a socket that the other side closed only
      this.#gone(connection)
    }
  }

  /** Detaches every receiving link of a queue with an error, as the service does when it moves an entity. */
  detach(name: string): void {
    const refusal = { condition: "amqp:link:detach-forced", description: "The link was detached by the service." }
    for (const connection of this.#connections) {
      connection.each_link((link: Sender) => {
        if (this.#attached.get(link)?.queue.name === name) link.close(refusal)
      })
    }
  }

  #find(address: string | undefined): EmulatedQueue | undefined {
    const name = (address ?? "").toLowerCase()
    return name.endsWith(DEAD_LETTER)
      ? this.#queues.get(name.slice(0, -DEAD_LETTER.length))?.deadLetter
      : this.#queues.get(name)
  }

  #count(operation: string): void {
    this.calls.set(operation, (this.calls.get(operation) ?? 0) + 1)
  }

  #listen(): void {
    const container = this.#container
    // The SDK of an emulator offers ANONYMOUS; others a name and a password
    container.sasl_server_mechanisms.enable_anonymous()
    container.sasl_server_mechanisms.enable_plain(() => true)
    container.on("connection_open", ({ connection }: EventContext) => {
      this.#connections.add(connection)
      this.#replies.set(connection, new Map())
    })
    container.on("connection_close", ({ connection }: EventContext) => this.#gone(connection))
    container.on("disconnected", ({ connection }: EventContext) => this.#gone(connection))
    // Clients may end links and connections with errors; that is their business
    for (const name of ["connection_error", "session_error", "sender_error", "receiver_error"])
      container.on(name, () => {})
    container.on("sender_open", (context: EventContext) => this.#attachOutgoing(context.sender!))
    container.on("sender_close", (context: EventContext) => this.#forget(context.sender!))
    container.on("session_close", ({ session }: EventContext) =>
      session!.each_link(
        (link: Sender) => this.#forget(link),
        () => true
      )
    )
    container.on("sender_flow", (context: EventContext) => {
      const attached = this.#attached.get(context.sender!)
      if (attached !== undefined) attached.outstanding = 0
    })
    container.on("sendable", (context: EventContext) => this.#attached.get(context.sender!)?.queue.pump())
    container.on("sender_draining", (context: EventContext) => this.#drain(context.sender!))
    container.on("receiver_open", (context: EventContext) => this.#attachIncoming(context.receiver!))
    container.on("message", (context: EventContext) => this.#message(context))
    container.on("accepted", (context: EventContext) => this.#settle(context, { how: "complete" }))
    container.on("released", (context: EventContext) => this.#settle(context, { how: "release" }))
    container.on("rejected", (context: EventContext) => {
      const {
        DeadLetterReason: reason,
        DeadLetterErrorDescription: description,
        ...properties
      } = (context.delivery!.remote_state as any).error?.info ?? {}
      this.#settle(context, { how: "deadLetter", reason, description, properties })
    })
    container.on("modified", (context: EventContext) => {
      const state = context.delivery!.remote_state as any
      this.#settle(context, {
        how: state.undeliverable_here ? "defer" : "abandon",
        properties: state.message_annotations
      })
    })
  }

  #gone(connection: Connection): void {
    this.#connections.delete(connection)
    connection.each_link((link: Sender) => this.#forget(link))
  }

  #forget(link: object): void {
    const attached = this.#attached.get(link)
    attached?.queue.outlets.delete(attached.outlet)
    this.#attached.delete(link)
  }

  /** A client's receiver link: our sender. */
  #attachOutgoing(sender: Sender): void {
    const { address } = sender.source
    sender.set_source({ address } as Parameters<Sender["set_source"]>[0])
    sender.set_target({ address: sender.target?.address ?? sender.name })
    const { attach } = internals(sender).local
    attach.snd_settle_mode = sender.snd_settle_mode
    attach.rcv_settle_mode = sender.rcv_settle_mode
    if (address === "$cbs" || address?.toLowerCase().endsWith(MANAGEMENT)) {
      const replies = this.#replies.get(sender.connection)!
      for (const name of [sender.target?.address, sender.name]) if (name !== undefined) replies.set(name, sender)
      return
    }
    const queue = this.#find(address)
    if (queue === undefined) {
      attach.source = undefined
      sender.close(notFound(address))
      return
    }
    const settlesOnSend = sender.snd_settle_mode === 1
    const attached: Attached = {
      queue,
      outstanding: 0,
      turns: new Turns(),
      outlet: {
        settlesOnSend,
        credit: () => (sender.is_open() ? internals(sender).credit : 0),
        hasCredit: () => sender.is_open() && sender.sendable() && attached.outstanding < internals(sender).credit,
        deliver: (encoded, token) => {
          attached.outstanding++
          const delivery = sender.send(encoded, deliveryTag(token), 0)
          if (!settlesOnSend) this.#tokens.set(delivery, token)
        }
      }
    }
    this.#attached.set(sender, attached)
    queue.outlets.add(attached.outlet)
    drainable(sender)
  }

  /** Sends what there is, then gives the rest of the credit back. */
  #drain(sender: Sender): void {
    this.#attached.get(sender)?.queue.pump()
    setImmediate(() => {
      sender.set_drained(true)
      ;(sender.connection as unknown as { _register(): void })._register()
    })
  }

  /** A client's sender link: our receiver. */
  #attachIncoming(receiver: Receiver): void {
    const address = receiver.target?.address
    receiver.set_target({ address: address! })
    receiver.set_source({ address: receiver.source?.address } as Parameters<Receiver["set_source"]>[0])
    const { attach } = internals(receiver).local
    attach.max_message_size = MAX_MESSAGE_SIZE
    if (address === "$cbs" || address?.toLowerCase().endsWith(MANAGEMENT)) return
    if (this.#find(address) !== undefined) return
    attach.target = undefined
    receiver.close(notFound(address))
  }

  #message({ receiver, message, delivery, ...context }: EventContext): void {
    const address = receiver!.target?.address ?? ""
    const request = message as any
    if (address === "$cbs") {
      delivery!.accept()
      this.tokens.push(request.body)
      const status = this.faults.authorize?.() ?? 202
      const properties = { "status-code": types.wrap_int(status), "status-description": "authorisation" }
      this.#reply(receiver!.connection, request, properties, undefined)
      return
    }
    if (address.toLowerCase().endsWith(MANAGEMENT)) {
      delivery!.accept()
      this.#manage(receiver!.connection, address.slice(0, -MANAGEMENT.length), request)
      return
    }
    this.#count("send")
    const fault = this.faults.send?.(address)
    if (fault === "ignore") return
    if (fault !== undefined) return delivery!.reject(fault)
    const queue = this.#find(address)
    if (queue === undefined) return delivery!.reject(notFound(address))
    if ((context as unknown as { format?: number }).format === BATCH) {
      const { body } = codec.decode(message as unknown as Buffer) as any
      const parts: ReadonlyArray<Buffer> = body.multiple ? body.content : [body.content]
      for (const part of parts) queue.accept(codec.decode(part) as Record<string, any>)
    } else {
      queue.accept(request)
    }
    delivery!.accept()
  }

  #manage(connection: Connection, entity: string, request: any): void {
    const operation: string = request.application_properties.operation
    this.#count(operation)
    const fault = this.faults.management?.(operation)
    if (fault === "ignore") return
    this.peakManagement = Math.max(this.peakManagement, ++this.#unanswered)
    const respond = () => {
      this.#unanswered--
      const queue = this.#find(entity)
      const reply = fault ?? (queue === undefined ? missing(entity) : answer(queue, operation, request.body ?? {}))
      const properties = {
        statusCode: types.wrap_int(reply.status),
        statusDescription: reply.description,
        ...(reply.condition === undefined ? {} : { errorCondition: types.wrap_symbol(reply.condition) })
      }
      this.#reply(connection, request, properties, reply.body)
    }
    if (this.faults.managementDelay === undefined) respond()
    else setTimeout(respond, this.faults.managementDelay)
  }

  #reply(connection: Connection, request: any, properties: Record<string, unknown>, body: unknown): void {
    const link = this.#replies.get(connection)?.get(request.reply_to)
    // The client went away meanwhile
    if (link === undefined || !link.is_open()) return
    link.send({ correlation_id: request.message_id, application_properties: properties, body } as any)
  }

  #settle({ delivery, sender }: EventContext, disposition: Disposition): void {
    const token = this.#tokens.get(delivery!)
    const attached = this.#attached.get(sender!)
    if (token === undefined || attached === undefined) return
    this.#count(disposition.how)
    const fault = this.faults.settle?.(disposition.how)
    if (fault === "ignore") return
    const refusal = fault ?? attached.queue.settle(token, disposition)
    const state =
      refusal === undefined
        ? (codec as any).accepted().described()
        : (codec as any).rejected({ error: refusal }).described()
    // The SDK stands on rhea too: both sides must keep outcomes apart
    void attached.turns.take(refusal?.condition ?? "accepted").then(() => delivery!.update(true, state))
  }
}
