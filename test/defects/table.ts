/**
 * The defects that a study of the original (the Python package Polyqueue 0.0.1) found, and the tests that show each of
 * them absent here. `Table.test.ts` keeps it true: every named test exists, and every test named after a row is here.
 */

/** A test: its file and its title, as both are written in the source. */
export interface Evidence {
  readonly file: string
  readonly title: string
  /** The test file that runs it, where `file` is a suite. */
  readonly by?: string
}

export interface Defect {
  readonly row: number
  readonly defect: string
  readonly tests: ReadonlyArray<Evidence>
  /** What of it is about something that does not exist here. */
  readonly notYet?: string
}

const in_ =
  (file: string, by?: string) =>
  (...titles: ReadonlyArray<string>): ReadonlyArray<Evidence> =>
    titles.map((title) => (by === undefined ? { file, title } : { file, title, by }))

const brokers = in_("test/defects/Brokers.test.ts")
const redis = in_("test/defects/Redis.test.ts")
const vendors = in_("test/defects/Vendors.test.ts")
const clock = in_("test/defects/Clock.test.ts")
const worker = in_("test/defects/Worker.test.ts")
const store = in_("test/defects/Store.test.ts")
const anyWorker = in_("test/worker/Worker.test.ts")
const hinted = in_("test/worker/HintedClaims.test.ts")
const typed = in_("test/job/Job.test.ts")
const loss = in_("test/loss/Loss.test.ts")
const crash = in_("test/crash/Crash.test.ts")
const control = in_("test/admin/suite.ts", "test/admin/Brokers.test.ts")
const endToEnd = in_("test/endToEnd/suite.ts", "test/endToEnd/Memory.test.ts")
const events = in_("test/metrics/Regressions.test.ts")
const storeContract = (file: string, ...titles: ReadonlyArray<string>) =>
  in_(`src/testing/jobStore/${file}.ts`, "test/store/PostgresJobStore.test.ts")(...titles)

