// kafkajs: records, seeking, groups, administration.

import zlib from 'node:zlib'
import kafkajs from 'kafkajs'
import SnappyCodec from 'kafkajs-snappy'
import { bootstrap, check, equal, fresh, runAll, scope, wait } from './harness.mjs'

const { CompressionTypes, CompressionCodecs, ConfigResourceTypes, Kafka, logLevel } = kafkajs
CompressionCodecs[CompressionTypes.Snappy] = SnappyCodec
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => zlib.zstdCompressSync(encoder.buffer),
  decompress: async buffer => zlib.zstdDecompressSync(buffer)
})

const kafka = new Kafka({ clientId: 'kafkajs-test', brokers: [bootstrap], logLevel: logLevel.NOTHING, retry: { initialRetryTime: 50 } })

async function admin (use) {
  const a = kafka.admin()
  await a.connect()
  try { return await use(a) } finally { await a.disconnect() }
}

async function topic (numPartitions = 1, config = {}) {
  const name = fresh('topic')
  const configEntries = Object.entries(config).map(([name, value]) => ({ name, value }))
  await admin(async a => {
    await a.createTopics({ topics: [{ topic: name, numPartitions, replicationFactor: 1, configEntries }], waitForLeaders: false })
    await wait('the new topic to be served', () => a.fetchTopicOffsets(name).then(offsets => offsets.length === numPartitions, () => false))
  })
  return name
}

async function produce (use, options = {}) {
  const p = kafka.producer(options)
  await p.connect()
  try { return await use(p) } finally { await p.disconnect() }
}

const plain = (count, partition = 0, from = 0) => Array.from({ length: count }, (_, i) => ({
  partition, key: `k${from + i}`, value: `v${from + i}`, timestamp: `${1_700_000_000_000 + from + i}`
}))

/** A running group member that keeps what it gets and knows its share. */
async function member (later, topicName, groupId, { fromBeginning = true, seekTo } = {}) {
  const c = kafka.consumer({ groupId, sessionTimeout: 10_000, heartbeatInterval: 300, maxWaitTimeInMs: 300 })
  const m = { consumer: c, got: [], share: [] }
  c.on(c.events.GROUP_JOIN, ({ payload }) => { m.share = payload.memberAssignment[topicName] ?? [] })
  await c.connect()
  let stopped = false
  m.stop = async () => { if (!stopped) { stopped = true; await c.disconnect() } }
  later(m.stop)
  await c.subscribe({ topic: topicName, fromBeginning })
  await c.run({ eachMessage: async ({ partition, message }) => { m.got.push({ partition, ...message }) } })
  if (seekTo !== undefined) c.seek({ topic: topicName, partition: 0, offset: seekTo })
  return m
}

for (const [name, compression] of [['none', 0], ['gzip', 1], ['snappy', 2], ['zstd', 4]]) {
  check(`codec ${name}`, () => scope(async later => {
    const t = await topic()
    const messages = plain(200)
    messages[7].value = null
    messages[8].headers = { a: ['1', '2'], b: 'x' }
    const [result] = await produce(p => p.send({ topic: t, messages, compression, acks: -1 }))
    equal(result.baseOffset, '0', 'base offset')
    const m = await member(later, t, fresh('group'))
    await wait('200 records', () => m.got.length >= 200)
    equal(m.got.map(r => [r.offset, `${r.key}`, r.value && `${r.value}`, r.timestamp]),
      messages.map((r, i) => [`${i}`, r.key, r.value, r.timestamp]), 'records')
    equal([m.got[8].headers.a.map(String), `${m.got[8].headers.b}`], [['1', '2'], 'x'], 'headers')
  }), { smoke: name === 'gzip' })
}

check('acks 0 and 1', () => scope(async later => {
  const t = await topic()
  await produce(async p => {
    await p.send({ topic: t, messages: plain(50), acks: 0 })
    await p.send({ topic: t, messages: plain(50, 0, 50), acks: 1 })
  })
  const m = await member(later, t, fresh('group'))
  await wait('100 records', () => m.got.length >= 100)
  equal(m.got.map(r => `${r.value}`), plain(100).map(r => r.value), 'values')
}))

check('idempotent producer', () => scope(async later => {
  const t = await topic()
  await produce(async p => {
    for (let i = 0; i < 20; i++) await p.send({ topic: t, messages: plain(50, 0, i * 50) })
  }, { idempotent: true, maxInFlightRequests: 1 })
  const m = await member(later, t, fresh('group'))
  await wait('1000 records', () => m.got.length >= 1000)
  equal(m.got.map(r => `${r.value}`), plain(1000).map(r => r.value), 'order')
}))

