/**
 * The hot statements keep their plans whatever the statistics say, and whatever stands in front of the jobs they are
 * after: no sequential scan of jobs or attempts, and few pages. Statistics are made hostile on purpose: never analyzed,
 * analyzed while empty, and analyzed while no job was processing. With our sessions' settings and, for a client behind a
 * pooler that drops them, without.
 */
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { randomUUID } from "node:crypto"
import * as Migrations from "../../src/Migrations.ts"
import { claimStatement } from "../../src/store/postgres/Claim.ts"
import { system } from "../../src/store/postgres/DatabaseClock.ts"
import * as Names from "../../src/store/postgres/Names.ts"
import { nextDueStatement } from "../../src/store/postgres/NextDue.ts"
import { renewStatement } from "../../src/store/postgres/Renew.ts"
import { settleStatement, succeedStatement } from "../../src/store/postgres/Settle.ts"
import { takeHintsStatement } from "../../src/store/postgres/TakeHints.ts"
import { describePostgres, layerFresh } from "../support/Postgres.ts"

const CROWD = 20_000
const BATCH = 100

interface Node {
  readonly "Node Type": string
  readonly "Relation Name"?: string
  readonly "Shared Hit Blocks": number
  readonly "Shared Read Blocks": number
  readonly Plans?: ReadonlyArray<Node>
}

const nodes = (node: Node): ReadonlyArray<Node> => [node, ...(node.Plans ?? []).flatMap(nodes)]

/** Rows of one kind, straight into the table. */
const crowd = (names: Names.Names, count: number, values: string) =>
  `insert into ${names.jobs} (id, run_at, enqueued_at, max_attempts, max_crashes, max_snoozes, priority, hinted,
    unique_live, status, queue, type, timeout_then, payload, publish_at, publications, attempt, claim, lease_owner, started_at,
    lease_expires_at, finished_at)
  select gen_random_uuid(), r.run_at, now(), 3, 3, 3, r.priority, r.publish_at is not null, false, r.status, r.queue,
    r.type, 'retry', '{}', r.publish_at, r.publications, r.attempt, r.claim, r.owner, r.started, r.expires, r.finished
  from generate_series(1, ${count}) i cross join lateral (select ${values}) r`

const kind = (override: Partial<Record<string, string>> = {}) => {
  const columns: Record<string, string> = {
    run_at: "now() - i * interval '1 ms'",
    priority: "5",
    status: "'queued'",
    queue: "'q'",
    type: "'t'",
    publish_at: "null::timestamptz",
    publications: "0",
    attempt: "0",
    claim: "null::uuid",
    owner: "null::text",
    started: "null::timestamptz",
    expires: "null::timestamptz",
    finished: "null::timestamptz",
    ...(override as Record<string, string>)
  }
  return Object.entries(columns)
    .map(([name, value]) => `${value} as ${name}`)
    .join(", ")
}

const claimed = randomUUID()
const processing = kind({
  status: "'processing'",
  type: "'p'",
  attempt: "1",
  claim: `'${claimed}'::uuid`,
  owner: "'w'",
  started: "now()",
  expires: "now() + interval '1 hour'"
})

/** What may stand in front of `BATCH` due jobs of type `t` in queue `q`. */
const crowds: Record<string, string> = {
  "due jobs of the same kind": kind(),
  "future jobs of a better priority": kind({ priority: "0", run_at: "now() + interval '1 hour'" }),
  "due jobs of an unhandled type at a better priority": kind({ type: "'other'", priority: "0" }),
  "due jobs in a paused queue at a better priority": kind({ queue: "'paused'", priority: "0" }),
  "finished jobs": kind({ status: "'succeeded'", finished: "now()" })
}

const statistics: Record<string, { readonly before: string; readonly after: string }> = {
  "never analyzed": { before: "", after: "" },
  "analyzed when empty": { before: "analyze", after: "" },
  "analyzed when no job was processing": { before: "", after: "analyze" }
}

const settings: Record<string, string> = {
  "with the sessions' settings":
    "set local enable_seqscan = off; set local enable_hashjoin = off; set local enable_mergejoin = off; set local enable_bitmapscan = off",
  "without them": ""
}

