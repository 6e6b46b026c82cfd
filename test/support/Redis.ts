/**
 * Private Redis (or Valkey) servers for tests and benchmarks: a temporary folder, a free port, no trust in what runs on
 * this machine. A guardian process waits for the end of this one, however it ends, and then kills the server and deletes
 * its folder. `POLYQUEUE_TEST_REDIS_URL` points suites that need no control over the server at another one.
 */
import { Effect, type Scope } from "effect"
import { Redis } from "ioredis"
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { accessSync, constants, mkdtempSync, realpathSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { delimiter, join } from "node:path"
import { setImmediate } from "node:timers/promises"
import { describe } from "vitest"

/** A private server. `stop`, `kill` and `start` again as often as wanted; `destroy` ends it for good. */
export interface RedisServer {
  /** `redis://…` or, with TLS, `rediss://…`; without credentials. */
  readonly url: string
  readonly port: number
  /** The certificate authority (and certificate) of a server with TLS, in PEM. */
  readonly ca: string | undefined
  /** Ends it in order. What it stores survives only with `persist`. */
  readonly stop: () => Promise<void>
  /** Ends it as a crash does: `kill -9`. */
  readonly kill: () => Promise<void>
  /** Stops the process where it is, so that it answers nobody while connections stay open; `SIGCONT` goes on. */
  readonly signal: (signal: "SIGSTOP" | "SIGCONT") => void
  readonly start: () => Promise<void>
  readonly destroy: () => Promise<void>
}

export interface ServerOptions {
  /** Further settings, as in redis.conf. */
  readonly settings?: Readonly<Record<string, string>>
  /** Keep what is stored over restarts and crashes (append-only file). Default false. */
  readonly persist?: boolean
  /** Speak TLS only, with a certificate for `localhost` made by `openssl`. Default false. */
  readonly tls?: boolean
}

/** The server binary: `REDIS_SERVER`, else `redis-server` or `valkey-server` on `PATH`; `undefined` if there is none. */
export const findBinary = (): string | undefined => {
  const given = process.env["REDIS_SERVER"]
  if (given !== undefined && given !== "") return given
  return (process.env["PATH"] ?? "")
    .split(delimiter)
    .flatMap((folder) => [join(folder, "redis-server"), join(folder, "valkey-server")])
    .find((file) => {
      try {
        accessSync(file, constants.X_OK)
        return true
      } catch {
        return false
      }
    })
}

/** The server that suites may use but not stop, if one was named. */
export const givenUrl = (): string | undefined => {
  const url = process.env["POLYQUEUE_TEST_REDIS_URL"]
  return url === "" ? undefined : url
}

/** Suites that need a server of their own: skipped where there is no binary; the end of the run says how to get it. */
export const describeOwnRedis = (name: string, suites: () => void): void => {
  if (findBinary() !== undefined) {
    describe(name, suites)
    return
  }
  const skipped =
    "no Redis server: install redis-server (7 or newer) or valkey-server, or set REDIS_SERVER to its path; " +
    "POLYQUEUE_TEST_REDIS_URL runs the contract suite on a server of yours"
  describe.skip(name, { meta: { skipped } }, suites)
}

const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const probe = createServer()
    probe.once("error", reject)
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address()
      probe.close(() =>
        typeof address === "object" && address !== null
          ? resolve(address.port)
          : reject(new Error("the system gave no port"))
      )
    })
  })

/** Runs until our end of the pipe closes, however this process ends; then kills the server and deletes the folder. */
const GUARDIAN = `
trap '' INT TERM HUP
read -r _
pid=$(cat "$1/pid" 2>/dev/null)
if [ -n "$pid" ]; then
  kill -KILL "$pid" 2>/dev/null
  n=0; while kill -0 "$pid" 2>/dev/null && [ $n -lt 100 ]; do sleep 0.1; n=$((n + 1)); done
fi
cd / && rm -rf "$1"
`

const makeCertificate = (folder: string): string => {
  const args = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
  const files = ["-keyout", join(folder, "key.pem"), "-out", join(folder, "cert.pem")]
  execFileSync("openssl", [...args, "-addext", "subjectAltName=DNS:localhost", ...files], { stdio: "ignore" })
  return execFileSync("cat", [join(folder, "cert.pem")], { encoding: "utf8" })
}

