# billfish serve on the processor.
#
#   docker build -f cpu.Dockerfile -t billfish .
#   docker run --rm -p 8000:8000 -v "$PWD/models:/models:ro" -e BILLFISH_API_KEY=secret billfish /models/Qwen3-8B-AWQ
#
# Models of the Hub are kept where HF_HOME says: add -v billfish-hub:/hub, and name the model as OWNER/NAME.
FROM node:24-bookworm-slim

RUN npm install --global billfish@0.1.0 && npm cache clean --force \
 && mkdir /hub && chown node:node /hub

ENV NODE_ENV=production HF_HOME=/hub
VOLUME /hub
USER node
EXPOSE 8000

# Loading a large model from a slow disk takes minutes; until then nothing listens.
HEALTHCHECK --interval=10s --timeout=5s --start-period=15m \
  CMD ["node", "-e", "fetch('http://127.0.0.1:8000/health').then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]

# SIGTERM lets running requests finish (--drain-timeout, 30 seconds): run with --stop-timeout 40.
ENTRYPOINT ["billfish", "serve", "--host", "0.0.0.0"]
