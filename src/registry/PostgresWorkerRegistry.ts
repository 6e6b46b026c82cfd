/**
 * The worker registry in PostgreSQL: one row per worker, on the database's clock, through one session of its own, which
 * handlers cannot starve. A worker taken for dead that beats again is alive again.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { SqlClient } from "effect/sql/SqlClient"
import type { StoreError } from "../JobError.ts"
import { insertAudit, makeAudit } from "../store/postgres/AuditLog.ts"
import { type DatabaseClock, millis, shifted, system } from "../store/postgres/DatabaseClock.ts"
import { binder } from "../store/postgres/Filter.ts"
import { make as makeNames, type Names, type NamesOptions } from "../store/postgres/Names.ts"
import * as Params from "../store/postgres/Params.ts"
import * as Sessions from "../store/postgres/Sessions.ts"
import type { WorkerOrder, WorkerRecord, WorkerRegistryDriver, WorkerStatus } from "./WorkerRegistryDriver.ts"

/** Where the tables are. */
export type Options = NamesOptions

const statements = (names: Names, { moment, now }: DatabaseClock) => ({
  heartbeat: `insert into ${names.workers} as w (id, started_at, heartbeat_at, pid, slots, running_count, status, host,
      name, version, queues, job_types, running, memory, event_loop_delay)
    select $1::text, c.at, c.at, $2::int4, $3::int4, $4::int4, $5::text, $6::text, $7::text, $8::text,
      $9::text[], $10::text[], $11::text[], $12::float8, $13::float8 from (select ${moment} as at) c
    on conflict (id) do update set heartbeat_at = excluded.heartbeat_at, pid = excluded.pid, slots = excluded.slots,
      running_count = excluded.running_count, status = excluded.status, host = excluded.host, name = excluded.name,
      version = excluded.version, queues = excluded.queues, job_types = excluded.job_types, running = excluded.running,
      memory = excluded.memory, event_loop_delay = excluded.event_loop_delay
    returning w.told, (
      select json_agg(json_build_array(nullif(c.queue, ''), c.concurrency) order by c.queue collate "C")::text
      from ${names.concurrency} c where c.worker_name = $7::text
    )`,
  stop: `update ${names.workers} set status = 'stopped', heartbeat_at = ${moment}, running = '{}', running_count = 0
    where id = $1::text`,
  // Locked first and judged again under the lock: a beat that came in between wins, and two sweepers mark one death once
  reapStale: `with stale as materialized (
      select w.id from ${names.workers} w where w.status in ('running', 'draining')
        and w.heartbeat_at + $1::float8 * interval '1 millisecond' <= ${now}
      order by w.id for no key update skip locked
    )
    update ${names.workers} w set status = 'dead' from stale s where w.id = s.id returning w.id`,
  prune: `with gone as materialized (
      select w.id from ${names.workers} w where w.status in ('stopped', 'dead')
        and w.heartbeat_at + $1::float8 * interval '1 millisecond' <= ${now}
      order by w.id for update skip locked
    ), deleted as (
      delete from ${names.workers} w using gone g where w.id = g.id returning 1
    )
    select count(*)::int from deleted`,
  list: `select id, pid, slots, running_count, status, host, name, version, array_to_json(queues)::text,
      array_to_json(job_types)::text, array_to_json(running)::text, ${millis("started_at")}, ${millis("heartbeat_at")},
      memory::float8, event_loop_delay::float8, told
    from ${names.workers} order by id collate "C"`,
  concurrency: `select worker_name, nullif(queue, ''), concurrency from ${names.concurrency}
    order by worker_name collate "C", queue collate "C"`
})

type Row = [
  id: string,
  pid: number,
  slots: number,
  runningCount: number,
  status: WorkerStatus,
  host: string,
  name: string,
  version: string,
  queues: string,
  jobTypes: string,
  running: string,
  startedAt: number,
  heartbeatAt: number,
  memory: number,
  eventLoopDelay: number,
  told: WorkerOrder | null
]

const strings = (text: string): ReadonlyArray<string> => JSON.parse(text) as ReadonlyArray<string>

const toRecord = (row: Row): WorkerRecord => ({
  id: row[0],
  pid: row[1],
  slots: row[2],
  runningCount: row[3],
  status: row[4],
  host: row[5],
  name: row[6],
  version: row[7],
  queues: strings(row[8]),
  jobTypes: strings(row[9]),
  running: strings(row[10]),
  startedAt: row[11],
  heartbeatAt: row[12],
  memory: row[13],
  eventLoopDelay: row[14],
  told: row[15] ?? undefined
})

type SettingRow = [name: string, queue: string | null, concurrency: number]

const actions = { drain: "drainWorker", stop: "stopWorker" } as const

const stateOf = (told: string): string =>
  `jsonb_strip_nulls(jsonb_build_object('name', w.name, 'status', w.status, 'told', ${told}))`

