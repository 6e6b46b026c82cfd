/**
 * Private PostgreSQL servers for tests and benchmarks: a temporary folder, a free port, no trust in what runs on this
 * machine. Works as root (Postgres refuses root, so it runs as `postgres` or `nobody`) and as a normal user. A guardian
 * process waits for the end of this one, however it ends, and then stops the server and deletes its folder.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { accessSync, chownSync, constants, mkdtempSync, readdirSync, readFileSync, realpathSync } from "node:fs"
import { createServer, connect } from "node:net"
import { tmpdir } from "node:os"
import { delimiter, join } from "node:path"

/** How a server is stopped: `fast` ends sessions in order, `immediate` is a crash with recovery at the next start. */
export type StopMode = "fast" | "immediate"

/** A private server. `stop` and `start` again as often as wanted; `destroy` ends it for good. */
export interface PostgresServer {
  /** `postgres://…` with the database `postgres` and a superuser. */
  readonly url: string
  readonly port: number
  /** Process id of the postmaster while it runs. */
  readonly pid: () => number | undefined
  readonly stop: (mode?: StopMode) => Promise<void>
  readonly start: () => Promise<void>
  /** Stops the server and deletes its folder. */
  readonly destroy: () => Promise<void>
}

export interface ServerOptions {
  /** Further settings, as in postgresql.conf. */
  readonly settings?: Readonly<Record<string, string>>
  /** Keep `fsync` on: for benchmarks and crash tests. Default false. */
  readonly durable?: boolean
}

/** There is no PostgreSQL to run: the message says how to get one. */
export class NoPostgres extends Error {}

const usable = (folder: string): boolean => {
  try {
    accessSync(join(folder, "initdb"), constants.X_OK)
    accessSync(join(folder, "postgres"), constants.X_OK)
    return true
  } catch {
    return false
  }
}

const pgConfigBindir = (): ReadonlyArray<string> => {
  try {
    return [execFileSync("pg_config", ["--bindir"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim()]
  } catch {
    return []
  }
}

const debianBindirs = (): ReadonlyArray<string> => {
  try {
    return readdirSync("/usr/lib/postgresql")
      .sort((a, b) => Number(b) - Number(a))
      .map((version) => `/usr/lib/postgresql/${version}/bin`)
  } catch {
    return []
  }
}

/** Folder of the server binaries: `PG_BIN`, `pg_config --bindir`, Debian's folders (newest first), `PATH`. */
export const findBinaries = (): string => {
  const given = process.env["PG_BIN"]
  const candidates =
    given === undefined
      ? [...pgConfigBindir(), ...debianBindirs(), ...(process.env["PATH"] ?? "").split(delimiter)]
      : [given]
  const found = candidates.find((folder) => folder !== "" && usable(folder))
  if (found !== undefined) return found
  throw new NoPostgres(
    given === undefined
      ? "no PostgreSQL server binaries found: install postgresql, or set PG_BIN to their folder, " +
          "or POLYQUEUE_TEST_DB_URL to a server that may be written to"
      : "PG_BIN does not hold initdb and postgres: point it at the folder of the server binaries"
  )
}

/** The user the server runs as: ourselves, or an unprivileged one when we are root. */
export const serverUser = (): { readonly uid: number; readonly gid: number } | undefined => {
  if (process.getuid?.() !== 0) return undefined
  const users = readFileSync("/etc/passwd", "utf8").split("\n")
  const line = ["postgres:", "nobody:"].map((name) => users.find((user) => user.startsWith(name))).find((_) => _)
  if (line === undefined) throw new NoPostgres("PostgreSQL refuses to run as root and there is no user `postgres`")
  const [, , uid, gid] = line.split(":")
  return { uid: Number(uid), gid: Number(gid) }
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

/** Waits until the server speaks: it answers an SSL request with one byte once its postmaster accepts. */
const accepts = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1")
    const end = (answer: boolean) => {
      socket.destroy()
      resolve(answer)
    }
    socket.once("error", () => end(false))
    socket.once("close", () => end(false))
    socket.once("data", () => end(true))
    socket.once("connect", () => socket.write(Buffer.from([0, 0, 0, 8, 4, 210, 22, 47])))
  })

/** Runs until our end of the pipe closes, however this process ends; then stops the server and deletes the folder. */
const GUARDIAN = `
trap '' INT TERM HUP
read -r _
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
if [ -n "$pid" ]; then
  kill -QUIT "$pid" 2>/dev/null
  n=0; while kill -0 "$pid" 2>/dev/null && [ $n -lt 100 ]; do sleep 0.1; n=$((n + 1)); done
fi
cd / && rm -rf "$1"
`

/** Makes and starts a private server. Rejects with `NoPostgres` when there is none to run. */
export const startServer = async (options: ServerOptions = {}): Promise<PostgresServer> => {
  const bin = findBinaries()
  const user = serverUser()
  const folder = mkdtempSync(join(realpathSync(tmpdir()), "polyqueue-pg-"))
  if (user !== undefined) chownSync(folder, user.uid, user.gid)
  const data = join(folder, "data")
  const guardian = spawn("/bin/sh", ["-c", GUARDIAN, "guardian", folder], {
    ...user,
    cwd: "/",
    detached: true,
    stdio: ["pipe", "ignore", "ignore"]
  })
  guardian.unref()
  const guarded = new Promise<void>((resolve) => guardian.once("exit", () => resolve()))
  execFileSync(
    join(bin, "initdb"),
    ["-D", data, "-U", "polyqueue", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
    {
      ...user,
      cwd: folder,
      stdio: ["ignore", "ignore", "pipe"]
    }
  )
  const port = await freePort()
  const settings: Record<string, string> = {
    listen_addresses: "127.0.0.1",
    port: String(port),
    unix_socket_directories: folder,
    max_connections: "200",
    shared_buffers: "128MB",
    max_wal_size: "2GB",
    ...(options.durable === true ? {} : { fsync: "off", synchronous_commit: "off", full_page_writes: "off" }),
    ...options.settings
  }
  let child: ChildProcess | undefined
  let exited: Promise<void> = Promise.resolve()

  const start = async (): Promise<void> => {
    if (child !== undefined) return
    const args = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`])
    const server = spawn(join(bin, "postgres"), ["-D", data, ...args], {
      ...user,
      cwd: folder,
      detached: true,
      stdio: ["ignore", "ignore", "pipe"]
    })
    server.unref()
    let log = ""
    server.stderr.on("data", (chunk: Buffer) => {
      log = (log + chunk.toString()).slice(-4_000)
    })
    child = server
    exited = new Promise((resolve) =>
      server.once("exit", () => {
        child = undefined
        resolve()
      })
    )
    while (!(await accepts(port)) || !/ready to accept connections/.test(log)) {
      if (child === undefined) throw new Error(`the PostgreSQL server ended while starting:\n${log}`)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
  const stop = async (mode: StopMode = "fast"): Promise<void> => {
    child?.kill(mode === "fast" ? "SIGINT" : "SIGQUIT")
    await exited
  }
  const destroy = async (): Promise<void> => {
    await stop("immediate")
    guardian.stdin.end()
    await guarded
  }
  try {
    await start()
  } catch (error) {
    await destroy()
    throw error
  }
  return { url: `postgres://polyqueue@127.0.0.1:${port}/postgres`, port, pid: () => child?.pid, start, stop, destroy }
}
