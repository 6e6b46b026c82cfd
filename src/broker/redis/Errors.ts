/**
 * What Redis, ioredis and the network may say, in the one taxonomy of brokers. Nothing of what arrives here is passed on
 * as it is: ioredis' errors carry the command with its arguments (for AUTH, the password), and old servers repeat the
 * arguments of a command that they do not know.
 */
import { BrokerError, type BrokerReason } from "../../JobError.ts"
import { oneLine } from "../../store/ErrorText.ts"

interface Kind {
  readonly reason: BrokerReason
  /** What to do about it. */
  readonly advice: string
  readonly matches: RegExp
}

const AWAY = "hints wait in Postgres until it is back"
const UNKNOWN = "publishing or settling again is safe"

/** There is none, or it was lost before the command was sent. */
const NO_CONNECTION: Kind = {
  reason: "Unavailable",
  advice: `no connection; ${AWAY}`,
  matches:
    /isn't writeable|Connection is closed|Cluster isn't ready|Failed to refresh slots|startup nodes|ECONN|EPIPE|ETIMEDOUT|ENOTFOUND|EAI_|EHOST|ENET|socket hang up|closed before|All sentinels/i
}

/** The first match decides. Redis' own errors begin with a code; the rest is ioredis, node and TLS. */
const KINDS: ReadonlyArray<Kind> = [
  {
    reason: "Unauthorized",
    advice: "check username, password and ACL of the connection",
    matches: /^(NOAUTH|WRONGPASS|NOPERM|DENIED)\b|AUTH.*without any password|no password is set/
  },
  {
    reason: "QuotaExceeded",
    advice: "Redis is full: give it more memory, or let workers drain it",
    matches: /^OOM\b/
  },
  {
    reason: "Throttled",
    advice: "Redis is busy or starting: try again soon",
    matches: /^(BUSY|LOADING|TRYAGAIN)\b|max number of clients/
  },
  {
    reason: "Unavailable",
    advice: `this server takes no writes now; ${AWAY}`,
    matches: /^(READONLY|MASTERDOWN|CLUSTERDOWN|NOREPLICAS|MISCONF|UNBLOCKED|NOTBUSY)\b/
  },
  {
    reason: "Misconfigured",
    advice: "this is a node of a Redis Cluster: set `cluster: true`",
    matches: /^(MOVED|ASK|CROSSSLOT)\b/
  },
  {
    reason: "Misconfigured",
    advice: "something else uses these keys: choose another `prefix`",
    matches: /^WRONGTYPE\b/
  },
  {
    reason: "Misconfigured",
    advice: "Redis 7 or Valkey is needed",
    matches: /^NOPROTO\b|unknown command|Error compiling script|Unexpected engine/i
  },
  { reason: "Misconfigured", advice: "check the database number of the URL", matches: /DB index is out of range/ },
  {
    reason: "Misconfigured",
    advice: "check `rediss://`, the certificate and `tls`",
    matches: /certificate|\bCERT_|ERR_TLS|ERR_SSL|SSL routines|wrong version number|EPROTO|Hostname\/IP/i
  },
  {
    reason: "OutcomeUnknown",
    advice: UNKNOWN,
    matches: /^Command timed out|Socket timeout|max retries per request|Command aborted/i
  },
  NO_CONNECTION
]

/** What ioredis says when it did not even send a command. */
const NOT_SENT = /isn't writeable|Connection is closed|Cluster isn't ready|Failed to refresh slots/

/** The text of whatever was thrown, without arguments of commands. */
const textOf = (cause: unknown): string => {
  const text = cause instanceof Error ? cause.message : String(cause)
  const code = cause instanceof Error && "code" in cause && typeof cause.code === "string" ? cause.code : ""
  const message = text.replace(/,? ?with args beginning with:.*/s, "")
  return oneLine(message.includes(code) ? message : `${code} ${message}`)
}

const kindOf = (text: string): Kind | undefined => KINDS.find(({ matches }) => matches.test(text))

const errorOf = (operation: string, text: string, kind: Kind | undefined): BrokerError =>
  new BrokerError({
    reason: kind?.reason ?? "Unexpected",
    operation,
    message: `redis: ${kind === undefined ? text : `${text.replace(/\.$/, "")}: ${kind.advice}`}`,
    cause: new Error(text)
  })

/**
 * The typed error of something that failed. `lastConnectionError`: why there is no connection now, if there is none; it
 * explains a command that was not sent.
 */
export const toBrokerError = (operation: string, cause: unknown, lastConnectionError?: unknown): BrokerError => {
  const own = textOf(cause)
  if (lastConnectionError === undefined || !NOT_SENT.test(own)) return errorOf(operation, own, kindOf(own))
  const why = textOf(lastConnectionError)
  const kind = kindOf(why)
  // Whatever ended the connection, the outcome of a command that was not sent is known
  return errorOf(operation, why, kind?.reason === "OutcomeUnknown" ? NO_CONNECTION : kind)
}

/** Worth waiting for: nothing is wrong with the settings. */
export const mayPass = (error: BrokerError): boolean =>
  error.reason !== "Unauthorized" && error.reason !== "Misconfigured"

/** A setting that this broker cannot honour. */
export const misconfigured = (message: string): BrokerError =>
  new BrokerError({ reason: "Misconfigured", operation: "connect", message })

/** The server does not know the script (restart, `SCRIPT FLUSH`, failover): it must be sent in full. */
export const isNoScript = (cause: unknown): boolean => cause instanceof Error && cause.message.startsWith("NOSCRIPT")
