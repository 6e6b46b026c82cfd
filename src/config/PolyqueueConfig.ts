/**
 * Polyqueue from `POLYQUEUE_*` variables (`polyqueue/config`): names and meanings are those of the original. Every mistake is
 * reported at start, all of them at once; secrets are `Redacted` and appear nowhere.
 *
 * @example
 * ```ts
 * import { Layer } from "effect"
 * import { Polyqueue } from "polyqueue"
 * import * as PolyqueueConfig from "polyqueue/config"
 *
 * const FromEnvironment = PolyqueueConfig.layer
 * // The same from code: numbers of times are seconds
 * const FromCode = PolyqueueConfig.layerFrom(
 *   PolyqueueConfig.fromObject({ dbUrl: "postgres://localhost/app", backend: "postgres", leaseDuration: 20 })
 * )
 * ```
 */
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type { SqlClient } from "effect/sql/SqlClient"
import type { BrokerError, StoreError } from "../JobError.ts"
import type { Metrics } from "../Metrics.ts"
import { Polyqueue, type Ports } from "../Polyqueue.ts"
import * as Backends from "./Backends.ts"
import * as Explain from "./Explain.ts"
import * as Resolve from "./Resolve.ts"
import type { Input, Settings, Source } from "./Settings.ts"
import { keys, variables } from "./Variables.ts"

export type { Explained } from "./Explain.ts"
export type { Resolved } from "./Resolve.ts"
export { type Backend, backends, type Input, type Settings, type Source, type Written } from "./Settings.ts"
export { type Variable, variables } from "./Variables.ts"

const refused = (problems: ReadonlyArray<string>): Config.ConfigError =>
  new Config.ConfigError(
    new ConfigProvider.SourceError({
      message:
        problems.length === 1
          ? `a setting of polyqueue is wrong: ${problems[0]}`
          : `${problems.length} settings of polyqueue are wrong:${problems.map((problem) => `\n- ${problem}`).join("")}`
    })
  )

const resolved = (raw: Resolve.Raw, source: Source) =>
  Effect.fromResult(Result.mapError(Resolve.resolve(raw, source), refused))

/** Settings from the environment (or whatever `ConfigProvider` is in force) and where each comes from. */
export const environment: Config.Config<Resolve.Resolved> = Config.all(
  Object.fromEntries(keys.map((key) => [key, Config.option(Config.String(variables[key].name))]))
).pipe(
  Config.mapEffect((texts) => {
    const given = Object.entries(texts).flatMap(([key, text]) => (Option.isSome(text) ? [[key, text.value]] : []))
    return resolved(Object.fromEntries(given), "environment")
  })
)

/** Settings from the environment. Fails with one `ConfigError` that says all that is wrong. */
export const settings: Config.Config<Settings> = Config.map(environment, ({ settings }) => settings)

/** A value of code as the text a variable would have: one way in, one set of rules. */
const written = (value: Input[keyof Settings]): string | undefined => {
  if (value === undefined) return undefined
  if (Redacted.isRedacted(value)) return Redacted.value(value)
  if (Duration.isDuration(value)) return `${Duration.toMillis(value)} millis`
  return String(value)
}

/** Settings from code, with the same defaults and the same checks. Numbers of times are seconds. */
export const fromObject = (input: Input): Config.Config<Resolve.Resolved> =>
  Config.mapEffect(Config.succeed(input), (input) =>
    resolved(Object.fromEntries(keys.map((key) => [key, written(input[key])])), "object")
  )

/** Each setting with its value (secrets hidden), its source, what it does, and whether it has an effect. */
export const explain = (
  config: Config.Config<Resolve.Resolved> = environment
): Effect.Effect<ReadonlyArray<Explain.Explained>, Config.ConfigError> => Effect.map(config, Explain.explain)

/** Sentences about `POLYQUEUE_*` variables that are none: probably mistakes, with what was probably meant. Never a value. */
export const unknownVariables: Effect.Effect<ReadonlyArray<string>, Config.ConfigError> = Effect.gen(function* () {
  const provider = yield* ConfigProvider.ConfigProvider
  const names: Array<string> = []
  const visit = (path: ReadonlyArray<string>): Effect.Effect<void, ConfigProvider.SourceError> =>
    Effect.flatMap(provider.load(path), (node) => {
      if (node === undefined) return Effect.void
      if (node.value !== undefined) names.push(path.join("_"))
      const children = node._tag === "Record" ? Array.from(node.keys) : []
      const ours = path.length > 0 ? children : children.filter((name) => /^POLYQUEUE(_|$)/.test(name))
      return Effect.forEach(ours, (name) => visit([...path, name]), { discard: true })
    })
  yield* visit([])
  return Explain.unknown(names)
}).pipe(Effect.mapError((cause) => new Config.ConfigError(cause)))

/** Sentences about connections to other machines that do not insist on TLS. Never a value. */
export const plainText = (
  config: Config.Config<Resolve.Resolved> = environment
): Effect.Effect<ReadonlyArray<string>, Config.ConfigError> => Effect.map(config, Explain.plainText)

/** What the layers bring. */
export type Provided = Polyqueue | Ports | SqlClient

/** How settings are composed with what they cannot say. */
export interface Options {
  /** Default `Metrics.layerEffect`. */
  readonly metrics?: Layer.Layer<Metrics>
}

/**
 * Everything from these settings: the database, the store and registry on its tables (brought up to date if the role may),
 * the broker, metrics, and the defaults of jobs and workers. Bind it to a constant: two calls are two clients.
 */
export const layerFrom = (
  config: Config.Config<Resolve.Resolved>,
  options: Options = {}
): Layer.Layer<Provided, Config.ConfigError | StoreError | BrokerError> =>
  Layer.unwrap(
    Effect.gen(function* () {
      const resolved = yield* config
      const { settings } = resolved
      for (const note of Explain.notes(resolved)) yield* Effect.logInfo(note)
      for (const problem of Explain.plainText(resolved)) yield* Effect.logWarning(problem)
      if (settings.dbUrl === undefined) {
        yield* Effect.logWarning(
          `${variables.dbUrl.name} is not set: jobs are kept in an embedded Postgres and lost with this process`
        )
      }
      return Polyqueue.layerPostgresWith({
        schema: settings.tableSchema,
        prefix: settings.tablePrefix,
        ...options
      }).pipe(
        Layer.provideMerge(Backends.broker(resolved)),
        Layer.provideMerge(Backends.database(settings)),
        Layer.provideMerge(Backends.defaults(settings))
      )
    })
  )

/** Everything from the environment. Variables of our prefix that nobody reads are warned of. */
export const layer: Layer.Layer<Provided, Config.ConfigError | StoreError | BrokerError> = Layer.unwrap(
  Effect.gen(function* () {
    for (const problem of yield* unknownVariables) yield* Effect.logWarning(problem)
    return layerFrom(environment)
  })
)
