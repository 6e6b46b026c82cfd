/**
 * What a cell plays on: a database and a broker of its own, a client, worker processes, and the log of everything that is
 * done to them. Made for one cell, gone with its scope.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { SqlClient } from "effect/sql/SqlClient"
import type { ChildProcess } from "node:child_process"
import { randomBytes } from "node:crypto"
import { Migrations } from "../../src/index.ts"
import type { PostgresServer } from "../../test/support/PostgresServer.ts"
import * as Brokers from "./Brokers.ts"
import type { Expected, History } from "./Checker.ts"
import * as HistoryOf from "./History.ts"
import { Proxy } from "./Proxy.ts"
import { seeded } from "./Random.ts"
import { type Counts, type Fault, type Line, now } from "./Report.ts"
import * as WorkerProcess from "./WorkerProcess.ts"
import type { WorkerSettings } from "./WorkerSettings.ts"

export type WorkerChanges = Partial<WorkerSettings> & {
  /** Speaks to PostgreSQL through the proxy. */
  readonly proxied?: boolean
  /** Modules loaded before it, and variables for them. */
  readonly imports?: ReadonlyArray<string>
  readonly env?: Readonly<Record<string, string>>
}

export interface WorkerHandle extends WorkerProcess.Started {
  /** Sends a signal; SIGKILL and SIGSTOP go into the log of faults. `until`: how long it is to be stopped. */
  readonly signal: (signal: "SIGKILL" | "SIGSTOP" | "SIGCONT" | "SIGTERM", forMs?: number) => void
}

type Run = { -readonly [Key in keyof History["runs"][number]]: History["runs"][number][Key] }
type Client = { job: string; ok: boolean; expected: Expected }

/** Lines of workers, and what the cell itself noted. `keeps` false: only counts and faults, for runs without an end. */
const makeLedger = (keeps: boolean) => {
  const runs: Array<Run> = []
  const open = new Map<string, Run>()
  const counts = new Map<number, Counts>()
  const faults: Array<Fault> = []
  const settles: Array<History["settles"][number]> = []
  const points: Array<{ readonly point: string; readonly pid: number; readonly at: number }> = []
  const notes: Array<string> = []
  const client = new Map<string, Client>()
  let errors = 0
  const heard = (line: Line, pid: number): void => {
    if (!keeps && line.t !== "counts" && line.t !== "fault") return
    switch (line.t) {
      case "start": {
        const run: Run = {
          job: line.job,
          attempt: line.attempt,
          pid,
          startedAt: line.at,
          endedAt: undefined,
          how: undefined
        }
        runs.push(run)
        open.set(`${pid} ${line.job} ${line.attempt}`, run)
        return
      }
      case "end":
      case "fail":
      case "interrupted": {
        const run = open.get(`${pid} ${line.job} ${line.attempt}`)
        if (run === undefined || (run.how !== undefined && line.t !== "end")) return
        run.how = line.t
        run.endedAt = line.at
        return
      }
      case "settle":
        settles.push(line)
        return
      case "fault":
        faults.push(line.fault)
        return
      case "point":
        points.push({ point: line.point, pid, at: line.at })
        return
      case "enqueue": {
        const known = client.get(line.job)
        if (line.phase === "error") errors++
        client.set(line.job, { job: line.job, ok: known?.ok === true || line.phase === "ok", expected: "succeeded" })
        return
      }
      case "counts":
        counts.set(pid, line)
        return
      case "note":
        notes.push(line.text)
        return
      case "ready":
        return
    }
  }
  return {
    runs,
    counts,
    faults,
    settles,
    points,
    notes,
    client,
    heard,
    errors: () => errors,
    failed: () => void errors++
  }
}

export type Ledger = ReturnType<typeof makeLedger>

