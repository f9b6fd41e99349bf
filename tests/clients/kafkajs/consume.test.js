'use strict'
const assert = require('node:assert/strict')
const { ConfigResourceTypes } = require('kafkajs')
const { collect, makeTopic, scenario, waitFor } = require('./support')

function numbered(count, from = 0) {
  return Array.from({ length: count }, (_, i) => ({ value: String(from + i), partition: 0 }))
}

scenario('from the beginning, from an offset, from the end', async ({ producer, consumer }) => {
  const topic = await makeTopic('where')
  const sender = await producer()
  await sender.send({ topic, messages: numbered(10) })
  const reader = await consumer({ groupId: topic })
  const received = await collect(reader, topic)
  await waitFor(() => received.length === 10, 'all from the beginning')
  reader.seek({ topic, partition: 0, offset: '7' })
  await waitFor(() => received.length === 13, 'all from offset 7')
  assert.deepEqual(received.slice(10).map((m) => m.offset), [7, 8, 9])
  const late = await consumer({ groupId: `${topic}.late` })
  const fresh = []
  await late.subscribe({ topics: [topic], fromBeginning: false })
  let joined = false
  late.on(late.events.GROUP_JOIN, () => (joined = true))
  let fetched = false
  late.on(late.events.FETCH, () => (fetched = joined))
  await late.run({ eachMessage: async ({ message }) => void fresh.push(Number(message.offset)) })
  await waitFor(() => fetched, 'a first fetch at the end')
  await sender.send({ topic, messages: numbered(1, 10) })
  await waitFor(() => fresh.length === 1, 'the new message')
  assert.deepEqual(fresh, [10])
})

scenario('a message above maxBytes is still returned', async ({ producer, consumer }) => {
  const topic = await makeTopic('max-bytes')
  const sender = await producer()
  for (let i = 0; i < 5; i++) await sender.send({ topic, messages: [{ value: Buffer.alloc(50000), partition: 0 }] })
  const received = await collect(await consumer({ groupId: topic, maxBytes: 1000, maxBytesPerPartition: 1000 }), topic)
  await waitFor(() => received.length === 5, 'five messages')
})

scenario('pause and resume', async ({ producer, consumer }) => {
  const topic = await makeTopic('pause', 2)
  const sender = await producer()
  const reader = await consumer({ groupId: topic })
  const received = await collect(reader, topic)
  await sender.send({ topic, messages: [{ value: 'a', partition: 0 }, { value: 'b', partition: 1 }] })
  await waitFor(() => received.length === 2, 'both partitions')
  reader.pause([{ topic, partitions: [0] }])
  await sender.send({ topic, messages: [{ value: 'c', partition: 0 }, { value: 'd', partition: 1 }] })
  await waitFor(() => received.length === 3, 'the partition that is not paused')
  assert.equal(String(received[2].value), 'd')
  reader.resume([{ topic, partitions: [0] }])
  await waitFor(() => received.length === 4, 'the resumed partition')
  assert.equal(String(received[3].value), 'c')
})

for (const readUncommitted of [true, false]) {
  scenario(`isolation, readUncommitted ${readUncommitted}`, async ({ producer, consumer }) => {
    const topic = await makeTopic('isolation')
    await (await producer({ idempotent: true })).send({ topic, messages: numbered(20) })
    const received = await collect(await consumer({ groupId: topic, readUncommitted }), topic)
    await waitFor(() => received.length === 20, 'twenty messages')
  })
}

scenario('offsets by time', async ({ producer, admin }) => {
  const topic = await makeTopic('time')
  const sender = await producer()
  for (const timestamp of ['1000', '2000', '3000']) {
    await sender.send({ topic, messages: [{ value: 'v', partition: 0, timestamp }] })
  }
  const client = await admin()
  const at = async (time) => Number((await client.fetchTopicOffsetsByTimestamp(topic, time))[0].offset)
  assert.equal(await at(1500), 1)
  assert.equal(await at(3000), 2)
  assert.equal(await at(3001), 3) // nothing so late: the end
})

scenario('deleted records are skipped over', async ({ producer, consumer, admin }) => {
  const topic = await makeTopic('delete-records')
  await (await producer()).send({ topic, messages: numbered(10) })
  const client = await admin()
  await client.fetchTopicOffsets(topic) // kafkajs deletes records only of topics it has metadata of
  await client.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '6' }] })
  assert.deepEqual(await client.fetchTopicOffsets(topic), [{ partition: 0, offset: '10', high: '10', low: '6' }])
  const received = await collect(await consumer({ groupId: topic }), topic)
  await waitFor(() => received.length === 4, 'what is left')
  assert.deepEqual(received.map((m) => m.offset), [6, 7, 8, 9])
  const { resources } = await client.describeConfigs({ includeSynonyms: true, resources: [{ type: ConfigResourceTypes.TOPIC, name: topic }] })
  assert.equal(resources[0].errorCode, 0)
})
