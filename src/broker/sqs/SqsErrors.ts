/**
 * From what the SDK throws, and what SQS writes into the entries of a batch answer, to `BrokerError`. Compared by name
 * and code, never by class: the SDK may be another copy. What is kept of the original is a plain record of its name, code,
 * status and request id: the message of a refused signature repeats the request's headers, session token included.
 */
import { BrokerError, type BrokerReason } from "../../JobError.ts"
import { oneLine } from "../../store/ErrorText.ts"

/** What SQS says, as far as it matters. */
interface Facts {
  readonly name: string
  readonly code: string | undefined
  readonly message: string
  readonly status: number | undefined
  readonly requestId: string | undefined
}

const reasons: ReadonlyMap<string, BrokerReason> = new Map<string, BrokerReason>([
  ...each("QueueNotFound", ["QueueDoesNotExist", "NonExistentQueue", "QueueDeletedRecently", "InvalidAddress"]),
  ...each("Throttled", [
    "RequestThrottled",
    "RequestThrottledException",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "SlowDown",
    "KmsThrottled",
    "PurgeQueueInProgress"
  ]),
  ...each("QuotaExceeded", ["OverLimit"]),
  ...each("Unauthorized", [
    "AccessDenied",
    "AccessDeniedException",
    "AuthFailure",
    "CredentialsProviderError",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "InvalidSecurity",
    "InvalidSignatureException",
    "KmsAccessDenied",
    "MissingAuthenticationToken",
    "NotAuthorized",
    "OptInRequired",
    "RequestExpired",
    "SignatureDoesNotMatch",
    "TokenProviderError",
    "UnrecognizedClientException"
  ]),
  ...each("MessageRejected", [
    "InvalidMessageContents",
    "BatchRequestTooLong",
    "InvalidParameterValue",
    "MissingParameter"
  ]),
  ...each("Unsupported", ["UnsupportedOperation"]),
  ...each("Misconfigured", [
    "KmsDisabled",
    "KmsInvalidKeyUsage",
    "KmsInvalidState",
    "KmsNotFound",
    "KmsOptInRequired",
    "EndpointError",
    "ERR_INVALID_URL"
  ]),
  ...each("Unavailable", [
    "EAI_AGAIN",
    "ECONNABORTED",
    "ECONNREFUSED",
    "ECONNRESET",
    "EHOSTUNREACH",
    "ENETUNREACH",
    "ENOTFOUND",
    "EPIPE",
    "ERR_SOCKET_CONNECTION_TIMEOUT",
    "InternalError",
    "InternalFailure",
    "ServiceUnavailable"
  ]),
  ...each("OutcomeUnknown", ["ETIMEDOUT", "ESOCKETTIMEDOUT", "RequestTimeout", "TimeoutError", "AbortError"])
])

function each(reason: BrokerReason, names: ReadonlyArray<string>): ReadonlyArray<readonly [string, BrokerReason]> {
  return names.map((name) => [name, reason])
}

const advice: Readonly<Record<BrokerReason, string>> = {
  Unavailable: "SQS cannot be reached or failed; no job is lost, hints are published again",
  Throttled: "SQS takes no more requests for the moment; it is tried again later",
  QuotaExceeded: "too many messages are in flight in this queue; ack or release some, or ask AWS for a higher quota",
  QueueNotFound: "create the queue, or correct `queueUrl`, `queueUrls`, the region or the endpoint",
  Unauthorized:
    "check the credentials, the clock and the policy: it needs sqs:SendMessage, ReceiveMessage, DeleteMessage, " +
    "ChangeMessageVisibility and GetQueueAttributes, and the key's permissions where the queue is encrypted",
  MessageRejected: "SQS does not take this message or parameter",
  OutcomeUnknown: "no answer came in time, it may have happened; trying again is safe",
  Unsupported: "this queue does not support the operation",
  Misconfigured: "correct the SDK's configuration (`client`, or AWS_REGION and the like) or the queue's",
  Unexpected: "this answer is not known to polyqueue"
}

/** What the SDK threw while it tried `operation` on a queue. */
export const fromThrown = (operation: string, queue: string, thrown: unknown): BrokerError => {
  const facts = factsOf(thrown)
  return make(operation, queue, reasonOf(facts), facts)
}

