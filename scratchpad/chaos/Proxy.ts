/**
 * A TCP proxy before PostgreSQL that understands just enough of its protocol to tell roles (`application_name`) and
 * statements apart: it delays, swallows everything without a word (half-open), and cuts a connection when the reply to a
 * statement is on its way, so that the statement is done and nobody knows.
 */
import { connect, createServer, type Server, type Socket } from "node:net"

/** Cuts the next `times` replies to statements that match. */
export interface Cut {
  readonly role?: RegExp
  readonly sql: RegExp
  times: number
  /** Called when the statement is on its way. The reply is cut unless this answers `false`. */
  readonly met?: (role: string) => boolean | void
}

interface Link {
  readonly client: Socket
  readonly server: Socket
  role: string
  isStarted: boolean
  /** Statements by name. */
  readonly prepared: Map<string, string>
  isCutting: boolean
  /** Nothing goes through any more, and nobody is told. */
  isDead: boolean
}

const SSL_REQUEST = 80_877_103
const zero = (buffer: Buffer, from: number): number => buffer.indexOf(0, from)

/** Splits what comes into messages of the protocol; the first one of a client has no type. */
const frames = (heard: (type: string, body: Buffer) => void, hasStartup: boolean) => {
  let rest: Buffer = Buffer.alloc(0)
  let isStartup = hasStartup
  return (chunk: Buffer): void => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    for (;;) {
      const head = isStartup ? 0 : 1
      if (rest.length < head + 4) return
      const length = rest.readInt32BE(head)
      if (rest.length < head + length) return
      const body = rest.subarray(head + 4, head + length)
      const type = isStartup ? "" : String.fromCharCode(rest[0]!)
      rest = rest.subarray(head + length)
      if (isStartup && body.readInt32BE(0) !== SSL_REQUEST) isStartup = false
      heard(type, body)
    }
  }
}

export class Proxy {
  /** Milliseconds that a chunk is late, drawn for each. */
  latency: () => number = () => 0
  readonly cuts: Array<Cut> = []
  /** Connections that were asked for so far. */
  accepted = 0
  readonly #links = new Set<Link>()
  readonly #target: number
  #blackhole: RegExp | undefined
  #server: Server | undefined
  #port = 0

  constructor(target: number) {
    this.#target = target
  }

  get port(): number {
    return this.#port
  }

  /** The URL of a database, through here. */
  url(direct: string): string {
    const changed = new URL(direct)
    changed.port = String(this.#port)
    return changed.href
  }

  /** Listens, on the port of before if there was one. */
  async start(): Promise<void> {
    const server = createServer((client) => this.#accept(client))
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject)
      server.listen(this.#port, "127.0.0.1", resolve)
    })
    const address = server.address()
    if (typeof address === "object" && address !== null) this.#port = address.port
    this.#server = server
  }

  /** Cuts everything, and refuses connections until `start`. */
  async stop(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    const closed = new Promise<void>((resolve) => (server === undefined ? resolve() : server.close(() => resolve())))
    for (const link of this.#links) this.#end(link)
    await closed
  }

  /** Half-open: connections of this role, and new ones, carry nothing any more, and are not closed. */
  blackhole(role: RegExp): void {
    this.#blackhole = role
    for (const link of this.#links) if (role.test(link.role)) link.isDead = true
  }

  /** New connections work again; those that were swallowed stay so. */
  heal(): void {
    this.#blackhole = undefined
    this.latency = () => 0
    this.cuts.length = 0
  }

  #end(link: Link): void {
    this.#links.delete(link)
    link.client.destroy()
    link.server.destroy()
  }

  #accept(client: Socket): void {
    this.accepted++
    const server = connect(this.#target, "127.0.0.1")
    const link: Link = {
      client,
      server,
      role: "",
      isStarted: false,
      prepared: new Map(),
      isCutting: false,
      isDead: false
    }
    this.#links.add(link)
    client.setNoDelay(true)
    server.setNoDelay(true)
    const fromClient = frames((type, body) => this.#heard(link, type, body), true)
    // The answer to an SSL request is one byte, without a length
    let isSsl = false
    const fromServer = frames((type) => {
      if (type === "Z" && link.isCutting) this.#end(link)
    }, false)
    const carry = (to: Socket, note: (chunk: Buffer) => void, isReply: boolean) => {
      let at = 0
      return (chunk: Buffer): void => {
        note(chunk)
        if (link.isDead || (isReply && link.isCutting)) return
        const late = this.latency()
        if (late === 0 && at <= Date.now()) {
          to.write(chunk)
          return
        }
        at = Math.max(at, Date.now() + late)
        setTimeout(() => {
          if (!link.isDead && !to.destroyed) to.write(chunk)
        }, at - Date.now())
      }
    }
    client.on(
      "data",
      carry(
        server,
        (chunk) => {
          if (!link.isStarted && chunk.length === 8 && chunk.readInt32BE(4) === SSL_REQUEST) isSsl = true
          fromClient(chunk)
        },
        false
      )
    )
    server.on(
      "data",
      carry(
        client,
        (chunk) => {
          if (!isSsl) return fromServer(chunk)
          isSsl = false
          fromServer(chunk.subarray(1))
        },
        true
      )
    )
    for (const socket of [client, server]) {
      socket.on("error", () => undefined)
      socket.on("close", () => {
        // A half-open connection does not tell the other side
        if (!link.isDead || socket === client) this.#end(link)
      })
    }
  }

  #heard(link: Link, type: string, body: Buffer): void {
    switch (type) {
      case "": {
        if (body.readInt32BE(0) === SSL_REQUEST) return
        link.isStarted = true
        const words = body.subarray(4).toString("utf8").split("\0")
        link.role = words[words.indexOf("application_name") + 1] ?? ""
        if (this.#blackhole?.test(link.role) === true) link.isDead = true
        return
      }
      case "P": {
        const end = zero(body, 0)
        link.prepared.set(body.toString("utf8", 0, end), body.toString("utf8", end + 1, zero(body, end + 1)))
        return
      }
      case "B": {
        const end = zero(body, 0)
        return this.#meet(link, link.prepared.get(body.toString("utf8", end + 1, zero(body, end + 1))) ?? "")
      }
      case "Q":
        return this.#meet(link, body.toString("utf8", 0, zero(body, 0)))
    }
  }

  #meet(link: Link, sql: string): void {
    const cut = this.cuts.find(
      ({ role, sql: pattern, times }) => times > 0 && (role?.test(link.role) ?? true) && pattern.test(sql)
    )
    if (cut === undefined || link.isCutting) return
    cut.times--
    if (cut.met?.(link.role) !== false) link.isCutting = true
  }
}
