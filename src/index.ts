/**
 * Polyqueue: a job queue for Effect. Postgres holds the truth about every job; the broker is a Layer.
 *
 * Brokers with an SDK of their own live in subpaths (`polyqueue/redis`, …), the test kit in `polyqueue/testing`.
 */
export {
  type ActionOptions,
  type ActionProgress,
  type ActionReport,
  Admin,
  type AdminService,
  type AuditPage,
  type Explanation,
  type JobPage,
  type PauseOptions,
  type Preview,
  type QueueRecord,
  type Reason,
  type Selection,
  type Where
} from "./Admin.ts"
export { Broker } from "./Broker.ts"
export type * from "./broker/BrokerDriver.ts"
export { CurrentJob, type Interruption, type Progress } from "./CurrentJob.ts"
export * as Job from "./Job.ts"
export {
  AdminError,
  BrokerError,
  EnqueueError,
  JobNotFound,
  JobStopped,
  RetryAfter,
  Snooze,
  StoreError,
  TerminalError,
  type Verdict,
  WorkerError
} from "./JobError.ts"
export { JobDefaults } from "./JobPolicy.ts"
export { JobStore } from "./JobStore.ts"
export type * from "./store/JobStoreDriver.ts"
export { type MetricEvent, Metrics } from "./Metrics.ts"
export * as Migrations from "./Migrations.ts"
export { Polyqueue, type Ports } from "./Polyqueue.ts"
export * as Worker from "./Worker.ts"
export type * from "./registry/WorkerRegistryDriver.ts"
export { WorkerRegistry } from "./WorkerRegistry.ts"
