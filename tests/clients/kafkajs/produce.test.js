'use strict'
const assert = require('node:assert/strict')
const { codecs, collect, compressible, impatient, makeTopic, rejected, scenario, storedBatches, unique, waitFor } = require('./support')

const COUNT = 20

for (const [name, compression] of Object.entries(codecs)) {
  for (const acks of [0, 1, -1]) {
    scenario(`codec ${name}, acks ${acks}`, async ({ producer, consumer }) => {
      const topic = await makeTopic('codec')
      const messages = Array.from({ length: COUNT }, (_, i) => ({
        key: `k${i}`, value: compressible(i), partition: 0, timestamp: String(1000 + i), headers: { h: String(i), empty: '' },
      }))
      const answer = await (await producer()).send({ topic, messages, acks, compression })
      if (acks !== 0) assert.equal(Number(answer[0].baseOffset), 0)
      const received = await collect(await consumer({ groupId: topic }), topic)
      await waitFor(() => received.length >= COUNT, 'all messages')
      assert.deepEqual(
        received.map((m) => [m.offset, String(m.key), String(m.value), m.timestamp, String(m.headers.h), String(m.headers.empty)]),
        messages.map((m, i) => [i, m.key, m.value, m.timestamp, String(i), '']),
      )
      assert.deepEqual([...new Set(storedBatches(topic).map((b) => b.codec))], [name])
    })
  }
}

scenario('idempotent', async ({ producer }) => {
  const topic = await makeTopic('idempotent')
  const sender = await producer({ idempotent: true, maxInFlightRequests: 1 })
  for (let turn = 0; turn < 10; turn++) {
    await sender.send({ topic, messages: Array.from({ length: 7 }, (_, i) => ({ value: String(turn * 7 + i), partition: 0 })) })
  }
  const batches = storedBatches(topic)
  assert.equal(new Set(batches.map((b) => b.producer_id)).size, 1)
  assert.ok(batches[0].producer_id >= 0)
  assert.deepEqual(batches.map((b) => b.base_sequence), batches.map((_, i) => i * 7))
})

scenario('null and empty differ', async ({ producer, consumer }) => {
  const topic = await makeTopic('null')
  const sender = await producer()
  const sent = [['', ''], [null, 'v'], ['k', null]]
  await sender.send({ topic, messages: sent.map(([key, value]) => ({ key, value, partition: 0 })) })
  const received = await collect(await consumer({ groupId: topic }), topic)
  await waitFor(() => received.length === 3, 'three messages')
  const text = (buffer) => (buffer === null ? null : String(buffer))
  assert.deepEqual(received.map((m) => [text(m.key), text(m.value)]), sent)
})

scenario('message too large', async ({ producer, connect }) => {
  const topic = await makeTopic('large', 1, { 'max.message.bytes': 10000 })
  const strict = await connect(impatient.producer())
  assert.equal(await rejected(strict.send({ topic, messages: [{ value: Buffer.alloc(20000) }] })), 'MESSAGE_TOO_LARGE')
  await (await producer()).send({ topic, messages: [{ value: Buffer.alloc(9000) }] })
})

scenario('a compacted topic refuses a null key', async ({ connect }) => {
  const topic = await makeTopic('compact', 1, { 'cleanup.policy': 'compact' })
  const strict = await connect(impatient.producer())
  await assert.rejects(strict.send({ topic, messages: [{ value: 'v' }] }), (error) => error.code === 87 || /87/.test(error.message))
})

scenario('unknown and invalid topics', async ({ connect, admin }) => {
  const strict = await connect(impatient.producer({ allowAutoTopicCreation: false }))
  const name = unique('unknown')
  assert.equal(await rejected(strict.send({ topic: name, messages: [{ value: 'v' }] })), 'UNKNOWN_TOPIC_OR_PARTITION')
  assert.ok(!(await (await admin()).listTopics()).includes(name))
  assert.equal(await rejected(strict.send({ topic: 'no such name!', messages: [{ value: 'v' }] })), 'INVALID_TOPIC_EXCEPTION')
})

scenario('auto-create', async ({ producer, admin }) => {
  const topic = unique('auto')
  await (await producer({ allowAutoTopicCreation: true })).send({ topic, messages: [{ key: 'k', value: 'v' }] })
  const { topics } = await (await admin()).fetchTopicMetadata({ topics: [topic] })
  assert.equal(topics[0].partitions.length, 2)
})
