'use strict'
// What the kafkajs suites share: a client, the codecs, topics, and waiting for a named condition.

const assert = require('node:assert/strict')
const { execFileSync } = require('node:child_process')
const { randomBytes } = require('node:crypto')
const path = require('node:path')
const { test } = require('node:test')
const { CompressionCodecs, CompressionTypes, Kafka, logLevel } = require('kafkajs')
const snappy = require('kafkajs-snappy')
const lz4 = require('lz4js')
const xxh32 = require('lz4js/xxh32')
const zstd = require('@bokuweb/zstd-wasm')

const bootstrap = process.env.OTTLA_BOOTSTRAP
const brokers = process.env.OTTLA_BROKERS.split(',').sort() // HOST:PORT of every broker
const replicationFactor = brokers.length // of the topics that tests make
const scripts = process.env.OTTLA_CLIENTS

// kafkajs has gzip built in; the others are its plug-ins' shape over codecs without native code.
CompressionCodecs[CompressionTypes.Snappy] = snappy
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async (encoder) => independentBlocks(Buffer.from(lz4.compress(encoder.buffer)), encoder.buffer.length),
  decompress: async (buffer) => Buffer.from(lz4.decompress(buffer)),
})
const zstdReady = zstd.init()
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async (encoder) => (await zstdReady, Buffer.from(zstd.compress(encoder.buffer, 3))),
  decompress: async (buffer) => (await zstdReady, Buffer.from(zstd.decompress(buffer))),
})

// Kafka accepts only LZ4 frames whose blocks are independent. lz4js claims dependent ones, although
// up to its block size of 4 MB there is a single block: set the flag, and the header checksum anew.
function independentBlocks(frame, inputLength) {
  assert.ok(inputLength <= 4 * 1024 * 1024)
  frame[4] |= 0x20
  frame[6] = (xxh32.hash(0, frame, 4, 2) >>> 8) & 0xff
  return frame
}

const codecs = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
}

const kafka = new Kafka({
  clientId: 'kafkajs-suite',
  brokers: [bootstrap],
  logLevel: logLevel.NOTHING,
  retry: { initialRetryTime: 50, maxRetryTime: 1000, retries: 20 },
})
// For what must fail: no retries, so that the first answer is the error.
const impatient = new Kafka({ clientId: 'impatient', brokers: [bootstrap], logLevel: logLevel.NOTHING, retry: { retries: 0 } })

function unique(word) {
  return `kafkajs.${word}-${randomBytes(4).toString('hex')}`
}

async function waitFor(condition, what, timeoutMs = 20000) {
  const deadline = Date.now() + timeoutMs
  for (;;) {
    const found = await condition()
    if (found) return found
    assert.ok(Date.now() < deadline, `waited ${timeoutMs} ms for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

// kafkajs wraps errors by operation: as they are, as a cause, or as one of several.
async function rejected(promise) {
  const error = await promise.then(() => assert.fail('was not refused'), (e) => e)
  const inner = error.errors?.[0] ?? error.groups?.[0].error ?? error.cause ?? error
  return inner.type ?? error.type
}

// One connected admin client per test file, closed by `scenario` when its test is done.
async function withAdmin(client, work) {
  const admin = client.admin()
  await admin.connect()
  try {
    return await work(admin)
  } finally {
    await admin.disconnect()
  }
}

const counts = { registered: 0, passed: 0, notRun: 0 }

// A test that gets helpers whose clients are all disconnected at its end. `control`: restarts the broker.
function scenario(name, body, { control = false, timeout = 60000 } = {}) {
  if (!name.includes(process.env.OTTLA_ONLY || '')) return
  if (control && !process.env.OTTLA_BROKER_STATE) {
    counts.notRun++
    return
  }
  counts.registered++
  test(name, { timeout }, async () => {
    const open = []
    const connect = async (client) => {
      await client.connect()
      open.push(client)
      return client
    }
    try {
      await body({
        admin: () => connect(kafka.admin()),
        producer: (options = {}) => connect(kafka.producer({ allowAutoTopicCreation: false, ...options })),
        consumer: (options) => connect(kafka.consumer({ sessionTimeout: 6000, heartbeatInterval: 300, maxWaitTimeInMs: 100, ...options })),
        connect,
      })
    } finally {
      for (const client of open.reverse()) await client.disconnect()
    }
    counts.passed++
  })
}

// Prints the closing line and ends the process once all tests are done. Left to itself it might
// never end: kafkajs forgets an open socket when its broker goes away while it connects.
function closeWhenDone() {
  process.on('exit', () => {
    const failed = counts.registered - counts.passed
    console.log(`${counts.passed} passed, ${failed} failed, ${counts.notRun} not run`)
    process.exitCode = failed ? 1 : 0
  })
  test('the end', () => void setTimeout(() => process.exit(), 1000).unref()) // time for the report to be written
}

async function makeTopic(word, numPartitions = 1, configs = {}) {
  const topic = unique(word)
  const configEntries = Object.entries(configs).map(([name, value]) => ({ name, value: String(value) }))
  await withAdmin(kafka, async (admin) => {
    await admin.createTopics({ topics: [{ topic, numPartitions, replicationFactor, configEntries }], waitForLeaders: true })
  })
  return topic
}

// Starts a consumer and returns the growing list of what it received.
async function collect(consumer, topic, options = {}) {
  const received = []
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  await consumer.run({
    ...options,
    eachMessage: async ({ partition, message }) => {
      received.push({ partition, ...message, offset: Number(message.offset) })
    },
  })
  return received
}

function storedBatches(topic, partition = 0) {
  const printed = execFileSync('python3', [path.join(scripts, 'batches'), bootstrap, topic, String(partition)], { encoding: 'utf8' })
  return printed.split('\n').filter(Boolean).map((line) => JSON.parse(line))
}

function broker(command) {
  execFileSync('python3', [path.join(scripts, 'broker'), command])
}

function compressible(index) {
  return `value-${String(index).padStart(8, '0')} `.repeat(30)
}

module.exports = {
  bootstrap, broker, brokers, closeWhenDone, codecs, collect, compressible, impatient, kafka, makeTopic, rejected, replicationFactor, scenario,
  storedBatches, unique, waitFor,
}
