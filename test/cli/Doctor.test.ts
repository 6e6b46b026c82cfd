/** The doctor finds what is broken, says what to do, repairs what is safe, and is silent about a sound deployment. */
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { rules } from "../../src/cli/doctor/Rows.ts"
import * as Migrations from "../../src/Migrations.ts"
import { run } from "../support/Cli.ts"
import { describePostgres, freshDatabase, layerUrl } from "../support/Postgres.ts"

interface Finding {
  readonly check: string
  readonly verdict: string
  readonly message: string
  readonly fix: string | null
}

/** The servers of tests are not durable on purpose: the role is told to be, and the rest of that check is left out. */
const isAboutServer = ({ check }: Finding): boolean => check === "durability"

const examine = (url: string, flags: ReadonlyArray<string> = [], env: Record<string, string> = {}) =>
  Effect.map(run(["doctor", "-o", "json", ...flags], { env: { POLYQUEUE_DB_URL: url, ...env } }), (answer) => ({
    code: answer.code,
    all: JSON.parse(answer.stdout).findings as ReadonlyArray<Finding>,
    bad: (JSON.parse(answer.stdout).findings as ReadonlyArray<Finding>).filter(
      (finding) => finding.verdict !== "ok" && !isAboutServer(finding)
    )
  }))

const job = (n: number, values: Record<string, string>): string => {
  const all: Record<string, string> = {
    id: `'01890a5d-0000-7000-8000-00000000000${n}'`,
    run_at: "now()",
    enqueued_at: "now() - interval '1 hour'",
    max_attempts: "3",
    max_crashes: "3",
    max_snoozes: "10",
    priority: "5",
    hinted: "false",
    unique_live: "false",
    status: "'queued'",
    queue: "'mail'",
    type: "'Mail'",
    timeout_then: "'retry'",
    payload: "'1'",
    ...values
  }
  return `insert into polyqueue.polyqueue_jobs (${Object.keys(all).join(", ")}) values (${Object.values(all).join(", ")})`
}

const running = (values: Record<string, string>) => ({
  status: "'processing'",
  claim: "gen_random_uuid()",
  lease_owner: "'w'",
  lease_expires_at: "now() + interval '1 hour'",
  started_at: "now()",
  attempt: "1",
  ...values
})

const attempt = (n: number) =>
  `insert into polyqueue.polyqueue_attempts values ('01890a5d-0000-7000-8000-00000000000${n}', gen_random_uuid(), now(), now(), 1,
    'failed', 'worker', 'w', null)`

const worker = (values: { readonly silence?: string; readonly running?: number; readonly id?: string }) =>
  `insert into polyqueue.polyqueue_workers (id, started_at, heartbeat_at, pid, slots, running_count, status, host, name, version,
    queues, job_types, running) values ('${values.id ?? "w"}', now() - interval '1 day',
    now() - interval '${values.silence ?? "1 second"}', 1, 10, ${values.running ?? 10}, 'running', 'h', 'w', '1',
    array['mail'], array['Mail'], array[]::text[])`

const unlogged = "succeeded within the last hour"

/** What is broken by which statements, what says so, and whether --fix repairs it. */
const cases: ReadonlyArray<{
  readonly name: string
  readonly rule?: string
  readonly statements: ReadonlyArray<string>
  readonly says: RegExp
  readonly fixed: boolean
  /** More of the environment. */
  readonly env?: Record<string, string>
}> = [
  {
    name: "a lease that nobody reaps",
    rule: "abandoned",
    statements: [job(1, running({ lease_expires_at: "now() - interval '1 hour'" }))],
    says: /1 job running under a lease that ended/,
    fixed: true
  },
  {
    name: "a timeout that nobody enforces",
    rule: "overdue",
    statements: [worker({}), job(1, running({ started_at: "now() - interval '1 hour'", timeout: "1000" }))],
    says: /1 job running more than 2 minutes past a timeout/,
    fixed: true
  },
  {
    name: "a live lease of nobody",
    rule: "unowned",
    statements: [job(1, running({ started_at: "now() - interval '1 hour'" }))],
    says: /1 job running with a live lease of a worker that has stopped or is unknown/,
    fixed: false
  },
  {
    name: "a hint that will never come",
    rule: "unpublished",
    statements: [job(1, { hinted: "true", run_at: "now() + interval '1 hour'" })],
    says: /1 job queued for workers that wait for hints/,
    fixed: true
  },
  {
    name: "a hint that nobody relays",
    rule: "unrelayed",
    statements: [
      job(1, { hinted: "true", run_at: "now() + interval '1 hour'", publish_at: "now() - interval '1 hour'" })
    ],
    says: /1 job whose first hint is due for more than 2 minutes/,
    fixed: false,
    env: { POLYQUEUE_BACKEND: "redis", POLYQUEUE_REDIS_URL: "redis://127.0.0.1:1" }
  },
  {
    name: "an attempt that has ended and runs",
    rule: "ended twice",
    statements: [worker({}), job(1, running({})), attempt(1)],
    says: /1 job running an attempt that the log says has ended/,
    fixed: false
  },
  {
    name: "an attempt beyond the job's",
    rule: "ahead",
    statements: [job(1, { run_at: "now() + interval '1 hour'" }), attempt(1)],
    says: /1 job with a logged attempt beyond/,
    fixed: false
  },
  {
    name: "a success that is not in the log",
    rule: "unlogged",
    statements: [job(1, { status: "'succeeded'", finished_at: "now()", attempt: "1" })],
    says: new RegExp(unlogged),
    fixed: false
  },
  {
    name: "due jobs without a worker",
    statements: [job(1, { run_at: "now() - interval '5 minutes'" })],
    says: /1 due job of type Mail in queue mail, the oldest for 5m[^:]*: no live worker takes them/,
    fixed: false
  },
  {
    name: "a worker that is connected but not consuming",
    statements: [worker({ running: 3 }), job(1, { run_at: "now() - interval '5 minutes'" })],
    says: /a worker is connected but not consuming: 7 free slots, and 1 due job .*: w \(h\/1\)/,
    fixed: false
  },
  {
    name: "a worker that fell silent and was not noticed",
    statements: [worker({ silence: "10 minutes" })],
    says: /worker w \(h\/1\) is silent for 10m/,
    fixed: false
  },
  {
    name: "an unlogged table",
    statements: ["alter table polyqueue.polyqueue_workers set unlogged"],
    says: /the table polyqueue_workers is unlogged/,
    fixed: false
  },
  {
    name: "a lost index",
    statements: ["drop index polyqueue.polyqueue_jobs_claim"],
    says: /the index polyqueue_jobs_claim is missing/,
    fixed: false
  },
  {
    name: "a constraint that somebody dropped",
    statements: ["alter table polyqueue.polyqueue_jobs drop constraint polyqueue_jobs_state"],
    says: /the constraint polyqueue_jobs_state is missing/,
    fixed: false
  }
]

