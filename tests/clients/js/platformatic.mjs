// @platformatic/kafka: records, seeking, a group, administration.

import { Admin, Consumer, Producer, stringDeserializers, stringSerializers } from '@platformatic/kafka'
import { bootstrap, check, equal, fresh, runAll, scope, wait } from './harness.mjs'

const base = { clientId: 'platformatic-test', bootstrapBrokers: [bootstrap], retryDelay: 50 }

async function admin (use) {
  const a = new Admin(base)
  try { return await use(a) } finally { await a.close() }
}

async function topic (partitions = 1, configs = {}) {
  const name = fresh('topic')
  await admin(async a => {
    await a.createTopics({ topics: [name], partitions, replicas: 1, configs: Object.entries(configs).map(([name, value]) => ({ name, value })) })
    await wait('the new topic in Metadata', () => a.metadata({ topics: [name], forceUpdate: true }).then(m => m.topics.get(name)?.partitionsCount === partitions, () => false))
  })
  return name
}

async function send (messages, options = {}) {
  const p = new Producer({ ...base, serializers: stringSerializers, ...options })
  try { return await p.send({ messages, acks: -1 }) } finally { await p.close() }
}

const plain = (topic, count, partition = 0, from = 0) => Array.from({ length: count }, (_, i) => ({
  topic, partition, key: `k${from + i}`, value: `v${from + i}`, headers: new Map([['h', 'x']]), timestamp: BigInt(1_700_000_000_000 + from + i)
}))

/** Starts a consumer and keeps what its stream brings. */
async function reader (later, topic, options = {}, consume = {}) {
  const consumer = new Consumer({
    ...base, groupId: fresh('group'), deserializers: stringDeserializers, sessionTimeout: 10_000, heartbeatInterval: 300, maxWaitTime: 300, autocommit: false, ...options
  })
  const r = { consumer, got: [] }
  let closed = false
  r.stop = async () => { if (!closed) { closed = true; await consumer.close(true) } }
  later(r.stop)
  const stream = await consumer.consume({ topics: [topic], mode: 'earliest', ...consume })
  stream.on('data', message => r.got.push(message))
  stream.on('error', error => { r.error = error })
  r.count = n => wait(`${n} records`, () => { if (r.error) throw r.error; return r.got.length >= n })
  r.share = () => (consumer.assignments ?? []).flatMap(a => a.partitions).length
  return r
}

/** The Kafka error codes inside an error, however deep. */
const codes = error => error?.apiId ? [error.apiId] : (error?.errors ?? []).flatMap(codes)

for (const compression of ['none', 'gzip', 'snappy', 'lz4', 'zstd']) {
  check(`codec ${compression}`, () => scope(async later => {
    const t = await topic()
    const messages = plain(t, 200)
    const { offsets } = await send(messages, { compression })
    equal(offsets.map(o => [o.topic, o.partition, o.offset]), [[t, 0, 0n]], 'base offset')
    const r = await reader(later, t)
    await r.count(200)
    equal(r.got.map(m => [m.offset, m.key, m.value, m.headers.get('h'), m.timestamp]),
      messages.map((m, i) => [BigInt(i), m.key, m.value, 'x', m.timestamp]), 'records')
  }), { smoke: compression === 'zstd' })
}

check('idempotent producer', () => scope(async later => {
  const t = await topic()
  const p = new Producer({ ...base, serializers: stringSerializers, idempotent: true })
  later(() => p.close())
  for (let i = 0; i < 20; i++) await p.send({ messages: plain(t, 50, 0, i * 50) })
  const r = await reader(later, t)
  await r.count(1000)
  equal(r.got.map(m => m.value), plain(t, 1000).map(m => m.value), 'order')
}))

check('offsets and seek', () => scope(async later => {
  const t = await topic()
  await send(plain(t, 100))
  const r = await reader(later, t, {}, { mode: 'manual', offsets: [{ topic: t, partition: 0, offset: 42n }] })
  await r.count(58)
  equal([r.got[0].offset, r.got.length], [42n, 58], 'sought')
  equal((await r.consumer.listOffsets({ topics: [t] })).get(t), [100n], 'latest')
  equal((await r.consumer.listOffsets({ topics: [t], timestamp: -2n })).get(t), [0n], 'earliest')
  equal((await r.consumer.listOffsets({ topics: [t], timestamp: 1_700_000_000_030n })).get(t), [30n], 'by time')
}))

check('group joins, leaves, commits', () => scope(async later => {
  const t = await topic(4)
  const group = { groupId: fresh('group'), autocommit: true }
  for (const partition of [0, 1, 2, 3]) await send(plain(t, 10, partition))
  const a = await reader(later, t, group, { mode: 'committed', fallbackMode: 'earliest' })
  await a.count(40)
  const b = await reader(later, t, group, { mode: 'committed', fallbackMode: 'earliest' })
  await wait('two partitions each', () => a.share() === 2 && b.share() === 2)
  await b.stop()
  await wait('everything back', () => a.share() === 4)
  const committed = await wait('commits', async () => {
    const all = (await a.consumer.listCommittedOffsets({ topics: [{ topic: t, partitions: [0, 1, 2, 3] }] })).get(t)
    return all.every(o => o === 10n) && all
  })
  equal(committed, [10n, 10n, 10n, 10n], 'committed')
  await admin(async x => {
    const described = (await x.describeGroups({ groups: [group.groupId] })).get(group.groupId)
    equal([described.state, described.members.size], ['Stable', 1], 'described')
  })
  await a.stop()
  await admin(async x => {
    equal((await x.listGroups()).has(group.groupId), true, 'listed')
    await wait('deletion of the group', () => x.deleteGroups({ groups: [group.groupId] }).then(() => true, () => false))
    equal((await x.listGroups()).has(group.groupId), false, 'listed after deletion')
  })
}))

check('administration', () => admin(async a => {
  const t = await topic(2, { 'retention.ms': '123456' })
  equal((await a.listTopics()).includes(t), true, 'listed')
  equal((await a.metadata({ topics: [t] })).topics.get(t).partitionsCount, 2, 'partitions')
  const again = await a.createTopics({ topics: [t], partitions: 1, replicas: 1 }).then(() => null, e => e)
  equal(codes(again), ['TOPIC_ALREADY_EXISTS'], 'created again')
  await send(plain(t, 10))
  await a.deleteRecords({ topics: [{ name: t, partitions: [{ partition: 0, offset: 4n }] }] })
  await a.deleteTopics({ topics: [t] })
  await wait('deletion', async () => !(await a.listTopics()).includes(t))
}))

await runAll('platformatic')
