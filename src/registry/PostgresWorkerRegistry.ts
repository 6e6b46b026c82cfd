/**
 * The worker registry in PostgreSQL: one row per worker, on the database's clock, through one session of its own, which
 * handlers cannot starve. A worker taken for dead that beats again is alive again.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { SqlClient } from "effect/sql/SqlClient"
import type { StoreError } from "../JobError.ts"
import { type DatabaseClock, millis, shifted, system } from "../store/postgres/DatabaseClock.ts"
import { make as makeNames, type Names, type NamesOptions } from "../store/postgres/Names.ts"
import * as Params from "../store/postgres/Params.ts"
import * as Sessions from "../store/postgres/Sessions.ts"
import type { WorkerRecord, WorkerRegistryDriver, WorkerStatus } from "./WorkerRegistryDriver.ts"

/** Where the tables are. */
export type Options = NamesOptions

const statements = (names: Names, { moment, now }: DatabaseClock) => ({
  heartbeat: `insert into ${names.workers} as w (id, started_at, heartbeat_at, pid, slots, running_count, status, host,
      name, version, queues, job_types, running)
    select $1::text, c.at, c.at, $2::int4, $3::int4, $4::int4, $5::text, $6::text, $7::text, $8::text,
      $9::text[], $10::text[], $11::text[] from (select ${moment} as at) c
    on conflict (id) do update set heartbeat_at = excluded.heartbeat_at, pid = excluded.pid, slots = excluded.slots,
      running_count = excluded.running_count, status = excluded.status, host = excluded.host, name = excluded.name,
      version = excluded.version, queues = excluded.queues, job_types = excluded.job_types, running = excluded.running`,
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
      array_to_json(job_types)::text, array_to_json(running)::text, ${millis("started_at")}, ${millis("heartbeat_at")}
    from ${names.workers} order by id collate "C"`
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
  heartbeatAt: number
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
  heartbeatAt: row[12]
})

const makeWith = (options: Options, clockOf: (names: Names) => DatabaseClock) =>
  Effect.gen(function* () {
    const names = yield* Effect.fromResult(makeNames(options))
    const run = yield* Sessions.makeSingle("polyqueue registry")
    const text = statements(names, clockOf(names))
    const driver: WorkerRegistryDriver = {
      heartbeat: (info) =>
        Effect.asVoid(
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
            Params.texts(info.running.slice(0, 100))
          ])
        ),
      stop: (id) => Effect.asVoid(run("stop", text.stop, [Params.text(id)])),
      reapStale: (threshold) =>
        Effect.map(run("reapStale", text.reapStale, [Params.float(threshold)]), (rows) =>
          (rows as ReadonlyArray<[string]>).map(([id]) => id)
        ),
      prune: (age) => Effect.map(run("prune", text.prune, [Params.float(age)]), (rows) => Number(rows[0]?.[0])),
      list: Effect.map(run("list", text.list, []), (rows) => (rows as ReadonlyArray<Row>).map(toRecord))
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
