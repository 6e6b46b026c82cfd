/**
 * What the SDK throws, put into our taxonomy by its `code`, never by the words of its message: the words change with
 * the service, the codes are its API. Of a thrown value only name, code and message survive, with secrets taken out.
 */
import * as Data from "effect/Data"
import { BrokerError, type BrokerReason } from "../../JobError.ts"
import { messageOf, oneLine } from "../../store/ErrorText.ts"

/** The lock of a delivery ended, or its message is gone: an answer about one item, not a failure of the broker. */
export class LockLost extends Data.TaggedError("polyqueue/LockLost")<{ readonly message: string }> {}

/** Both vocabularies of the SDK: `ServiceBusError.code`, and below it `MessagingError.code` where it is not translated. */
const reasons: Readonly<Record<string, BrokerReason | "LockLost">> = {
  MessageLockLost: "LockLost",
  MessageLockLostError: "LockLost",
  MessageNotFound: "LockLost",
  MessageNotFoundError: "LockLost",
  SessionLockLost: "LockLost",
  SessionLockLostError: "LockLost",
  MessagingEntityNotFound: "QueueNotFound",
  MessagingEntityNotFoundError: "QueueNotFound",
  MessageSizeExceeded: "MessageRejected",
  MessageTooLargeError: "MessageRejected",
  QuotaExceeded: "QuotaExceeded",
  QuotaExceededError: "QuotaExceeded",
  ServiceBusy: "Throttled",
  ServerBusyError: "Throttled",
  ServiceTimeout: "OutcomeUnknown",
  OperationTimeoutError: "OutcomeUnknown",
  ServiceUnavailableError: "OutcomeUnknown",
  UnauthorizedAccess: "Unauthorized",
  UnauthorizedError: "Unauthorized",
  ServiceCommunicationProblem: "Unavailable",
  ServiceCommunicationError: "Unavailable",
  MessagingEntityDisabled: "Unavailable",
  MessagingEntityDisabledError: "Unavailable",
  InternalServerError: "Unavailable",
  ConnectionForcedError: "Unavailable",
  DetachForcedError: "Unavailable",
  SenderBusyError: "Unavailable",
  SenderNotReadyError: "Unavailable",
  InsufficientCreditError: "Unavailable",
  MessagingEntityAlreadyExists: "Unexpected",
  SessionCannotBeLocked: "Unexpected"
}

/** Errors that have a name of their own instead of a code: those of credentials, and of a closed link. */
const reasonsByName: Readonly<Record<string, BrokerReason>> = {
  AuthenticationError: "Unauthorized",
  AuthenticationRequiredError: "Unauthorized",
  AggregateAuthenticationError: "Unauthorized",
  CredentialUnavailableError: "Unauthorized",
  AbortError: "Unavailable"
}

const advice: Readonly<Record<BrokerReason, string>> = {
  Unavailable: "the service cannot be reached or closed the connection; it is tried again",
  Throttled: "the namespace is busy; it is tried again later, a larger tier or fewer clients help",
  QuotaExceeded: "a quota of the namespace is used up: let workers catch up, or raise it",
  QueueNotFound: "create the queue in the namespace, or correct its name",
  Unauthorized: "check the key or the roles of the credential: Send for producers, Listen for workers",
  MessageRejected: "the message is larger than the queue allows",
  OutcomeUnknown: "no answer in time: it may have happened or not, and may be done again",
  Unsupported: "the service cannot do this",
  Misconfigured: "correct the options of the layer",
  Unexpected: "this is not expected here; if the queue requires sessions, use one that does not"
}

/** Reads a property of a thrown value of any shape. */
const read = (thrown: unknown, property: string): unknown =>
  typeof thrown === "object" && thrown !== null ? Reflect.get(thrown, property) : undefined

/** Which of ours a thrown value of the SDK is. */
export const reasonOf = (thrown: unknown): BrokerReason | "LockLost" => {
  if (thrown instanceof AggregateError && thrown.errors.length > 0) return reasonOf(thrown.errors[0])
  // Sockets: the SDK overwrites their code with "GeneralError", so this comes first
  if (typeof read(thrown, "syscall") === "string") return "Unavailable"
  const named = reasonsByName[String(read(thrown, "name"))]
  if (named !== undefined) return named
  const code = read(thrown, "code")
  // What the SDK has no code for. Of these, `retryable` tells what the service or the network did from what we asked
  if (code === "GeneralError") return read(thrown, "retryable") === true ? "Unavailable" : "Unexpected"
  return typeof code === "string" ? (reasons[code] ?? "Unexpected") : "Unexpected"
}

/** Turns a thrown value of the SDK into one of our errors, in one line. `redact` takes secrets out of text. */
export const from = (
  operation: string,
  entity: string,
  thrown: unknown,
  redact: (text: string) => string
): BrokerError | LockLost => {
  const reason = reasonOf(thrown)
  const clean = (text: string) => oneLine(redact(text))
  const words = clean(messageOf(thrown))
  if (reason === "LockLost") return new LockLost({ message: words })
  const rawCode = read(thrown, "code")
  const code = typeof rawCode === "string" ? clean(rawCode) : undefined
  const told = `${operation} on Service Bus queue "${entity}" failed`
  return new BrokerError({
    reason,
    operation,
    message: `${told}: ${advice[reason]} (${code === undefined ? "" : `${code}: `}${words})`,
    cause: Object.assign(new Error(words), { name: clean(String(read(thrown, "name") ?? "Error")), code })
  })
}

/** An error of ours that no thrown value stands behind. */
export const make = (reason: BrokerReason, operation: string, message: string): BrokerError =>
  new BrokerError({ reason, operation, message })
