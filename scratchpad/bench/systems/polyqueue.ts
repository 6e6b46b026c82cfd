/**
 * Polyqueue with what it always does: payload, result, attempts log, leases, fence, metrics. No-op handlers unless the
 * request says otherwise, 100 slots. The checks at the end of a drain are part of the measurement's honesty, not of its time.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { Broker, CurrentJob, Job, Polyqueue, Worker } from "../../../src/index.ts"
import * as Crowd from "../Crowd.ts"
import { type Answer, inBatches, maxRss, now, percentile, type Request, type System } from "../Measurement.ts"
import { acrossProcesses, forkWorker, ready, sample, tellParent } from "../PickUp.ts"

class Noop extends Job.make("noop", { payload: { n: Schema.Int } }) {}
/** For the crowd that is paused: a worker has to ask for it. */
class Paused extends Job.make("paused", { payload: { n: Schema.Int }, queue: "paused" }) {}
class FailsOnce extends Job.make("fails-once", {
  payload: { n: Schema.Int },
  error: Schema.String,
  retry: { schedule: Schedule.spaced(0).pipe(Schedule.upTo({ times: 2 })) }
}) {}

const client = (request: Request) => PgClient.layer({ url: Redacted.make(request.postgres), maxConnections: 8 })

/** Loaded when they are asked for: a process that uses none of them should not weigh as if it did. */
const brokerOf = async (request: Request) => {
  switch (request.system) {
    case "polyqueue on Redis": {
      const RedisBroker = await import("../../../src/broker/RedisBroker.ts")
      return RedisBroker.layer({ url: Redacted.make(request.redis ?? "") })
    }
    case "polyqueue on PGMQ": {
      const [PgmqBroker, { installPgmq }] = await Promise.all([
        import("../../../src/broker/PgmqBroker.ts"),
        import("../../../test/support/Pgmq.ts")
      ])
      // The second process of a measurement finds it installed
      return PgmqBroker.layer().pipe(Layer.provide(Layer.effectDiscard(Effect.ignore(installPgmq))))
    }
    default:
      return Broker.layerPostgres
  }
}

const stackOf = (request: Request) =>
  request.system === "polyqueue on PGlite"
    ? Polyqueue.layerEmbedded()
    : Polyqueue.layerPostgres.pipe(
        Layer.provideMerge(Layer.unwrap(Effect.promise(() => brokerOf(request)))),
        Layer.provideMerge(client(request))
      )

/** Everything of one measurement, on one set of connections. */
const open = (request: Request) => {
  const runtime = ManagedRuntime.make(Layer.orDie(stackOf(request)))
  const query = <Row extends object>(text: string) =>
    runtime.runPromise(Effect.orDie(Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe<Row>(text))))
  const one = async (expression: string): Promise<number> =>
    Number((await query<{ readonly n: number }>(`select (${expression})::float8 as n`))[0]?.n)
  const empty = () =>
    query("truncate polyqueue.polyqueue_jobs, polyqueue.polyqueue_attempts, polyqueue.polyqueue_queues")
  const send = (payloads: ReadonlyArray<{ readonly n: number }>) => runtime.runPromise(Noop.enqueueAll(payloads))
  return { runtime, query, one, empty, send }
}
type Bench = ReturnType<typeof open>

const lsn = "pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
/** Every statement of ours outside a transaction is one. */
const transactions = "select xact_commit from pg_stat_database where datname = current_database()"

/** WAL bytes and commits per job of `body`. The server publishes its counts with a delay: it is asked when they rest. */
const perJob = async <A>({ one, query }: Bench, jobs: number, body: () => Promise<A>) => {
  const settled = async () => {
    let last = -1
    for (;;) {
      await query("select pg_stat_clear_snapshot()")
      const count = await one(transactions)
      // The question itself is counted: rest is when nothing but it was
      if (last >= 0 && count - last <= 12) return count
      last = count
      await new Promise((resolve) => setTimeout(resolve, 1_100))
    }
  }
  const before = { wal: await one(lsn), commits: await settled() }
  const result = await body()
  const wal = (await one(lsn)) - before.wal
  const commits = (await settled()) - before.commits
  return {
    result,
    also: { "WAL per job": { value: wal / jobs, unit: "B" }, "commits per job": { value: commits / jobs, unit: "" } }
  }
}

const work = (request: Request, started: (n: number) => void, ended: () => void) =>
  Noop.toLayer(({ n }) => {
    started(n)
    return request.work > 0 ? Effect.andThen(Effect.sleep(request.work), Effect.sync(ended)) : Effect.sync(ended)
  })

