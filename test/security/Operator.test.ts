/**
 * Mistakes of the operator, and neighbours on the same machine: no secret is an argument (arguments are seen by everybody),
 * nothing is ended or deleted in bulk without a yes, and what lies in files is for this user alone.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { mkdtemp, rm, stat } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Job, Polyqueue } from "../../src/index.ts"
import { run } from "../support/Cli.ts"
import { describePostgres, freshDatabase, layerUrl } from "../support/Postgres.ts"

class Task extends Job.make("Task", {}) {}

describe("arguments", () => {
  it.live("no flag of any command takes a secret", () =>
    Effect.gen(function* () {
      const { stdout } = yield* run(["--completions", "bash"])
      const flags = new Set(stdout.match(/--[a-z][a-z-]*/g))
      assert.includeMembers([...flags], ["--payload", "--queue", "--yes", "--roles"])
      for (const flag of flags) assert.notMatch(flag, /url|pass|secret|token|connection|credential|auth|dsn/)
    })
  )

  it.live("a connection string given as one is refused, and not repeated", () =>
    Effect.gen(function* () {
      const url = "postgres://user:c4n4ry@127.0.0.1:1/db"
      for (const args of [
        ["doctor", url],
        ["inspect", "stats", `--db-url=${url}`],
        ["inspect", "job", url],
        ["enqueue", "Task", "--delay", url],
        ["enqueue", "Task", "--payload", url],
        [url],
        ["worker", url]
      ]) {
        const answer = yield* run(args, { env: { POLYQUEUE_DB_URL: "postgres://127.0.0.1:1/db" } })
        assert.strictEqual(answer.code, 2, args.join(" "))
        assert.notStrictEqual(answer.stderr, "")
        assert.notInclude(answer.stdout + answer.stderr, "c4n4ry")
      }
    })
  )
})

/** One number for all that the tables hold. */
const digest = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql.unsafe<{ digest: string }>(
    `select md5((select coalesce(string_agg(j::text, ',' order by id), '') from polyqueue.polyqueue_jobs j)
      || (select coalesce(string_agg(a::text, ',' order by a::text), '') from polyqueue.polyqueue_audit a)) as digest`
  )
  return row!.digest
})

describePostgres("actions on many jobs", () => {
  it.live("change nothing without a yes where nobody can be asked, nor in a dry run, and do with it", () =>
    Effect.gen(function* () {
      const url = yield* freshDatabase
      const env = { POLYQUEUE_DB_URL: url }
      yield* Effect.gen(function* () {
        const queued = yield* Task.enqueue()
        yield* Effect.flatMap(Task.enqueue(), (job) => job.cancel)
        const before = yield* digest
        for (const action of ["requeue", "fail", "cancel", "run-now", "purge"]) {
          for (const which of [["--all"], ["--type", "Task"], ["--queue", "default"]]) {
            const unasked = yield* run(["admin", action, ...which], { env })
            assert.strictEqual(unasked.code, 4, `${action} ${which.join(" ")}: ${unasked.stderr}`)
            assert.include(unasked.stderr, "add --yes to do it")
            const dry = yield* run(["admin", action, ...which, "--dry-run", "--yes"], { env })
            assert.strictEqual(dry.code, 0, dry.stderr)
          }
          const vague = yield* run(["admin", action, "--yes"], { env })
          assert.strictEqual(vague.code, 2, "all is never what is meant by nothing")
        }
        assert.strictEqual((yield* run(["admin", "fail", queued.id], { env })).code, 4)
        assert.strictEqual(yield* digest, before)
        assert.strictEqual((yield* run(["admin", "cancel", "--all", "--yes"], { env })).code, 0)
        assert.strictEqual((yield* run(["admin", "purge", "--all", "--yes"], { env })).code, 0)
        assert.notStrictEqual(yield* digest, before)
      }).pipe(Effect.provide(Polyqueue.layerProducer), Effect.provide(layerUrl(url)))
    }).pipe(Effect.scoped)
  )
})

describe("the folder of an embedded database", () => {
  it.live("is for its user alone", () =>
    Effect.gen(function* () {
      const parent = yield* Effect.acquireRelease(
        Effect.promise(() => mkdtemp(join(tmpdir(), "polyqueue-mode-"))),
        (folder) => Effect.promise(() => rm(folder, { recursive: true, force: true }))
      )
      const dataDir = join(parent, "a", "data")
      yield* Effect.provide(Task.enqueue(), Polyqueue.layerEmbedded({ dataDir }))
      for (const folder of [join(parent, "a"), dataDir]) {
        const { mode } = yield* Effect.promise(() => stat(folder))
        assert.strictEqual(mode & 0o077, 0, folder)
      }
    }).pipe(Effect.scoped)
  )
})
