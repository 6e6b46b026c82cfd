/**
 * Listens between a client and PostgreSQL, and keeps the text of every statement that the client sends: what was parsed or
 * queried, not what was bound to it.
 */
import { Effect } from "effect"
import { type AddressInfo, connect, createServer, type Socket } from "node:net"

/** Statement texts, in the order they were sent. */
export interface SqlListener {
  readonly url: string
  readonly texts: ReadonlyArray<string>
}

const textUntilNul = (bytes: Buffer, at: number): string => bytes.toString("utf8", at, bytes.indexOf(0, at))

/** Reads the client's messages: a first one without a type (start-up, without TLS), then type, length and body. */
const reader = (said: (text: string) => void) => {
  let rest = Buffer.alloc(0)
  let started = false
  return (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk])
    for (;;) {
      const head = started ? 5 : 4
      if (rest.length < head) return
      const length = rest.readInt32BE(head - 4) + head - 4
      if (rest.length < length) return
      const type = started ? String.fromCharCode(rest[0]!) : ""
      if (type === "Q") said(textUntilNul(rest, 5))
      if (type === "P") said(textUntilNul(rest, rest.indexOf(0, 5) + 1))
      started = true
      rest = rest.subarray(length)
    }
  }
}

/** On a free port, until the scope closes. */
export const listen = (url: string) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.promise(async () => {
        const texts: Array<string> = []
        const sockets = new Set<Socket>()
        const { hostname, port } = new URL(url)
        const server = createServer((client) => {
          const upstream = connect(Number(port), hostname)
          for (const socket of [client, upstream]) {
            sockets.add(socket)
            // Either side may go first
            socket.on("error", () => undefined)
          }
          client.on(
            "data",
            reader((text) => texts.push(text))
          )
          client.pipe(upstream).pipe(client)
        })
        await new Promise<void>((done) => server.listen(0, "127.0.0.1", done))
        const through = new URL(url)
        through.hostname = "127.0.0.1"
        through.port = String((server.address() as AddressInfo).port)
        return { server, sockets, listener: { url: through.href, texts } satisfies SqlListener }
      }),
      ({ server, sockets }) =>
        Effect.promise(
          () =>
            new Promise<void>((done) => {
              for (const socket of sockets) socket.destroy()
              server.close(() => done())
            })
        )
    ),
    ({ listener }): SqlListener => listener
  )
