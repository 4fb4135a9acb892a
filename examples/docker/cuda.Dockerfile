# billfish serve on NVIDIA GPUs. The host needs the driver and the NVIDIA Container Toolkit.
#
#   docker build -f cuda.Dockerfile -t billfish-cuda .
#   docker run --rm --gpus all --shm-size 1g -p 8000:8000 -v "$PWD/models:/models:ro" -e BILLFISH_API_KEY=secret \
#     billfish-cuda /models/Qwen2.5-72B-Instruct-GPTQ-Int4 --tensor-parallel-size 2
#
# The image has NCCL, which tensor parallelism needs; the driver comes from the host.
FROM nvidia/cuda:12.8.1-runtime-ubuntu24.04

COPY --from=node:24-bookworm-slim /usr/local/bin/node /usr/local/bin/node
COPY --from=node:24-bookworm-slim /usr/local/lib/node_modules /usr/local/lib/node_modules
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm \
 && npm install --global billfish@0.1.0 @billfish/linux-x64-cuda@0.1.0 && npm cache clean --force \
 && useradd --create-home billfish && mkdir /hub && chown billfish:billfish /hub

ENV NODE_ENV=production HF_HOME=/hub
VOLUME /hub
USER billfish
EXPOSE 8000

# Loading a large model from a slow disk takes minutes; until then nothing listens.
HEALTHCHECK --interval=10s --timeout=5s --start-period=15m \
  CMD ["node", "-e", "fetch('http://127.0.0.1:8000/health').then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]

# SIGTERM lets running requests finish (--drain-timeout, 30 seconds): run with --stop-timeout 40.
ENTRYPOINT ["billfish", "serve", "--host", "0.0.0.0"]
