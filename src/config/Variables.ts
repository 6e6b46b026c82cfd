/**
 * Every `POLYQUEUE_*` variable: its name and default, what is allowed, what it does here, and where that differs from the
 * original. The one place that says so: parsing, messages, `explain` and the documentation all read this table.
 */
import * as QueueName from "../broker/pgmq/QueueName.ts"
import * as Names from "../store/postgres/Names.ts"
import * as Result from "effect/Result"
import * as Kinds from "./Kinds.ts"
import { type Backend, backends, type Settings } from "./Settings.ts"
import * as Urls from "./Urls.ts"

/** One variable. */
export interface Variable<Key extends keyof Settings = keyof Settings> {
  readonly name: string
  readonly kind: Kinds.Kind<NonNullable<Settings[Key]>>
  readonly default: Settings[Key]
  /** What it does, in one or two sentences. */
  readonly doc: string
  /** The original's default, where ours is another, and why. */
  readonly differs?: string
  /** The backends it matters to. Default: all. */
  readonly usedBy?: ReadonlyArray<Backend>
  /** It does nothing here: what does its work instead. Said once at start when it is set. */
  readonly noEffect?: string
}

const day = 86_400
const year = 366 * day
const identifier = "at most 41 lower-case letters, digits and underscores, not beginning with a digit"
const isIdentifier = (name: string) => Result.isSuccess(Names.make({ schema: name, prefix: name }))

