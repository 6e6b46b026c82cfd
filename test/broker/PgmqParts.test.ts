/** The parts of the PGMQ broker that need no database: names, receipts, and what errors are called. */
import { assert, describe, it } from "@effect/vitest"
import { SqlError } from "effect/sql"
import * as Failure from "../../src/broker/pgmq/Failure.ts"
import * as QueueName from "../../src/broker/pgmq/QueueName.ts"
import * as Receipt from "../../src/broker/pgmq/Receipt.ts"

describe("QueueName", () => {
  it.each([
    ["default", "polyqueue"],
    ["mail", "polyqueue__mail"],
    ["mail_2", "polyqueue__mail_2"],
    ["_", "polyqueue___"]
  ])("%s is %s", (queue, name) => {
    assert.strictEqual(QueueName.pgmqQueue("polyqueue", queue), name)
  })

  const odd = ["Mail", "mail ", "é", "mail-2", "a;b", "a--b", "a$b", "a'b", 'a"b', "", "x".repeat(200), "x".repeat(201)]
  const bases = ["polyqueue", "a", "b-c", "x".repeat(28)]

  it("fits what pgmq accepts, in lower case, whatever the queue is called", () => {
    for (const base of bases) {
      for (const queue of [...odd, "default", "mail"]) {
        assert.match(QueueName.pgmqQueue(base, queue), /^(?!.*--)[a-z0-9_-]{1,47}$/, queue)
      }
    }
  })

  it("never gives two queues or two bases one name", () => {
    const queues = [...odd, "default", "mail", "MAIL", "a", "a__b", "__b", "b", "b__default", "b-c", "_a"]
    const names = ["a", "a_b", "b-c", "polyqueue"].flatMap((base) =>
      queues.map((queue) => QueueName.pgmqQueue(base, queue))
    )
    assert.strictEqual(new Set(names).size, names.length)
  })

  it.each(["", "A", "1a", "_a", "a_", "a__b", "a--b", "a$", "a b", "a;b", "x".repeat(29)])(
    "refuses the base %j",
    (base) => {
      assert.isFalse(QueueName.isBase(base))
    }
  )

  it.each([...bases, "a_b-c", "jobs2"])("takes the base %s", (base) => {
    assert.isTrue(QueueName.isBase(base))
  })
})

describe("Receipt", () => {
  it("decodes what it encoded", () => {
    const receipt = { id: "9223372036854775807", reads: 2_147_483_647, born: "1795000000000000" }
    assert.deepStrictEqual(Receipt.decode("a__b-c", Receipt.encode("a__b-c", receipt)), receipt)
  })

  it.each([
    "",
    "1.1.1",
    "a:1",
    "a:1.1",
    "a:1.1.1.1",
    "a:a.1.1",
    "a:-1.1.1",
    "b:1.1.1",
    "a:9223372036854775808.1.1",
    "a:1.2147483648.1",
    "a:1.1.9999999999999999999"
  ])("%j owns nothing in the queue a", (text) => {
    assert.isUndefined(Receipt.decode("a", text))
  })
})

describe("Failure", () => {
  const SECRET = "what the row holds"
  const reported = (code: string | undefined, message: string) =>
    new SqlError.SqlError({
      reason: new SqlError.UnknownError({
        cause: Object.assign(new Error(message), { code }),
        message: "PgConnection: query failed",
        operation: "query"
      })
    })

  it.each([
    ["42P01", 'relation "pgmq.q_mail" does not exist', "QueueNotFound"],
    ["42P01", 'relation "pgmq.a_mail" does not exist', "Misconfigured"],
    ["42P01", 'relation "pgmq.meta" does not exist', "Misconfigured"],
    ["3F000", 'schema "pgmq" does not exist', "Misconfigured"],
    ["3D000", 'database "x" does not exist', "Misconfigured"],
    ["42883", "function pgmq.send_batch(text, jsonb[]) does not exist", "Misconfigured"],
    ["42703", 'column "vt" does not exist', "Misconfigured"],
    ["P0001", "queue name is too long, maximum length is 47 characters", "Misconfigured"],
    ["42501", "permission denied for schema pgmq", "Unauthorized"],
    ["28P01", "password authentication failed", "Unauthorized"],
    ["28000", "no pg_hba.conf entry", "Unauthorized"],
    ["08006", "connection failure", "Unavailable"],
    ["57P01", "terminating connection due to administrator command", "Unavailable"],
    ["57P03", "the database system is starting up", "Unavailable"],
    ["25006", "cannot execute INSERT in a read-only transaction", "Unavailable"],
    ["08007", "connection lost at commit", "OutcomeUnknown"],
    ["57014", "canceling statement due to statement timeout", "Throttled"],
    ["55P03", "canceling statement due to lock timeout", "Throttled"],
    ["40P01", "deadlock detected", "Throttled"],
    ["40001", "could not serialize access", "Throttled"],
    ["53300", "too many clients already", "Throttled"],
    ["53200", "out of memory", "Throttled"],
    ["53100", "could not extend file: No space left on device", "QuotaExceeded"],
    ["53400", "configuration limit exceeded", "QuotaExceeded"],
    ["22P05", SECRET, "MessageRejected"],
    ["23505", SECRET, "MessageRejected"],
    ["54000", SECRET, "MessageRejected"],
    ["42601", "syntax error", "Unexpected"],
    ["25P02", "current transaction is aborted", "Unexpected"],
    [undefined, SECRET, "Unexpected"]
  ])("%s (%s) is %s", (code, message, reason) => {
    const error = Failure.fromSqlError("publish", "queue mail", reported(code, message))
    assert.strictEqual(error.reason, reason)
    assert.include(error.message, "queue mail")
    assert.notInclude(`${error.message} ${JSON.stringify(error)} ${String(error.cause)}`, SECRET)
  })

  it("a connection that cannot be made is Unavailable", () => {
    const reason = new SqlError.ConnectionError({ cause: new Error("ECONNREFUSED"), message: "", operation: "connect" })
    assert.strictEqual(
      Failure.fromSqlError("receive", "queue mail", new SqlError.SqlError({ reason })).reason,
      "Unavailable"
    )
  })

  it("says how to get pgmq", () => {
    const error = Failure.fromSqlError("connect", "schema pgmq", reported("3F000", 'schema "pgmq" does not exist'))
    assert.include(error.message, "create extension pgmq")
  })
})
