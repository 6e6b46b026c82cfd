/** The program itself, in child processes: exit codes, one line per error, pipes, signals, workers from modules, no secret. */
import { assert, it } from "@effect/vitest"
import { Effect, Queue, type Scope } from "effect"
import { SqlClient } from "effect/sql"
import type { ChildProcess } from "node:child_process"
import { join } from "node:path"
import { describe } from "vitest"
import * as Migrations from "../../src/Migrations.ts"
import { type Answer, execute, run, start } from "../support/Cli.ts"
import { describePostgres, freshDatabase, layerUrl } from "../support/Postgres.ts"

const module = (name: string) => join(import.meta.dirname, "modules", `${name}.ts`)

const isOneLine = ({ stderr }: Answer) => assert.match(stderr, /^polyqueue: [^\n]+\n?$/)

/** A port where nobody listens; the password must not come back. */
const nobody = { POLYQUEUE_DB_URL: "postgresql://ada:canary-secret@127.0.0.1:1/x" }

describe("the program polyqueue", () => {
  it.live.each<readonly [string, ReadonlyArray<string>, RegExp]>([
    ["an unknown command", ["inspct"], /Unknown subcommand "inspct".*Did you mean this\? inspect\n/],
    ["an unknown flag", ["inspect", "stats", "--wach"], /--wach/],
    ["a value out of range", ["inspect", "jobs", "--limit", "0"], /--limit/],
    ["a span that is none", ["inspect", "jobs", "--older-than", "soon"], /a length of time like 30s, 5m, 1h, 7d/],
    ["an id that is none", ["inspect", "job", "12"], /a job id: a UUID/],
    ["an action without jobs", ["admin", "requeue"], /Say which jobs/],
    ["ids and a filter", ["admin", "requeue", "01890a5d-ac96-774b-bcce-b302099a8057", "-s", "failed"], /not both/],
    ["a pause of nothing", ["admin", "pause"], /Say what/]
  ])("%s is wrong usage: exit code 2, said on stderr with the usage, nothing on stdout", ([, args, says]) =>
    Effect.gen(function* () {
      const answer = yield* run(args, { env: nobody })
      assert.strictEqual(answer.code, 2)
      assert.match(answer.stderr, says)
      assert.match(answer.stderr, /\nusage: polyqueue [^\n]+\nmore: {2}polyqueue [^\n]*--help$/)
      assert.strictEqual(answer.stdout, "")
    })
  )

  it.live("settings that are wrong or missing are exit code 2 and name the variable", () =>
    Effect.gen(function* () {
      const missing = yield* run(["inspect", "stats"])
      assert.strictEqual(missing.code, 2)
      assert.match(missing.stderr, /^polyqueue: a setting of polyqueue is wrong: POLYQUEUE_DB_URL is missing/)
      const wrong = yield* run(["settings"], {
        env: { ...nobody, POLYQUEUE_BACKEND: "rabbit", POLYQUEUE_MAX_ATTEMPTS: "0" }
      })
      assert.strictEqual(wrong.code, 2)
      assert.match(
        wrong.stderr,
        /2 settings of polyqueue are wrong:\n- POLYQUEUE_BACKEND is "rabbit".*\n- POLYQUEUE_MAX_ATTEMPTS/
      )
    })
  )

  it.live("a server that cannot be reached is exit code 69, in one line, without its password", () =>
    Effect.gen(function* () {
      for (const args of [
        ["inspect", "stats"],
        ["migrate", "status"],
        ["doctor"],
        ["enqueue", "x"],
        ["admin", "resume", "x"]
      ]) {
        const answer = yield* run(args, { env: nobody })
        assert.strictEqual(answer.code, 69, args.join(" "))
        isOneLine(answer)
        assert.notInclude(answer.stdout + answer.stderr, "canary-secret")
      }
      const debug = yield* run(["inspect", "stats", "--log-level", "debug"], { env: nobody })
      assert.include(debug.stderr, "StoreError")
      assert.notInclude(debug.stdout + debug.stderr, "canary-secret")
    })
  )

  it.live("settings hide every secret", () =>
    Effect.gen(function* () {
      for (const format of ["table", "json", "jsonl"]) {
        const answer = yield* run(["settings", "--docs", "-o", format], {
          env: {
            ...nobody,
            POLYQUEUE_REDIS_URL: "redis://:canary-secret@127.0.0.1",
            POLYQUEUE_AZURE_SB_CONNECTION_STRING:
              "Endpoint=sb://x.servicebus.windows.net/;SharedAccessKeyName=a;SharedAccessKey=canary-secret"
          }
        })
        assert.strictEqual(answer.code, 0)
        assert.notInclude(answer.stdout + answer.stderr, "canary-secret")
        assert.include(answer.stdout, "(hidden)")
      }
    })
  )

  it.live("no flag takes a secret", () =>
    Effect.gen(function* () {
      for (const path of [
        [],
        ["inspect"],
        ["inspect", "jobs"],
        ["worker"],
        ["migrate"],
        ["doctor"],
        ["bench"],
        ["enqueue"]
      ]) {
        const { stdout } = yield* run([...path, "--help"])
        assert.notMatch(stdout, /--[a-z-]*(url|password|secret|token|connection)/)
      }
    })
  )

  it.live("completions for four shells", () =>
    Effect.gen(function* () {
      for (const shell of ["bash", "zsh", "fish", "powershell"]) {
        const answer = yield* run(["--completions", shell])
        assert.strictEqual(answer.code, 0)
        assert.include(answer.stdout, "requeue")
      }
    })
  )

  it.live("migrate --sql connects to nothing", () =>
    Effect.gen(function* () {
      const answer = yield* run(["migrate", "--sql"], { env: { POLYQUEUE_TABLE_SCHEMA: "jobs" } })
      assert.strictEqual(answer.code, 0, answer.stderr)
      assert.include(answer.stdout, 'create schema if not exists "jobs"')
      const wrong = yield* run(["migrate", "--sql"], { env: { POLYQUEUE_TABLE_SCHEMA: "My Jobs" } })
      assert.strictEqual(wrong.code, 2)
      assert.match(wrong.stderr, /^polyqueue: POLYQUEUE_TABLE_SCHEMA is "My Jobs": it must be at most 41 lower-case/)
      assert.strictEqual((yield* run(["migrate", "--sql", "--from", "99"])).code, 2, "a version that does not exist")
    })
  )
})

