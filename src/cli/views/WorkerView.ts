/** Workers as the CLI shows them. */
import { isHeard, isLive } from "../../admin/Controls.ts"
import type { WorkerRecord } from "../../registry/WorkerRegistryDriver.ts"
import * as Output from "../Output.ts"
import * as Spans from "../Spans.ts"
import { ofStatus, type Style } from "../Style.ts"
import type { Column } from "../Table.ts"

/** It says that it is alive, and has said nothing more for a minute. */
export const isSilent = (worker: WorkerRecord, now: number): boolean => isLive(worker) && !isHeard(worker, now)

/** What it is, and what it was told and has not done yet. */
const statusText = (worker: WorkerRecord, now: number): string => {
  const { status, told } = worker
  if (isSilent(worker, now)) return `${status}, silent`
  if (told === undefined || status === "stopped" || status === "dead") return status
  return told === "drain" && status === "draining" ? status : `${status}, told to ${told}`
}

/** The columns of a list of workers at the store's `now`. */
export const columns =
  (now: number) =>
  (style: Style): ReadonlyArray<Column<WorkerRecord>> => [
    { title: "ID", cell: (worker) => worker.id },
    { title: "NAME", cell: (worker) => worker.name, flexible: true },
    {
      title: "STATUS",
      cell: (worker) => statusText(worker, now),
      paint: (worker) => ofStatus(style, isSilent(worker, now) ? "dead" : worker.status)
    },
    { title: "RUNNING", cell: (worker) => `${worker.runningCount}/${worker.slots}`, align: "right" },
    { title: "HEARTBEAT", cell: (worker) => Spans.ago(Math.min(worker.heartbeatAt, now), now) },
    { title: "UP", cell: (worker) => Spans.show(Math.max(0, worker.heartbeatAt - worker.startedAt)), align: "right" },
    { title: "MEMORY", cell: ({ memory }) => (memory > 0 ? Spans.bytes(memory) : undefined), align: "right" },
    { title: "LOOP", cell: (worker) => `${Math.round(worker.eventLoopDelay)}ms`, align: "right" },
    { title: "HOST", cell: (worker) => `${worker.host}/${worker.pid}`, flexible: true },
    { title: "VERSION", cell: (worker) => worker.version },
    { title: "QUEUES", cell: (worker) => worker.queues.join(","), flexible: true },
    { title: "TYPES", cell: (worker) => worker.jobTypes.join(","), flexible: true }
  ]

/** A worker as JSON. */
export const toJson = (worker: WorkerRecord) => ({
  id: worker.id,
  name: worker.name,
  status: worker.status,
  host: worker.host,
  pid: worker.pid,
  version: worker.version,
  queues: worker.queues,
  jobTypes: worker.jobTypes,
  slots: worker.slots,
  runningCount: worker.runningCount,
  running: worker.running,
  told: worker.told ?? null,
  memory: worker.memory,
  eventLoopDelay: worker.eventLoopDelay,
  startedAt: Output.instant(worker.startedAt),
  heartbeatAt: Output.instant(worker.heartbeatAt)
})
