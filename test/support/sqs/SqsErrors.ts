/**
 * The errors of SQS as its JSON protocol writes them: the modelled type in the body, the older query code in a header
 * (and in the entries of batch answers). Messages are AWS's own, because clients compare them.
 */

/** An answer that is an error: thrown by the operations, written by the server, listed by batches. */
export class SqsFailure extends Error {
  readonly type: string
  readonly code: string
  readonly status: number
  constructor(type: string, code: string, message: string, status = 400) {
    super(message)
    this.type = type
    this.code = code
    this.status = status
  }
}

const modelled = (name: string, message: string, code = `AWS.SimpleQueueService.${name}`) =>
  new SqsFailure(`com.amazonaws.sqs#${name}`, code, message)

export const missingQueue = () =>
  modelled("QueueDoesNotExist", "The specified queue does not exist.", "AWS.SimpleQueueService.NonExistentQueue")

export const invalidParameter = (message: string) =>
  new SqsFailure("com.amazon.coral.service#InvalidParameterValueException", "InvalidParameterValue", message)

export const missingParameter = (name: string) =>
  new SqsFailure(
    "com.amazon.coral.service#MissingRequiredParameterException",
    "MissingParameter",
    `The request must contain the parameter ${name}.`
  )

export const invalidHandle = (handle: string) =>
  new SqsFailure(
    "com.amazonaws.sqs#ReceiptHandleIsInvalid",
    "ReceiptHandleIsInvalid",
    `The input receipt handle "${handle}" is not a valid receipt handle.`,
    404
  )

export const expiredHandle = (handle: string) =>
  invalidParameter(`Value ${handle} for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired.`)

export const noLongerThere = (handle: string) =>
  invalidParameter(
    `Value ${handle} for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not available for ` +
      "visibility timeout change."
  )

export const notInflight = () =>
  modelled("MessageNotInflight", "Message does not exist or is not available for visibility timeout change.")

export const heldTooLong = () =>
  invalidParameter("Total VisibilityTimeout for the message is beyond the limit [43200 seconds]")

export const emptyBatch = () => modelled("EmptyBatchRequest", "There should be at least one entry in the request.")

export const tooManyEntries = (count: number) =>
  modelled("TooManyEntriesInBatchRequest", `Maximum number of entries per request are 10. You have sent ${count}.`)

export const invalidEntryId = () =>
  modelled(
    "InvalidBatchEntryId",
    "A batch entry id can only contain alphanumeric characters, hyphens and underscores. " +
      "It can be at most 80 letters long."
  )

export const repeatedEntryId = (id: string) => modelled("BatchEntryIdsNotDistinct", `Id ${id} repeated.`)

export const batchTooLong = () => modelled("BatchRequestTooLong", "Batch requests cannot be longer than 1048576 bytes.")

export const invalidContents = () =>
  modelled("InvalidMessageContents", "Invalid characters found.", "InvalidMessageContents")

export const unknownAttribute = (name: string) =>
  modelled("InvalidAttributeName", `Unknown Attribute ${name}.`, "InvalidAttributeName")

export const otherQueueOfThatName = (attribute: string) =>
  modelled(
    "QueueNameExists",
    `A queue already exists with the same name and a different value for attribute ${attribute}`,
    "QueueAlreadyExists"
  )

export const deletedRecently = () =>
  modelled(
    "QueueDeletedRecently",
    "You must wait 60 seconds after deleting a queue before you can create another with the same name."
  )

export const purgeInProgress = (name: string) =>
  modelled("PurgeQueueInProgress", `Only one PurgeQueue operation on ${name} is allowed every 60 seconds.`)

export const unsupported = (operation: string) =>
  modelled("UnsupportedOperation", `Operation ${operation} is not supported.`)

/** What AWS answers when an account sends too fast. */
export const throttled = () => modelled("RequestThrottled", "Rate exceeded", "RequestThrottled")

/** Too many messages in flight (120,000). */
export const overLimit = () => modelled("OverLimit", "Too many messages in flight.", "OverLimit")

/** A 5xx: the server failed, and says nothing about what it did. */
export const internalFailure = (status = 500) =>
  new SqsFailure("com.amazon.coral.service#InternalFailure", "InternalFailure", "Internal failure", status)

/** A 403, as AWS writes it for missing permissions. */
export const accessDenied = () =>
  new SqsFailure(
    "com.amazon.coral.service#AccessDeniedException",
    "AccessDeniedException",
    "User is not authorized to perform this operation.",
    403
  )

export const missingResource = () =>
  modelled(
    "ResourceNotFoundException",
    "The resource that you specified for the SourceArn parameter doesn't exist.",
    "ResourceNotFoundException"
  )