/** A program that runs on, its lines one by one, ended with the scope. */
const running = (args: ReadonlyArray<string>, env: Record<string, string>) =>
  Effect.gen(function* () {
    const lines = yield* Queue.unbounded<string>()
    const child = yield* Effect.acquireRelease(
      Effect.sync(() => start(args, env)),
      (child) => Effect.sync(() => void child.kill("SIGKILL"))
    )
    for (const stream of [child.stdout, child.stderr]) {
      let rest = ""
      stream.setEncoding("utf8").on("data", (text: string) => {
        const parts = (rest + text).split("\n")
        rest = parts.pop() ?? ""
        for (const line of parts) Queue.offerUnsafe(lines, line)
      })
    }
    return { child, lines }
  })

const lineLike = (lines: Queue.Dequeue<string>, pattern: RegExp): Effect.Effect<string> =>
  Effect.flatMap(Queue.take(lines), (line) => (pattern.test(line) ? Effect.succeed(line) : lineLike(lines, pattern)))

const exited = (child: ChildProcess): Effect.Effect<number | null> =>
  Effect.callback((resume) => {
    if (child.exitCode !== null) return resume(Effect.succeed(child.exitCode))
    child.once("close", (code) => resume(Effect.succeed(code)))
  })

const migrated: Effect.Effect<Record<string, string>, never, Scope.Scope> = Effect.gen(function* () {
  const url = yield* freshDatabase
  yield* Migrations.migrate().pipe(Effect.provide(layerUrl(url)))
  return { POLYQUEUE_DB_URL: url }
}).pipe(Effect.orDie)

