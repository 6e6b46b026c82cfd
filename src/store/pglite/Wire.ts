/**
 * Many connections on one session: PGlite has a single one, and `PgClient` wants a stream per connection. The wire takes
 * their messages in order of arrival and runs one at a time; a connection inside a transaction (or inside an unfinished
 * exchange) holds the session, and the others wait. A connection that goes away mid-transaction is rolled back, so that
 * nothing a client does can block the rest for good.
 *
 * What Postgres keeps per session is shared by all of them: `SET`, temporary tables, `LISTEN` and `UNLISTEN`.
 */
import { Duplex } from "node:stream"

/** The part of PGlite that is used: one exchange of the wire protocol. */
export interface Session {
  readonly execProtocolRaw: (message: Uint8Array) => Promise<Uint8Array>
}

/** Messages of one connection that wait for their turn. */
interface Turn {
  readonly from: Duplex
  readonly messages: Buffer
  readonly done: (error?: Error) => void
}

/** What a connection is known by to a cancel request. */
interface Identity {
  readonly processId: number
}

const CANCEL_REQUEST = 80877102
const CANCEL_REQUEST_LENGTH = 16
const STARTUP_PROTOCOL_3 = 3
const TERMINATE = 0x58
const BACKEND_KEY_DATA = 0x4b
const NOTIFICATION_RESPONSE = 0x41
const READY_FOR_QUERY = 0x5a
const IDLE = 0x49

/** Sync, then `ROLLBACK`: right in every state a connection can leave the session in. */
const ROLLBACK = Buffer.from("S\0\0\0\x04Q\0\0\0\x0dROLLBACK\0", "latin1")
/** What a cancelled statement answers: error 57014, and idle again. */
const CANCELED = Buffer.concat([
  backendMessage("E", "SERROR\0VERROR\0C57014\0Mcanceling statement due to user request\0\0"),
  backendMessage("Z", "I")
])

/** Serialises connections onto one session. */
export class Wire {
  private readonly session: Session
  private readonly held: () => () => void
  private readonly connections = new Map<Duplex, Identity>()
  private readonly waiting: Array<Turn> = []
  private startupReply: Buffer | undefined
  private holder: Duplex | undefined
  private release: (() => void) | undefined
  private running: Promise<void> | undefined
  private broken: Error | undefined
  private nextProcessId = 1

  /** `held` is called when a connection begins to hold the session; what it answers, when it lets go. */
  constructor(session: Session, held: () => () => void) {
    this.session = session
    this.held = held
  }

  /** A new connection. Never waits: the session greets each of them alike, so all but the first greeting are copies. */
  connect(): Duplex {
    const connection: Duplex = new Duplex({
      read: () => undefined,
      write: (chunk: Uint8Array, _encoding, done) => this.received(connection, Buffer.from(chunk), done),
      final: (done) => {
        connection.push(null)
        done()
      },
      destroy: (error, done) => {
        this.forget(connection)
        done(error)
      }
    })
    this.connections.set(connection, { processId: this.nextProcessId++ })
    return connection
  }

  /** Ends all connections, rolls back what is open, and resolves when the session is idle. */
  async close(): Promise<void> {
    for (const connection of this.connections.keys()) {
      connection.destroy(new Error("the embedded database is closing"))
    }
    while (this.running !== undefined) await this.running
  }

  private received(from: Duplex, messages: Buffer, done: (error?: Error) => void): void {
    if (messages[0] === TERMINATE) {
      this.forget(from)
      return done()
    }
    if (messages.length === CANCEL_REQUEST_LENGTH && messages.readInt32BE(4) === CANCEL_REQUEST) {
      this.cancel(messages.readInt32BE(8))
      // The sender waits for the end of the connection as the answer
      from.destroy()
      return done()
    }
    if (this.startupReply !== undefined && isStartup(messages)) {
      from.push(this.withIdentity(from, this.startupReply))
      return done()
    }
    if (this.broken !== undefined) return done(this.broken)
    this.waiting.push({ from, messages, done })
    this.advance()
  }

