/** The connection strings of the settings: what is accepted of them, and how those of the original are understood. */

/** `ssl` of SQLAlchemy's asyncpg dialect, which the driver would ignore, as `sslmode`. */
const sslModes = new Map([
  ["true", "require"],
  ["1", "require"],
  ["false", "disable"],
  ["0", "disable"],
  ...["disable", "allow", "prefer", "require", "verify-ca", "verify-full"].map((mode) => [mode, mode] as const)
])

/**
 * A URL of Postgres for the driver; `undefined` when it is none. `postgresql+asyncpg://…?ssl=require` of the original becomes
 * `postgresql://…?sslmode=require`.
 */
export const postgres = (text: string): string | undefined => {
  const url = URL.parse(text.replace(/^(postgres(?:ql)?)\+[a-z0-9]+:/, "$1:"))
  if (url === null || !/^postgres(ql)?:$/.test(url.protocol)) return undefined
  if (url.hostname === "" && !url.searchParams.has("host")) return undefined
  if (!isDecodable(url.username) || !isDecodable(url.password) || !isDecodable(url.pathname)) return undefined
  const ssl = url.searchParams.get("ssl")
  if (ssl !== null) {
    const mode = sslModes.get(ssl.toLowerCase())
    if (mode === undefined) return undefined
    url.searchParams.delete("ssl")
    if (!url.searchParams.has("sslmode")) url.searchParams.set("sslmode", mode)
  }
  return url.href
}

/** A URL of Redis, or `undefined`. */
export const redis = (text: string): string | undefined => {
  const url = URL.parse(text)
  const fits = url !== null && /^rediss?:$/.test(url.protocol) && url.hostname !== "" && /^\/?\d*$/.test(url.pathname)
  return fits && isDecodable(url.username) && isDecodable(url.password) ? text : undefined
}

/** A connection string of Azure Service Bus, or `undefined`. */
export const serviceBus = (text: string): string | undefined =>
  /(^|;)\s*Endpoint=sb:\/\/[^;\s]+/i.test(text) && /(^|;)\s*SharedAccess(Key|Signature)=/i.test(text) ? text : undefined

/** Whether this is the URL of an SQS queue, without credentials: it is shown in logs. */
export const isSqs = (text: string): boolean => {
  const url = URL.parse(text)
  if (url === null || !/^https?:$/.test(url.protocol) || url.pathname.length < 2) return false
  return url.username === "" && url.password === "" && url.search === "" && url.hash === ""
}

/** The region in the URL of an SQS queue of AWS. */
export const sqsRegion = (text: string): string | undefined =>
  /^sqs\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?$/.exec(URL.parse(text)?.hostname ?? "")?.[1]

const isDecodable = (text: string): boolean => {
  try {
    decodeURIComponent(text)
    return true
  } catch {
    return false
  }
}