/** Judged under the row's lock: a worker that says goodbye first is told nothing. */
const makeTell =
  (names: Names, clock: DatabaseClock, run: Sessions.Run): WorkerRegistryDriver["tell"] =>
  ({ by, id, operation, order }) => {
    const values = binder()
    const [worker, told] = [id, order ?? null].map((value) => values.bind(Params.text(value)))
    const text = `with found as materialized (
        select w.id, w.name, w.status, w.told from ${names.workers} w where w.id = ${worker} for no key update
      ), w as materialized (
        select * from found w where w.status in ('running', 'draining') and w.told is distinct from 'stop'
      ), u as (
        update ${names.workers} x set told = ${told} from w where x.id = w.id
      ), written as (
        ${insertAudit(
          names,
          clock,
          values,
          { action: order === undefined ? "resumeWorker" : actions[order], kind: "worker", by, operation },
          { target: "w.id", before: stateOf("w.told"), after: stateOf(`${told}::text`), from: "w" }
        )}
      )
      select status, told from found`
    return Effect.map(run("tell", text, values.params), (rows) => {
      const [row] = rows as ReadonlyArray<[WorkerStatus, WorkerOrder | null]>
      return row === undefined ? undefined : { status: row[0], told: row[1] ?? undefined }
    })
  }

const makeSetConcurrency =
  (names: Names, clock: DatabaseClock, run: Sessions.Run): WorkerRegistryDriver["setConcurrency"] =>
  ({ by, concurrency, name, operation, queue }) => {
    const values = binder()
    const [worker, pool] = [name, queue ?? ""].map((value) => values.bind(Params.text(value)))
    const wanted = values.bind(Params.int(concurrency ?? null))
    const state = (n: string) =>
      `jsonb_strip_nulls(jsonb_build_object('concurrency', ${n}, 'queue', nullif(${pool}::text, '')))`
    const of = `c.worker_name = ${worker} and c.queue = ${pool}`
    const change =
      concurrency === undefined
        ? `delete from ${names.concurrency} c where ${of}`
        : `insert into ${names.concurrency} (worker_name, queue, concurrency) values (${worker}, ${pool}, ${wanted})
          on conflict (worker_name, queue) do update set concurrency = excluded.concurrency`
    const text = `with old as materialized (
        select ${state("c.concurrency")} as before from ${names.concurrency} c where ${of}
      ), changed as (
        ${change}
      ), written as (
        ${insertAudit(
          names,
          clock,
          values,
          { action: "setConcurrency", kind: "worker", by, operation },
          {
            target: `${worker}::text`,
            before: "(select before from old)",
            after: `case when ${wanted}::int4 is not null then ${state(`${wanted}::int4`)} end`,
            from: "(select) one"
          }
        )}
      )
      select`
    return Effect.asVoid(run("setConcurrency", text, values.params))
  }

const makeWith = (options: Options, clockOf: (names: Names) => DatabaseClock) =>
  Effect.gen(function* () {
    const names = yield* Effect.fromResult(makeNames(options))
    const run = yield* Sessions.makeSingle("polyqueue registry")
    const clock = clockOf(names)
    const text = statements(names, clock)
    const driver: WorkerRegistryDriver = {
      heartbeat: (info) =>
        Effect.map(
          run("heartbeat", text.heartbeat, [
            Params.text(info.id),
            Params.int(info.pid),
            Params.int(Params.limit(info.slots)),
            Params.int(info.runningCount),
            Params.text(info.status),
            Params.text(info.host),
            Params.text(info.name),
            Params.text(info.version),
            Params.texts(info.queues),
            Params.texts(info.jobTypes),
            Params.texts(info.running.slice(0, 100)),
            Params.float(info.memory),
            Params.float(info.eventLoopDelay)
          ]),
          (rows) => {
            const [told, concurrency] = (rows as ReadonlyArray<[WorkerOrder | null, string | null]>)[0]!
            const settings = JSON.parse(concurrency ?? "[]") as ReadonlyArray<[string | null, number]>
            return {
              told: told ?? undefined,
              concurrency: settings.map(([queue, concurrency]) => ({ queue: queue ?? undefined, concurrency }))
            }
          }
        ),
      stop: (id) => Effect.asVoid(run("stop", text.stop, [Params.text(id)])),
      reapStale: (threshold) =>
        Effect.map(run("reapStale", text.reapStale, [Params.float(threshold)]), (rows) =>
          (rows as ReadonlyArray<[string]>).map(([id]) => id)
        ),
      prune: (age) => Effect.map(run("prune", text.prune, [Params.float(age)]), (rows) => Number(rows[0]?.[0])),
      list: Effect.map(run("list", text.list, []), (rows) => (rows as ReadonlyArray<Row>).map(toRecord)),
      tell: makeTell(names, clock, run),
      setConcurrency: makeSetConcurrency(names, clock, run),
      concurrency: Effect.map(run("concurrency", text.concurrency, []), (rows) =>
        (rows as ReadonlyArray<SettingRow>).map(([name, queue, concurrency]) => ({
          name,
          queue: queue ?? undefined,
          concurrency
        }))
      ),
      audit: makeAudit(names, run, ["worker"])
    }
    return driver
  })

/** Makes the registry on the ambient `SqlClient`. Opens no connection and does not migrate. */
export const make = (options: Options = {}): Effect.Effect<WorkerRegistryDriver, StoreError, SqlClient | Scope.Scope> =>
  makeWith(options, () => system)

/** For tests: on the clock that `DatabaseClock.advanceStatement` shifts. */
export const makeShifted = (
  options: Options = {}
): Effect.Effect<WorkerRegistryDriver, StoreError, SqlClient | Scope.Scope> => makeWith(options, shifted)
