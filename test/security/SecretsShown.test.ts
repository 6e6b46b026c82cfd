/**
 * Where a secret is when jobs that carry it have ended in every way, by crash and lost lease too: in the columns that hold
 * payload, result and progress, in no other column of any table, in nothing that was logged, traced or counted on the way, and
 * in no output of the command line but what was asked for by `--payload`. And how not even those columns hold it in clear.
 */
import { assert, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Layer, Schema, SchemaIssue, SchemaTransformation } from "effect"
import { SqlClient } from "effect/sql"
import { createCipheriv, createDecipheriv, randomBytes, randomUUID } from "node:crypto"
import { Broker, CurrentJob, Job, JobStore, Polyqueue, TerminalError, Worker } from "../../src/index.ts"
import type { JobId } from "../../src/JobId.ts"
import { run } from "../support/Cli.ts"
import { canary, hides, overhear } from "../support/Overheard.ts"
import { describePostgres, freshDatabase, layerUrl } from "../support/Postgres.ts"

class Rejected extends Schema.TaggedError<Rejected>()("Rejected", { code: Schema.Int }) {}
const credentials = Schema.Struct({ user: Schema.String, password: Schema.String })
class Login extends Job.make("Login", {
  payload: { how: Schema.String, credentials },
  success: credentials,
  error: Rejected,
  maxAttempts: 1
}) {}
/** The same type, by code of another version. */
class Older extends Job.make("Login", { payload: Schema.Unknown }) {}

const ways = ["success", "error", "terminal", "defect", "hang", "crash", "cancel", "undecodable"] as const

/** Columns of all our tables that hold the canary, with the statuses of the jobs that do. */
const columnsWith = (word: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const columns = yield* sql.unsafe<{ table: string; column: string }>(
      `select c.relname as table, a.attname as column from pg_class c join pg_attribute a on a.attrelid = c.oid
      where c.relnamespace = 'polyqueue'::regnamespace and c.relkind = 'r' and a.attnum > 0 and not a.attisdropped`
    )
    assert.isAbove(columns.length, 60)
    const found: Array<string> = []
    for (const { column, table } of columns) {
      const [row] = yield* sql.unsafe<{ count: number }>(
        `select count(*)::int as count from polyqueue."${table}" where "${column}"::text like '%' || $1 || '%'`,
        [word]
      )
      if ((row?.count ?? 0) > 0) found.push(`${table}.${column}`)
    }
    return found.sort()
  })