export interface Stage {
  readonly seed: number
  readonly random: () => number
  /** Jobs of the common load. */
  readonly size: number
  readonly server: PostgresServer
  readonly proxy: Proxy
  /** The database, reached directly. */
  readonly url: string
  /** A superuser's client on it, for looking and for hurting. */
  readonly sql: SqlClient
  readonly broker: Brokers.BrokerServer
  readonly ledger: Ledger
  /** What is added to epoch ms of the database to get ours. */
  readonly clock: number
  /** Numbers of this cell alone. */
  readonly extra: Record<string, number | string>
  /** Ms from a fault to the first sign that all is well again, where it is not the death of a worker. */
  readonly recoveries: Array<number>
  /** What went wrong that the checker does not know of. */
  readonly violations: Array<string>
  readonly fault: (kind: string, also?: Partial<Fault>) => void
  /** Notes a violation if attempts were abandoned, unless the machine starved somebody. */
  readonly noneAbandoned: Effect.Effect<void>
  /** Starts a worker and waits until it works; it may end by itself only if something was done to it. */
  readonly spawn: (changes?: WorkerChanges) => Effect.Effect<WorkerHandle, never, Scope.Scope>
  /** Keeps `count` workers running: whoever ends is started again. `changes` of each by its number. Answers who runs now. */
  readonly fleet: (
    count: number,
    changes?: (nth: number) => WorkerChanges
  ) => Effect.Effect<() => ReadonlyArray<WorkerHandle>, never, Scope.Scope>
  /** Waits for a worker to reach a point; answers the pid, or `undefined` after `limit` ms. */
  readonly reached: (point: string, limit?: number) => Effect.Effect<number | undefined>
  /** Rings in every worker process: what a client in the same process does through the memory broker. */
  readonly ring: () => void
  /** Waits until nothing is queued or runs; notes a violation after `limit` ms. */
  readonly drained: (limit?: number) => Effect.Effect<void>
}

/** Common settings of workers. */
export const common = { slots: 4, lease: 2_000, sweep: 500, grace: 3_000, interruptGrace: 500, brokerLease: 5_000 }

const runnerName = "chaos runner"

