import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { inspect } from "node:util"
import * as Failure from "../../src/broker/serviceBus/Failure.ts"
import { loadSdk } from "../../src/broker/serviceBus/Connection.ts"

/** As the SDK throws them. */
const sdkError = (name: string, code: string, more: object = {}) =>
  Object.assign(new Error("words that say MessageLockLost and QuotaExceeded"), {
    name,
    code,
    retryable: false,
    ...more
  })
const plain = (text: string) => text

describe("errors of Service Bus are classified by code, never by the words of the message", () => {
  it.each([
    ["ServiceBusError", "MessagingEntityNotFound", "QueueNotFound"],
    ["ServiceBusError", "MessageLockLost", "LockLost"],
    ["ServiceBusError", "MessageNotFound", "LockLost"],
    ["ServiceBusError", "SessionLockLost", "LockLost"],
    ["ServiceBusError", "MessageSizeExceeded", "MessageRejected"],
    ["ServiceBusError", "QuotaExceeded", "QuotaExceeded"],
    ["ServiceBusError", "ServiceBusy", "Throttled"],
    ["ServiceBusError", "ServiceTimeout", "OutcomeUnknown"],
    ["ServiceBusError", "ServiceCommunicationProblem", "Unavailable"],
    ["ServiceBusError", "UnauthorizedAccess", "Unauthorized"],
    ["ServiceBusError", "MessagingEntityDisabled", "Unavailable"],
    ["ServiceBusError", "MessagingEntityAlreadyExists", "Unexpected"],
    ["ServiceBusError", "SessionCannotBeLocked", "Unexpected"],
    ["ServiceBusError", "GeneralError", "Unexpected"],
    ["MessagingError", "ServerBusyError", "Throttled"],
    ["MessagingError", "OperationTimeoutError", "OutcomeUnknown"],
    ["MessagingError", "UnauthorizedError", "Unauthorized"],
    ["MessagingError", "MessageTooLargeError", "MessageRejected"],
    ["MessagingError", "a code of next year", "Unexpected"]
  ])("%s %s is %s", (name, code, reason) => {
    assert.strictEqual(Failure.reasonOf(sdkError(name, code)), reason)
  })

  it.each([
    [
      "what the service or the network did",
      sdkError("ServiceBusError", "GeneralError", { retryable: true }),
      "Unavailable"
    ],
    ["a socket", sdkError("MessagingError", "GeneralError", { syscall: "connect", errno: -111 }), "Unavailable"],
    [
      "several sockets",
      new AggregateError([sdkError("MessagingError", "GeneralError", { syscall: "connect" })]),
      "Unavailable"
    ],
    ["a closed link", Object.assign(new Error("x"), { name: "AbortError" }), "Unavailable"],
    ["a credential", Object.assign(new Error("x"), { name: "CredentialUnavailableError" }), "Unauthorized"],
    ["a mistake of ours", new TypeError("x"), "Unexpected"],
    ["an error without a code", new Error("MessageLockLost"), "Unexpected"],
    ["no error at all", undefined, "Unexpected"]
  ])("%s", (_, thrown, reason) => {
    assert.strictEqual(Failure.reasonOf(thrown), reason)
  })

  it("an error says what, where and what to do, and keeps no secret of what was thrown", () => {
    const thrown = sdkError("ServiceBusError", "UnauthorizedAccess", { info: "key hush", message: "bad key hush" })
    const error = Failure.from("publish", "mail", thrown, (text) => text.replaceAll("hush", "<redacted>"))
    for (const part of ["publish", `"mail"`, "UnauthorizedAccess", "<redacted>", "Send"])
      assert.include(error.message, part)
    assert.notInclude(inspect(error, { depth: 9, showHidden: true }), "hush")
  })

  it("a lost lock is an answer about an item", () => {
    assert.strictEqual(
      Failure.from("ack", "mail", sdkError("ServiceBusError", "MessageLockLost"), plain)._tag,
      "polyqueue/LockLost"
    )
  })
})

describe("loading the SDK", () => {
  it.effect("says which package to install when it is missing", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(loadSdk(() => Promise.reject(new Error("Cannot find package"))))
      assert.strictEqual(error.reason, "Misconfigured")
      assert.include(error.message, "npm install @azure/service-bus")
    })
  )
})
