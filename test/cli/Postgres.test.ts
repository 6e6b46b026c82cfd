/** Every command against 5,000 jobs in all states: correct against plain SQL, JSON that parses, exit codes. */
import { assert, it } from "@effect/vitest"
import { PgClient } from "@effect/sql-pg"
import { Context, Effect, Layer, Queue } from "effect"
import { SqlClient } from "effect/sql"
import * as Migrations from "../../src/Migrations.ts"
import { type Answer, run } from "../support/Cli.ts"
import { describePostgres, freshDatabase, layerUrl } from "../support/Postgres.ts"
import { idOf, seed } from "../support/SeedJobs.ts"

const jobs = 5_000

/** The environment of a command on this suite's database. */
class Environment extends Context.Service<Environment, Record<string, string>>()("test/Environment") {}

const Seeded = Layer.unwrap(
  Effect.gen(function* () {
    const url = yield* freshDatabase
    const client = layerUrl(url)
    yield* Effect.andThen(Migrations.migrate(), seed(jobs)).pipe(Effect.provide(client))
    return Layer.merge(client, Layer.succeed(Environment, { POLYQUEUE_DB_URL: url }))
  })
)

const polyqueue = (...args: ReadonlyArray<string>) => Effect.flatMap(Environment, (env) => run(args, { env }))

const withStdin = (stdin: string, ...args: ReadonlyArray<string>) =>
  Effect.flatMap(Environment, (env) => run(args, { env, stdin }))

/** A command whose answer is one JSON document. */
const json = (...args: ReadonlyArray<string>) =>
  Effect.map(polyqueue(...args, "-o", "json"), (answer) => {
    assert.strictEqual(answer.code, 0, answer.stderr)
    return JSON.parse(answer.stdout)
  })

const numberOf = (where: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.map(
      sql.unsafe<{ n: number }>(`select count(*)::int as n from polyqueue.polyqueue_jobs where ${where}`),
      ([row]) => row!.n
    )
  )

/** Every page of a listing, by its cursor. */
const allPages = Effect.fnUntraced(function* (...args: ReadonlyArray<string>) {
  const ids: Array<string> = []
  let after: ReadonlyArray<string> = []
  for (;;) {
    const page = yield* json("inspect", "jobs", ...args, "--limit", "997", ...after)
    ids.push(...page.jobs.map((job: { readonly id: string }) => job.id))
    if (page.next === null) return ids
    after = ["--after", page.next]
  }
})

const saysNothingOnStdout = (answer: Answer) => assert.strictEqual(answer.stdout, "")

