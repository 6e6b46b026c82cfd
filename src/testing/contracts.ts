/**
 * The contract suites (`polyqueue/testing/contracts`): call the suite of what you implement in a test file of vitest, with
 * a layer of your implementation. Needs `vitest` and `@effect/vitest`.
 */
export * as BrokerContract from "./BrokerContract.ts"
export * as JobStoreContract from "./JobStoreContract.ts"
export * as WorkerRegistryContract from "./WorkerRegistryContract.ts"