check('offsets and seek', () => scope(async later => {
  const t = await topic()
  await produce(p => p.send({ topic: t, messages: plain(100) }))
  await admin(async a => {
    equal(await a.fetchTopicOffsets(t), [{ partition: 0, offset: '100', high: '100', low: '0' }], 'watermarks')
    equal(await a.fetchTopicOffsetsByTimestamp(t, 1_700_000_000_030), [{ partition: 0, offset: '30' }], 'offset by time')
  })
  const m = await member(later, t, fresh('group'), { seekTo: '42' })
  await wait('58 records', () => m.got.length >= 58)
  equal(m.got.at(-58).offset, '42', 'sought')
}))

check('group joins, leaves, commits', () => scope(async later => {
  const t = await topic(4)
  const group = fresh('group')
  const put = from => produce(p => p.send({ topic: t, messages: [0, 1, 2, 3].flatMap(partition => plain(10, partition, from)) }))
  await put(0)
  const a = await member(later, t, group)
  await wait('everything to one', () => a.share.length === 4 && a.got.length >= 40)
  const b = await member(later, t, group)
  await wait('two partitions each', () => a.share.length === 2 && b.share.length === 2)
  await b.stop()
  await wait('everything back', () => a.share.length === 4)
  await a.stop()
  const offsets = await admin(x => x.fetchOffsets({ groupId: group, topics: [t] }))
  equal(offsets[0].partitions.map(p => p.offset).sort(), ['10', '10', '10', '10'], 'committed')
  await put(10)
  const c = await member(later, t, group)
  await wait('the new records', () => c.got.length >= 40)
  equal(c.got.every(r => Number(r.offset) >= 10), true, 'only what came after the commits')
}), { smoke: true })

check('groups administration', () => scope(async later => {
  const t = await topic()
  const group = fresh('group')
  const m = await member(later, t, group)
  await wait('the member', () => m.share.length === 1)
  await admin(async a => {
    equal((await a.listGroups()).groups.some(g => g.groupId === group && g.protocolType === 'consumer'), true, 'listed')
    const { groups: [described] } = await a.describeGroups([group])
    equal([described.state, described.protocol, described.members.length], ['Stable', 'RoundRobinAssigner', 1], 'described')
    await m.stop()
    await a.setOffsets({ groupId: group, topic: t, partitions: [{ partition: 0, offset: '5' }] })
    equal((await a.fetchOffsets({ groupId: group, topics: [t] }))[0].partitions[0].offset, '5', 'offset set')
    await a.deleteGroups([group])
    equal((await a.listGroups()).groups.some(g => g.groupId === group), false, 'listed after deletion')
  })
}))

check('administration and errors', async () => {
  const t = await topic(1, { 'retention.ms': '123456', 'max.message.bytes': '5000' })
  await admin(async a => {
    equal(await a.createTopics({ topics: [{ topic: t }] }), false, 'created again')
    await a.createPartitions({ topicPartitions: [{ topic: t, count: 3 }] })
    await wait('three partitions', async () => (await a.fetchTopicMetadata({ topics: [t] })).topics[0].partitions.length === 3)
    const resource = { type: ConfigResourceTypes.TOPIC, name: t, configNames: ['retention.ms'] }
    const value = async () => (await a.describeConfigs({ resources: [resource], includeSynonyms: false })).resources[0].configEntries[0].configValue
    equal(await value(), '123456', 'config')
    await produce(async p => {
      await p.send({ topic: t, messages: plain(10) })
      const error = await p.send({ topic: t, messages: [{ partition: 0, value: 'x'.repeat(20_000) }] }).then(() => null, e => e)
      equal(error?.type ?? error?.cause?.type, 'MESSAGE_TOO_LARGE', 'too large')
    }, { retry: { retries: 1 } })
    await a.deleteTopicRecords({ topic: t, partitions: [{ partition: 0, offset: '4' }] })
    equal((await a.fetchTopicOffsets(t)).find(p => p.partition === 0).low, '4', 'log start')
    const cluster = await a.describeCluster()
    equal([cluster.brokers.length, cluster.controller], [1, cluster.brokers[0].nodeId], 'cluster')
    await a.deleteTopics({ topics: [t] })
    await wait('deletion', async () => !(await a.listTopics()).includes(t))
    const missing = await a.deleteTopics({ topics: [fresh('missing')] }).then(() => null, e => e)
    equal(missing?.cause?.type, 'UNKNOWN_TOPIC_OR_PARTITION', 'delete a missing topic')
  })
})

await runAll('kafkajs')