describePostgres("polyqueue doctor", () => {
  const fresh = Effect.gen(function* () {
    const url = yield* freshDatabase
    yield* Migrations.migrate().pipe(Effect.provide(layerUrl(url)))
    return url
  })

  it.live("every rule about rows has a case here", () =>
    Effect.sync(() =>
      assert.sameMembers(
        cases.flatMap(({ rule }) => (rule === undefined ? [] : [rule])),
        rules.map(({ name }) => name)
      )
    )
  )

  it.live("finds nothing wrong with a sound deployment, and says what it looked at", () =>
    Effect.gen(function* () {
      const { all, bad, code } = yield* examine(yield* fresh)
      assert.deepStrictEqual(bad, [])
      assert.strictEqual(code, all.some(({ verdict }) => verdict === "problem") ? 5 : 0)
      const checks = new Set(all.map(({ check }) => check))
      const expected = ["settings", "tls", "server", "clock", "version", "structure", "durability"]
      assert.sameMembers([...checks], [...expected, "privileges", "vacuum", "workers", "rows", "broker"])
    }).pipe(Effect.scoped)
  )

  it.live.each(cases)("finds $name", ({ env, fixed, says, statements }) =>
    Effect.gen(function* () {
      const url = yield* fresh
      const sql = Effect.flatMap(SqlClient.SqlClient, (sql) =>
        Effect.forEach(statements, (statement) => sql.unsafe(statement))
      )
      yield* sql.pipe(Effect.provide(layerUrl(url)))
      const before = yield* examine(url, [], env)
      assert.strictEqual(before.code, 5)
      const found = before.all.filter(({ message }) => says.test(message))
      assert.lengthOf(found, 1, JSON.stringify(before.bad))
      assert.strictEqual(found[0]!.verdict, "problem")
      assert.isString(found[0]!.fix)
      const during = yield* examine(url, ["--fix"], env)
      assert.strictEqual(during.all.find(({ message }) => says.test(message))?.verdict, fixed ? "fixed" : "problem")
      const after = yield* examine(url, [], env)
      assert.strictEqual(
        after.all.some(({ message }) => says.test(message)),
        !fixed
      )
    }).pipe(Effect.scoped)
  )

  it.live("hints that nobody relays are no problem where workers claim straight from the table", () =>
    Effect.gen(function* () {
      const url = yield* fresh
      const statement = job(1, {
        hinted: "true",
        run_at: "now() + interval '1 hour'",
        publish_at: "now() - interval '1 hour'"
      })
      yield* Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(statement)).pipe(Effect.provide(layerUrl(url)))
      assert.deepStrictEqual((yield* examine(url)).bad, [])
    }).pipe(Effect.scoped)
  )

  it.live("tables that are missing are a problem, and --fix makes them", () =>
    Effect.gen(function* () {
      const url = yield* freshDatabase
      const before = yield* examine(url)
      assert.strictEqual(before.code, 5)
      assert.deepStrictEqual(
        before.bad.map(({ check, fix }) => [check, fix]),
        [["version", "polyqueue migrate"]]
      )
      const during = yield* examine(url, ["--fix"])
      assert.deepStrictEqual(
        during.bad.map(({ check, verdict }) => [check, verdict]),
        [["version", "fixed"]]
      )
    }).pipe(Effect.scoped)
  )

  it.live("settings that would lose confirmed jobs are problems: fsync, full_page_writes, synchronous_commit", () =>
    Effect.gen(function* () {
      const url = yield* fresh
      const { all } = yield* examine(url)
      const [row] = yield* Effect.flatMap(SqlClient.SqlClient, (sql) =>
        sql.unsafe<{ off: ReadonlyArray<string> }>(
          `select array_agg(name order by name) filter (where current_setting(name) = 'off') as off
          from unnest(array['fsync', 'full_page_writes', 'synchronous_commit']) as t(name)`
        )
      ).pipe(Effect.provide(layerUrl(url)))
      const found = all.flatMap(({ check, message, verdict }) =>
        check === "durability" && verdict === "problem" ? [message.split(" ")[0]] : []
      )
      assert.sameMembers(found, [...(row!.off ?? [])])
      yield* Effect.flatMap(SqlClient.SqlClient, (sql) =>
        sql.unsafe(`alter database "${new URL(url).pathname.slice(1)}" set synchronous_commit = 'on'`)
      ).pipe(Effect.provide(layerUrl(url)))
      const after = yield* examine(url)
      assert.isFalse(after.all.some(({ message }) => message.startsWith("synchronous_commit is off")))
    }).pipe(Effect.scoped)
  )

  it.live("a role that may not write is a problem that names the grant", () =>
    Effect.gen(function* () {
      const url = yield* fresh
      const role = `reader_${new URL(url).pathname.slice(-12)}`
      const asAdmin = (text: string) =>
        Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(text)).pipe(Effect.provide(layerUrl(url)))
      yield* Effect.acquireRelease(asAdmin(`create role ${role} login`), () =>
        Effect.orDie(Effect.andThen(asAdmin(`drop owned by ${role}`), asAdmin(`drop role ${role}`)))
      )
      yield* asAdmin(`grant usage on schema polyqueue to ${role}`)
      yield* asAdmin(`grant select on all tables in schema polyqueue to ${role}`)
      const plain = new URL(url)
      plain.username = role
      const { bad, code } = yield* examine(plain.href)
      assert.strictEqual(code, 5)
      const jobs = bad.find(({ message }) => message.includes("polyqueue_jobs"))
      assert.match(jobs?.fix ?? "", /^grant (insert|update|delete|, )+ on "polyqueue"\."polyqueue_jobs" to "reader_/)
    }).pipe(Effect.scoped)
  )

  it.live("the worker of `migrate --roles` may do all that doctor asks for, and what is taken from it is missed", () =>
    Effect.gen(function* () {
      const url = yield* fresh
      const suffix = new URL(url).pathname.slice(-12)
      const asAdmin = (text: string) =>
        Effect.forEach(
          text.split(";\n").filter((statement) => !["", "begin", "commit"].includes(statement)),
          (statement) => Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(statement))
        ).pipe(Effect.provide(layerUrl(url)))
      const [owner, worker, producer, viewer] = ["owner", "worker", "producer", "viewer"].map(
        (kind) => `${kind}_${suffix}`
      )
      yield* asAdmin(yield* Effect.fromResult(Migrations.roles({ owner, worker, producer, viewer })))
      yield* asAdmin(`create role login_${suffix} login in role ${worker}`)
      const plain = new URL(url)
      plain.username = `login_${suffix}`
      const sound = yield* examine(plain.href)
      assert.deepStrictEqual(
        sound.bad.filter(({ check }) => check === "privileges"),
        []
      )
      yield* asAdmin(`revoke update (ended_at) on polyqueue.polyqueue_attempts from ${worker}`)
      const { bad } = yield* examine(plain.href)
      assert.deepStrictEqual(
        bad.flatMap(({ check, fix }) => (check === "privileges" ? [fix] : [])),
        [`grant update (ended_at) on "polyqueue"."polyqueue_attempts" to "login_${suffix}"`]
      )
    }).pipe(Effect.scoped)
  )

  it.live("a broker that cannot be reached is a problem; settings that nobody reads are a warning", () =>
    Effect.gen(function* () {
      const env = {
        POLYQUEUE_DB_URL: yield* fresh,
        POLYQUEUE_BACKEND: "redis",
        POLYQUEUE_REDIS_URL: "redis://:canary-secret@127.0.0.1:1",
        POLYQUEUE_REDIS_ULR: "x"
      }
      const answer = yield* run(["doctor", "-o", "json"], { env })
      const { findings } = JSON.parse(answer.stdout) as { readonly findings: ReadonlyArray<Finding> }
      assert.strictEqual(findings.find(({ check }) => check === "broker")?.verdict, "problem")
      const settings = findings.find(({ check }) => check === "settings")
      assert.strictEqual(settings?.verdict, "warning")
      assert.include(settings?.message, "did you mean POLYQUEUE_REDIS_URL?")
      assert.notInclude(answer.stdout + answer.stderr, "canary-secret")
    }).pipe(Effect.scoped)
  )
})
