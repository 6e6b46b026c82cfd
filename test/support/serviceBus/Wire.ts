/** What the local Service Bus puts on the wire in Service Bus' own way, and what it must reach inside rhea for it. */
import { randomUUID } from "node:crypto"
import rhea, { type Receiver, type Sender } from "rhea"
import type { Refusal } from "./EmulatedQueue.ts"
import type { Reply } from "./Management.ts"

/** A lock token as the SDK expects it in a delivery tag: the first three groups of the GUID in .NET's byte order. */
export const deliveryTag = (token: string): Buffer => {
  const bytes = rhea.string_to_uuid(token) as unknown as Buffer
  return Buffer.from([...[3, 2, 1, 0, 5, 4, 7, 6].map((index) => bytes[index]!), ...bytes.subarray(8)])
}

/** What rhea does not type: the fields of a link that a server must touch. */
export interface Link {
  readonly local: { readonly attach: Record<string, unknown> }
  credit: number
  _draining: boolean
  _drained: boolean
  _get_drain: () => boolean
  delivery_count: number
}
/** A link with what rhea does not type. */
export const internals = (link: Sender | Receiver): Link => link as unknown as Link

/** Makes a drain be answered also when the last credit went to a message: rhea would answer without the flag. */
export const drainable = (sender: Sender): void => {
  const link = internals(sender)
  link._get_drain = () => {
    if (!link._draining || !link._drained) return false
    link.delivery_count += link.credit
    link.credit = 0
    return true
  }
}

/** The refusal of an unknown address; the SDK knows it by its words. */
export const notFound = (address: string | undefined): Refusal => ({
  condition: "amqp:not-found",
  description: `The messaging entity 'sb://local/${address}' could not be found. TrackingId:${randomUUID()}`
})

/** The same, as an answer to a management request. */
export const missing = (entity: string): Reply => ({
  status: 404,
  description: notFound(entity).description,
  condition: "amqp:not-found"
})
