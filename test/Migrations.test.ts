/** Migrations: once however many start, without rights when there is nothing to do, and never on tables of others. */
import { assert, it } from "@effect/vitest"
import { Effect, Result } from "effect"
import { SqlClient } from "effect/sql"
import * as Migrations from "../src/Migrations.ts"
import { describePostgres, freshDatabase, layerFresh, layerUrl } from "./support/Postgres.ts"

const recorded = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ n: number }>`select max(version) as n from polyqueue.polyqueue_migrations`
  return row!.n
})

describePostgres("Migrations", () => {
  it.live("ten processes at once: one migrates, nine find nothing to do", () =>
    Effect.gen(function* () {
      const url = yield* freshDatabase
      // As the worst of roles: transactions that see the database as it was before they waited
      const alter = `alter database "${new URL(url).pathname.slice(1)}" set default_transaction_isolation = 'serializable'`
      const process = Migrations.migrate().pipe(Effect.provide(layerUrl(url, { maxConnections: 1 })))
      yield* Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(alter)).pipe(Effect.provide(layerUrl(url)))
      const results = yield* Effect.all(
        Array.from({ length: 10 }, () => process),
        { concurrency: 10 }
      )
      assert.lengthOf(
        results.filter(({ from, to }) => from < to),
        1
      )
      assert.strictEqual(yield* recorded.pipe(Effect.provide(layerUrl(url))), Migrations.version)
    }).pipe(Effect.scoped)
  )

  it.live("a role without DDL rights starts on tables that are up to date, and is denied when they are not", () =>
    Effect.gen(function* () {
      const url = yield* freshDatabase
      const role = `plain_${new URL(url).pathname.slice(-12)}`
      const plain = new URL(url)
      plain.username = role
      const asPlain = Migrations.migrate().pipe(Effect.provide(layerUrl(plain.href)))
      yield* Effect.acquireRelease(
        Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(`create role ${role} login`)).pipe(
          Effect.provide(layerUrl(url))
        ),
        () =>
          Effect.flatMap(SqlClient.SqlClient, (sql) =>
            Effect.andThen(sql.unsafe(`drop owned by ${role}`), sql.unsafe(`drop role ${role}`))
          ).pipe(Effect.provide(layerUrl(url)), Effect.orDie)
      )
      assert.strictEqual((yield* Effect.flip(asPlain)).reason, "Denied")
      yield* Migrations.migrate().pipe(Effect.provide(layerUrl(url)))
      yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql.unsafe(`grant usage on schema polyqueue to ${role}`)
        yield* sql.unsafe(`grant select on polyqueue.polyqueue_migrations to ${role}`)
      }).pipe(Effect.provide(layerUrl(url)))
      assert.deepStrictEqual(yield* asPlain, { from: Migrations.version, to: Migrations.version })
    }).pipe(Effect.scoped)
  )

  it.live("tables of these names that are not ours are refused and left alone", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const options = { schema: "public" }
      yield* sql`create table polyqueue_jobs (id int)`
      assert.strictEqual((yield* Effect.flip(Migrations.migrate(options))).reason, "Foreign")
      yield* sql`create table polyqueue_migrations (version int)`
      assert.strictEqual((yield* Effect.flip(Migrations.migrate(options))).reason, "Foreign")
      assert.lengthOf(yield* sql`select from pg_class where relname like 'polyqueue%' and relkind = 'r'`, 2)
    }).pipe(Effect.provide(layerFresh()))
  )

  it.live("newer tables are accepted if they say that they are compatible", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* Migrations.migrate()
      yield* sql`insert into polyqueue.polyqueue_migrations (version, name, compatible_with) values (999, 'new', 1)`
      assert.deepStrictEqual(yield* Migrations.migrate(), { from: 999, to: 999 })
      yield* sql`update polyqueue.polyqueue_migrations set compatible_with = 999 where version = 999`
      assert.strictEqual((yield* Effect.flip(Migrations.migrate())).reason, "Unsupported")
    }).pipe(Effect.provide(layerFresh()))
  )

  it.live("the text to apply by hand makes the same tables", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const text = Result.getOrThrow(Migrations.statements({ schema: "by_hand", prefix: "x" }))
      for (const statement of text.split(";\n").slice(1, -2)) yield* sql.unsafe(statement)
      assert.deepStrictEqual(yield* Migrations.migrate({ schema: "by_hand", prefix: "x" }), {
        from: Migrations.version,
        to: Migrations.version
      })
      yield* Migrations.migrate()
      const shape = (schema: string, prefix: string) =>
        sql`select replace(table_name, ${`${prefix}_`}, '') as t, column_name, data_type, is_nullable
          from information_schema.columns where table_schema = ${schema} order by 1, 2`
      assert.deepStrictEqual(yield* shape("by_hand", "x"), yield* shape("polyqueue", "polyqueue"))
    }).pipe(Effect.provide(layerFresh()))
  )

  it.live("the status says what is applied and what is missing, and changes nothing", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const before = yield* Migrations.status()
      assert.strictEqual(before.current, 0)
      assert.isTrue(before.migrations.every(({ appliedAt }) => appliedAt === undefined))
      assert.deepStrictEqual(yield* sql`select from pg_namespace where nspname = 'polyqueue'`, [])
      yield* Migrations.migrate()
      const after = yield* Migrations.status()
      assert.strictEqual(after.current, Migrations.version)
      assert.isTrue(after.migrations.every(({ appliedAt }) => typeof appliedAt === "number"))
    }).pipe(Effect.provide(layerFresh()))
  )

  it.live("names that are not plain are refused before anything is asked of the database", () =>
    Effect.gen(function* () {
      for (const options of [{ schema: `x"; drop table y` }, { prefix: "Bad" }, { prefix: "1a" }, { schema: "" }]) {
        assert.strictEqual((yield* Effect.flip(Migrations.migrate(options))).reason, "Refused")
      }
    }).pipe(Effect.provide(layerFresh()))
  )

  it.live("impossible rows are impossible", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* Migrations.migrate()
      const insert = (change: string) =>
        Effect.andThen(
          sql.unsafe(`insert into polyqueue.polyqueue_jobs (id, run_at, enqueued_at, max_attempts, max_crashes, max_snoozes,
            priority, hinted, unique_live, status, queue, type, timeout_then, payload)
            values ('00000000-0000-0000-0000-000000000001', now(), now(), 3, 3, 3, 5, false, false, 'queued', 'q', 't',
            'retry', '{}')`),
          sql.unsafe(`update polyqueue.polyqueue_jobs set ${change}`)
        ).pipe(sql.withTransaction)
      for (const change of [
        "status = 'unknown'",
        "status = 'processing'",
        "claim = gen_random_uuid()",
        "status = 'succeeded'",
        "finished_at = now()",
        "result = '1'",
        "failures = 1",
        "crashes = -1",
        "retry_from = 1",
        "priority = 10",
        "publish_at = now()",
        "status = 'queued', lease_owner = 'w'",
        "status = 'queued', lease_expires_at = now()",
        "status = 'processing', claim = gen_random_uuid(), lease_owner = 'w', started_at = now()",
        "status = 'processing', claim = gen_random_uuid(), lease_owner = 'w', lease_expires_at = now()",
        "status = 'succeeded', finished_at = now(), lease_owner = 'w'",
        "status = 'failed', finished_at = now(), result = '1'",
        "status = 'cancelled', finished_at = now(), hinted = true, publish_at = now()",
        "status = 'queued', finished_at = now()",
        "queue = ''",
        "type = repeat('x', 256)",
        "unique_key = repeat('x', 1001)",
        "timeout_then = 'wait'",
        "max_attempts = 0",
        "max_crashes = 0",
        "max_snoozes = -1",
        "publications = -1",
        "timeout = 0"
      ]) {
        const error = yield* Effect.flip(insert(change))
        assert.strictEqual(error.reason._tag, "ConstraintError", change)
      }
      for (const [attempt, outcome, finalizer] of [
        [0, "succeeded", "worker"],
        [1, "queued", "worker"],
        [1, "succeeded", "nobody"]
      ]) {
        const error = yield* Effect.flip(
          sql.unsafe(`insert into polyqueue.polyqueue_attempts (job_id, claim, claimed_at, ended_at, attempt, outcome,
            finalized_by, worker) values (gen_random_uuid(), gen_random_uuid(), now(), now(), ${attempt}, '${outcome}',
            '${finalizer}', 'w')`)
        )
        assert.strictEqual(error.reason._tag, "ConstraintError", `${attempt} ${outcome} ${finalizer}`)
      }
    }).pipe(Effect.provide(layerFresh()))
  )
})