describePostgres("polyqueue worker", () => {
  it.live("runs what a module exports on the settings; SIGTERM waits for the running job", () =>
    Effect.gen(function* () {
      const env = yield* migrated
      const { child, lines } = yield* running(["worker", module("open")], env)
      const sum = yield* run(["enqueue", "Add", "--payload", '{"a":20,"b":22}', "--wait"], { env })
      assert.strictEqual(sum.code, 0, sum.stderr)
      const job = yield* run(["inspect", "job", sum.stdout.split(" ")[0]!, "--payload", "-o", "json"], { env })
      assert.strictEqual(JSON.parse(job.stdout).job.result, 42)
      const { stdout } = yield* run(["inspect", "workers", "-o", "json"], { env })
      assert.deepStrictEqual(JSON.parse(stdout).workers[0].jobTypes, ["Add", "Slow"])

      const slow = yield* run(["enqueue", "Slow"], { env })
      yield* lineLike(lines, /slow: started/)
      child.kill("SIGTERM")
      yield* lineLike(lines, /told to end: claims nothing new, waits for running jobs/)
      assert.strictEqual(yield* exited(child), 0, "supervisors take everything else for a failure")
      const ended = yield* run(["inspect", "job", slow.stdout.trim(), "-o", "json"], { env })
      assert.strictEqual(JSON.parse(ended.stdout).job.status, "succeeded")
      const workers = yield* run(["inspect", "workers", "--all", "-o", "json"], { env })
      assert.strictEqual(JSON.parse(workers.stdout).workers[0].status, "stopped")
    }).pipe(Effect.scoped)
  )

  it.live("a second Ctrl-C does not wait for the running job: 130", () =>
    Effect.gen(function* () {
      const env = yield* migrated
      const { child, lines } = yield* running(["worker", module("endless")], env)
      yield* run(["enqueue", "Slow"], { env })
      yield* lineLike(lines, /endless: started/)
      child.kill("SIGINT")
      yield* lineLike(lines, /told to end/)
      child.kill("SIGINT")
      assert.strictEqual(yield* exited(child), 130)
    }).pipe(Effect.scoped)
  )

  it.live("ends when every worker in it was told to stop: 0", () =>
    Effect.gen(function* () {
      const env = { ...(yield* migrated), POLYQUEUE_WORKER_HEARTBEAT_INTERVAL: "0.1" }
      const { child, lines } = yield* running(["worker", module("two")], env)
      yield* lineLike(lines, /two\.ts runs/)
      assert.strictEqual((yield* run(["admin", "stop", "first", "--yes"], { env })).code, 0)
      yield* lineLike(lines, /told to stop.*worker=first/)
      const { stdout } = yield* run(["enqueue", "Slow", "--wait"], { env })
      assert.include(stdout, "succeeded", "the other one goes on")
      assert.strictEqual((yield* run(["admin", "stop", "second", "--yes"], { env })).code, 0)
      yield* lineLike(lines, /every worker was told to stop: the process ends/)
      assert.strictEqual(yield* exited(child), 0)
    }).pipe(Effect.scoped)
  )

  it.live("needs no settings for a layer that brings everything", () =>
    Effect.gen(function* () {
      const { lines } = yield* running(["worker", module("closed")], {})
      yield* lineLike(lines, /the sum is 3/)
    }).pipe(Effect.scoped)
  )

  it.live.each<readonly [string, number, RegExp]>([
    ["needy", 2, /needs the service app\/Mailer: provide it to the layer/],
    ["failing", 1, /failing\.ts: the licence has expired/],
    ["without", 2, /exports no Layer: export one as `default` or as `worker` \(it exports more, nothing\)/],
    ["throwing", 1, /cannot be loaded: TypeError: no such setting/],
    ["absent", 2, /there is no module/],
    ["open", 69, /open\.ts: .*PostgreSQL cannot be reached/]
  ])("module %s: exit code %d and one line", ([name, code, says]) =>
    Effect.gen(function* () {
      const answer = yield* run(["worker", module(name)], { env: nobody })
      assert.strictEqual(answer.code, code)
      isOneLine(answer)
      assert.match(answer.stderr, says)
      assert.notInclude(answer.stderr, "canary-secret")
    })
  )
})

