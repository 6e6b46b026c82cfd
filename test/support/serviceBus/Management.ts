/**
 * The request-response side of an emulated queue, `<entity>/$management`: renew-lock, schedule and cancel, peek, deferred
 * messages, settlement of deliveries whose link is gone. Wire names are those of Microsoft's AMQP protocol guide.
 */
import { randomUUID } from "node:crypto"
import rhea from "rhea"
import { type Disposition, type EmulatedQueue, lockLost, type Refusal } from "./EmulatedQueue.ts"

/** What is answered to a request. */
export interface Reply {
  readonly status: number
  readonly description: string
  readonly body?: unknown
  readonly condition?: string
}

const { message: codec, types } = rhea

/** Longs come as numbers, or as eight bytes. */
const number = (value: unknown): number =>
  Buffer.isBuffer(value) ? Number(value.readBigInt64BE()) : Number(value as number)

const ok = (body?: object): Reply => ({
  status: 200,
  description: "OK",
  ...(body === undefined ? {} : { body: types.wrap_map(body) })
})
const refused = (status: number, { condition, description }: Refusal): Reply => ({ status, description, condition })
const messageNotFound: Refusal = {
  condition: "com.microsoft:message-not-found",
  description: "The message was not found: it was delivered, cancelled or never existed."
}

const outcomes: Record<string, Disposition["how"]> = {
  completed: "complete",
  abandoned: "abandon",
  defered: "defer",
  suspended: "deadLetter"
}

/** Answers one request to a queue's management address. */
export const answer = (queue: EmulatedQueue, operation: string, body: Record<string, any>): Reply => {
  switch (operation) {
    case "com.microsoft:renew-lock": {
      const expirations: Array<number> = []
      for (const token of body["lock-tokens"]) {
        const until = queue.renew(rhea.uuid_to_string(token))
        if (until === undefined) return refused(410, lockLost)
        expirations.push(until)
      }
      return ok({ expirations: types.wrap_array(expirations, 0x83, undefined) })
    }
    case "com.microsoft:schedule-message": {
      const sequences = body.messages.map((entry: { message: Buffer }) => {
        const amqp = codec.decode(entry.message) as Record<string, any>
        return queue.schedule(amqp, +amqp.message_annotations["x-opt-scheduled-enqueue-time"])
      })
      return ok({ "sequence-numbers": types.wrap_array(sequences, 0x81, undefined) })
    }
    case "com.microsoft:cancel-scheduled-message": {
      const known = body["sequence-numbers"].map(number)
      if (known.some((sequence: number) => !queue.scheduled.has(sequence))) return refused(404, messageNotFound)
      for (const sequence of known) queue.cancel(sequence)
      return ok()
    }
    case "com.microsoft:peek-message": {
      const found = queue.peek(number(body["from-sequence-number"]), number(body["message-count"]))
      if (found.length === 0) return { status: 204, description: "No content" }
      return ok({
        messages: types.wrap_list(found.map((encoded) => types.wrap_map({ message: types.wrap_binary(encoded) })))
      })
    }
    case "com.microsoft:receive-by-sequence-number": {
      const messages: Array<unknown> = []
      for (const sequence of body["sequence-numbers"]) {
        const message = queue.takeDeferred(number(sequence))
        if (message === undefined) return refused(404, messageNotFound)
        const token = randomUUID()
        messages.push(
          types.wrap_map({
            "lock-token": types.wrap_uuid(rhea.string_to_uuid(token)),
            message: types.wrap_binary(queue.encode(message, queue.lock(token, message), 1))
          })
        )
      }
      return ok({ messages: types.wrap_list(messages) })
    }
    case "com.microsoft:update-disposition": {
      for (const token of body["lock-tokens"]) {
        const refusal = queue.settle(rhea.uuid_to_string(token), {
          how: outcomes[body["disposition-status"]] ?? "abandon",
          reason: body["deadletter-reason"],
          description: body["deadletter-description"],
          properties: body["properties-to-modify"]
        })
        if (refusal !== undefined) return refused(410, refusal)
      }
      return ok()
    }
    default:
      return refused(501, { condition: "amqp:not-implemented", description: `not implemented: ${operation}` })
  }
}