describePostgres("plans", () => {
  layer(layerFresh({ maxConnections: 1, prepare: false }), { excludeTestServices: true, timeout: 120_000 })((it) => {
    let schema = 0
    const make = Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const names = yield* Effect.fromResult(Names.make({ schema: `plans_${schema++}` }))
      yield* Migrations.migrate(names)
      // Statistics are what this test says, not what autovacuum finds meanwhile
      for (const table of [names.jobs, names.attempts]) {
        yield* sql.unsafe(`alter table ${table} set (autovacuum_enabled = off)`)
      }
      yield* sql.unsafe(`insert into ${names.queues} (queue, paused_at) values ('paused', now())`)
      return { sql, names }
    })

    /** Runs a statement with a generic plan, as ours run, and undoes it. Answers its plan. */
    const explain = Effect.fnUntraced(function* (
      statement: string,
      types: ReadonlyArray<string>,
      values: ReadonlyArray<string>,
      setting: string
    ) {
      const sql = yield* SqlClient.SqlClient
      let plan: Node | undefined
      yield* Effect.exit(
        sql.withTransaction(
          Effect.gen(function* () {
            for (const one of `set local plan_cache_mode = force_generic_plan; set local jit = off; ${setting}`.split(
              ";"
            )) {
              if (one.trim() !== "") yield* sql.unsafe(one)
            }
            yield* sql.unsafe(`prepare hot (${types.join(", ")}) as ${statement}`)
            const rows = yield* sql.unsafe(
              `explain (analyze, buffers, timing off, format json) execute hot (${values.join(", ")})`
            ).values
            yield* sql.unsafe("deallocate hot")
            const [[parsed]] = rows as [[ReadonlyArray<{ readonly Plan: Node }>]]
            plan = parsed[0]!.Plan
            return yield* Effect.fail("undo")
          })
        )
      )
      assert.isDefined(plan, "the statement was explained")
      return plan!
    })

    const check = (names: Names.Names, plan: Node, pages: number, what: string) => {
      for (const node of nodes(plan)) {
        if (node["Node Type"] !== "Seq Scan") continue
        assert.notInclude([`${names.prefix}_jobs`, `${names.prefix}_attempts`], node["Relation Name"], what)
      }
      assert.isBelow(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"], pages, `${what}: pages touched`)
    }

    const uuidArray = (ids: ReadonlyArray<string>) => `array[${ids.map((id) => `'${id}'`).join(",")}]::uuid[]`
    const repeat = (value: string, type: string, count: number) =>
      `array[${Array.from({ length: count }, () => value).join(",")}]::${type}[]`

    for (const [front, values] of Object.entries(crowds)) {
      for (const [stats, { after, before }] of Object.entries(statistics)) {
        it.effect(`claim behind ${CROWD} ${front}, ${stats}`, () =>
          Effect.gen(function* () {
            const { names, sql } = yield* make
            if (before !== "") yield* sql.unsafe(`${before} ${names.jobs}`)
            yield* sql.unsafe(crowd(names, CROWD, values))
            yield* sql.unsafe(crowd(names, BATCH, kind()))
            if (after !== "") yield* sql.unsafe(`${after} ${names.jobs}`)
            const ranges = ["array[1,1,1]", "array['q','paused','q']", "array['t','t','none']"]
            for (const [name, setting] of Object.entries(settings)) {
              for (const suspects of [["1"], []]) {
                const claim = yield* explain(
                  claimStatement(names, system, suspects.length > 0),
                  ["uuid", "text", "float8", "int4[]", "int4[]", "text[]", "text[]", ...suspects.map(() => "int4")],
                  [`'${randomUUID()}'`, "'w'", "30000", `array[${BATCH}]`, ...ranges, ...suspects],
                  setting
                )
                // About a dozen pages per job taken: index, row, new version, new index entries
                check(names, claim, 40 * BATCH, `claim of ${suspects.length} suspects ${name}`)
              }
              const due = yield* explain(
                nextDueStatement(names, system),
                ["int4[]", "text[]", "text[]"],
                ranges,
                setting
              )
              check(names, due, 200, `nextDue ${name}`)
            }
          })
        )
      }
    }

    for (const [stats, { after, before }] of Object.entries(statistics)) {
      it.effect(`settle and renew among ${CROWD} others, ${stats}`, () =>
        Effect.gen(function* () {
          const { names, sql } = yield* make
          if (before !== "") yield* sql.unsafe(`${before} ${names.jobs}`)
          yield* sql.unsafe(crowd(names, CROWD, kind()))
          if (after !== "") yield* sql.unsafe(`${after} ${names.jobs}`)
          yield* sql.unsafe(crowd(names, BATCH, processing))
          const rows = yield* sql.unsafe(`select id::text from ${names.jobs} where type = 'p' order by id`).values
          const ids = (rows as ReadonlyArray<[string]>).map(([id]) => id)
          const leases = [uuidArray(ids), repeat("1", "int4", BATCH), repeat(`'${claimed}'`, "uuid", BATCH)]
          const types = ["uuid[]", "int4[]", "uuid[]"]
          for (const [name, setting] of Object.entries(settings)) {
            const succeed = yield* explain(
              succeedStatement(names, system),
              [...types, "text[]", "text"],
              [...leases, repeat("'1'", "text", BATCH), "'w'"],
              setting
            )
            check(names, succeed, 60 * BATCH, `settle of successes ${name}`)
            const settle = yield* explain(
              settleStatement(names, system),
              [...types, "text[]", "text[]", "text[]", "float8[]", "text[]"],
              [
                ...leases,
                repeat("null", "text", BATCH),
                repeat("'failed'", "text", BATCH),
                repeat("'queued'", "text", BATCH),
                repeat("1000", "float8", BATCH),
                repeat("null", "text", BATCH)
              ],
              setting
            )
            check(names, settle, 60 * BATCH, `settle ${name}`)
            const renew = yield* explain(
              renewStatement(names, system),
              [...types, "float8"],
              [...leases, "30000"],
              setting
            )
            check(names, renew, 40 * BATCH, `renew ${name}`)
          }
        })
      )

      it.effect(`new hints behind ${CROWD} that were published before, ${stats}`, () =>
        Effect.gen(function* () {
          const { names, sql } = yield* make
          if (before !== "") yield* sql.unsafe(`${before} ${names.jobs}`)
          yield* sql.unsafe(crowd(names, CROWD, kind({ publish_at: "now() - interval '1 h'", publications: "3" })))
          yield* sql.unsafe(crowd(names, BATCH, kind({ publish_at: "now()" })))
          if (after !== "") yield* sql.unsafe(`${after} ${names.jobs}`)
          for (const [name, setting] of Object.entries(settings)) {
            const plan = yield* explain(takeHintsStatement(names, system, false), ["int4"], [`${BATCH}`], setting)
            check(names, plan, 60 * BATCH, `takeHints ${name}`)
          }
        })
      )
    }
  })
})
