/**
 * `doctor`: the server itself. Does it keep what it has confirmed, may this role do its work, is it writable, and does
 * something hold back its vacuum?
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { workerRights } from "../../store/postgres/Roles.ts"
import * as Spans from "../Spans.ts"
import { type Check, type Finding, ok, orOk, problem, warning } from "./Finding.ts"

const oldest = 130_000

/** Version, and whether it takes writes. */
export const server: Check = ({ read }) =>
  Effect.map(
    read(`select current_setting('server_version'), current_setting('server_version_num')::int, pg_is_in_recovery(),
      current_setting('default_transaction_read_only')`),
    ([row]) => {
      const [name, number, inRecovery, readOnly] = row ?? []
      const findings: Array<Finding> = []
      if (typeof number === "number" && number < oldest) {
        findings.push(problem("server", `PostgreSQL ${String(name)} is too old`, "upgrade to PostgreSQL 13 or newer"))
      }
      if (inRecovery === true) {
        findings.push(problem("server", "this is a standby: it cannot write", "point POLYQUEUE_DB_URL at the primary"))
      } else if (readOnly === "on") {
        findings.push(
          warning("server", "transactions are read-only by default; our own sessions change that, yours do not")
        )
      }
      return orOk(findings, "server", `PostgreSQL ${String(name)}, writable`)
    }
  )

const switches: Readonly<Record<string, readonly [consequence: string, fix: string]>> = {
  fsync: ["a crash of the machine can destroy the database", "set fsync = on and reload"],
  full_page_writes: ["a crash of the machine can tear pages", "set full_page_writes = on and reload"],
  synchronous_commit: [
    "a crash of the server loses jobs whose enqueue was confirmed",
    "set synchronous_commit = on for this role, database or server"
  ]
}

/** Whether what was confirmed survives a crash: settings of the server and of this role, and kind of tables. */
export const durability: Check = ({ names, read }) =>
  Effect.gen(function* () {
    const settings = yield* read(
      `select name, current_setting(name) from unnest($1::text[]) as t(name) where current_setting(name) = 'off'`,
      [Object.keys(switches)]
    )
    const unlogged = yield* read(
      `select c.relname::text from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
      where n.nspname = $1::text and c.relkind = 'r' and c.relpersistence <> 'p' and starts_with(c.relname::text, $2::text)
      order by 1`,
      [names.schema, `${names.prefix}_`]
    )
    const findings = [
      ...settings.map(([name]) => {
        const [consequence, fix] = switches[String(name)] ?? []
        return problem("durability", `${String(name)} is off: ${consequence}`, fix)
      }),
      ...unlogged.map(([name]) =>
        problem(
          "durability",
          `the table ${String(name)} is unlogged: a crash of the server empties it`,
          `alter table "${names.schema}"."${String(name)}" set logged`
        )
      )
    ]
    return orOk(findings, "durability", "fsync, full_page_writes and synchronous_commit are on, all tables are logged")
  })

/** Whether this role may do what workers and this program do: what `migrate --roles` grants a worker, and no more. */
export const privileges: Check = ({ names, read }) =>
  Effect.gen(function* () {
    const needed = workerRights(names)
    const missing = yield* read(
      `select n.name, string_agg(case when n.part = '' then n.right else n.right || ' (' || n.part || ')' end, ', ')
      from unnest($1::text[], $2::text[], $3::text[]) as n(name, "right", part)
      where not case when n.part = '' then has_table_privilege(n.name, n.right)
        else has_column_privilege(n.name, n.part, n.right) end
      group by 1 order by 1`,
      [needed.map(({ table }) => table), needed.map(({ right }) => right), needed.map(({ column }) => column ?? "")]
    )
    const [who] = yield* read("select current_user::text")
    const role = String(who?.[0])
    const findings = missing.map(([table, privileges]) =>
      problem(
        "privileges",
        `${role} may not ${String(privileges)} on ${String(table).replaceAll('"', "")}`,
        `grant ${String(privileges)} on ${String(table)} to "${role}"`
      )
    )
    return orOk(findings, "privileges", `${role} may do all that workers and operators do`)
  })

const slightSkew = 1_000

/** How far apart the clocks of the database and of this machine are. The database's alone decides anything. */
export const clock: Check = ({ read }) =>
  Effect.gen(function* () {
    const before = yield* Clock.currentTimeMillis
    const [row] = yield* read("select date_part('epoch', clock_timestamp()) * 1000")
    const after = yield* Clock.currentTimeMillis
    const skew = Number(row?.[0]) - (before + after) / 2
    const size = Math.max(0, Math.abs(skew) - (after - before) / 2)
    if (size <= slightSkew) return [ok("clock", "the database and this machine agree within a second")]
    const direction = skew > 0 ? "behind" : "ahead of"
    return [
      warning(
        "clock",
        `the clock of this machine is ${Spans.show(size)} ${direction} the database's; only the database's decides, but logs and ` +
          "traces will not line up",
        "synchronise the clocks (NTP)"
      )
    ]
  })

const longest = 15 * 60_000

/** Transactions so old that vacuum cannot clean up behind the queue. */
export const horizon: Check = ({ read }) =>
  Effect.map(
    read(
      `select pid, coalesce(application_name, ''), (date_part('epoch', clock_timestamp() - xact_start) * 1000)::float8
      from pg_catalog.pg_stat_activity
      where datname = current_database() and xact_start < clock_timestamp() - $1::float8 * interval '1 millisecond'
      order by xact_start limit 5`,
      [longest]
    ),
    (rows) =>
      orOk(
        rows.map(([pid, application, age]) =>
          warning(
            "vacuum",
            `a transaction of process ${String(pid)} (${String(application) || "no name"}) is open for ` +
              `${Spans.show(Number(age))}: dead rows of the queue pile up behind it`,
            `select pg_terminate_backend(${String(pid)})`
          )
        ),
        "vacuum",
        "no transaction is open for longer than 15 minutes"
      )
  )
