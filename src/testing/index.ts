/**
 * The test kit (`polyqueue/testing`): an in-memory Polyqueue on the test's clock, and a simulator that runs handlers in a fleet
 * and breaks it. The contract suites for authors of
 * brokers, stores and registries are in `polyqueue/testing/contracts`, because they need a test runner.
 */
export { type Drained, type Enqueued, PolyqueueTest } from "./PolyqueueTest.ts"
export * as Simulator from "./Simulator.ts"