/** What became of an entry of a batch that SQS did not accept: `undefined` when the receipt is of the past. */
export const fromEntry = (
  operation: string,
  queue: string,
  entry: {
    readonly Code?: string | undefined
    readonly Message?: string | undefined
    readonly SenderFault?: boolean | undefined
  }
): BrokerError | undefined => {
  const code = oneLine(strip(entry.Code ?? "Unknown"))
  const message = oneLine(entry.Message ?? "")
  if (isLeaseLost(code, message)) return undefined
  const facts: Facts = { name: code, code: entry.Code, message, status: undefined, requestId: undefined }
  const reason = reasons.get(code) ?? (entry.SenderFault === false ? "Unavailable" : "Unexpected")
  return make(operation, queue, reason, facts)
}

/** No answer within our own deadline. */
export const overdue = (operation: string, queue: string, millis: number): BrokerError =>
  make(operation, queue, "OutcomeUnknown", {
    name: "DeadlineExceeded",
    code: undefined,
    message: `no answer within ${millis} ms`,
    status: undefined,
    requestId: undefined
  })

/** Nothing is wrong with the request, and nothing was done: worth another try at once. */
export const isTransient = (error: BrokerError): boolean =>
  error.reason === "Unavailable" || error.reason === "Throttled"

const expired = /receipt handle has expired|does not exist or is not available|beyond the limit/i

const isLeaseLost = (code: string, message: string): boolean =>
  code === "MessageNotInflight" ||
  code === "ReceiptHandleIsInvalid" ||
  (code === "InvalidParameterValue" && expired.test(message))

const make = (operation: string, queue: string, reason: BrokerReason, facts: Facts): BrokerError => {
  // A refused signature quotes what was signed
  const said = reason === "Unauthorized" ? "" : facts.message.slice(0, 300).replace(/\.$/, "")
  return new BrokerError({
    reason,
    operation,
    message:
      `SQS ${operation}${queue === "" ? "" : ` on queue "${queue}"`} failed with ${facts.name}` +
      `${said === "" ? "" : ` (${said})`}: ${advice[reason]}`,
    cause: { name: facts.name, code: facts.code, status: facts.status, requestId: facts.requestId }
  })
}

const reasonOf = (facts: Facts): BrokerReason => {
  const known = (facts.code === undefined ? undefined : reasons.get(strip(facts.code))) ?? reasons.get(facts.name)
  // The SDK names connection time-outs like those of answers
  if (known === "OutcomeUnknown" && /without establishing a connection/.test(facts.message)) return "Unavailable"
  if (known !== undefined) return known
  if (/region is missing/i.test(facts.message)) return "Misconfigured"
  if (/socket hang up/i.test(facts.message)) return "Unavailable"
  const status = facts.status ?? 0
  if (status >= 500) return "Unavailable"
  if (status === 429) return "Throttled"
  if (status === 401 || status === 403) return "Unauthorized"
  return "Unexpected"
}

const strip = (code: string): string => code.replace(/^(AWS\.SimpleQueueService\.|.*#)/, "")

const vague = new Set(["Error", "TypeError", "AggregateError", "TimeoutError"])

const factsOf = (thrown: unknown): Facts => {
  const error = recordOf(thrown)
  const metadata = recordOf(error["$metadata"])
  const code = textOf(error["code"]) ?? textOf(error["Code"])
  const name = textOf(error["name"]) ?? "Unknown"
  return {
    // Node's errors have names that say little, and the SDK calls a reset connection a TimeoutError
    name: oneLine(strip(code !== undefined && vague.has(name) ? code : name)),
    code,
    message: oneLine(textOf(error["message"]) ?? ""),
    status: typeof metadata["httpStatusCode"] === "number" ? metadata["httpStatusCode"] : undefined,
    requestId: textOf(metadata["requestId"])
  }
}

const recordOf = (value: unknown): Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null ? (value as Readonly<Record<string, unknown>>) : {}

const textOf = (value: unknown): string | undefined => (typeof value === "string" && value !== "" ? value : undefined)