  /** A statement that runs cannot be stopped; one that still waits for its turn never starts. */
  private cancel(processId: number): void {
    const index = this.waiting.findIndex(
      ({ from }) => this.connections.get(from)?.processId === processId && from !== this.holder
    )
    const [turn] = index < 0 ? [] : this.waiting.splice(index, 1)
    turn?.from.push(CANCELED)
    turn?.done()
  }

  /** Runs the next turn that may run now, if the session is free. */
  private advance(): void {
    if (this.running !== undefined || this.broken !== undefined) return
    const turn = this.next()
    if (turn === undefined) return
    const ended = (error?: unknown) => {
      this.running = undefined
      if (error === undefined) turn.done()
      else this.breakDown(error, turn)
      this.advance()
    }
    this.running = this.run(turn).then(() => ended(), ended)
  }

  private next(): Turn | undefined {
    if (this.holder !== undefined && !this.connections.has(this.holder)) {
      return { from: this.holder, messages: ROLLBACK, done: () => undefined }
    }
    const index = this.waiting.findIndex(({ from }) => this.holder === undefined || from === this.holder)
    return index < 0 ? undefined : this.waiting.splice(index, 1)[0]
  }

  /** One exchange. Who leaves a transaction or an exchange open holds the session until it is closed. */
  private async run({ from, messages }: Turn): Promise<void> {
    const reply = Buffer.from(await this.session.execProtocolRaw(messages))
    const own: Array<Buffer> = []
    let idle = false
    for (const message of split(reply)) {
      idle = message[0] === READY_FOR_QUERY && message[5] === IDLE
      if (message[0] === NOTIFICATION_RESPONSE) for (const each of this.connections.keys()) each.push(message)
      else own.push(message)
    }
    if (idle) this.letGo()
    else this.hold(from)
    if (!this.connections.has(from)) return
    const answer = Buffer.concat(own)
    if (!isStartup(messages)) {
      from.push(answer)
      return
    }
    this.startupReply = answer
    from.push(this.withIdentity(from, answer))
  }

  private hold(connection: Duplex): void {
    if (this.holder !== undefined) return
    this.holder = connection
    this.release = this.held()
  }

  private letGo(): void {
    this.holder = undefined
    this.release?.()
    this.release = undefined
  }

  /** The session itself failed (not a statement): nobody can be served any more, and everybody is told. */
  private breakDown(error: unknown, turn: Turn): void {
    this.broken = error instanceof Error ? error : new Error(String(error))
    this.letGo()
    turn.done(this.broken)
    for (const connection of this.connections.keys()) connection.destroy(this.broken)
  }

  private forget(connection: Duplex): void {
    this.connections.delete(connection)
    for (const turn of this.waiting.filter(({ from }) => from === connection)) {
      this.waiting.splice(this.waiting.indexOf(turn), 1)
      turn.done()
    }
    this.advance()
  }

  /** The greeting tells a connection its process id; each gets its own, so that a cancel request finds its statement. */
  private withIdentity(connection: Duplex, reply: Buffer): Buffer {
    const processId = this.connections.get(connection)?.processId
    const key = split(reply).find((message) => message[0] === BACKEND_KEY_DATA)
    if (key === undefined || processId === undefined) return reply
    const copy = Buffer.from(reply)
    copy.writeInt32BE(processId, key.byteOffset - reply.byteOffset + 5)
    return copy
  }
}

const isStartup = (messages: Buffer): boolean =>
  messages.length >= 8 && messages.readInt32BE(0) === messages.length && messages.readInt16BE(4) === STARTUP_PROTOCOL_3

/** The messages of a reply: a type, a length that counts itself, and a body. */
const split = (reply: Buffer): ReadonlyArray<Buffer> => {
  const messages: Array<Buffer> = []
  let offset = 0
  while (offset < reply.length) {
    const end = offset + 1 + reply.readInt32BE(offset + 1)
    messages.push(reply.subarray(offset, end))
    offset = end
  }
  return messages
}

function backendMessage(type: string, body: string): Buffer {
  const message = Buffer.alloc(5 + body.length)
  message.write(type, 0, "latin1")
  message.writeInt32BE(4 + body.length, 1)
  message.write(body, 5, "latin1")
  return message
}
