// The balance look-up on fastify, fast-jwt and the official driver, as their users write it.
// Reads PORT, MONGODB_URI, MONGODB_DATABASE, JWKS_FILE, ISSUER and AUDIENCE.

import { createPublicKey } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createVerifier } from 'fast-jwt'
import Fastify from 'fastify'
import { MongoClient } from 'mongodb'

const { PORT, MONGODB_URI, MONGODB_DATABASE, JWKS_FILE, ISSUER, AUDIENCE } = process.env

const keys = new Map(
  JSON.parse(readFileSync(JWKS_FILE, 'utf8')).keys.map((jwk) => [
    jwk.kid,
    createPublicKey({ key: jwk, format: 'jwk' }).export({ type: 'spki', format: 'pem' })
  ])
)

const verify = createVerifier({
  key: async ({ header }) => {
    const key = keys.get(header.kid)
    if (!key) throw new Error('unknown key')
    return key
  },
  algorithms: ['ES256'],
  checkTyp: 'at+jwt',
  allowedIss: ISSUER,
  allowedAud: AUDIENCE,
  requiredClaims: ['iss', 'aud', 'sub', 'sid', 'iat', 'exp'],
  // Room for every token that is in use: the default of 1,000 would forget half of them between two uses.
  cache: 20_000
})

const client = await new MongoClient(MONGODB_URI).connect()
const database = client.db(MONGODB_DATABASE)
const sessions = database.collection('sessions')
const cards = database.collection('cards')

const app = Fastify()

const unauthorized = (reply) => reply.code(401).header('www-authenticate', 'Bearer').send({ code: 'unauthenticated' })

async function authenticate(request, reply) {
  const [scheme, token] = (request.headers.authorization ?? '').split(' ')
  if (scheme.toLowerCase() !== 'bearer' || !token) return unauthorized(reply)
  let claims
  try {
    claims = await verify(token)
  } catch {
    return unauthorized(reply)
  }
  const session = await sessions.findOne(
    { _id: claims.sid },
    { projection: { holderId: 1, endedAt: 1, idleUntil: 1, expiresAt: 1 } }
  )
  const now = Date.now()
  if (!session || session.endedAt !== null || session.holderId !== claims.sub) return unauthorized(reply)
  if (session.idleUntil.getTime() <= now || session.expiresAt.getTime() <= now) return unauthorized(reply)
  request.holderId = session.holderId
}

// Milliseconds; a figure that is older says so.
const OLD_AFTER = 48 * 3600 * 1000

const figure = {
  type: 'object',
  properties: {
    account: { type: 'string' },
    balanceFen: { type: 'integer' },
    display: { type: 'string' },
    currency: { type: 'string' },
    status: { type: 'string' },
    asOf: { type: 'string' },
    source: { type: 'string' },
    stale: { type: 'boolean' }
  }
}

const balance = {
  type: 'object',
  properties: { cardId: { type: 'string' }, asOf: { type: 'string' }, items: { type: 'array', items: figure } }
}

app.decorateRequest('holderId', '')

app.get(
  '/v1/cards/:cardId/balance',
  { onRequest: authenticate, schema: { response: { 200: balance } } },
  async (request, reply) => {
    const { cardId } = request.params
    const card = await cards.findOne(
      { _id: cardId, holderId: request.holderId },
      { projection: { accounts: 1, medical: 1 } }
    )
    if (!card) return reply.code(404).send({ code: 'not_found' })
    const oldest = card.accounts.length ? Math.min(...card.accounts.map((item) => item.asOf.getTime())) : Date.now()
    const oldBefore = Date.now() - OLD_AFTER
    return {
      cardId,
      asOf: show(oldest),
      items: card.accounts.map((item) => ({
        account: item.account,
        balanceFen: item.balanceFen,
        display: display(item.balanceFen),
        currency: 'CNY',
        status: item.account === 'medical' ? card.medical : item.status,
        asOf: show(item.asOf.getTime()),
        source: item.source,
        stale: item.asOf.getTime() < oldBefore
      }))
    }
  }
)

// A time at +08:00 with milliseconds.
function show(time) {
  return new Date(time + 8 * 3_600_000).toISOString().replace('Z', '+08:00')
}

// 123456 fen become 1,234.56.
function display(fen) {
  const whole = Math.abs(fen)
  const yuan = String(Math.trunc(whole / 100)).replace(/\B(?=(\d{3})+$)/g, ',')
  return `${fen < 0 ? '-' : ''}${yuan}.${String(whole % 100).padStart(2, '0')}`
}

await app.listen({ host: '127.0.0.1', port: Number(PORT) })

for (const signal of ['SIGTERM', 'SIGINT']) {
  process.once(signal, async () => {
    await app.close()
    await client.close()
  })
}
