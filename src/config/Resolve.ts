/**
 * From texts to settings: every value is read, every rule between two values is checked, and all that is wrong is said at
 * once, each with the name that was written, the value (never a secret) and what is allowed.
 */
import * as Result from "effect/Result"
import * as Secrets from "./Secrets.ts"
import type { Backend, Settings, Source } from "./Settings.ts"
import * as Transport from "./Transport.ts"
import * as Urls from "./Urls.ts"
import { keys, type Variable, variables } from "./Variables.ts"

/** The texts that were given; what is left out has its default. */
export type Raw = { readonly [Key in keyof Settings]?: string | undefined }

/** Settings and where each of them comes from. */
export interface Resolved {
  readonly settings: Settings
  readonly sources: Readonly<Record<keyof Settings, Source>>
}

/** What each kind of source calls a setting. */
const labelOf = (key: keyof Settings, source: Source): string =>
  source === "object" ? `${key} (${variables[key].name})` : variables[key].name

/** Reads and checks. Fails with all problems, one sentence each. */
export const resolve = (raw: Raw, source: Source): Result.Result<Resolved, ReadonlyArray<string>> => {
  const problems: Array<string> = []
  const values: { -readonly [Key in keyof Settings]?: Settings[Key] } = {}
  const read = <Key extends keyof Settings>(key: Key) => {
    const variable: Variable<Key> = variables[key]
    const text = raw[key]?.trim()
    if (text === undefined || text === "") {
      values[key] = variable.default
      return
    }
    const value = variable.kind.read(text)
    values[key] = value ?? variable.default
    if (value === undefined) {
      const given = Secrets.shown(text, variable.kind.isSecret)
      problems.push(`${labelOf(key, source)} is ${given}: it must be ${variable.kind.allowed}`)
    }
  }
  for (const key of keys) read(key)
  // Every key was read
  const settings = withRegion(values as Settings, raw)
  const sources = Object.fromEntries(keys.map((key) => [key, isGiven(raw, key) ? source : "default"]))
  problems.push(...rules(settings, raw, (key) => labelOf(key, source)))
  return problems.length > 0
    ? Result.fail(problems)
    : Result.succeed({ settings, sources: sources as Resolved["sources"] })
}

const isGiven = (raw: Raw, key: keyof Settings): boolean => (raw[key]?.trim() ?? "") !== ""

const withRegion = (settings: Settings, raw: Raw): Settings =>
  isGiven(raw, "sqsRegion") || settings.sqsQueueUrl === undefined
    ? settings
    : { ...settings, sqsRegion: Urls.sqsRegion(settings.sqsQueueUrl) ?? settings.sqsRegion }

/** What a backend cannot do without. */
const needed: ReadonlyArray<readonly [Backend, keyof Settings]> = [
  ["redis", "redisUrl"],
  ["sqs", "sqsQueueUrl"],
  ["azure_service_bus", "azureSbConnectionString"]
]

/** The rules between two settings. A rule about a value that was wrong by itself is left alone. */
function* rules(settings: Settings, raw: Raw, label: (key: keyof Settings) => string): Generator<string> {
  const { backend } = settings
  if (backend !== "none" && !isGiven(raw, "dbUrl")) {
    yield `${label("dbUrl")} is missing: it must be ${variables.dbUrl.kind.allowed} (only ${label("backend")} "none" works without)`
  }
  for (const [of, key] of needed) {
    if (backend === of && !isGiven(raw, key)) {
      yield `${label(key)} is missing: ${label("backend")} "${of}" needs it; it must be ${variables[key].kind.allowed}`
    }
  }
  const renewed: ReadonlyArray<readonly [keyof Settings, number]> = [
    ["leaseDuration", settings.leaseDuration],
    ...(backend === "sqs" ? [["sqsVisibilityTimeout", settings.sqsVisibilityTimeout] as const] : []),
    ...(backend === "pgmq" ? [["pgmqVisibilityTimeout", settings.pgmqVisibilityTimeout] as const] : [])
  ]
  for (const [key, renews] of renewed) {
    if (settings.heartbeatInterval !== undefined && settings.heartbeatInterval >= renews) {
      yield (
        `${label("heartbeatInterval")} is ${settings.heartbeatInterval}: it must be shorter than what it renews, ` +
          `${label(key)}, which is ${renews}; leave it unset for a third of the lease`
      )
    }
  }
  if (settings.workerHeartbeatInterval >= settings.workerStaleThreshold) {
    yield (
      `${label("workerHeartbeatInterval")} is ${settings.workerHeartbeatInterval}: it must be shorter than ` +
        `${label("workerStaleThreshold")}, which is ${settings.workerStaleThreshold}, or living workers are listed as dead`
    )
  }
  if (settings.requireTls) {
    for (const { fix, key } of Transport.plain(settings)) {
      yield `${label(key)} does not insist on TLS, which it must under ${label("requireTls")}: ${fix}`
    }
  }
  const region = settings.sqsQueueUrl === undefined ? undefined : Urls.sqsRegion(settings.sqsQueueUrl)
  if (region !== undefined && region !== settings.sqsRegion) {
    yield `${label("sqsRegion")} is "${settings.sqsRegion}": it must be the region of ${label("sqsQueueUrl")}, "${region}"`
  }
}
