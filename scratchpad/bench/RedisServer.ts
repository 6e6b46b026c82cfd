/** A Redis of the benchmark's own, if this machine has one: in memory, as its peers' documentation measures it. */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { connect, createServer } from "node:net"
import { tmpdir } from "node:os"

const freePort = async (): Promise<number> => {
  const probe = createServer().listen(0, "127.0.0.1")
  await once(probe, "listening")
  const address = probe.address()
  probe.close()
  if (address === null || typeof address === "string") throw new Error("the system gave no port")
  return address.port
}

const answers = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1")
    socket.once("error", () => resolve(false))
    socket.once("connect", () => {
      socket.destroy()
      resolve(true)
    })
  })

/** Its URL, or `undefined` without a `redis-server` on the path. It ends with this process. */
export const start = async (): Promise<string | undefined> => {
  const port = await freePort()
  const server = spawn(
    "redis-server",
    ["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", tmpdir()],
    { stdio: "ignore" }
  )
  let isGone = false
  server.once("error", () => (isGone = true))
  server.once("exit", () => (isGone = true))
  process.once("exit", () => server.kill("SIGKILL"))
  while (!isGone) {
    if (await answers(port)) return `redis://127.0.0.1:${port}`
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  return undefined
}
