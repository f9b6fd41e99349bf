'use strict'
const assert = require('node:assert/strict')
const { spawn } = require('node:child_process')
const { bootstrap, broker, collect, makeTopic, scenario, waitFor } = require('./support')

// A member that notes its current assignment.
async function join(make, groupId, topic, options = {}) {
  const consumer = await make({ groupId, rebalanceTimeout: 5000, ...options })
  const member = { consumer, owned: [] }
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => (member.owned = payload.memberAssignment[topic] || []))
  member.received = await collect(consumer, topic, { autoCommit: false })
  return member
}

async function settle(members, expected) {
  await waitFor(() => {
    const shares = members.map((m) => m.owned)
    const all = new Set(shares.flat())
    const total = expected.reduce((a, b) => a + b, 0)
    return all.size === total && shares.flat().length === total && String(shares.map((s) => s.length).sort()) === String([...expected].sort())
  }, `shares of ${expected}`, 30000)
}

scenario('join, share and leave', async ({ consumer }) => {
  const topic = await makeTopic('share', 4)
  const first = await join(consumer, topic, topic)
  await settle([first], [4])
  const second = await join(consumer, topic, topic)
  await settle([first, second], [2, 2])
  await second.consumer.stop()
  await settle([first], [4])
})

scenario('a killed member is replaced after its session timeout', async ({ consumer }) => {
  const topic = await makeTopic('killed', 2)
  const script = `
    const { Kafka } = require('kafkajs')
    const consumer = new Kafka({ brokers: ['${bootstrap}'], logLevel: 0 }).consumer({ groupId: '${topic}', sessionTimeout: 2000, heartbeatInterval: 300 })
    consumer.on(consumer.events.GROUP_JOIN, () => console.log('joined'))
    consumer.subscribe({ topics: ['${topic}'] }).then(() => consumer.run({ eachMessage: async () => {} }))`
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'ignore'] })
  try {
    await new Promise((resolve) => child.stdout.once('data', resolve))
    const member = await join(consumer, topic, topic)
    await settle([member], [1])
    child.kill('SIGKILL')
    await settle([member], [2])
  } finally {
    child.kill('SIGKILL')
  }
})

scenario('commits with metadata, and resuming from them', async ({ producer, consumer, admin }) => {
  const topic = await makeTopic('commit')
  await (await producer()).send({ topic, messages: Array.from({ length: 10 }, (_, i) => ({ value: String(i), partition: 0 })) })
  const first = await join(consumer, topic, topic)
  await waitFor(() => first.received.length === 10, 'ten messages')
  await first.consumer.commitOffsets([{ topic, partition: 0, offset: '4', metadata: 'so far' }])
  const client = await admin()
  const [found] = await client.fetchOffsets({ groupId: topic, topics: [topic] })
  assert.deepEqual(found.partitions, [{ partition: 0, offset: '4', metadata: 'so far' }])
  await first.consumer.stop()
  const second = await join(consumer, topic, topic)
  await waitFor(() => second.received.length === 6, 'the rest')
  assert.equal(second.received[0].offset, 4)
})

for (const how of ['restart', 'crash']) {
  scenario(`the broker goes away and comes back: ${how}`, async ({ producer, consumer, admin }) => {
    const topic = await makeTopic(how)
    const sender = await producer({ idempotent: true })
    const send = (value) => sender.send({ topic, messages: [{ value, partition: 0 }] })
    await send('before')
    const member = await join(consumer, topic, topic, { sessionTimeout: 45000 })
    await waitFor(() => member.received.length === 1, 'the first message')
    await member.consumer.commitOffsets([{ topic, partition: 0, offset: '1', metadata: 'kept' }])
    broker(how)
    await send('after')
    await waitFor(() => member.received.some((m) => String(m.value) === 'after'), 'the second message', 40000)
    const client = await admin()
    const kept = async () => (await client.fetchOffsets({ groupId: topic, topics: [topic] }))[0].partitions[0].metadata === 'kept'
    await waitFor(kept, 'the commit')
  }, { control: true })
}
