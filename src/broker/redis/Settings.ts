/**
 * What users say about their Redis, checked: the URL taken apart, so that nothing that is printed carries a password, and
 * every setting that cannot be honoured refused by name.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { BrokerError } from "../../JobError.ts"
import { misconfigured } from "./Errors.ts"

/** TLS for a `rediss://` URL; the system's certificate authorities are the default. */
export interface TlsOptions {
  /** Certificate authorities to trust instead of the system's, in PEM. */
  readonly ca?: string
  /** The client's certificate and key in PEM, where the server asks for one. */
  readonly cert?: string
  readonly key?: Redacted.Redacted<string>
  /** The name to check the server's certificate against. Default: the host of the URL. */
  readonly servername?: string
  /** `false` accepts any certificate: for tests only. Default `true`. */
  readonly rejectUnauthorized?: boolean
}

/** How to reach Redis, and how to share it. */
export interface Options {
  /** `redis://` or, with TLS, `rediss://[user[:password]@]host[:port][/database]`. */
  readonly url: Redacted.Redacted<string>
  /** Instead of the URL's. */
  readonly username?: string
  /** Instead of the URL's: needs no percent-encoding. */
  readonly password?: Redacted.Redacted<string>
  /** Only with `rediss://`. */
  readonly tls?: TlsOptions
  /**
   * The first part of all keys. Two deployments may share a server when their prefixes differ; with the same prefix they
   * take each other's hints. Default `polyqueue`.
   */
  readonly prefix?: string
  /** `true` for a Redis Cluster; the URL then names any node. All keys of a prefix are in one slot. Default `false`. */
  readonly cluster?: boolean
  /** How long any command may take, connecting included. Afterwards its outcome is unknown. Default 5 seconds. */
  readonly commandTimeout?: Duration.Input
}

/** The same, checked and with defaults. */
export interface Settings {
  readonly host: string
  readonly port: number
  readonly db: number
  readonly username: string | undefined
  readonly password: Redacted.Redacted<string> | undefined
  readonly tls: TlsOptions | undefined
  readonly prefix: string
  readonly cluster: boolean
  /** Milliseconds. */
  readonly commandTimeout: number
}

/** Checks the options. Fails with `Misconfigured`, naming the option and never its secret. */
export const parse = (options: Options): Effect.Effect<Settings, BrokerError> =>
  Effect.suspend(() => {
    const url = parseUrl(Redacted.value(options.url))
    const bad = url === undefined ? BAD_URL : problemOf(options, url)
    return bad === undefined && url !== undefined
      ? settingsOf(options, url)
      : Effect.fail(misconfigured(bad ?? BAD_URL))
  })

const BAD_URL = "redis: `url` must look like redis://[user[:password]@]host[:port][/database], or rediss:// for TLS"

const parseUrl = (text: string): URL | undefined => {
  const url = URL.parse(text)
  return url !== null && /^rediss?:$/.test(url.protocol) && url.hostname !== "" ? url : undefined
}

const problemOf = (options: Options, url: URL): string | undefined => {
  const [parameter] = url.searchParams.keys()
  if (parameter !== undefined) return `redis: \`url\` has the parameter \`${parameter}\`, which is not supported`
  if (!/^\/?\d*$/.test(url.pathname)) return "redis: the path of `url` must be the number of a database"
  if (options.cluster === true && Number(url.pathname.slice(1)) !== 0) return "redis: a cluster has only database 0"
  if (options.tls !== undefined && url.protocol === "redis:") return "redis: `tls` needs a rediss:// URL"
  if (options.prefix !== undefined && !/^[^{}\s]{1,64}$/.test(options.prefix)) {
    return "redis: `prefix` must be 1 to 64 characters without braces and spaces"
  }
  return undefined
}

const settingsOf = Effect.fnUntraced(function* (options: Options, url: URL) {
  const commandTimeout = Duration.toMillis(Duration.fromInputUnsafe(options.commandTimeout ?? "5 seconds"))
  if (!(commandTimeout >= 1 && commandTimeout <= 60_000)) {
    return yield* Effect.fail(misconfigured("redis: `commandTimeout` must be between 1 millisecond and 1 minute"))
  }
  const username = options.username ?? (yield* decoded(url.username, "username"))
  const password = options.password ?? redacted(yield* decoded(url.password, "password"))
  return {
    host: url.hostname.replace(/^\[|\]$/g, ""),
    port: url.port === "" ? 6379 : Number(url.port),
    db: Number(url.pathname.slice(1)),
    username: username === "" ? undefined : username,
    password,
    tls: url.protocol === "rediss:" ? (options.tls ?? {}) : undefined,
    prefix: options.prefix ?? "polyqueue",
    cluster: options.cluster ?? false,
    commandTimeout
  } satisfies Settings
})

const redacted = (text: string) => (text === "" ? undefined : Redacted.make(text, { label: "redis password" }))

const decoded = (text: string, what: string): Effect.Effect<string, BrokerError> =>
  Effect.try({
    try: () => decodeURIComponent(text),
    catch: () => misconfigured(`redis: the ${what} in \`url\` is not percent-encoded (%25 for %, %40 for @)`)
  })
