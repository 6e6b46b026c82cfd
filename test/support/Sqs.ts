/**
 * Which SQS the tests talk to: the stand-in, or the server that `POLYQUEUE_TEST_SQS_ENDPOINT` names (ElasticMQ,
 * LocalStack, AWS), with region and credentials from the SDK's own variables. What only the stand-in can do (faults, its
 * log, its clock) is `server`; tests that cannot do without use `standIn`, whatever the variable says.
 */
import { CreateQueueCommand, DeleteQueueCommand, SQSClient, type SQSClientConfig } from "@aws-sdk/client-sqs"
import { Effect, type Scope } from "effect"
import { randomUUID } from "node:crypto"
import { type Options, type SqsServer, startSqs } from "./SqsServer.ts"

const external = process.env["POLYQUEUE_TEST_SQS_ENDPOINT"] ?? ""

/** Whether the tests run against the stand-in. */
export const isStandIn: boolean = external === ""

/** An SQS for one suite. */
export interface Sqs {
  readonly config: SQSClientConfig
  readonly client: SQSClient
  /** The stand-in, if it is one. */
  readonly server: SqsServer | undefined
  /** Makes a queue of a random name and answers its URL. */
  readonly createQueue: (attributes?: Record<string, string>) => Promise<string>
  readonly close: () => Promise<void>
}

const someCredentials = { accessKeyId: "AKIDTEST", secretAccessKey: "not a secret" }

/** `endpoint`: another server than the variable names; empty for the stand-in. */
export const openSqs = async (options: Options = {}, endpoint = external): Promise<Sqs> => {
  const server = endpoint === "" ? await startSqs(options) : undefined
  const inEnvironment = server === undefined && process.env["AWS_ACCESS_KEY_ID"] !== undefined
  const config: SQSClientConfig = {
    endpoint: server?.endpoint ?? endpoint,
    region: process.env["AWS_REGION"] ?? "us-east-1",
    ...(inEnvironment ? {} : { credentials: someCredentials })
  }
  const client = new SQSClient({ maxAttempts: 1, ...config })
  const made: Array<string> = []
  return {
    config,
    client,
    server,
    createQueue: async (attributes = {}) => {
      const QueueName = `polyqueue-${randomUUID()}${attributes["FifoQueue"] === "true" ? ".fifo" : ""}`
      const { QueueUrl } = await client.send(new CreateQueueCommand({ QueueName, Attributes: attributes }))
      made.push(QueueUrl!)
      return QueueUrl!
    },
    close: async () => {
      // Somebody else's server keeps queues
      if (server === undefined) {
        await Promise.all(made.map((QueueUrl) => client.send(new DeleteQueueCommand({ QueueUrl }))))
      }
      client.destroy()
      await server?.close()
    }
  }
}

/** What the variable names, for a scope. */
export const scopedSqs = (options: Options = {}): Effect.Effect<Sqs, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(() => openSqs(options)),
    (sqs) => Effect.promise(sqs.close)
  )

/** The stand-in, for a scope. */
export const standIn = (
  options: Options = {}
): Effect.Effect<Sqs & { readonly server: SqsServer }, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const sqs = await openSqs(options, "")
      return { ...sqs, server: sqs.server! }
    }),
    (sqs) => Effect.promise(sqs.close)
  )