describePostgres("polyqueue in a shell", () => {
  it.live("every exit code is that of the process; errors are one line on stderr", () =>
    Effect.gen(function* () {
      const env = { POLYQUEUE_DB_URL: yield* freshDatabase }
      const steps: ReadonlyArray<readonly [number, ReadonlyArray<string>]> = [
        [4, ["inspect", "jobs"]],
        [5, ["migrate", "status"]],
        [0, ["migrate"]],
        [3, ["inspect", "jobs", "-o", "jsonl"]],
        [2, ["inspect", "jobs", "--limit", "0"]]
      ]
      for (const [code, args] of steps) {
        const answer = yield* execute(args, env)
        assert.strictEqual(answer.code, code, answer.stderr)
        if (code !== 0 && code !== 2) isOneLine(answer)
        if (code === 4) assert.include(answer.stderr, "`polyqueue migrate` makes the tables")
      }
      const unreachable = yield* execute(["inspect", "jobs"], nobody)
      assert.strictEqual(unreachable.code, 69)
      isOneLine(unreachable)
    }).pipe(Effect.scoped)
  )

  it.live("migrate makes the tables once", () =>
    Effect.gen(function* () {
      const env = { POLYQUEUE_DB_URL: yield* freshDatabase }
      assert.include((yield* run(["migrate"], { env })).stdout, "migrated from version 0")
      assert.include((yield* run(["migrate", "up"], { env })).stdout, "nothing to do")
      assert.strictEqual((yield* run(["migrate", "status"], { env })).code, 0)
    }).pipe(Effect.scoped)
  )

  it.live("a login that is refused is exit code 4", () =>
    Effect.gen(function* () {
      const url = new URL(yield* freshDatabase)
      url.pathname = "/no_such_database"
      const answer = yield* run(["inspect", "stats"], { env: { POLYQUEUE_DB_URL: url.href } })
      assert.strictEqual(answer.code, 4)
      isOneLine(answer)
    }).pipe(Effect.scoped)
  )

  it.live("--watch goes on until it is interrupted: 130; a reader that leaves ends nothing badly", () =>
    Effect.gen(function* () {
      const env = yield* migrated
      const { child, lines } = yield* running(["inspect", "stats", "--watch=100ms", "-o", "json"], env)
      const first = JSON.parse(yield* lineLike(lines, /^\{/))
      const second = JSON.parse(yield* lineLike(lines, /^\{/))
      assert.isAbove(Date.parse(second.at), Date.parse(first.at))
      child.kill("SIGINT")
      assert.strictEqual(yield* exited(child), 130)

      const left = yield* running(["inspect", "stats", "--watch=100ms"], env)
      yield* lineLike(left.lines, /^workers/)
      left.child.stdout.destroy()
      assert.strictEqual(yield* exited(left.child), 0)
    }).pipe(Effect.scoped)
  )

  it.live("bench measures in a schema of its own and leaves nothing behind", () =>
    Effect.gen(function* () {
      const env = yield* migrated
      assert.strictEqual((yield* run(["bench"], { env })).code, 4, "it asks first")
      const answer = yield* run(["bench", "--jobs", "500", "--yes", "-o", "json"], { env })
      assert.strictEqual(answer.code, 0, answer.stderr)
      for (const { value } of JSON.parse(answer.stdout).measurements) assert.isAbove(value, 0)
      const schemas = yield* Effect.flatMap(SqlClient.SqlClient, (sql) =>
        sql.unsafe("select from pg_namespace where nspname like 'polyqueue\\_bench%'")
      ).pipe(Effect.provide(layerUrl(env["POLYQUEUE_DB_URL"]!)))
      assert.lengthOf(schemas, 0)
    }).pipe(Effect.scoped)
  )
})