describePostgres("polyqueue on Postgres", () => {
  it.layer(Seeded, { excludeTestServices: true, timeout: "1 minute" })((it) => {
    it.effect("inspect stats agrees with SQL", () =>
      Effect.gen(function* () {
        const { stats } = yield* json("inspect", "stats")
        for (const status of ["processing", "succeeded", "failed", "cancelled"]) {
          assert.strictEqual(stats.jobs[status], yield* numberOf(`status = '${status}'`), status)
        }
        assert.strictEqual(stats.jobs.queued, yield* numberOf("status = 'queued' and run_at <= now()"))
        assert.strictEqual(stats.jobs.waiting, yield* numberOf("status = 'queued' and run_at > now()"))
        const overdue = "status = 'processing' and started_at + timeout * interval '1 ms' < now()"
        assert.strictEqual(stats.jobs.timedOut, yield* numberOf(overdue))
        const silent = "status = 'processing' and coalesce(progress_at, started_at) < now() - interval '2 minutes'"
        assert.strictEqual(stats.jobs.staleProgress, yield* numberOf(silent))
        assert.isAbove(stats.jobs.timedOut, 0)
        assert.isAbove(stats.jobs.staleProgress, 0)
        assert.deepStrictEqual(
          { ...stats.workers },
          { running: 2, draining: 1, silent: 0, stopped: 0, dead: 1, slots: 30, busy: 3 }
        )
        assert.strictEqual(stats.pauses[0].queue, "held")
      })
    )

    it.effect("inspect queues agrees with SQL", () =>
      Effect.gen(function* () {
        const { queues } = yield* json("inspect", "queues")
        const names = queues.map((queue: { readonly queue: string }) => queue.queue)
        assert.deepStrictEqual(names, ["held", "import", "mail", "media"])
        for (const queue of queues) {
          assert.strictEqual(queue.failed, yield* numberOf(`queue = '${queue.queue}' and status = 'failed'`))
          const due = `queue = '${queue.queue}' and status = 'queued' and run_at <= now()`
          assert.strictEqual(queue.queued, yield* numberOf(due))
        }
        assert.deepStrictEqual(
          queues.map((queue: { readonly paused: boolean }) => queue.paused),
          [true, false, false, false]
        )
      })
    )

    it.effect("inspect workers shows the live ones, and all with --all", () =>
      Effect.gen(function* () {
        const ids = (answer: { readonly workers: ReadonlyArray<{ readonly id: string }> }) =>
          answer.workers.map(({ id }) => id).sort()
        assert.deepStrictEqual(ids(yield* json("inspect", "workers")), ["worker-0", "worker-1", "worker-2"])
        assert.lengthOf(ids(yield* json("inspect", "workers", "--all")), 4)
      })
    )

    it.effect.each<readonly [string, ReadonlyArray<string>, string]>([
      ["a status", ["--status", "failed"], "status = 'failed'"],
      ["several", ["-s", "failed,cancelled"], "status in ('failed', 'cancelled')"],
      ["a type and a queue", ["--type", "Resize", "--queue", "media"], "type = 'Resize' and queue = 'media'"],
      ["a tag", ["--tag", "vip"], "'vip' = any(tags)"],
      ["a worker", ["--worker", "worker-1"], "lease_owner = 'worker-1'"],
      ["an error", ["--error", "timedOut", "-s", "failed"], "error->>'code' = 'timedOut' and status = 'failed'"],
      ["an age", ["--older-than", "9d"], "enqueued_at <= now() - interval '9 days'"],
      ["a youth", ["--newer-than", "12h"], "enqueued_at > now() - interval '12 hours'"],
      ["an end", ["--ended-for", "216h"], "finished_at <= now() - interval '9 days'"],
      [
        "silence",
        ["--stale-progress", "5m"],
        "status = 'processing' and coalesce(progress_at, started_at) <= now() - interval '5 minutes'"
      ],
      [
        "lateness",
        ["--timed-out"],
        "status = 'processing' and started_at + timeout * interval '1 millisecond' <= now()"
      ]
    ])("inspect jobs by %s answers the rows of SQL, page by page, newest first", ([, flags, where]) =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const found = yield* allPages(...flags)
        const rows = yield* sql.unsafe<{ id: string }>(
          `select id::text from polyqueue.polyqueue_jobs where ${where} order by id desc`
        )
        assert.isAbove(rows.length, 0)
        assert.deepStrictEqual(
          found,
          rows.map(({ id }) => id)
        )
      })
    )

    it.effect("jsonl is one job per line, and the cursor is said on stderr", () =>
      Effect.gen(function* () {
        const answer = yield* polyqueue("inspect", "jobs", "-n", "3", "-o", "jsonl")
        const lines = answer.stdout.split("\n").map((line) => JSON.parse(line))
        assert.lengthOf(lines, 3)
        assert.strictEqual(answer.stderr, `more with --after ${lines[2].id}`)
      })
    )

    it.effect("what is not there is exit code 3: jobs, a job, attempts, an explanation", () =>
      Effect.gen(function* () {
        const missing = "01890a5d-ffff-7000-8000-000000000000"
        assert.strictEqual((yield* polyqueue("inspect", "jobs", "--type", "Nothing")).code, 3)
        const empty = yield* polyqueue("inspect", "jobs", "--type", "Nothing", "-o", "json")
        assert.deepStrictEqual(JSON.parse(empty.stdout), { schemaVersion: 1, jobs: [], next: null })
        assert.strictEqual(empty.code, 3)
        for (const command of [["inspect", "job"], ["explain"]]) {
          const answer = yield* polyqueue(...command, missing)
          assert.strictEqual(answer.code, 3)
          assert.match(answer.stderr, /^polyqueue: no job with id [^\n]+$/)
          saysNothingOnStdout(answer)
        }
        assert.strictEqual((yield* polyqueue("inspect", "attempts", missing)).code, 3)
        assert.strictEqual((yield* polyqueue("admin", "requeue", missing)).code, 3)
        assert.strictEqual((yield* polyqueue("admin", "resume", "mail")).code, 3)
        assert.strictEqual((yield* polyqueue("admin", "drain", "nobody")).code, 3)
      })
    )

    it.effect("inspect job shows payload and result only when asked", () =>
      Effect.gen(function* () {
        const hidden = yield* json("inspect", "job", idOf(0))
        assert.notProperty(hidden.job, "payload")
        const shown = yield* json("inspect", "job", idOf(0), "--payload")
        assert.deepStrictEqual(shown.job.payload, { n: 0 })
        assert.deepStrictEqual(shown.job.result, { ok: true })
        assert.strictEqual(shown.job.status, "succeeded")
        const table = yield* polyqueue("inspect", "job", idOf(0))
        assert.include(table.stdout, "shown with --payload")
        assert.notInclude(table.stdout, '"n"')
      })
    )

    it.effect("inspect attempts lists the log of a job", () =>
      Effect.gen(function* () {
        const { attempts } = yield* json("inspect", "attempts", idOf(65))
        assert.deepStrictEqual(
          attempts.map((attempt: { readonly attempt: number; readonly took: number }) => [
            attempt.attempt,
            attempt.took
          ]),
          [
            [1, 30_000],
            [2, 30_000],
            [3, 30_000]
          ]
        )
      })
    )

    it.effect("explain says what holds a job", () =>
      Effect.gen(function* () {
        const reason = (answer: {
          readonly explanation: { readonly reasons: ReadonlyArray<{ readonly _tag: string }> }
        }) => answer.explanation.reasons[0]!._tag
        assert.strictEqual(reason(yield* json("explain", idOf(0))), "Ended")
        assert.strictEqual(reason(yield* json("explain", idOf(80))), "NotDue")
        assert.strictEqual(reason(yield* json("explain", idOf(95))), "Paused")
        assert.strictEqual(reason(yield* json("explain", idOf(99))), "Running")
      })
    )

    it.effect("a dry run says what would be done, and does nothing", () =>
      Effect.gen(function* () {
        const before = yield* numberOf("status = 'failed'")
        const answer = yield* json("admin", "requeue", "--status", "failed", "--dry-run")
        assert.strictEqual(answer.dryRun.count, before)
        assert.strictEqual(yield* numberOf("status = 'failed'"), before)
        const table = yield* polyqueue("admin", "purge", "-s", "cancelled", "--dry-run")
        assert.match(table.stdout, /^250 jobs would be deleted; the newest:\n/)
      })
    )

    it.effect("a bulk action asks, and without a terminal is refused", () =>
      Effect.gen(function* () {
        const before = yield* numberOf("status = 'cancelled'")
        const answer = yield* polyqueue("admin", "purge", "--status", "cancelled")
        assert.strictEqual(answer.code, 4)
        assert.strictEqual(
          answer.stderr,
          "polyqueue: 250 jobs would be deleted (--status cancelled). There is no terminal to ask at: add --yes to do it."
        )
        assert.strictEqual(yield* numberOf("status = 'cancelled'"), before)
      })
    )

    it.effect(
      "requeue, fail, cancel, run-now and purge by filter change what SQL says they match, and write who did it",
      () =>
        Effect.gen(function* () {
          const by = ["--as", "ada", "--reason", "a test", "--yes"]
          const failed = yield* numberOf("status = 'failed' and type = 'Resize'")
          const requeued = yield* json("admin", "requeue", "-s", "failed", "-t", "Resize", ...by)
          assert.strictEqual(requeued.report.done, failed)
          assert.strictEqual(yield* numberOf("status = 'failed' and type = 'Resize'"), 0)

          const later = yield* numberOf("status = 'queued' and run_at > now() and queue = 'mail'")
          const hurried = yield* json("admin", "run-now", "-q", "mail", ...by)
          assert.isAtLeast(hurried.report.done, later)
          assert.strictEqual(yield* numberOf("status = 'queued' and run_at > now() and queue = 'mail'"), 0)

          const held = yield* numberOf("queue = 'held'")
          const cancelled = yield* json("admin", "cancel", "-q", "held", ...by)
          assert.strictEqual(cancelled.report.done, held)

          const running = yield* numberOf("status = 'processing'")
          const ended = yield* json("admin", "fail", "-s", "processing", ...by)
          assert.strictEqual(ended.report.done, running)

          const gone = yield* numberOf("status = 'cancelled'")
          const purged = yield* json("admin", "purge", "-s", "cancelled", ...by)
          assert.strictEqual(purged.report.done, gone)
          assert.strictEqual(yield* numberOf("status = 'cancelled'"), 0)

          const { audit } = yield* json(
            "inspect",
            "audit",
            "--who",
            "ada",
            "--operation",
            requeued.report.operation,
            "-n",
            "1000"
          )
          assert.lengthOf(audit, failed)
          assert.strictEqual(audit[0].reason, "a test")
          assert.strictEqual(audit[0].before.status, "failed")
          assert.strictEqual(audit[0].after.status, "queued")
        })
    )

    it.effect("by id: ids of stdin too; what cannot be done is said, and exit code 4", () =>
      Effect.gen(function* () {
        const [good, live] = [idOf(60), idOf(76)]
        const answer = yield* withStdin(`${good}\n${live}\n`, "admin", "requeue", "-")
        assert.strictEqual(answer.code, 4)
        assert.strictEqual(answer.stdout, "1 job requeued")
        assert.strictEqual(answer.stderr, `not done: ${live}: its status does not allow it`)
        assert.strictEqual(yield* numberOf(`id = '${good}' and status = 'queued'`), 1)
      })
    )

    it.effect("pause and resume a queue, a type, everything", () =>
      Effect.gen(function* () {
        const said = yield* polyqueue("admin", "pause", "mail", "--for", "30m", "--reason", "SMTP is down")
        assert.match(said.stdout, /^queue mail paused for (30m|29m 59s); running jobs go on$/)
        yield* polyqueue("admin", "pause", "--type", "Resize")
        yield* polyqueue("admin", "pause", "--all")
        const { stats } = yield* json("inspect", "stats")
        assert.lengthOf(stats.pauses, 4)
        for (const target of [["mail"], ["--type", "Resize"], ["--all"]]) {
          assert.strictEqual((yield* polyqueue("admin", "resume", ...target)).code, 0)
        }
        assert.lengthOf((yield* json("inspect", "stats")).stats.pauses, 1)
      })
    )

    it.effect("a pause that would be over already is wrong usage, and pauses nothing", () =>
      Effect.gen(function* () {
        const answer = yield* polyqueue("admin", "pause", "mail", "--until", "2001-01-01T00:00:00Z")
        assert.deepStrictEqual(
          [answer.code, answer.stderr],
          [2, "polyqueue: --until is in the past by the clock of the database"]
        )
        assert.strictEqual((yield* polyqueue("admin", "resume", "mail")).code, 3)
      })
    )

    it.effect("jsonl of what is no list is one line, too", () =>
      Effect.gen(function* () {
        const id = idOf(3)
        for (const args of [
          ["enqueue", "Hello", "--delay", "1h"],
          ["admin", "requeue", id],
          ["admin", "pause", "line"],
          ["admin", "resume", "line"]
        ]) {
          const { stdout } = yield* polyqueue(...args, "-o", "jsonl")
          assert.lengthOf(stdout.split("\n"), 1, args.join(" "))
          assert.strictEqual(JSON.parse(stdout).schemaVersion, 1)
        }
      })
    )

    it.effect("what becomes runnable is rung for: nobody waits for a poll", () =>
      Effect.gen(function* () {
        const late = "01890a5d-ffff-7000-8000-000000000000"
        const client = yield* PgClient.PgClient
        const rung = yield* client.listen("polyqueue")
        // A session's own words say that it listens
        yield* client.notify("polyqueue", "ready")
        while ((yield* Queue.take(rung)).payload !== "ready");
        for (const [queue, args] of [
          ["bell-0", ["enqueue", "Hello", "--queue", "bell-0", "--delay", "1h", "--id", late]],
          ["bell-0", ["admin", "run-now", late]],
          ["import", ["admin", "requeue", idOf(62)]],
          ["bell-1", ["admin", "pause", "bell-1"]],
          ["bell-1", ["admin", "resume", "bell-1"]]
        ] as const) {
          assert.strictEqual((yield* polyqueue(...args)).code, 0, args.join(" "))
          if (args[1] === "pause") continue
          assert.strictEqual(JSON.parse((yield* Queue.take(rung)).payload)[1], queue, args.join(" "))
        }
      })
    )

    it.effect("drain, undrain, stop and concurrency find workers by id, its beginning, and name", () =>
      Effect.gen(function* () {
        const told = (answer: {
          readonly workers: ReadonlyArray<{ readonly id: string; readonly told: string | null }>
        }) => answer.workers.map(({ id, told }) => `${id} ${told}`).sort()
        assert.deepStrictEqual(told(yield* json("admin", "drain", "worker-1")), ["worker-1 drain"])
        assert.deepStrictEqual(told(yield* json("admin", "undrain", "worker-1")), ["worker-1 null"])
        const several = yield* polyqueue("admin", "drain", "work")
        assert.strictEqual(several.code, 2)
        assert.include(several.stderr, "3 workers begin like this")
        assert.lengthOf((yield* json("admin", "concurrency", "mailer", "2", "--queue", "mail")).workers, 3)
        assert.strictEqual((yield* polyqueue("admin", "stop", "worker-1")).code, 4)
        assert.deepStrictEqual(told(yield* json("admin", "stop", "mailer", "--yes")), [
          "worker-0 stop",
          "worker-1 stop",
          "worker-2 stop"
        ])
        const { audit } = yield* json("inspect", "audit", "--target", "worker-1")
        assert.deepStrictEqual(
          audit.map((entry: { readonly action: string }) => entry.action),
          ["stopWorker", "resumeWorker", "drainWorker"]
        )
      })
    )

    it.effect("enqueue takes JSON from the argument, a file or stdin, and finds a key again", () =>
      Effect.gen(function* () {
        const made = yield* polyqueue(
          "enqueue",
          "Hello",
          "--payload",
          '{"a":1}',
          "--queue",
          "q",
          "--delay",
          "1h",
          "--key",
          "k"
        )
        assert.strictEqual(made.code, 0, made.stderr)
        const { job } = yield* json("inspect", "job", made.stdout, "--payload")
        assert.deepStrictEqual([job.payload, job.queue, job.key, job.status], [{ a: 1 }, "q", "k", "queued"])
        const again = yield* polyqueue("enqueue", "Hello", "--key", "k")
        assert.strictEqual(again.stdout, made.stdout)
        assert.include(again.stderr, "exists already")
        const piped = yield* withStdin('{"b":2}', "enqueue", "Hello", "--payload", "-", "-o", "json")
        const { id } = JSON.parse(piped.stdout)
        assert.deepStrictEqual((yield* json("inspect", "job", id, "--payload")).job.payload, { b: 2 })
        const wrong = yield* polyqueue("enqueue", "Hello", "--payload", '{"password":"hunter2"')
        assert.strictEqual(wrong.code, 2)
        assert.strictEqual(wrong.stderr, "polyqueue: the payload in --payload is not JSON")
        assert.strictEqual((yield* polyqueue("enqueue", "Hello", "--payload", "@nowhere.json")).code, 2)
        assert.strictEqual((yield* polyqueue("enqueue", "Hello", "--id", idOf(0))).code, 4, "another job's id")
      })
    )
  })
})
