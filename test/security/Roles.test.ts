/**
 * Least privilege: the SQL of `Migrations.roles` makes roles that can do their part, all of it, and nothing else. The whole
 * store and registry contracts pass as worker; a producer and a viewer are tried with what they must and must not do.
 */
import { assert, describe, layer } from "@effect/vitest"
import { Context, Effect, Layer, Result, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { execFile } from "node:child_process"
import { randomBytes } from "node:crypto"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { Broker, Job, JobStore, Migrations, Polyqueue, Worker, WorkerRegistry } from "../../src/index.ts"
import * as JobStoreContract from "../../src/testing/JobStoreContract.ts"
import * as PostgresJobStore from "../../src/store/PostgresJobStore.ts"
import { describePostgres, freshDatabase, layerUrl } from "../support/Postgres.ts"
import { shiftedClock } from "../support/StoreLayers.ts"

type Kind = "owner" | "worker" | "producer" | "viewer"

/** A migrated database with the roles, and a URL for a login of each. Roles are of the server: names of this database's own. */
class Logins extends Context.Service<Logins, Readonly<Record<Kind | "superuser", string>>>()("test/Logins") {
  static readonly layer = (before: Effect.Effect<unknown, unknown, SqlClient.SqlClient>) =>
    Layer.effect(
      Logins,
      Effect.gen(function* () {
        const superuser = yield* freshDatabase
        const suffix = randomBytes(4).toString("hex")
        const name = (kind: Kind) => `${kind}_${suffix}`
        const url = (kind: Kind) => {
          const changed = new URL(superuser)
          changed.username = `login_${name(kind)}`
          return changed.href
        }
        yield* Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          yield* before
          const text = yield* Effect.fromResult(
            Migrations.roles({
              owner: name("owner"),
              worker: name("worker"),
              producer: name("producer"),
              viewer: name("viewer")
            })
          )
          // Twice: it can be run again
          for (const statement of `${text}${text}`.split(";\n")) {
            if (statement !== "" && statement !== "begin" && statement !== "commit") yield* sql.unsafe(statement)
          }
          for (const kind of ["owner", "worker", "producer", "viewer"] as const) {
            yield* sql.unsafe(`create role login_${name(kind)} login in role ${name(kind)}`)
          }
        }).pipe(Effect.provide(layerUrl(superuser)))
        return {
          superuser,
          owner: url("owner"),
          worker: url("worker"),
          producer: url("producer"),
          viewer: url("viewer")
        }
      })
    )
}

const as = (kind: Kind | "superuser") => Layer.unwrap(Logins.useSync((logins) => layerUrl(logins[kind])))

/** The contract of the store: worker's rights on everything, the superuser's only to move the clock. */
const workerStore = Layer.effect(
  JobStoreContract.StoreUnderTest,
  Effect.gen(function* () {
    const driver = yield* PostgresJobStore.makeShifted().pipe(Effect.provide(yield* Layer.build(as("worker"))))
    const sql = Context.get(yield* Layer.build(as("superuser")), SqlClient.SqlClient)
    const advance = (ms: number) =>
      Effect.asVoid(
        Effect.orDie(
          sql.unsafe(`update polyqueue.polyqueue_clock set shift = shift + $1::float8 * interval '1 millisecond'`, [ms])
        )
      )
    return { driver, advance }
  })
).pipe(
  Layer.provide(
    Logins.layer(
      Effect.andThen(
        shiftedClock,
        SqlClient.SqlClient.use((sql) => sql.unsafe("grant select on polyqueue.polyqueue_clock to public"))
      )
    )
  )
)

class Secret extends Job.make("Secret", {
  payload: { password: Schema.String },
  success: Schema.String,
  idempotencyKey: ({ password }) => `of ${password.length}`
}) {}
class Plain extends Job.make("Plain", { payload: { n: Schema.Int } }) {}

const denied = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.result(effect), (result) => {
    if (Result.isSuccess(result)) assert.fail("it was allowed")
    return String(JSON.stringify(result.failure)) + String(result.failure)
  })

/** What Postgres says to a statement of this role. */
const refusals = Effect.fnUntraced(function* (kind: Kind, statements: ReadonlyArray<string>) {
  const sql = yield* SqlClient.SqlClient
  for (const statement of statements) {
    const code = yield* sql.unsafe(statement).pipe(
      Effect.map(() => "allowed"),
      Effect.catchTag("SqlError", (error) => Effect.succeed(Reflect.get(error.reason.cause as object, "code")))
    )
    assert.strictEqual(code, "42501", `${kind}: ${statement}`)
  }
})

const jobs = "polyqueue.polyqueue_jobs"
const anyJob = `(id, run_at, enqueued_at, max_attempts, max_crashes, max_snoozes, priority, hinted, unique_live, status, queue,
  type, timeout_then, payload`
const someJob = `(gen_random_uuid(), now(), now(), 1, 1, 1, 1, false, false`