export const make = Effect.fnUntraced(function* (options: {
  readonly server: PostgresServer
  readonly broker: Brokers.BrokerName
  readonly seed: number
  readonly size: number
  /** False: a run without an end, of which no history is kept. */
  readonly keeps?: boolean
}): Effect.fn.Return<Stage, never, Scope.Scope> {
  const { keeps = true, seed, server, size } = options
  const name = `chaos_${randomBytes(6).toString("hex")}`
  const clientOf = (url: string, maxConnections: number) =>
    Effect.map(
      Layer.build(
        Layer.fresh(PgClient.layer({ url: Redacted.make(url), applicationName: runnerName, maxConnections }))
      ),
      (context) => SqlClient.pipe(Effect.provideContext(context))
    ).pipe(Effect.flatten, Effect.orDie)
  yield* Effect.acquireRelease(
    Effect.scoped(
      Effect.flatMap(clientOf(server.url, 1), (sql) => Effect.orDie(sql.unsafe(`create database ${name}`)))
    ),
    () =>
      Effect.scoped(
        Effect.flatMap(clientOf(server.url, 1), (sql) => sql.unsafe(`drop database ${name} with (force)`))
      ).pipe(Effect.retry({ times: 5 }), Effect.orDie)
  )
  const direct = new URL(server.url)
  direct.pathname = `/${name}`
  const url = direct.href
  const sql = yield* clientOf(url, 4)
  yield* Effect.scoped(
    Layer.build(Layer.fresh(Migrations.layer()).pipe(Layer.provide(Layer.succeed(SqlClient, sql))))
  ).pipe(Effect.orDie)
  yield* Effect.orDie(keeps ? HistoryOf.watch(sql) : HistoryOf.guard(sql))
  const proxy = yield* Effect.acquireRelease(
    Effect.promise(async () => {
      const made = new Proxy(server.port)
      await made.start()
      return made
    }),
    (made) => Effect.promise(() => made.stop())
  )
  const broker = yield* Effect.provideService(Brokers.start(options.broker), SqlClient, sql)
  const clock = yield* Effect.orDie(HistoryOf.offset(sql))
  const ledger = makeLedger(keeps)
  const violations: Array<string> = []
  const scope = yield* Effect.scope
  let isOver = false
  yield* Effect.addFinalizer(() => Effect.sync(() => (isOver = true)))
  const asked = new Set<number>()
  const alive = new Set<ChildProcess>()
  let ringing = false
  const ring = () => {
    if (ringing) return
    ringing = true
    setTimeout(() => {
      ringing = false
      for (const child of alive) child.kill("SIGUSR2")
    }, 20)
  }
  let lastBeat = now()
  const beat = setInterval(() => {
    const at = now()
    // The servers of SQS and Service Bus live here, and nothing else runs on a machine that starves this process
    if (at - lastBeat > common.lease / 3) ledger.faults.push({ kind: "starved", at: lastBeat, until: at })
    lastBeat = at
  }, 50)
  yield* Effect.addFinalizer(() => Effect.sync(() => clearInterval(beat)))

  const fault: Stage["fault"] = (kind, also) => void ledger.faults.push({ kind, at: now(), ...also })

  const noneAbandoned: Stage["noneAbandoned"] = Effect.gen(function* () {
    const [row] = yield* sql<{ n: number }>`
      select count(*)::int as n from polyqueue.polyqueue_attempts where outcome = 'crashed'`
    if (row?.n !== 0 && !ledger.faults.some(({ kind }) => kind === "starved"))
      violations.push(`${row?.n} attempts were abandoned, and nobody died`)
  }).pipe(Effect.orDie)

  const spawn: Stage["spawn"] = Effect.fnUntraced(function* (changes = {}) {
    const { env = {}, imports = [], proxied = false, ...settings } = changes
    const told: WorkerSettings = {
      ...common,
      url: proxied ? proxy.url(url) : url,
      broker: broker.spec,
      seed,
      ...settings
    }
    const started = yield* Effect.acquireRelease(
      Effect.sync(() =>
        WorkerProcess.start("worker.ts", { CHAOS_WORKER: JSON.stringify(told), ...env }, ledger.heard, imports)
      ),
      ({ child, exited }) =>
        Effect.promise(async () => {
          asked.add(child.pid ?? -1)
          child.kill("SIGKILL")
          await exited
        })
    )
    const { child, exited, log, pid } = started
    void exited.then(({ code, signal }) => {
      if (isOver || asked.has(pid) || ledger.faults.some((one) => one.pid === pid && one.kind !== "starved")) return
      violations.push(`worker ${pid} ended by itself (${signal ?? code}): ${log().slice(-1_500)}`)
    })
    yield* Effect.promise(() => Promise.race([started.ready, exited]))
    alive.add(child)
    void exited.then(() => alive.delete(child))
    return {
      ...started,
      signal: (signal, forMs) => {
        if (signal === "SIGKILL") fault(signal, { pid })
        if (signal === "SIGSTOP") fault(signal, { pid, until: now() + (forMs ?? 3_600_000) })
        if (signal === "SIGTERM") asked.add(pid)
        child.kill(signal)
      }
    }
  })

  const fleet: Stage["fleet"] = Effect.fnUntraced(function* (count, changes) {
    const running = new Set<WorkerHandle>()
    let nth = 0
    const keep = Effect.forever(
      Effect.scoped(
        Effect.gen(function* () {
          const worker = yield* spawn(changes?.(nth++))
          running.add(worker)
          yield* Effect.addFinalizer(() => Effect.sync(() => running.delete(worker)))
          yield* Effect.promise(() => worker.exited)
        })
      )
    )
    for (let i = 0; i < count; i++) yield* Effect.forkIn(keep, scope)
    while (running.size < count) yield* Effect.sleep(20)
    return () => Array.from(running)
  })

  const open = sql<{ n: number }>`select count(*)::int as n from polyqueue.polyqueue_jobs
    where status in ('queued', 'processing') and type <> 'Ballast'`.pipe(
    Effect.map(([row]) => row?.n ?? -1),
    Effect.catch(() => Effect.succeed(-1))
  )
  const drained: Stage["drained"] = (limit = 60_000) =>
    Effect.gen(function* () {
      const until = now() + limit
      while ((yield* open) !== 0) {
        if (now() > until) {
          violations.push(`not drained within ${limit} ms`)
          break
        }
        yield* Effect.sleep(100)
      }
      // What workers have to say of it
      yield* Effect.sleep(300)
    })

  const reached: Stage["reached"] = (point, limit = 20_000) =>
    Effect.gen(function* () {
      const until = now() + limit
      while (now() < until) {
        const found = ledger.points.find((one) => one.point === point)
        if (found !== undefined) return found.pid
        yield* Effect.sleep(20)
      }
      violations.push(`nobody reached the point ${point}`)
      return undefined
    })

  return {
    seed,
    random: seeded(seed),
    size,
    server,
    proxy,
    url,
    sql,
    broker,
    ledger,
    clock,
    extra: {},
    recoveries: [],
    violations,
    fault,
    noneAbandoned,
    spawn,
    fleet,
    reached,
    ring,
    drained
  }
})