const startWorker = ({ runtime }: Bench, request: Request, started: (n: number) => void, ended: () => void) => {
  const handler = work(request, started, ended)
  const live = request.crowd.startsWith("paused")
    ? Worker.layer([Noop, Paused], { concurrency: { default: 100, paused: 100 } }).pipe(
        Layer.provide([handler, Paused.toLayer(() => Effect.void)])
      )
    : Worker.layer([Noop], { concurrency: 100 }).pipe(Layer.provide(handler))
  return runtime.runFork(Effect.orDie(Effect.scoped(Effect.andThen(Layer.build(live), Effect.never))))
}

/** Jobs whose attempt is not in the log: cheaper to ask while the last ones settle than the state of each. */
const unfinished = ({ jobs }: Request) =>
  `${jobs} - least(${jobs}, (select count(*) from polyqueue.polyqueue_attempts))`

/** Fails when what was measured is not what is promised. */
const check = async ({ one, query }: Bench, request: Request) => {
  const [setting] = await query<{ readonly synchronous_commit: string }>("show synchronous_commit")
  const complete = await one(`select count(*) from polyqueue.polyqueue_jobs j
    join polyqueue.polyqueue_attempts a on a.job_id = j.id and a.attempt = j.attempt and a.outcome = 'succeeded'
    where j.type = 'noop' and j.status = 'succeeded' and j.result is not null and j.finished_at is not null`)
  if (complete < request.jobs) throw new Error(`only ${complete} of ${request.jobs} jobs have a result and an attempt`)
  if (request.system !== "polyqueue on PGlite" && setting?.synchronous_commit !== "on") {
    throw new Error("synchronous_commit is not on")
  }
}

const drained = async (bench: Bench, request: Request): Promise<number> => {
  let ended = 0
  const start = performance.now()
  startWorker(
    bench,
    request,
    () => {},
    () => void ended++
  )
  while (ended < request.jobs || (await bench.one(unfinished(request))) > 0)
    await new Promise((resolve) => setTimeout(resolve, 5))
  return (request.jobs * 1_000) / (performance.now() - start)
}

const drain = async (request: Request): Promise<Answer> => {
  const bench = open(request)
  // An embedded database begins empty in every process
  if (request.system === "polyqueue on PGlite") await inBatches(request.jobs, bench.send)
  await bench.one("1")
  const value = await drained(bench, request)
  await check(bench, request)
  return { value, unit: "jobs/s", also: { RSS: maxRss() } }
}

/** The same drain with something else in the table. */
const drainBeside = async (request: Request): Promise<Answer> => {
  const bench = open(request)
  await bench.empty()
  const release = await Crowd.fill(bench, request)
  if (request.crowd !== "due") await inBatches(request.jobs, bench.send)
  // Rows that have lain there for a while: what autovacuum does once to a million new ones is not the claim's cost
  await bench.query("vacuum (analyze) polyqueue.polyqueue_jobs")
  const value = await drained(bench, request)
  await release()
  return { value, unit: "jobs/s", also: { RSS: maxRss() } }
}

const drainByTwo = async (request: Request): Promise<Answer> => {
  const bench = open(request)
  await bench.one("1")
  const workers = await Promise.all(Array.from({ length: 2 }, () => forkWorker(request, "drainWorker")))
  const start = performance.now()
  for (const worker of workers) worker.send("go")
  while ((await bench.one(unfinished(request))) > 0) await new Promise((resolve) => setTimeout(resolve, 5))
  const value = (request.jobs * 1_000) / (performance.now() - start)
  for (const worker of workers) worker.kill("SIGKILL")
  await check(bench, request)
  return { value, unit: "jobs/s" }
}

const retries = async (request: Request): Promise<Answer> => {
  const bench = open(request)
  await bench.empty()
  await inBatches(request.jobs, (payloads) => bench.runtime.runPromise(FailsOnce.enqueueAll(payloads)))
  let ended = 0
  const live = Worker.layer([FailsOnce], { concurrency: 100 }).pipe(
    Layer.provide(
      FailsOnce.toLayer(() =>
        Effect.flatMap(CurrentJob, ({ attempt }) =>
          attempt === 1 ? Effect.fail("once") : Effect.sync(() => void ended++)
        )
      )
    )
  )
  const start = performance.now()
  bench.runtime.runFork(Effect.orDie(Effect.scoped(Effect.andThen(Layer.build(live), Effect.never))))
  const left = "select count(*) from polyqueue.polyqueue_jobs where status <> 'succeeded'"
  while (ended < request.jobs || (await bench.one(left)) > 0) await new Promise((resolve) => setTimeout(resolve, 5))
  return { value: (2 * request.jobs * 1_000) / (performance.now() - start), unit: "attempts/s" }
}

/** Says every second how large its process is. Ended jobs are pruned after a minute, so that a table of an hour is no larger. */
const memoryWorker = async (request: Request): Promise<Answer> => {
  const { runtime } = open(request)
  const retention = { succeeded: "1 minute", attempts: "1 minute" } as const
  const live = Worker.layer([Noop], { concurrency: 100, retention }).pipe(
    Layer.provide(
      work(
        request,
        () => {},
        () => {}
      )
    )
  )
  runtime.runFork(Effect.orDie(Effect.scoped(Effect.andThen(Layer.build(live), Effect.never))))
  setInterval(() => process.send?.(process.memoryUsage.rss() / 1e6), 1_000)
  return ready()
}

