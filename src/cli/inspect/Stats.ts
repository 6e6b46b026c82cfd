/** `inspect stats`: the whole deployment in a dozen lines. */
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import { Admin } from "../../Admin.ts"
import { isHeard } from "../../admin/Controls.ts"
import type { QueueRecord } from "../../admin/AdminService.ts"
import type { WorkerRecord } from "../../registry/WorkerRegistryDriver.ts"
import type { Pause } from "../../store/JobStoreDriver.ts"
import { JobStore } from "../../JobStore.ts"
import * as Deployment from "../Deployment.ts"
import { StoreNow } from "../Operator.ts"
import * as Output from "../Output.ts"
import * as Spans from "../Spans.ts"
import type { Style } from "../Style.ts"
import * as QueueView from "../views/QueueView.ts"
import * as WorkerView from "../views/WorkerView.ts"
import * as Watch from "../Watch.ts"

/** Everything the command shows. */
export interface Stats {
  readonly now: number
  readonly queues: ReadonlyArray<QueueRecord>
  readonly workers: ReadonlyArray<WorkerRecord>
  readonly pauses: ReadonlyArray<Pause>
  readonly timedOut: number
  readonly staleProgress: number
  /** Running jobs without a sign of progress for this long are counted as stale. */
  readonly staleAfter: number
}

const read = Effect.gen(function* () {
  const admin = yield* Admin
  const storeNow = yield* StoreNow
  const store = yield* JobStore
  const staleAfter = yield* Deployment.staleProgress
  return yield* Effect.all(
    {
      now: storeNow,
      queues: admin.queues,
      workers: admin.workers,
      pauses: admin.pauses,
      timedOut: store.count({ status: ["processing"], timedOut: true }),
      staleProgress: store.count({ status: ["processing"], staleProgress: staleAfter }),
      staleAfter: Effect.succeed(staleAfter)
    },
    { concurrency: "unbounded" }
  )
})

const counts = ["queued", "waiting", "processing", "succeeded", "failed", "cancelled"] as const

const totals = (queues: ReadonlyArray<QueueRecord>) => {
  const sum = (key: (typeof counts)[number]) => queues.reduce((total, queue) => total + queue[key], 0)
  const ages = queues.flatMap(({ oldestAge }) => (oldestAge === undefined ? [] : [oldestAge]))
  return {
    ...(Object.fromEntries(counts.map((key) => [key, sum(key)])) as Record<(typeof counts)[number], number>),
    oldestAge: ages.length === 0 ? undefined : Math.max(...ages)
  }
}

const statuses = ["running", "draining", "silent", "stopped", "dead"] as const

const byStatus = ({ now, workers }: Stats) => {
  const statusOf = (worker: WorkerRecord) => (WorkerView.isSilent(worker, now) ? "silent" : worker.status)
  return Object.fromEntries(
    statuses.map((status) => [status, workers.filter((worker) => statusOf(worker) === status).length])
  ) as Record<(typeof statuses)[number], number>
}

const toJson = (stats: Stats) => {
  const live = stats.workers.filter((worker) => isHeard(worker, stats.now))
  const { oldestAge, ...jobs } = totals(stats.queues)
  return {
    at: Output.instant(stats.now),
    jobs: { ...jobs, oldestAge: oldestAge ?? null, timedOut: stats.timedOut, staleProgress: stats.staleProgress },
    workers: {
      ...byStatus(stats),
      slots: live.reduce((total, { slots }) => total + slots, 0),
      busy: live.reduce((total, { runningCount }) => total + runningCount, 0)
    },
    pauses: stats.pauses.map(QueueView.pauseToJson)
  }
}

const pairs = (stats: Stats) => (style: Style) => {
  const { jobs, workers } = toJson(stats)
  const notes = [
    stats.timedOut > 0 ? `${Spans.count(stats.timedOut)} past their timeout` : "",
    stats.staleProgress > 0
      ? `${Spans.count(stats.staleProgress)} without progress for ${Spans.show(stats.staleAfter)}`
      : ""
  ].filter((part) => part !== "")
  const oldest = jobs.oldestAge === null ? "" : `, the oldest for ${Spans.show(jobs.oldestAge)}`
  const fleet = statuses.flatMap((status) => (workers[status] > 0 ? [`${workers[status]} ${status}`] : []))
  return [
    ["due", `${Spans.count(jobs.queued)}${oldest}`],
    ["later", Spans.count(jobs.waiting)],
    ["running", [Spans.count(jobs.processing), ...notes].join(", "), notes.length > 0 ? style.warning : undefined],
    ["succeeded", Spans.count(jobs.succeeded)],
    ["failed", Spans.count(jobs.failed), jobs.failed > 0 ? style.bad : undefined],
    ["cancelled", Spans.count(jobs.cancelled)],
    ["workers", fleet.length === 0 ? "none" : fleet.join(", "), workers.running === 0 ? style.warning : undefined],
    ["slots", `${workers.busy} of ${workers.slots} busy`],
    ...stats.pauses.map(
      (pause) =>
        [
          "paused",
          [pause.queue, QueueView.pauseText(pause, stats.now)].filter(Boolean).join(": "),
          style.warning
        ] as const
    )
  ] as const
}

export const command = Command.make(
  "stats",
  { output: Output.flag, watch: Watch.flag },
  Effect.fnUntraced(function* ({ output, watch }) {
    yield* Watch.run(watch, output, (screen, format) =>
      Effect.map(read, (stats) =>
        Output.detailLines(format, { kind: "stats", toJson: () => toJson(stats), pairs: pairs(stats) }, screen)
      )
    )
  })
).pipe(
  Command.withDescription("Counts of everything: jobs by status, the oldest due job, workers, slots, pauses."),
  Command.withShortDescription("Counts of everything"),
  Command.withExamples([
    { command: "polyqueue inspect stats --watch=5s", description: "Look every 5 seconds" },
    { command: "polyqueue inspect stats -o json | jq .stats.jobs.failed" }
  ])
)
