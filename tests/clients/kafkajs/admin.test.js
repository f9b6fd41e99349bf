'use strict'
const assert = require('node:assert/strict')
const { ConfigResourceTypes } = require('kafkajs')
const { brokers, collect, impatient, makeTopic, rejected, replicationFactor, scenario, unique, waitFor } = require('./support')

scenario('create, describe, list and delete', async ({ admin }) => {
  const client = await admin()
  const topic = unique('life')
  const spec = { topics: [{ topic, numPartitions: 3, replicationFactor }], waitForLeaders: true }
  assert.equal(await client.createTopics(spec), true)
  assert.equal(await client.createTopics(spec), false) // exists already
  const { topics } = await client.fetchTopicMetadata({ topics: [topic] })
  assert.deepEqual(topics[0].partitions.map((p) => p.partitionId).sort(), [0, 1, 2])
  assert.ok(topics[0].partitions.every((p) => p.replicas.length === replicationFactor))
  assert.ok((await client.listTopics()).includes(topic))
  await client.deleteTopics({ topics: [topic] })
  await waitFor(async () => !(await client.listTopics()).includes(topic), 'the deletion')
})

scenario('invalid topics', async ({ connect }) => {
  const client = await connect(impatient.admin())
  const refused = async (topic, type) => assert.equal(await rejected(client.createTopics({ topics: [topic] })), type)
  await refused({ topic: 'no such name!' }, 'INVALID_TOPIC_EXCEPTION')
  await refused({ topic: unique('x'), numPartitions: 0 }, 'INVALID_PARTITIONS')
  await refused({ topic: unique('x'), replicationFactor: 9 }, 'INVALID_REPLICATION_FACTOR')
  await refused({ topic: unique('x'), configEntries: [{ name: 'no.such', value: '1' }] }, 'INVALID_CONFIG')
  assert.equal(await rejected(client.deleteTopics({ topics: [unique('x')] })), 'UNKNOWN_TOPIC_OR_PARTITION')
})

scenario('partitions grow and never shrink', async ({ admin, connect }) => {
  const client = await admin()
  const topic = await makeTopic('grow', 2)
  await client.createPartitions({ topicPartitions: [{ topic, count: 4 }] })
  const count = async () => (await client.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length
  await waitFor(async () => (await count()) === 4, 'four partitions')
  const strict = await connect(impatient.admin())
  assert.equal(await rejected(strict.createPartitions({ topicPartitions: [{ topic, count: 3 }] })), 'INVALID_PARTITIONS')
})

scenario('configs', async ({ admin }) => {
  const client = await admin()
  const topic = await makeTopic('configs', 1, { 'retention.ms': 5000 })
  const resource = { type: ConfigResourceTypes.TOPIC, name: topic }
  const retention = async () => {
    const { resources } = await client.describeConfigs({ includeSynonyms: true, resources: [resource] })
    return resources[0].configEntries.find((entry) => entry.configName === 'retention.ms')
  }
  const first = await retention()
  assert.deepEqual([first.configValue, first.isDefault, first.readOnly, first.isSensitive], ['5000', false, false, false])
  await client.alterConfigs({ validateOnly: false, resources: [{ ...resource, configEntries: [{ name: 'retention.ms', value: '6000' }] }] })
  await waitFor(async () => (await retention()).configValue === '6000', 'the change')
})

scenario('groups', async ({ admin, producer, consumer }) => {
  const client = await admin()
  const topic = await makeTopic('group')
  await (await producer()).send({ topic, messages: [{ value: 'v' }] })
  const member = await consumer({ groupId: topic })
  const received = await collect(member, topic)
  await waitFor(() => received.length === 1, 'the message')
  assert.ok((await client.listGroups()).groups.some((g) => g.groupId === topic && g.protocolType === 'consumer'))
  const { groups } = await client.describeGroups([topic])
  assert.deepEqual([groups[0].state, groups[0].members.length], ['Stable', 1])
  assert.equal(await rejected(client.deleteGroups([topic])), 'NON_EMPTY_GROUP')
  await member.stop()
  await client.setOffsets({ groupId: topic, topic, partitions: [{ partition: 0, offset: '0' }] })
  const [offsets] = await client.fetchOffsets({ groupId: topic, topics: [topic] })
  assert.equal(offsets.partitions[0].offset, '0')
  await client.deleteGroups([topic])
  assert.ok(!(await client.listGroups()).groups.some((g) => g.groupId === topic))
})

scenario('cluster', async ({ admin }) => {
  const cluster = await (await admin()).describeCluster()
  assert.deepEqual(cluster.brokers.map((b) => `${b.host}:${b.port}`).sort(), brokers)
  assert.ok(cluster.brokers.some((b) => b.nodeId === cluster.controller))
  assert.ok(cluster.clusterId)
})
