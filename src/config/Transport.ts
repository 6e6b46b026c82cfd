/**
 * Which connections of the settings could be read on their way: those to another machine that do not insist on TLS. They are
 * warned of at start and by `doctor`, and refused under `requireTls`.
 */
import * as Redacted from "effect/Redacted"
import type { Backend, Settings } from "./Settings.ts"

/** A setting that does not insist on TLS, and what would make it. */
export interface Plain {
  readonly key: "dbUrl" | "redisUrl" | "sqsQueueUrl" | "azureSbConnectionString"
  readonly fix: string
}

/** This machine, or a socket in a folder. */
const isLocal = (host: string): boolean =>
  /^(localhost|127(\.\d{1,3}){3}|\[?::1\]?)$/i.test(host) || host.startsWith("/")

/** `prefer` and `allow` fall back to plain text when the server, or somebody in between, says that it has no TLS. */
const insists = new Set(["require", "verify-ca", "verify-full"])

const isPlainPostgres = (text: string): boolean => {
  const url = new URL(text)
  const host = url.searchParams.get("host") ?? decodeURIComponent(url.hostname)
  return !isLocal(host) && !insists.has(url.searchParams.get("sslmode") ?? "")
}

const isPlainUrl = (text: string, secure: string): boolean => {
  const url = new URL(text)
  return url.protocol !== secure && !isLocal(url.hostname)
}

/** The emulator speaks without TLS, and its host may be anything. */
const isPlainServiceBus = (text: string): boolean => {
  const host = /(?:^|;)\s*Endpoint=sb:\/\/([^/:;\s]+)/i.exec(text)?.[1] ?? ""
  return /(?:^|;)\s*UseDevelopmentEmulator=true/i.test(text) && !isLocal(host)
}

/** The connections of these settings that do not insist on TLS: the database's, and that of the backend in use. */
export const plain = (settings: Settings): ReadonlyArray<Plain> => {
  const { azureSbConnectionString, backend, dbUrl, redisUrl, sqsQueueUrl } = settings
  const uses = (one: Backend) => backend === one
  const found: Array<Plain> = []
  if (dbUrl !== undefined && isPlainPostgres(Redacted.value(dbUrl))) {
    found.push({ key: "dbUrl", fix: "add sslmode=verify-full to it" })
  }
  if (uses("redis") && redisUrl !== undefined && isPlainUrl(Redacted.value(redisUrl), "rediss:")) {
    found.push({ key: "redisUrl", fix: "begin it with rediss://" })
  }
  if (uses("sqs") && sqsQueueUrl !== undefined && isPlainUrl(sqsQueueUrl, "https:")) {
    found.push({ key: "sqsQueueUrl", fix: "begin it with https://" })
  }
  if (
    uses("azure_service_bus") &&
    azureSbConnectionString !== undefined &&
    isPlainServiceBus(Redacted.value(azureSbConnectionString))
  ) {
    found.push({ key: "azureSbConnectionString", fix: "leave out UseDevelopmentEmulator" })
  }
  return found
}