/** Makes and starts a private server. */
export const startRedis = async (options: ServerOptions = {}): Promise<RedisServer> => {
  const binary = findBinary()
  if (binary === undefined) throw new Error("no Redis server binary: install redis-server, or set REDIS_SERVER")
  const folder = mkdtempSync(join(realpathSync(tmpdir()), "polyqueue-redis-"))
  const guardian = spawn("/bin/sh", ["-c", GUARDIAN, "guardian", folder], {
    cwd: "/",
    detached: true,
    stdio: ["pipe", "ignore", "ignore"]
  })
  guardian.unref()
  const guarded = new Promise<void>((resolve) => guardian.once("exit", () => resolve()))
  const port = await freePort()
  const ca = options.tls === true ? makeCertificate(folder) : undefined
  const listen: Record<string, string> =
    ca === undefined
      ? { port: String(port) }
      : {
          port: "0",
          "tls-port": String(port),
          "tls-cert-file": join(folder, "cert.pem"),
          "tls-key-file": join(folder, "key.pem"),
          "tls-auth-clients": "no"
        }
  const settings: Record<string, string> = {
    ...listen,
    bind: "127.0.0.1",
    dir: folder,
    pidfile: join(folder, "pid"),
    daemonize: "no",
    save: "",
    appendonly: options.persist === true ? "yes" : "no",
    appendfsync: "always",
    ...options.settings
  }
  let child: ChildProcess | undefined
  let exited: Promise<void> = Promise.resolve()

  const start = async (): Promise<void> => {
    if (child !== undefined) return
    const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value])
    const server = spawn(binary, args, { cwd: folder, detached: true, stdio: ["ignore", "pipe", "ignore"] })
    server.unref()
    child = server
    let log = ""
    const ready = new Promise<void>((resolve, reject) => {
      server.stdout.on("data", (chunk: Buffer) => {
        log = (log + chunk.toString()).slice(-4_000)
        if (/ready to accept connections/i.test(log)) resolve()
      })
      server.once("error", reject)
      server.once("exit", () => reject(new Error(`the Redis server ended while starting:\n${log}`)))
    })
    exited = new Promise((resolve) =>
      server.once("exit", () => {
        child = undefined
        resolve()
      })
    )
    await ready
  }
  const end = async (signal: "SIGTERM" | "SIGKILL"): Promise<void> => {
    child?.ref()
    child?.kill(signal)
    await exited
  }
  const destroy = async (): Promise<void> => {
    await end("SIGKILL")
    guardian.ref()
    guardian.stdin.end()
    await guarded
  }
  try {
    await start()
  } catch (error) {
    await destroy()
    throw error
  }
  return {
    url: ca === undefined ? `redis://127.0.0.1:${port}` : `rediss://localhost:${port}`,
    port,
    ca,
    stop: () => end("SIGTERM"),
    kill: () => end("SIGKILL"),
    signal: (signal) => void child?.kill(signal),
    start,
    destroy
  }
}

/** A private server, destroyed with the scope. */
export const ownRedis = (options: ServerOptions = {}): Effect.Effect<RedisServer, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(() => startRedis(options)),
    (server) => Effect.promise(server.destroy)
  )

/** A private Redis Cluster of one node, which holds every slot. */
export const ownCluster = (options: ServerOptions = {}): Effect.Effect<RedisServer, never, Scope.Scope> =>
  Effect.gen(function* () {
    const cluster = { "cluster-enabled": "yes", "cluster-announce-ip": "127.0.0.1" }
    const server = yield* ownRedis({ ...options, settings: { ...cluster, ...options.settings } })
    const admin = yield* adminOf(server.url)
    yield* Effect.promise(async () => {
      await admin.call("cluster", "addslotsrange", 0, 16_383)
      while (!/cluster_state:ok/.test(String(await admin.call("cluster", "info")))) await setImmediate()
    })
    return server
  })

/** A plain client to look behind the broker with, closed with the scope. */
export const adminOf = (url: string): Effect.Effect<Redis, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => new Redis(url)),
    (client) => Effect.sync(() => client.disconnect())
  )