/** The table. */
export const variables: { readonly [Key in keyof Settings]: Variable<Key> } = {
  dbUrl: {
    name: "POLYQUEUE_DB_URL",
    kind: Kinds.secret("a URL such as postgresql://user:password@host:5432/database, percent-encoded", Urls.postgres),
    default: undefined,
    doc: "Where the jobs are. postgresql://, postgres:// and postgresql+asyncpg:// are understood. Needed with every backend but none, which runs an embedded Postgres without it: jobs are then lost with the process."
  },
  backend: {
    name: "POLYQUEUE_BACKEND",
    kind: Kinds.oneOf(backends),
    default: "postgres",
    doc: "What carries hints: postgres (nothing besides the database), redis, sqs, azure_service_bus, pgmq, or none (in this process)."
  },
  tablePrefix: {
    name: "POLYQUEUE_TABLE_PREFIX",
    kind: Kinds.text(identifier, isIdentifier),
    default: "polyqueue",
    doc: "What table names begin with: polyqueue_jobs and so on."
  },
  tableSchema: {
    name: "POLYQUEUE_TABLE_SCHEMA",
    kind: Kinds.text(identifier, isIdentifier),
    default: "polyqueue",
    doc: "The schema the tables are in; made when it is missing."
  },
  redisUrl: {
    name: "POLYQUEUE_REDIS_URL",
    kind: Kinds.secret(
      "a URL such as redis://user:password@host:6379/0, or rediss:// for TLS, percent-encoded",
      Urls.redis
    ),
    default: undefined,
    doc: "The Redis server. Its keys begin with schema and prefix of the tables, so that installations can share a server.",
    usedBy: ["redis"]
  },
  sqsQueueUrl: {
    name: "POLYQUEUE_SQS_QUEUE_URL",
    kind: Kinds.text("the https:// URL of an SQS queue, without credentials, query or fragment", Urls.isSqs),
    default: undefined,
    doc: "The SQS queue that carries the hints of all queues. Credentials are found the way the AWS SDK finds them.",
    usedBy: ["sqs"]
  },
  sqsRegion: {
    name: "POLYQUEUE_SQS_REGION",
    kind: Kinds.text("the name of an AWS region, such as us-east-1", (text) => /^[a-z]{2}[a-z0-9-]{1,30}$/.test(text)),
    default: "us-east-1",
    doc: "The region of the queue. Unset, it is the region in the queue's URL, or else us-east-1.",
    usedBy: ["sqs"]
  },
  sqsVisibilityTimeout: {
    name: "POLYQUEUE_SQS_VISIBILITY_TIMEOUT",
    kind: Kinds.seconds(1, 43_200),
    default: 660,
    doc: "How long a received hint stays hidden; extended every third of it while its job runs. Only transport: the lease in Postgres decides.",
    usedBy: ["sqs"]
  },
  pgmqQueueName: {
    name: "POLYQUEUE_PGMQ_QUEUE_NAME",
    kind: Kinds.text(QueueName.BASE_RULE, QueueName.isBase),
    default: "polyqueue",
    doc: "The pgmq queue of the queue `default`, and the beginning of the names of all others.",
    usedBy: ["pgmq"]
  },
  pgmqVisibilityTimeout: {
    name: "POLYQUEUE_PGMQ_VISIBILITY_TIMEOUT",
    kind: Kinds.seconds(1, day),
    default: 660,
    doc: "How long a read hint stays hidden; extended every third of it while its job runs. Only transport: the lease in Postgres decides.",
    usedBy: ["pgmq"]
  },
  pgmqPollSeconds: {
    name: "POLYQUEUE_PGMQ_POLL_SECONDS",
    kind: Kinds.seconds(0.1, 3_600),
    default: 5,
    doc: "Longest wait of one look for hints. Holds no connection while it waits.",
    usedBy: ["pgmq"]
  },
  pgmqPollIntervalMs: {
    name: "POLYQUEUE_PGMQ_POLL_INTERVAL_MS",
    kind: Kinds.milliseconds(1, 60_000),
    default: 100,
    doc: "Milliseconds between the first two looks; later ones are up to a second apart.",
    usedBy: ["pgmq"]
  },
  pgmqCreateQueueIfMissing: {
    name: "POLYQUEUE_PGMQ_CREATE_QUEUE_IF_MISSING",
    kind: Kinds.boolean,
    default: true,
    doc: "Makes missing pgmq queues, for which the role needs DDL rights on schema pgmq.",
    usedBy: ["pgmq"]
  },
  pgmqUseUnloggedQueue: {
    name: "POLYQUEUE_PGMQ_USE_UNLOGGED_QUEUE",
    kind: Kinds.boolean,
    default: false,
    doc: "Makes queues that are not written ahead: faster, and empty after a crash of the server, which costs latency only.",
    usedBy: ["pgmq"]
  },
  pgmqArchiveOnSuccess: {
    name: "POLYQUEUE_PGMQ_ARCHIVE_ON_SUCCESS",
    kind: Kinds.boolean,
    default: false,
    doc: "Keeps the messages of jobs that succeeded in pgmq's archive, which nobody empties.",
    usedBy: ["pgmq"]
  },
  pgmqArchiveOnTerminalFail: {
    name: "POLYQUEUE_PGMQ_ARCHIVE_ON_TERMINAL_FAIL",
    kind: Kinds.boolean,
    default: false,
    doc: "Keeps the messages of jobs that failed for good in pgmq's archive, which nobody empties.",
    usedBy: ["pgmq"]
  },
  azureSbConnectionString: {
    name: "POLYQUEUE_AZURE_SB_CONNECTION_STRING",
    kind: Kinds.secret("Endpoint=sb://…;SharedAccessKeyName=…;SharedAccessKey=…", Urls.serviceBus),
    default: undefined,
    doc: "The Service Bus namespace, and a key that may Send (producers) and Listen (workers).",
    usedBy: ["azure_service_bus"]
  },
  azureSbQueueName: {
    name: "POLYQUEUE_AZURE_SB_QUEUE_NAME",
    kind: Kinds.text(
      "1 to 260 letters, digits, dots, dashes, underscores and slashes, a letter or digit first and last",
      (text) => /^[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,258}[A-Za-z0-9])?$/.test(text)
    ),
    default: "polyqueue",
    doc: "The Service Bus queue of the queue `default`; others have their own name after it and a dash. Unset, it is the EntityPath of the connection string, or else polyqueue.",
    usedBy: ["azure_service_bus"]
  },
  azureSbLockRenewal: {
    name: "POLYQUEUE_AZURE_SB_LOCK_RENEWAL",
    kind: Kinds.seconds(1, year),
    default: 3_600,
    doc: "After holding a delivery for so long, one warning is logged; its lock is renewed further.",
    usedBy: ["azure_service_bus"]
  },
  requireTls: {
    name: "POLYQUEUE_REQUIRE_TLS",
    kind: Kinds.boolean,
    default: false,
    doc: "Refuses to start when the database or the broker is on another machine and its URL does not insist on TLS (sslmode=require, verify-ca or verify-full, which all verify the certificate; rediss://; https://). Otherwise a warning says so."
  },
  maxAttempts: {
    name: "POLYQUEUE_MAX_ATTEMPTS",
    kind: Kinds.int(1, 2_147_483_647),
    default: 3,
    doc: "Attempts of a job that has no retry policy of its own."
  },
  retryBackoffSeconds: {
    name: "POLYQUEUE_RETRY_BACKOFF_SECONDS",
    kind: Kinds.secondsList(10 * year),
    default: [10, 60, 300],
    doc: "Delays before attempt 2, 3, … of such a job, each ±20 %; the last one repeats."
  },
  leaseDuration: {
    name: "POLYQUEUE_LEASE_DURATION",
    kind: Kinds.seconds(0.1, day),
    default: 30,
    doc: "How long a job stays a worker's without a sign of life: the longest pause after a crash.",
    differs:
      "600 in the original. A lease is renewed for as long as its job runs, however long that is, so a short one costs nothing and brings the next owner sooner."
  },
  heartbeatInterval: {
    name: "POLYQUEUE_HEARTBEAT_INTERVAL",
    kind: Kinds.seconds(0.01, day),
    default: undefined,
    doc: "How often leases are renewed. Must be shorter than what it renews: the lease, and the visibility timeout of the backend.",
    differs: "120 in the original. Unset, it is a third of the lease."
  },
  reaperInterval: {
    name: "POLYQUEUE_REAPER_INTERVAL",
    kind: Kinds.seconds(0.01, day),
    default: 5,
    doc: "How often each worker looks for attempts that were abandoned or run too long.",
    differs:
      "60 in the original. The look is one index scan over the running jobs, and a crashed job waits for it after its lease."
  },
  retryPollInterval: {
    name: "POLYQUEUE_RETRY_POLL_INTERVAL",
    kind: Kinds.seconds(0.01, 3_600),
    default: 1,
    doc: "Longest time between two looks at the jobs table by the backend postgres. Retries wait in Postgres and are found by the claim itself, so other backends look once a second whatever is set.",
    usedBy: ["postgres"]
  },
  workerName: {
    name: "POLYQUEUE_WORKER_NAME",
    kind: Kinds.name,
    default: undefined,
    doc: "What people call this worker, in lists, logs and metrics. Unset: host and process id."
  },
  defaultMaxRunSeconds: {
    name: "POLYQUEUE_DEFAULT_MAX_RUN_SECONDS",
    kind: Kinds.seconds(0.001, year),
    default: undefined,
    doc: "How long an attempt of a job without a timeout of its own may run. Unset: no limit."
  },
  timeoutStrategy: {
    name: "POLYQUEUE_TIMEOUT_STRATEGY",
    kind: Kinds.oneOf(["retry", "fail", "ignore"]),
    default: "retry",
    doc: "What then: retry (stop the code, count a failure), fail (stop the code, end the job), ignore (only record it)."
  },
  progressHeartbeatInterval: {
    name: "POLYQUEUE_PROGRESS_HEARTBEAT_INTERVAL",
    kind: Kinds.seconds(0.01, day),
    default: 30,
    doc: "Does nothing here.",
    noEffect:
      "that a job is alive is shown by its lease (POLYQUEUE_HEARTBEAT_INTERVAL), and progress is written when the handler reports it"
  },
  workerHeartbeatInterval: {
    name: "POLYQUEUE_WORKER_HEARTBEAT_INTERVAL",
    kind: Kinds.seconds(0.01, day),
    default: 15,
    doc: "How often a worker says that it is alive. Must be shorter than POLYQUEUE_WORKER_STALE_THRESHOLD."
  },
  workerStaleThreshold: {
    name: "POLYQUEUE_WORKER_STALE_THRESHOLD",
    kind: Kinds.seconds(0.1, year),
    default: 60,
    doc: "Workers silent for longer are listed as dead. Their jobs are not affected: leases decide."
  },
  staleProgressThreshold: {
    name: "POLYQUEUE_STALE_PROGRESS_THRESHOLD",
    kind: Kinds.seconds(0.1, year),
    default: 120,
    doc: "A running job that has reported progress, but not for so long, is counted as stale in the queue metrics."
  }
}

/** All fields, in the order of the table. */
export const keys = Object.keys(variables) as ReadonlyArray<keyof Settings>

/** The prefix all of them share. */
export const prefix = "POLYQUEUE_"