describePostgres("least privilege", () => {
  JobStoreContract.suite("PostgresJobStore, as worker", workerStore)

  layer(Logins.layer(Migrations.migrate()), { timeout: "60 seconds", excludeTestServices: true })("the roles", (it) => {
    it.effect("every table has rights, and none for the public", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const tables = yield* sql.unsafe<{ name: string; worker: boolean; viewer: boolean; everybody: boolean }>(`
          select c.relname as name,
            exists (select from aclexplode(c.relacl) a join pg_roles r on r.oid = a.grantee where r.rolname like 'worker%') as worker,
            exists (select from aclexplode(c.relacl) a join pg_roles r on r.oid = a.grantee where r.rolname like 'viewer%')
              or exists (select from pg_attribute t, aclexplode(t.attacl) a join pg_roles r on r.oid = a.grantee
                where t.attrelid = c.oid and r.rolname like 'viewer%') as viewer,
            exists (select from aclexplode(c.relacl) a where a.grantee = 0) as everybody
          from pg_class c where c.relnamespace = 'polyqueue'::regnamespace and c.relkind = 'r'`)
        assert.isAbove(tables.length, 6)
        for (const { everybody, name, viewer, worker } of tables) {
          assert.deepStrictEqual([worker, viewer, everybody], [true, true, false], name)
        }
      }).pipe(Effect.provide(as("superuser")))
    )

    it.effect("a viewer's columns are all but the three that hold what the job is about", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const hidden = yield* sql.unsafe<{ name: string }>(`
          select attname as name from pg_attribute where attrelid = '${jobs}'::regclass and attnum > 0 and not attisdropped
            and not has_column_privilege(attrelid, attnum, 'select') order by 1`)
        assert.deepStrictEqual(
          hidden.map(({ name }) => name),
          ["payload", "progress", "result"]
        )
      }).pipe(Effect.provide(as("viewer")))
    )

    it.effect("a worker runs jobs from start to retention, and cannot change the tables or the audit log", () =>
      Effect.gen(function* () {
        const run = Effect.gen(function* () {
          assert.strictEqual(yield* Secret.execute({ password: "canary" }), "done")
          const store = yield* JobStore
          assert.strictEqual(yield* store.prune({ succeeded: 0, failed: 0, cancelled: 0, attempts: 0 }, 100), 2)
          assert.strictEqual((yield* WorkerRegistry.use((registry) => registry.list)).length, 1)
        })
        yield* run.pipe(
          Effect.provide(
            Worker.layer([Secret]).pipe(
              Layer.provide(Secret.toLayer(() => Effect.succeed("done"))),
              Layer.provideMerge(Polyqueue.layerPostgres),
              Layer.provide(Broker.layerPostgres)
            )
          )
        )
        yield* refusals("worker", [
          "update polyqueue.polyqueue_audit set who = 'somebody else'",
          "delete from polyqueue.polyqueue_audit",
          "update polyqueue.polyqueue_attempts set outcome = 'succeeded'",
          "delete from polyqueue.polyqueue_migrations",
          "create table polyqueue.mine (id int)",
          `alter table ${jobs} add column mine int`,
          `drop table ${jobs}`,
          `truncate ${jobs}`,
          "create function polyqueue.now() returns int language sql as 'select 1'"
        ])
      }).pipe(Effect.provide(as("worker")))
    )

    it.effect("a producer enqueues, in every way and idempotently, without reading payloads", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const first = yield* Plain.enqueue({ n: 1 })
        assert.isFalse(first.deduplicated)
        assert.strictEqual((yield* Plain.enqueueAll([{ n: 2 }, { n: 3 }], { priority: 1, tags: ["a"] })).length, 2)
        const delayed = yield* sql.withTransaction(Plain.enqueue({ n: 4 }, { delay: "1 hour" }))
        assert.isFalse(delayed.deduplicated)
        // The same id, also when nobody may say whether the payload is the same
        assert.isTrue((yield* Plain.enqueue({ n: 1 }, { id: first.id })).deduplicated)
        assert.isTrue((yield* Plain.enqueue({ n: 999 }, { id: first.id })).deduplicated)
        const conflict = yield* Effect.flip(Secret.enqueue({ password: "x" }, { id: first.id }))
        assert.strictEqual(conflict.reason, "IdConflict")
        const keyed = yield* Secret.enqueue({ password: "canary" })
        const again = yield* Secret.enqueue({ password: "yranac" })
        assert.deepStrictEqual([again.id, again.deduplicated], [keyed.id, true])
        assert.isTrue((yield* sql.withTransaction(Secret.enqueue({ password: "nacary" }))).deduplicated)
      }).pipe(Effect.provide(Polyqueue.layerProducer), Effect.provide(as("producer")))
    )

    it.effect("and nothing else: it reads no payload or result, and what it inserts can only be queued", () =>
      Effect.gen(function* () {
        const job = yield* Secret.enqueue({ password: "canary!" })
        for (const text of [
          yield* denied(job.poll),
          yield* denied(job.await),
          yield* denied(job.cancel),
          yield* denied(Polyqueue.use((queue) => queue.requeue(job.id))),
          yield* denied(Polyqueue.use((queue) => queue.list({ limit: 1 }))),
          yield* denied(Polyqueue.use((queue) => queue.attempts(job.id)))
        ]) {
          assert.include(text, "Denied")
          assert.notInclude(text, "canary")
        }
        yield* refusals("producer", [
          `select payload from ${jobs}`,
          `select * from ${jobs}`,
          `select id from ${jobs} where payload = '{}'`,
          `update ${jobs} set status = 'queued'`,
          `update ${jobs} set priority = 0 where id = '${job.id}'`,
          `delete from ${jobs}`,
          `select id from ${jobs} for update`,
          `insert into ${jobs} ${anyJob}, finished_at) values ${someJob}, 'succeeded', 'q', 't', 'retry', '{}', now())`,
          `insert into ${jobs} ${anyJob}, claim) values ${someJob}, 'processing', 'q', 't', 'retry', '{}', gen_random_uuid())`,
          "select * from polyqueue.polyqueue_attempts",
          "select * from polyqueue.polyqueue_workers",
          "select * from polyqueue.polyqueue_audit",
          "insert into polyqueue.polyqueue_queues (queue, paused_at) values ('', now())",
          `drop table ${jobs}`
        ])
        const sql = yield* SqlClient.SqlClient
        for (const status of ["processing", "succeeded", "failed", "cancelled"]) {
          const insert = sql.unsafe(
            `insert into ${jobs} ${anyJob}) values ${someJob}, '${status}', 'q', 't', 'retry', '{}')`
          )
          const error = yield* Effect.flip(insert)
          assert.strictEqual(Reflect.get(error.reason.cause as object, "code"), "23514", status)
        }
      }).pipe(Effect.provide(Polyqueue.layerProducer), Effect.provide(as("producer")))
    )

    it.effect("a viewer finds, counts and looks, reads no payload, and writes nothing", () =>
      Effect.gen(function* () {
        const store = yield* JobStore
        const registry = yield* WorkerRegistry
        const [found] = yield* store.find({ limit: 1 })
        assert.isDefined(found)
        assert.isAbove(yield* store.count({ status: ["queued"] }), 0)
        assert.isAbove((yield* store.stats).length, 0)
        yield* store.pauses
        yield* store.audit({ limit: 10 })
        yield* store.attempts(found!.id)
        yield* registry.list
        yield* registry.concurrency
        assert.include(yield* denied(store.get([found!.id])), "Denied")
        assert.include(yield* denied(store.pause({ queue: "q", by: { who: "v" }, operation: found!.id })), "Denied")
        assert.include(yield* denied(registry.stop("x")), "Denied")
        yield* refusals("viewer", [
          `select payload from ${jobs}`,
          `select result from ${jobs}`,
          `update ${jobs} set status = 'queued'`,
          `delete from ${jobs}`,
          `select id from ${jobs} for update`,
          `insert into ${jobs} ${anyJob}) values ${someJob}, 'queued', 'q', 't', 'retry', '{}')`,
          "delete from polyqueue.polyqueue_workers",
          "insert into polyqueue.polyqueue_queues (queue, paused_at) values ('', now())",
          "create table polyqueue.mine (id int)"
        ])
      }).pipe(
        Effect.provide(Layer.mergeAll(JobStore.layerPostgres, WorkerRegistry.layerPostgres)),
        Effect.provide(as("viewer"))
      )
    )

    it.effect("the owner migrates and changes the tables", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const { from, to } = yield* Migrations.migrate()
        assert.strictEqual(from, to)
        yield* sql.unsafe(`alter table ${jobs} add column mine int`)
        yield* sql.unsafe(`alter table ${jobs} drop column mine`)
      }).pipe(Effect.provide(as("owner")))
    )
  })

  describe("the command line", () => {
    layer(Layer.empty)("migrate --roles", (it) => {
      it.effect("prints the SQL, and needs no database", () =>
        Effect.gen(function* () {
          const { stdout } = yield* Effect.promise(() =>
            promisify(execFile)(process.execPath, ["src/bin.ts", "migrate", "--roles"], {
              cwd: fileURLToPath(new URL("../..", import.meta.url)),
              env: { POLYQUEUE_TABLE_PREFIX: "app", POLYQUEUE_TABLE_SCHEMA: "jobs" }
            })
          )
          const text = yield* Effect.fromResult(Migrations.roles({ prefix: "app", schema: "jobs" }))
          assert.strictEqual(stdout.trim(), text.trim())
        })
      )
    })
  })

  describe("the names of the roles", () => {
    layer(Layer.empty)("are identifiers", (it) => {
      it.effect.each(["a b", 'x"; drop role y; --', "Große", "x".repeat(60), ""])("not %j", (worker) =>
        Effect.gen(function* () {
          const error = yield* Effect.flip(Effect.fromResult(Migrations.roles({ worker })))
          assert.strictEqual(error.reason, "Refused")
          assert.include(error.message, "worker role")
        })
      )
    })
  })
})
