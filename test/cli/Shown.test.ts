/** What people see: every table and page of details, as it looks, from records that never change. */
import { it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { describe, expect } from "vitest"
import { Admin } from "../../src/Admin.ts"
import type { DeploymentService } from "../../src/cli/Deployment.ts"
import { StoreNow } from "../../src/cli/Operator.ts"
import { JobStore } from "../../src/JobStore.ts"
import type { JobRecord, JobSummary } from "../../src/JobStore.ts"
import { WorkerRegistry } from "../../src/WorkerRegistry.ts"
import { run, type Setting } from "../support/Cli.ts"

const now = Date.UTC(2026, 10, 22, 12)
const minute = 60_000
const id = (n: number) => `01890a5d-ac96-774b-bcce-b3020000000${n}`

const queued: JobSummary = {
  id: id(1),
  type: "SendEmail",
  queue: "mail",
  status: "queued",
  priority: 5,
  runAt: now + 5 * minute,
  attempt: 1,
  failures: 1,
  crashes: 0,
  interruptions: 0,
  snoozes: 0,
  maxAttempts: 3,
  maxCrashes: 3,
  key: "welcome/ada",
  tags: ["vip", "eu"],
  timeout: 30_000,
  timeoutThen: "retry",
  timeoutAt: undefined,
  overranAt: undefined,
  worker: undefined,
  leaseExpiresAt: undefined,
  progressAt: undefined,
  cancelRequestedAt: undefined,
  enqueuedAt: now - 2 * minute,
  startedAt: now - minute,
  finishedAt: undefined,
  error: { code: "error", message: "mailbox 世界 is full: the server said 452 4.2.2 and then some more" }
}

const jobs: ReadonlyArray<JobSummary> = [
  queued,
  {
    ...queued,
    id: id(2),
    status: "processing",
    error: undefined,
    worker: "w-1",
    startedAt: now - 45_000,
    timeoutAt: now - 15_000,
    cancelRequestedAt: now - 1_000,
    leaseExpiresAt: now + 20_000
  },
  { ...queued, id: id(3), status: "succeeded", error: undefined, finishedAt: now - 3 * 3_600_000 },
  { ...queued, id: id(4), status: "failed", attempt: 3, failures: 3, finishedAt: now - 86_400_000 * 3 },
  {
    ...queued,
    id: id(5),
    type: "a-type-with-quite-a-long-name",
    status: "cancelled",
    error: undefined,
    finishedAt: now
  }
]

const job: JobRecord = {
  ...queued,
  error: {
    code: "error",
    message: "mailbox is full",
    value: '{"_tag":"Full"}',
    stack: "Error: full\n    at send (mail.ts:3)"
  },
  payload: { to: "ada@example.com" },
  result: undefined,
  progress: { done: 3, total: 10 },
  progressAt: now - 70_000,
  metadata: undefined,
  publishAt: now + 5 * minute,
  fence: 17
}

const worker = {
  id: "01890a5d-0000-7000-8000-00000000000a",
  host: "web-1",
  pid: 4242,
  name: "mailer",
  version: "0.1.0",
  queues: ["mail", "default"],
  jobTypes: ["SendEmail", "Digest"],
  slots: 10,
  running: [id(2)],
  runningCount: 1,
  status: "running",
  memory: 128 * 1_048_576,
  eventLoopDelay: 3.4,
  told: undefined,
  startedAt: now - 3_600_000,
  heartbeatAt: now - 4_000
} as const

const queue = {
  queue: "mail",
  queued: 1_234,
  waiting: 56,
  processing: 2,
  succeeded: 1_234_567,
  failed: 7,
  cancelled: 0,
  oldestAge: 95_000,
  pauses: [{ queue: "mail", type: undefined, since: now - minute, until: now + 29 * minute, reason: "SMTP is down" }],
  paused: true,
  workers: 1,
  slots: 10
}

const admin: Partial<Admin["Service"]> = {
  jobs: () => Effect.succeed({ jobs, next: id(5) }),
  job: () => Effect.succeed(job),
  attempts: () =>
    Effect.succeed([
      {
        jobId: id(1),
        attempt: 1,
        claim: id(9),
        worker: "w-1",
        outcome: "failed",
        finalizedBy: "worker",
        claimedAt: now - 5 * minute,
        endedAt: now - 4 * minute,
        error: { code: "error", message: "mailbox is full" }
      },
      {
        jobId: id(1),
        attempt: 2,
        claim: id(8),
        worker: "w-2",
        outcome: "crashed",
        finalizedBy: "reaper",
        claimedAt: now - 2 * minute,
        endedAt: now - minute,
        error: undefined
      }
    ]),
  queues: Effect.succeed([
    { ...queue },
    { ...queue, queue: "default", failed: 0, oldestAge: undefined, queued: 0, pauses: [], paused: false }
  ]),
  workers: Effect.succeed([
    worker,
    { ...worker, id: "01890a5d-0000-7000-8000-00000000000b", told: "drain", runningCount: 10 },
    { ...worker, id: "01890a5d-0000-7000-8000-00000000000c", status: "dead", heartbeatAt: now - 3_600_000 },
    // Killed, with nobody left to mark it dead
    { ...worker, id: "01890a5d-0000-7000-8000-00000000000d", heartbeatAt: now - 5 * minute }
  ]),
  pauses: Effect.succeed(queue.pauses),
  audit: () =>
    Effect.succeed({
      next: undefined,
      records: [
        {
          id: 12,
          at: now - minute,
          who: "ada@laptop",
          reason: "SMTP is back",
          action: "requeue",
          operation: id(7),
          kind: "job",
          target: id(4),
          before: { type: "SendEmail", status: "failed", runAt: now - 86_400_000 },
          after: { type: "SendEmail", status: "queued", runAt: now }
        }
      ]
    }),
  explain: () =>
    Effect.succeed({
      id: id(1),
      type: "SendEmail",
      queue: "mail",
      status: "queued",
      now,
      earliest: now + 29 * minute,
      reasons: [
        { _tag: "NotDue", because: "retry", message: "its next attempt is not due yet", until: now + 5 * minute },
        {
          _tag: "Paused",
          queue: "mail",
          type: undefined,
          since: now - minute,
          reason: "SMTP is down",
          message: "the queue mail is paused: SMTP is down",
          until: now + 29 * minute
        }
      ]
    }),
  preview: (action) => Effect.succeed({ action, count: 5, sample: jobs.slice(3, 4), rest: [] }),
  requeue: (_, options) =>
    Effect.as(options.onProgress?.({ seen: 5, done: 4 }) ?? Effect.void, {
      action: "requeue",
      operation: id(7),
      done: 4,
      outcomes: { done: 4, locked: 1 },
      rest: [{ id: id(5), outcome: "locked" }]
    })
}

const deployment: DeploymentService = {
  tableNames: Effect.die("unused"),
  connection: Effect.die("unused"),
  operator: Layer.mergeAll(
    Layer.mock(Admin)(admin),
    Layer.mock(JobStore)({
      isLocal: true,
      onEnded: () => () => {},
      count: (filter) => Effect.succeed(filter.timedOut === true ? 1 : 0)
    }),
    Layer.mock(WorkerRegistry)({}),
    Layer.succeed(StoreNow, Effect.succeed(now))
  )
}

const shows = (args: string, setting: Setting = {}) =>
  Effect.map(run(args.split(" "), { deployment, ...setting }), ({ code, stderr, stdout }) =>
    [stdout, stderr === "" ? "" : `[stderr] ${stderr}`, code === 0 ? "" : `[exit code ${code}]`]
      .filter((part) => part !== "")
      .join("\n")
  )

/** Colours as words. */
const named = (text: string): string =>
  // oxlint-disable-next-line no-control-regex
  text.replaceAll(/\u001b\[(\d+)m/g, (_, code: string) => `<${code}>`)

describe("what people see", () => {
  it.effect.each([
    "inspect stats",
    "inspect stats -o json",
    "inspect queues",
    "inspect workers",
    "inspect workers --all",
    "inspect jobs",
    `inspect job ${id(1)}`,
    `inspect job ${id(1)} --payload`,
    `inspect job ${id(1)} --payload -o json`,
    `inspect attempts ${id(1)}`,
    "inspect audit",
    `explain ${id(1)}`,
    `explain ${id(1)} -o json`,
    "admin requeue --status failed --dry-run",
    "admin requeue --status failed --yes",
    "admin requeue --status failed --yes -o json"
  ])("%s", (args) => Effect.map(shows(args), (shown) => expect(shown).toMatchSnapshot()))

  it.effect("fits a narrow terminal, in colours", () =>
    Effect.gen(function* () {
      expect(named(yield* shows("inspect jobs", { columns: 110 }))).toMatchSnapshot()
      expect(named(yield* shows("inspect stats", { columns: 110 }))).toMatchSnapshot()
    })
  )

  it.effect("no colours under NO_COLOR, to a pipe, in JSON, or on a dumb terminal", () =>
    Effect.gen(function* () {
      const plain = yield* shows("inspect jobs")
      expect(plain).not.toContain("\u001b")
      for (const env of [{ NO_COLOR: "1" }, { TERM: "dumb" }] as ReadonlyArray<Record<string, string>>) {
        expect(yield* shows("inspect jobs", { columns: 200, env })).not.toContain("\u001b")
      }
      expect(yield* shows("inspect jobs -o json", { columns: 200 })).not.toContain("\u001b")
      expect(yield* shows("inspect jobs", { columns: 200 })).toContain("\u001b")
    })
  )
})
