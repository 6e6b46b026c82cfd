/**
 * What can be set from outside, as a plain object: one field per `POLYQUEUE_*` variable, called as the variable is. Numbers
 * that are times are seconds, unless the name says milliseconds, as in the original.
 */
import type * as Duration from "effect/Duration"
import type * as Redacted from "effect/Redacted"
import type { TimeoutThen } from "../store/JobStoreDriver.ts"

/** What carries hints. `none`: the broker in this process; jobs are in Postgres all the same. */
export const backends = ["postgres", "redis", "sqs", "azure_service_bus", "pgmq", "none"] as const
export type Backend = (typeof backends)[number]

/** Settings, checked and complete. The documentation of each field is that of its variable in `Variables.ts`. */
export interface Settings {
  /** Connection string of Postgres; `undefined` only with backend `none`: then Postgres is embedded and lost with the process. */
  readonly dbUrl: Redacted.Redacted<string> | undefined
  readonly backend: Backend
  readonly tablePrefix: string
  readonly tableSchema: string
  readonly redisUrl: Redacted.Redacted<string> | undefined
  readonly sqsQueueUrl: string | undefined
  readonly sqsRegion: string
  readonly sqsVisibilityTimeout: number
  readonly pgmqQueueName: string
  readonly pgmqVisibilityTimeout: number
  readonly pgmqPollSeconds: number
  /** Milliseconds. */
  readonly pgmqPollIntervalMs: number
  readonly pgmqCreateQueueIfMissing: boolean
  readonly pgmqUseUnloggedQueue: boolean
  readonly pgmqArchiveOnSuccess: boolean
  readonly pgmqArchiveOnTerminalFail: boolean
  readonly azureSbConnectionString: Redacted.Redacted<string> | undefined
  readonly azureSbQueueName: string
  readonly azureSbLockRenewal: number
  /** Refuse connections to other machines that do not insist on TLS, instead of warning of them. */
  readonly requireTls: boolean
  readonly maxAttempts: number
  readonly retryBackoffSeconds: ReadonlyArray<number>
  readonly leaseDuration: number
  /** `undefined`: a third of the lease. */
  readonly heartbeatInterval: number | undefined
  readonly reaperInterval: number
  readonly retryPollInterval: number
  /** `undefined`: host and process id. */
  readonly workerName: string | undefined
  /** `undefined`: no limit. */
  readonly defaultMaxRunSeconds: number | undefined
  readonly timeoutStrategy: TimeoutThen
  readonly progressHeartbeatInterval: number
  readonly workerHeartbeatInterval: number
  readonly workerStaleThreshold: number
  readonly staleProgressThreshold: number
}

/** How a field may be written in code: seconds also as a `Duration` or as `"30 seconds"`, secrets also as plain strings. */
export type Written<Value> = Value extends boolean
  ? boolean
  : Value extends number
    ? number | Duration.Duration | `${number} ${Duration.Unit}`
    : Value extends Redacted.Redacted<string>
      ? Redacted.Redacted<string> | string
      : Value

/** Settings in code: what is left out has its default. */
export type Input = { readonly [Key in keyof Settings]?: Written<Settings[Key]> }

/** Where a value comes from. */
export type Source = "environment" | "object" | "default"