export const defects: ReadonlyArray<Defect> = [
  {
    row: 1,
    defect: "On SQS, Service Bus and PGMQ a worker that dies loses its job: nothing but Redis has a reaper.",
    tests: [
      ...brokers("row 1: a worker that dies takes no job with it: leases, timeouts and dead workers are seen to"),
      ...in_("test/crash/Brokers.test.ts")(
        "one killed with SIGKILL in the middle of jobs, on ${name}: nothing is lost, the next owner finishes"
      )
    ]
  },
  {
    row: 2,
    defect: "A retry deletes its message before it sends the next one; if that fails, the job is never heard of again.",
    tests: [
      ...brokers("row 2: a retry whose message cannot be sent runs all the same"),
      ...in_("test/broker/ServiceBusDeliveries.test.ts")(
        "a release with delay after its copy is safe: what cannot be scheduled is not completed"
      )
    ]
  },
  {
    row: 3,
    defect: "A result that the database cannot store kills the worker, and the next one, without end.",
    tests: [
      ...worker("row 3: a result that cannot be stored ends its job after one run, and harms nobody else"),
      ...typed("%s ends as %s")
    ]
  },
  {
    row: 4,
    defect: "A success that cannot be written at once kills the worker, and the job that is done runs again.",
    tests: [
      ...worker("row 4: a success that cannot be written at once is written later; nothing runs twice"),
      ...anyWorker(
        "work that finished during an outage is settled after it",
        "a settle whose reply was lost is not repeated: the job succeeded once"
      )
    ]
  },
  {
    row: 5,
    defect: "Any error while a worker claims (Redis reset, failover of Postgres) ends the process.",
    tests: [
      ...anyWorker("every loop survives an outage of the store"),
      ...in_("test/worker/Deliveries.test.ts")("while every receive ${how}; and by hints again after it"),
      ...loss("goes away and comes back: enqueues commit and jobs run meanwhile, and hints are carried again after it")
    ]
  },
  {
    row: 6,
    defect: "Enqueue commits, then publishes: a crash between the two leaves a job that no broker knows of.",
    tests: [
      ...brokers(
        "row 6: a producer that dies between its commit and its publication costs seconds: the relay publishes, the job runs",
        "row 6: on PGMQ the message commits and rolls back with its job"
      ),
      ...in_("test/broker/PgmqBroker.test.ts")("a hint commits or rolls back with the caller's transaction")
    ]
  },
  {
    row: 7,
    defect: "On Redis, a crash between claim and lease leaves a job processing for ever; one before it loses the hint.",
    tests: redis(
      "row 7: a job that was claimed and that Redis knows nothing of goes to the next owner, without a time limit",
      "row 7: a hint that was taken from Redis and never claimed keeps no job waiting"
    )
  },
  {
    row: 8,
    defect: "The first error ends a heartbeat silently: long jobs run twice, and the old run never hears that it lost.",
    tests: [
      ...brokers("row 8: an error in the heartbeats ends none of them: a long job keeps both leases and runs once"),
      ...anyWorker("losing the lease interrupts the handler, and what it would have written is not accepted"),
      ...crash("one paused past its lease and resumed: the stale one gets LeaseLost, the other's outcome stands")
    ]
  },
  {
    row: 9,
    defect: "A worker fails jobs of types it does not know for good: a rolling deployment destroys new jobs.",
    tests: [
      ...anyWorker("leaves alone job types it has no handler for"),
      ...hinted("of a type not handled here: released with jitter, acked at the third delivery, and left alone"),
      ...in_("test/endToEnd/Hints.test.ts")("hints of a type nobody handles are no hot loop, and the job is left alone")
    ]
  },
  {
    row: 10,
    defect: "A time-out of the handler's own (any HTTP call) is taken for the time limit of the job.",
    tests: worker("row 10: a time-out of the handler's own is no time limit of the job: %s")
  },
  {
    row: 11,
    defect: "A job whose time limit is ignored stays processing for ever and cannot be recovered.",
    tests: [
      ...worker("row 11: an overrun that is ignored does not keep a job from being recovered when its worker dies"),
      ...anyWorker("`ignore` lets the code run and records the overrun")
    ]
  },
  {
    row: 12,
    defect: "A timed-out job is queued again while its handler still runs; on Redis, nobody publishes it for minutes.",
    tests: [
      ...redis(
        "row 12: a timed-out attempt has ended before the next one begins, which comes by itself after its delay"
      ),
      ...anyWorker(
        "a handler that does not stop loses its job after the grace, keeps its slot, and writes nothing later"
      ),
      ...storeContract("ReapCases", "a timeout with `retry` follows the row's retry delays (±20 %) to `maxAttempts`")
    ]
  },
  {
    row: 13,
    defect: "Keys in Redis have no prefix: two deployments steal each other's jobs, and drop them.",
    tests: [
      ...redis(
        "row 13: two deployments on one Redis, each with its prefix, never see each other's hints",
        "row 13: two deployments that share a prefix by mistake take each other's hints and lose no job"
      ),
      ...in_("test/broker/RedisHints.test.ts")("two deployments with different prefixes do not meet (defect 13)"),
      ...in_("test/broker/PgmqBroker.test.ts")("two installations on one database share nothing (defect 13)")
    ]
  },
  {
    row: 14,
    defect: "Leases and retry times are in the broker alone; what is ready and what waits for its time look the same.",
    tests: [
      ...store("row 14: the row alone says until when a job is leased, when it runs, and whether it is ready or waits"),
      ...storeContract("InspectCases", "stats count jobs per queue and status, with the age of the oldest due one")
    ]
  },
  {
    row: 15,
    defect: "A job cannot be enqueued in the caller's transaction.",
    tests: [
      ...in_(
        "test/endToEnd/suite.ts",
        "test/endToEnd/Postgres.test.ts"
      )("an enqueue commits and rolls back with its transaction"),
      ...in_("test/store/PostgresEnqueue.test.ts")(
        "jobs exist with the commit, and not at all after a rollback",
        "a rolled back savepoint takes its jobs with it and leaves the others"
      )
    ]
  },
  {
    row: 16,
    defect: "Enqueueing an id again silently keeps the old payload, type and limits.",
    tests: control("row 16: enqueueing an id again with another payload is refused, never silently the old one")
  },
  {
    row: 17,
    defect: "Requeue by an admin publishes nothing, keeps the spent budget, and is not audited.",
    tests: [
      ...brokers("row 17: requeue puts the job's message into the broker again"),
      ...control(
        "row 17: requeue restores the budget, clears the end, publishes, and is audited: the job runs",
        "row 17: run now makes a delayed job run, and is audited"
      )
    ]
  },
  {
    row: 18,
    defect: "Fail by an admin does not reach the running handler; queued jobs cannot be cancelled.",
    tests: control(
      "row 18: fail ends a running job at once and reaches its handler; a queued one never starts",
      "row 18: cancel ends a queued job at once, and a running one when its handler has stopped"
    )
  },
  {
    row: 19,
    defect: "A worker runs one job at a time, and pauses a second after every stale hint.",
    tests: redis("row 19: hundreds of stale hints in front hold up no job, and one worker runs many at once")
  },
  {
    row: 20,
    defect: "Shutdown has no deadline and interrupts nothing: it ends in a SIGKILL.",
    tests: [
      ...crash("one asked to stop with SIGTERM: waits its grace, gives back the rest at no cost, and exits"),
      ...anyWorker("waits for what runs, gives back what was interrupted at no cost, and says goodbye")
    ]
  },
  {
    row: 21,
    defect: "Orphan repair reads the whole backlog, with three round trips and a linear search in Redis for every job.",
    tests: [
      ...redis(
        "row 21: a backlog that Redis knows nothing of is published once, in bounded batches, in few round trips"
      ),
      ...in_("test/broker/RedisHints.test.ts")(
        "one look moves a bounded number of entries that fell due (defects 21, 25)"
      ),
      ...in_("test/store/PostgresPlans.test.ts")("new hints behind ${CROWD} that were published before, ${stats}")
    ]
  },
  {
    row: 22,
    defect: "A worker that was once taken for dead stays dead, though it works.",
    tests: in_("test/admin/Workers.test.ts")(
      "row 22: a worker that was taken for dead and beats again is alive, and can be told things again"
    )
  },
  {
    row: 23,
    defect: "The documented POLYQUEUE_RETRY_BACKOFF_SECONDS=10,60,300 fails at start.",
    tests: in_("test/config/Layer.test.ts")(
      "row 23: POLYQUEUE_RETRY_BACKOFF_SECONDS=10,60,300 starts, and is what retries wait for"
    )
  },
  {
    row: 24,
    defect: "Leases and retry times come from the wall clock of each worker.",
    tests: clock(
      "row 24: by a day ahead leases and retries are on the servers' clocks",
      "row 24: by a day behind leases and retries are on the servers' clocks"
    )
  },
  {
    row: 25,
    defect: "Due retries are moved in one unbounded Lua loop by every worker; scripts break on Redis Cluster.",
    tests: in_("test/broker/RedisHints.test.ts")(
      "one look moves a bounded number of entries that fell due (defects 21, 25)",
      "every key that a script touches is declared, and all are in one slot (defect 25)",
      "an idle consumer blocks, it does not ask again and again"
    )
  },
  {
    row: 26,
    defect:
      "No attempts, delay, priority, queue, key or tags per job; no jitter; SQS shortens delays beyond 15 minutes.",
    tests: [
      ...vendors("row 26: on SQS a delay and a retry of any length are what was asked for, per job"),
      ...typed(
        "a retry waits as long as the schedule says",
        "`retained` keys hold after the end, `live` keys until it"
      ),
      ...storeContract("ClaimCases", "takes due jobs in claim order (priority, then the oldest `runAt`, then id)")
    ]
  },
  {
    row: 27,
    defect:
      'The last error is written apart from the state it belongs to, goes stale, and "retried" is counted too early.',
    tests: events(
      "row 27: the last error is written with the state it belongs to, and goes with a success",
      "row 27: the reaper's reset leaves the reaper's error, not an older one",
      "row 27: the event of a retry comes when the retry is in the database"
    )
  },
  {
    row: 28,
    defect: "There is a column for the stack trace, and nobody fills it.",
    tests: events("row 28: the stack of a failed attempt is stored, with the place where it failed")
  },
  {
    row: 29,
    defect: "A broken annotation silently turns the validation of payloads off.",
    tests: typed(
      "a payload that does not decode fails terminally with the path of the issue, and the handler never runs"
    )
  },
  {
    row: 30,
    defect: "Handlers are registered in one global of the process; registering again overwrites silently.",
    tests: [
      ...worker("row 30: two applications in one process handle one job each in its own way"),
      ...anyWorker("two jobs of one tag")
    ]
  },
  {
    row: 31,
    defect: "The in-process backend means something else: no rows, no results, no limits, and closing drops jobs.",
    tests: [
      ...worker("row 31: in memory there are rows, results, limits and attempts, and closing a worker drops no job"),
      ...in_("test/model/StoresAgree.test.ts")("random histories"),
      ...endToEnd("a typed result comes back", "a timeout stops the code")
    ]
  },
  {
    row: 32,
    defect: "On SQS every message is a request of its own, in the default thread pool.",
    tests: [
      ...vendors("row 32: a worker with 500 running jobs talks to SQS ten jobs at a time"),
      ...in_("test/broker/sqs/SqsDelivery.test.ts")(
        "500 held deliveries are published, renewed and acked ten at a time, and no request is about one job",
        "renewals and publishes do not wait behind long polls, however many consumers there are"
      )
    ]
  },
  {
    row: 33,
    defect: "On Service Bus lock renewal stops after an hour, unnoticed; errors are told apart by words in their text.",
    tests: [
      ...vendors("row 33: on Service Bus a lock is renewed past the time when a warning is due, and the job runs once"),
      ...in_("test/broker/ServiceBusFailure.test.ts")(
        "errors of Service Bus are classified by code, never by the words of the message"
      )
    ]
  },
  {
    row: 34,
    defect: "On PGMQ every idle worker holds a connection and a transaction open for five seconds per poll.",
    tests: [
      ...vendors("row 34: idle workers on PGMQ hold no transaction open"),
      ...in_("test/broker/PgmqBroker.test.ts")("holds no connection and no transaction while it waits (defect 34)")
    ]
  },
  {
    row: 35,
    defect: "The URL of Redis is logged with its password.",
    tests: [
      ...in_("test/broker/RedisServer.test.ts")(
        "a password is used, a wrong one is Unauthorized, and none of it is ever shown (defect 35)"
      ),
      ...in_("test/config/Secrets.test.ts")(
        "pasted into %s shows nowhere",
        "is in no log, span or metric of a whole run"
      )
    ]
  },
  {
    row: 36,
    defect: "The dashboard has no authentication, lets any web page change jobs, and shows raw errors.",
    tests: [],
    notYet: "there is no dashboard yet"
  },
  {
    row: 37,
    defect: "The dashboard counts everything every second or two, searches without an index, and lists whole payloads.",
    tests: [],
    notYet: "there is no dashboard yet"
  },
  {
    row: 38,
    defect: "Nothing is ever removed, and heartbeats write indexed columns.",
    tests: [
      ...worker("row 38: a worker removes ended jobs and attempts past their retention, and keeps the others"),
      ...store("row 38: renewals and progress are HOT updates: no index is written"),
      ...storeContract(
        "ControlCases",
        "prune deletes ended jobs past the retention of their outcome, and no others",
        "prune is bounded by `limit`: jobs and attempts"
      )
    ]
  },
  {
    row: 39,
    defect:
      "Workers do not apply the schema, DDL is split at semicolons, and a dash or capital in the prefix breaks it.",
    tests: [
      ...in_("test/Migrations.test.ts")(
        "ten processes at once: one migrates, nine find nothing to do",
        "the text to apply by hand makes the same tables",
        "names that are not plain are refused before anything is asked of the database"
      ),
      ...in_("test/security/SqlText.test.ts")("are not called %j")
    ],
    notYet: "the second copy of the schema was the dashboard's: there is no dashboard yet"
  },
  {
    row: 40,
    defect: "Documentation and code disagree about the default schema and the names of variables.",
    tests: in_("test/config/Documentation.test.ts")(
      "row 40: documentation and code agree",
      "the page of settings is the one the code makes",
      "the default schema and prefix of the settings are those of the code that uses the tables",
      "no file of ours names a variable that the code does not read"
    )
  },
  {
    row: 41,
    defect: "Name and version of workers have columns that are never filled.",
    tests: events("row 41: a worker's row says its name and version")
  }
]

const cell = (text: string): string => text.replaceAll("|", "\\|")

/** The table for readers: what `RELIABILITY.md` holds. */
export const markdown = (): string =>
  [
    "| Row | The defect of the original | Shown absent by |",
    "| ---: | --- | --- |",
    ...defects.map(({ defect, notYet, row, tests }) => {
      const shown = tests.map(({ file, title }) => `${title} (\`${file}\`)`)
      const all = notYet === undefined ? shown : [...shown, `not yet applicable: ${notYet}`]
      return `| ${row} | ${cell(defect)} | ${cell(all.join("<br>"))} |`
    })
  ].join("\n")