/** Resident memory of a worker, in MB, while `load` jobs per second come: after a tenth of the time, and at its end. */
const memory = async (request: Request): Promise<Answer> => {
  const bench = open(request)
  await bench.empty()
  const worker = await forkWorker(request, "memoryWorker")
  const seen: Array<number> = []
  worker.on("message", (size) => seen.push(Number(size)))
  const start = performance.now()
  const seconds = () => (performance.now() - start) / 1_000
  let sent = 0
  while (seconds() < request.seconds) {
    const due = Math.min(1_000, Math.floor(seconds() * request.load) - sent)
    if (due > 0) await bench.send(Array.from({ length: due }, (_, i) => ({ n: sent + i })))
    sent += Math.max(0, due)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  worker.kill("SIGKILL")
  const tenth = Math.floor(seen.length / 10)
  const between = (from: number, to: number) => ({ value: percentile(seen.slice(from, to), 0.5), unit: "MB" })
  return {
    ...between(-tenth, seen.length),
    also: {
      "after a tenth of it": between(tenth, 2 * tenth),
      "at most": { value: Math.max(...seen), unit: "MB" },
      jobs: { value: sent, unit: "" }
    }
  }
}

/** A worker with nothing to do: share of one core, and transactions per second. */
const rest = async (request: Request): Promise<Answer> => {
  const bench = open(request)
  await bench.empty()
  startWorker(
    bench,
    request,
    () => {},
    () => {}
  )
  await new Promise((resolve) => setTimeout(resolve, 3_000))
  const before = await bench.one(transactions)
  const cpu = process.cpuUsage()
  await new Promise((resolve) => setTimeout(resolve, request.seconds * 1_000))
  const { system: kernel, user } = process.cpuUsage(cpu)
  const commits = (await bench.one(transactions)) - before
  return {
    value: ((user + kernel) / 1e6 / request.seconds) * 100,
    unit: "% of a core",
    also: { commits: { value: commits / request.seconds, unit: "/s" } }
  }
}

export const system: System = {
  enqueue: async (request) => {
    const bench = open(request)
    if (request.system !== "polyqueue on PGlite") await bench.empty()
    // Callers are fibers of one program, as they are in a server
    const callers = Effect.gen(function* () {
      yield* Noop.enqueue({ n: 1 })
      let made = 0
      const start = performance.now()
      const end = start + request.seconds * 1_000
      const caller = Effect.whileLoop({
        while: () => performance.now() < end,
        body: () => Noop.enqueue({ n: 1 }),
        step: () => void made++
      })
      yield* Effect.forEach(Array.from({ length: request.callers }), () => caller, {
        concurrency: "unbounded",
        discard: true
      })
      return (made * 1_000) / (performance.now() - start)
    })
    const value = await bench.runtime.runPromise(callers)
    return { value, unit: "jobs/s" }
  },
  enqueueAll: async (request) => {
    const bench = open(request)
    if (request.system === "polyqueue on PGlite") {
      return { value: await inBatches(request.jobs, bench.send), unit: "jobs/s" }
    }
    await bench.empty()
    const { also, result } = await perJob(bench, request.jobs, () => inBatches(request.jobs, bench.send))
    return { value: result, unit: "jobs/s", also }
  },
  drain,
  /** For the counts alone: they wait for the server's statistics. */
  drainCosts: async (request) => {
    const bench = open(request)
    const { also, result } = await perJob(bench, request.jobs, () => drained(bench, request))
    return { value: result, unit: "jobs/s", also }
  },
  drainBeside,
  drainByTwo,
  drainWorker: async (request) => {
    const bench = open(request)
    await bench.one("1")
    process.once("message", () =>
      startWorker(
        bench,
        request,
        () => {},
        () => {}
      )
    )
    return ready()
  },
  retries,
  memory,
  memoryWorker,
  rest,
  pickUpWorker: async (request) => {
    const bench = open(request)
    await bench.empty()
    startWorker(bench, request, tellParent, () => {})
    await new Promise((resolve) => setTimeout(resolve, 500))
    return ready()
  },
  pickUp: async (request) => {
    const bench = open(request)
    const enqueue = (n: number) => bench.runtime.runPromise(Noop.enqueue({ n }))
    if (request.system !== "polyqueue, doorbell") return acrossProcesses(request, enqueue, bench.send)
    await bench.empty()
    let heard = (_n: number, _at: number) => {}
    startWorker(
      bench,
      request,
      (n) => heard(n, now()),
      () => {}
    )
    await new Promise((resolve) => setTimeout(resolve, 500))
    return sample(request.samples, (listener) => void (heard = listener), enqueue)
  }
}