describePostgres("a secret in a payload", () => {
  it.live(
    "is in the columns made for it, and nowhere else, however its job ends",
    () =>
      Effect.gen(function* () {
        const url = yield* freshDatabase
        const hanging = yield* Deferred.make<void>()
        const LoginLive = Login.toLayer(
          Effect.fnUntraced(function* ({ credentials, how }) {
            switch (how) {
              case "error":
                return yield* new Rejected({ code: 1 })
              case "terminal":
                return yield* Effect.fail(new TerminalError({ message: "no such user" }))
              case "defect":
                return yield* Effect.die(new Error("a bug"))
              case "hang":
                if (yield* Deferred.succeed(hanging, undefined)) return yield* Effect.never
            }
            const job = yield* CurrentJob
            yield* job.progress({ done: 1, total: 2, note: `for ${canary}` })
            return credentials
          })
        )
        const Client = Polyqueue.layerPostgres.pipe(
          Layer.provide(Broker.layerPostgres),
          Layer.provideMerge(layerUrl(url))
        )
        const Workers = Worker.layer([Login], { lease: "1 second", sweepEvery: "50 millis" }).pipe(
          Layer.provide(LoginLive)
        )
        const { exit, text } = yield* overhear(
          Effect.gen(function* () {
            const sql = yield* SqlClient.SqlClient
            const store = yield* JobStore
            const secret = { user: "ada", password: canary }
            const ids = new Map<string, JobId>()
            const enqueue = Effect.fnUntraced(function* (how: (typeof ways)[number]) {
              const job =
                how === "undecodable"
                  ? yield* Older.enqueue({ how: 5, credentials: { password: [canary] }, [canary]: canary })
                  : yield* Login.enqueue({ how, credentials: secret })
              ids.set(how, job.id)
              return job
            })
            // A worker that never came back: its attempt ends as crashed, and the next one does the work
            yield* enqueue("crash")
            const taken = yield* store.claim({
              claim: randomUUID(),
              worker: "gone",
              lease: 1,
              suspects: 0,
              pools: [{ ranges: [{ queue: "default", type: "Login" }], limit: 1 }]
            })
            assert.strictEqual(taken.length, 1)
            yield* (yield* enqueue("cancel")).cancel
            yield* Effect.scoped(
              Effect.gen(function* () {
                yield* Layer.build(Workers)
                for (const how of ["success", "error", "terminal", "defect", "undecodable"] as const) {
                  yield* Effect.exit((yield* enqueue(how)).await)
                }
                yield* Login.handle(ids.get("crash")!).await
                // Somebody else has it now: the worker hears of it at its next renewal, and its handler is interrupted
                const lost = yield* enqueue("hang")
                yield* Deferred.await(hanging)
                yield* sql`update polyqueue.polyqueue_jobs set claim = gen_random_uuid(), lease_owner = 'other',
                  lease_expires_at = clock_timestamp() + interval '3 seconds' where id = ${lost.id}::uuid`
                yield* lost.await
              })
            )
            const attempts = yield* Effect.forEach([...ids.values()], (id) => store.attempts(id))
            return {
              columns: yield* columnsWith(canary),
              ids: [...ids.values()],
              id: ids.get("success")!,
              outcomes: attempts.flat().map(({ outcome }) => outcome)
            }
          }).pipe(Effect.provide(Client))
        )
        assert.include(text, "run Login")
        hides(text, "a log line, span or metric")
        if (Exit.isFailure(exit)) return yield* exit
        const { columns, id, ids, outcomes } = exit.value
        assert.deepStrictEqual(columns, ["polyqueue_jobs.payload", "polyqueue_jobs.progress", "polyqueue_jobs.result"])
        assert.sameMembers([...new Set(outcomes)], ["succeeded", "failed", "crashed"])
        // The worker that never came back, and the one that was overruled
        assert.strictEqual(outcomes.filter((outcome) => outcome === "crashed").length, 2)

        const env = { POLYQUEUE_DB_URL: url }
        const commands = [
          ["inspect", "stats"],
          ["inspect", "queues"],
          ["inspect", "workers", "--all"],
          ["inspect", "jobs"],
          ["inspect", "audit"],
          ["admin", "requeue", "--status", "failed", "--dry-run"],
          ["doctor"],
          ["settings"],
          ...ids.flatMap((one) => [
            ["inspect", "job", one],
            ["inspect", "attempts", one],
            ["explain", one]
          ])
        ]
        for (const command of commands) {
          for (const format of ["table", "json"]) {
            const answer = yield* run([...command, "-o", format], { env })
            assert.notStrictEqual(answer.stdout, "", command.join(" "))
            hides(answer.stdout + answer.stderr, command.join(" "))
          }
        }
        const asked = yield* run(["inspect", "job", id, "--payload", "-o", "json"], { env })
        assert.include(asked.stdout, canary)
      }).pipe(Effect.scoped),
    60_000
  )

  it.live("is not there in clear when its field is encrypted by its schema, which the handler does not notice", () =>
    Effect.gen(function* () {
      const key = randomBytes(32)
      /** AES-256-GCM: nonce, tag and text, in base64. What was changed on its way does not decode. */
      const seal = (text: string) => {
        const nonce = randomBytes(12)
        const cipher = createCipheriv("aes-256-gcm", key, nonce)
        const sealed = Buffer.concat([cipher.update(text, "utf8"), cipher.final()])
        return Buffer.concat([nonce, cipher.getAuthTag(), sealed]).toString("base64")
      }
      const open = (sealed: string) => {
        const bytes = Buffer.from(sealed, "base64")
        const decipher = createDecipheriv("aes-256-gcm", key, bytes.subarray(0, 12))
        decipher.setAuthTag(bytes.subarray(12, 28))
        return Buffer.concat([decipher.update(bytes.subarray(28)), decipher.final()]).toString("utf8")
      }
      const Sealed = Schema.String.pipe(
        Schema.decodeTo(
          Schema.String,
          SchemaTransformation.transformEffect({
            decode: (text: string) =>
              Effect.try({
                try: () => open(text),
                catch: () => new SchemaIssue.InvalidValue({ message: "cannot be decrypted" }, undefined)
              }),
            encode: (text: string) => Effect.succeed(seal(text))
          })
        )
      )
      class Charge extends Job.make("Charge", { payload: { card: Sealed }, success: Sealed }) {}
      const Live = Worker.layer([Charge]).pipe(
        Layer.provide(Charge.toLayer(({ card }) => Effect.succeed(`charged ${card}`))),
        Layer.provideMerge(Polyqueue.layerPostgres),
        Layer.provide(Broker.layerPostgres),
        Layer.provideMerge(layerUrl(yield* freshDatabase))
      )
      yield* Effect.gen(function* () {
        const job = yield* Charge.enqueue({ card: canary })
        assert.strictEqual(yield* job.await, `charged ${canary}`)
        assert.deepStrictEqual(yield* columnsWith(canary), [])
        class Forged extends Job.make("Charge", { payload: { card: Schema.String } }) {}
        const forged = yield* Forged.enqueue({ card: Buffer.from(canary.repeat(9)).toString("base64") })
        const error = yield* Effect.flip(Charge.handle(forged.id).await)
        assert.strictEqual(error._tag === "JobStopped" && error.reason, "undecodable")
      }).pipe(Effect.provide(Live))
    }).pipe(Effect.scoped)
  )
})
